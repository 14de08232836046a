// Recomputation: what is marked is computed again in backward, with the same bits, and is not kept for it.
#include <catch2/catch.hpp>
#include <set>

#include "core/graph/graph.h"
#include "core/graph/recompute.h"
#include "tests/graph/interpreter.h"
#include "tests/graph/models.h"

namespace kumiki::test {
namespace {

enum class Mode { kNone, kSelective, kFull };

// As the strategy marks: `full` all of a layer but what it hands to the next one, `selective` what is cheap to make
// again.
void mark(Graph& graph, Mode mode) {
  const std::vector<NodeId> order = graph.order();
  for (size_t i = 0; i + 1 < order.size(); ++i) {
    Node& node = graph.node(order[i]);
    if (mode == Mode::kFull) node.again = node.layer >= 0 && graph.node(order[i + 1]).layer == node.layer;
    if (mode == Mode::kSelective) node.again = node.op == "gelu" || node.op == "dropout" || node.op == "swiglu";
  }
}

Graph trained(bool gpt, Mode mode) {
  Graph graph;
  ModelShape shape;
  shape.layers = 3;
  shape.dropout = 0.2;
  gpt ? build_gpt(graph, shape) : build_llama(graph, shape);
  mark(graph, mode);
  autodiff(graph);
  recompute(graph);
  graph.check();
  return graph;
}

bool forward(const Graph& graph, ValueId value) {
  const NodeId producer = graph.value(value).producer;
  return producer != 0 && graph.node(producer).part == Part::kForward;
}

// Bytes of forward activations that backward reads: what stays from F to B.
uint64_t kept(const Graph& graph) {
  std::set<ValueId> values;
  uint64_t bytes = 0;
  for (const NodeId id : graph.order())
    if (graph.node(id).part != Part::kForward)
      for (const ValueId input : graph.node(id).inputs)
        if (forward(graph, input) && values.insert(input).second) bytes += graph.value(input).type.bytes();
  return bytes;
}

std::vector<Numbers> results(const Graph& graph) {
  Interpreter interpreter(graph);
  set_random_leaves(interpreter, graph, 11, 3);
  interpreter.set("sample", {17});
  interpreter.run();
  std::vector<Numbers> all = {interpreter.get_output("loss")};
  for (const ValueId parameter : graph.parameters()) all.push_back(interpreter.get(graph.gradients().at(parameter)));
  return all;
}

TEST_CASE("loss and gradients keep their bits, and less is kept for backward") {
  for (const bool gpt : {true, false}) {
    INFO((gpt ? "gpt" : "llama"));
    const Graph none = trained(gpt, Mode::kNone), selective = trained(gpt, Mode::kSelective),
                full = trained(gpt, Mode::kFull);
    const std::vector<Numbers> expected = results(none);
    CHECK(expected == results(selective));
    CHECK(expected == results(full));
    CHECK(kept(selective) < kept(none));
    CHECK(kept(full) * 3 < kept(none));
  }
}

TEST_CASE("a clone stands right before its first reader in backward, once, with the place and attributes of its node") {
  const Graph graph = trained(true, Mode::kFull);
  std::set<NodeId> cloned;
  size_t clones = 0;
  const std::vector<NodeId>& order = graph.order();
  for (size_t i = 0; i < order.size(); ++i) {
    const Node& node = graph.node(order[i]);
    if (node.origin != "recompute") continue;
    ++clones;
    const Node& original = graph.node(node.derived_from);
    CHECK(cloned.insert(original.id).second);
    CHECK(original.again);
    CHECK_FALSE(node.again);
    CHECK(node.op == original.op);
    CHECK(node.attributes == original.attributes);
    CHECK(node.layer == original.layer);
    CHECK(node.stage == original.stage);
    CHECK(node.part == Part::kBackward);
    CHECK(node.phase == Phase::kBody);
    // Between a clone and its first reader stand only other clones.
    size_t next = i + 1;
    while (graph.node(order[next]).origin == "recompute") ++next;
    bool read = false;
    for (size_t j = i + 1; j <= next; ++j)
      for (const ValueId input : graph.node(order[j]).inputs)
        for (const ValueId output : node.outputs) read = read || input == output;
    CHECK(read);
  }
  CHECK(clones > 20);
}

TEST_CASE("transfers, what is not marked, and what backward does not read are not made again") {
  Graph graph;
  graph.set_stages(2);
  const ValueId w = graph.add_parameter("w", {KM_F32, {4, 4}}, KM_ROLE_COLUMN, KM_INIT_NORMAL, 1, true);
  graph.value(w).stage = 1;
  graph.declare_input("x", {KM_F32, {3, 4}});
  const ValueId x = graph.add1("tanh", {graph.input("x")});
  const ValueId there = graph.add1("transfer", {x}, {{"from", int64_t{0}}, {"to", int64_t{1}}});
  graph.cursor.stage = 1;
  const ValueId y = graph.add1("square", {graph.add1("matmul", {there, w})});
  graph.set_output("loss", graph.add1("sum_squares", {y}));
  for (const NodeId id : graph.order()) graph.node(id).again = true;
  autodiff(graph);
  recompute(graph);
  graph.check();
  std::map<std::string, int> clones;
  for (const NodeId id : graph.order())
    if (graph.node(id).origin == "recompute") ++clones[graph.node(id).op];
  CHECK(clones == std::map<std::string, int>{{"matmul", 1}, {"square", 1}});
}

} // namespace
} // namespace kumiki::test
