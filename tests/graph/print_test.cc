// A graph as text and as Graphviz.
#include <catch2/catch.hpp>

#include "core/graph/graph.h"
#include "tests/graph/models.h"

namespace kumiki::test {

TEST_CASE("a node prints as one line: outputs, op, inputs, attributes, place") {
  Graph graph;
  graph.declare_input("tokens", Type{KM_I32, {4, 8}});
  const ValueId table =
      graph.add_parameter("wte", Type{KM_F32, {16, 8}}, KM_ROLE_VOCABULARY, KM_INIT_NORMAL, 0.02, true);
  const ValueId x = graph.add1("embedding", {graph.input("tokens"), table});
  graph.cursor.layer = 3;
  const ValueId y = graph.add1("matmul", {x, table}, {{"transpose_b", int64_t{1}}});
  graph.add1("multiply", {y, graph.constant(0.5)});
  graph.cursor = {};
  graph.cursor.stage = 1;
  const auto loss = graph.add("cross_entropy", {y, graph.input("tokens")});
  graph.set_output("loss", loss[0]);
  CHECK(to_text(graph) ==
        "parameter %1:wte f32[16,8]\n"
        "input %2:tokens i32[4,8]\n"
        "%3:f32[4,8,8] = embedding(%2:tokens, %1:wte)  body/F\n"
        "%4:f32[4,8,16] = matmul(%3, %1:wte) {transpose_b=1}  body/F layer 3\n"
        "%6:f32[4,8,16] = multiply(%4, %5:0.5)  body/F layer 3\n"
        "%7:f32[], %8:f32[] = cross_entropy(%4, %2:tokens)  body/F stage 1\n"
        "output loss = %7\n");
}

TEST_CASE("all attribute types print") {
  Node node;
  node.op = "acme.op";
  node.attributes = {{"a", int64_t{1}}, {"b", 0.25}, {"c", std::string("x")}, {"d", std::vector<int64_t>{1, 2}}};
  node.phase = Phase::kTail;
  CHECK(to_text(Graph(), node) == "acme.op() {a=1, b=0.25, c=\"x\", d=[1,2]}  tail");
}

TEST_CASE("Graphviz has a box for each node and an edge for each input") {
  Graph graph;
  build_llama(graph, {});
  autodiff(graph);
  const std::string dot = to_graphviz(graph);
  size_t edges = 0, inputs = 0;
  for (size_t at = dot.find(" -> "); at != std::string::npos; at = dot.find(" -> ", at + 1)) ++edges;
  for (const NodeId id : graph.order()) inputs += graph.node(id).inputs.size();
  CHECK(edges == inputs + graph.outputs().size());
  CHECK(dot.find("digraph kumiki {") == 0);
  CHECK(dot.back() == '\n');
}

} // namespace kumiki::test
