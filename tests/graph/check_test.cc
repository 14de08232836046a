// Graph::check finds planted faults of each kind, and says which node.
#include <catch2/catch.hpp>
#include <stdexcept>

#include "core/base/error.h"
#include "core/graph/graph.h"
#include "tests/graph/models.h"

namespace kumiki::test {
namespace {

using Catch::Contains;

Graph training_graph() {
  Graph graph;
  build_gpt(graph, {});
  autodiff(graph);
  graph.cursor.phase = Phase::kTail;
  for (const auto& [parameter, gradient] : graph.gradients()) {
    const ValueId step = graph.add1("multiply", {gradient, graph.step_scalar("learning_rate")});
    graph.assign(parameter, graph.add1("subtract", {parameter, step}));
  }
  graph.check();
  return graph;
}

NodeId first(const Graph& graph, const std::string& op) {
  for (const NodeId id : graph.order())
    if (graph.node(id).op == op) return id;
  throw std::logic_error("no " + op);
}

} // namespace

TEST_CASE("check: a node before what it reads") {
  Graph graph = training_graph();
  graph.move_before(first(graph, "attention"), graph.order().front());
  CHECK_THROWS_WITH(graph.check(), Contains("before that is made") && Contains("attention(") && Contains("model test"));
}

TEST_CASE("check: a type that the rule does not give") {
  Graph graph = training_graph();
  graph.value(graph.node(first(graph, "gelu")).outputs[0]).type.shape[0] = 7;
  CHECK_THROWS_WITH(graph.check(), Contains("gelu") && Contains("f32[7,6,12]"));
}

TEST_CASE("check: inputs that do not fit after a rewrite") {
  Graph graph = training_graph();
  const Node& norm = graph.node(first(graph, "layernorm"));
  graph.replace_input(norm.id, 1, graph.find("layers.0.up.bias"));
  CHECK_THROWS_WITH(graph.check(), Contains("layernorm: weight is f32[12], but must be f32[8]"));
}

TEST_CASE("check: an attribute that the op does not have") {
  Graph graph = training_graph();
  graph.node(first(graph, "gelu")).attributes["factor"] = 2.0;
  CHECK_THROWS_WITH(graph.check(), Contains("gelu has no attribute \"factor\""));
  graph.node(first(graph, "gelu")).attributes.erase("factor");
  graph.node(first(graph, "gelu")).attributes["acme.hint"] = 2.0;
  graph.check();
}

TEST_CASE("check: the tail reads what differs between micro-batches") {
  Graph graph = training_graph();
  const Node& accumulate = graph.node(first(graph, "accumulate"));
  graph.replace_uses(accumulate.outputs[0], accumulate.inputs[0]);
  CHECK_THROWS_WITH(graph.check(), Contains("the tail reads") && Contains("differs between micro-batches"));
}

TEST_CASE("check: the body reads what the tail makes") {
  Graph graph = training_graph();
  graph.node(first(graph, "embedding")).phase = Phase::kTail;
  CHECK_THROWS_WITH(graph.check(), Contains("tail"));
  Graph other = training_graph();
  other.cursor.phase = Phase::kBody;
  other.add1("negate", {other.node(first(other, "subtract")).outputs[0]});
  CHECK_THROWS_WITH(other.check(), Contains("the body reads") && Contains("which the tail makes"));
}

TEST_CASE("check: the head reads what varies, or what the body makes") {
  Graph graph = training_graph();
  graph.node(first(graph, "embedding")).phase = Phase::kHead;
  CHECK_THROWS_WITH(graph.check(), Contains("the head reads") && Contains("tokens"));
  Graph other = training_graph();
  other.node(first(other, "gelu")).phase = Phase::kHead;
  CHECK_THROWS_WITH(other.check(), Contains("the head reads"));
}

TEST_CASE("check: a state assigned twice, or something that is no state") {
  Graph graph = training_graph();
  const ValueId w = graph.find("layers.0.up.weight");
  graph.assign(w, graph.add1("copy", {w}));
  CHECK_THROWS_WITH(graph.check(), Contains("a second assign") && Contains("layers.0.up.weight"));
  Graph other = training_graph();
  const NodeId assign = first(other, "assign");
  other.replace_input(assign, 0, other.node(assign).inputs[1]);
  CHECK_THROWS_WITH(other.check(), Contains("neither state nor parameter"));
}

TEST_CASE("check: an assign of another type") {
  Graph graph = training_graph();
  const NodeId assign = first(graph, "assign");
  graph.replace_input(assign, 1, graph.step_scalar("learning_rate"));
  CHECK_THROWS_WITH(graph.check(), Contains("assign: the state is"));
}

TEST_CASE("check: accumulate outside the body, or missing") {
  Graph graph = training_graph();
  graph.node(first(graph, "accumulate")).phase = Phase::kTail;
  CHECK_THROWS_WITH(graph.check(), Contains("accumulate") || Contains("tail reads"));
  Graph other;
  build_gpt(other, {});
  autodiff(other);
  auto& gradient = *other.gradients().begin();
  gradient.second = other.node(other.value(gradient.second).producer).inputs[0];
  CHECK_THROWS_WITH(other.check(), Contains("no accumulate"));
}

TEST_CASE("check: a gradient of another shape") {
  Graph graph;
  build_gpt(graph, {});
  autodiff(graph);
  graph.gradients()[graph.find("layers.0.up.weight")] = graph.gradients()[graph.find("layers.0.up.bias")];
  CHECK_THROWS_WITH(graph.check(), Contains("layers.0.up.weight") && Contains("f32[12,8]") && Contains("f32[12]"));
}

TEST_CASE("check: inputs changed behind the index of readers") {
  Graph graph = training_graph();
  Node& add = graph.node(first(graph, "add"));
  add.inputs[1] = add.inputs[0];
  CHECK_THROWS_AS(graph.check(), std::logic_error);
}

TEST_CASE("check: an output that its node does not know") {
  Graph graph = training_graph();
  Node& norm = graph.node(first(graph, "layernorm"));
  norm.outputs.pop_back();
  CHECK_THROWS_WITH(graph.check(), Contains("layernorm") && Contains("2 outputs, but its rule gives 3"));
}

} // namespace kumiki::test
