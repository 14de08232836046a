// What is refused of a graph over a mesh, and how the message names it; shapes of communication ops; norms over ranks.
#include <catch2/catch.hpp>
#include <cmath>

#include "core/base/error.h"
#include "core/graph/graph.h"
#include "tests/graph/block.h"
#include "tests/graph/ranks.h"

namespace kumiki::test {
namespace {

TEST_CASE("the final check names what was never reduced, and what lies otherwise than its parameter") {
  const auto graph_of = [](const Layout& layout, const std::function<void(Graph&)>& change) {
    Graph graph;
    graph.set_axes(axes_of(layout));
    build_block(graph, layout);
    finish(graph);
    check_final(graph);
    change(graph);
    graph.infer_all();
    check_final(graph);
  };
  const auto unreduced = [](const char* name) {
    return [name](Graph& graph) {
      ValueId& gradient = graph.gradients()[graph.find(name)];
      const Node& node = graph.node(graph.value(gradient).producer);
      REQUIRE(node.op == "all_reduce");
      gradient = node.inputs[0];
    };
  };
  CHECK_THROWS_WITH(graph_of({2, 1, true, Gather::kNone, false}, unreduced("norm1")),
                    Catch::Contains("axis tensor: the gradient of norm1 is still a partial sum"));
  CHECK_THROWS_WITH(graph_of({1, 2, false, Gather::kNone, false}, unreduced("up")),
                    Catch::Contains("axis data: the gradient of up is still a partial sum"));
  CHECK_THROWS_WITH(
      graph_of(
          {1, 2, false, Gather::kHead, false},
          [](Graph& graph) {
            const ValueId p = graph.find("norm1");
            ValueId& gradient = graph.gradients()[p];
            graph.cursor = {};
            graph.cursor.phase = Phase::kTail;
            gradient = graph.add1("flat_gather", {gradient}, {{"axes", std::string("data")}, {"shape", Shape{kWidth}}});
          }),
      Catch::Contains("is replicated, but the parameter flat"));
  CHECK_THROWS_WITH(graph_of({1, 2, false, Gather::kNone, false},
                             [](Graph& graph) {
                               const ValueId loss = graph.output("loss");
                               graph.set_output("loss", graph.node(graph.value(loss).producer).inputs[0]);
                             }),
                    Catch::Contains("axis data: output \"loss\" is partial"));
  CHECK_THROWS_WITH(graph_of({1, 2, false, Gather::kNone, false},
                             [](Graph& graph) {
                               for (const NodeId id : graph.order())
                                 if (graph.node(id).op == "dropout" && graph.node(id).part == Part::kBackward)
                                   graph.node(id).attributes["stream"] = int64_t{77};
                             }),
                    Catch::Contains("draws other numbers than its forward node"));
}

TEST_CASE("inference names axis, node and who added it where placements do not go together") {
  const auto message = [](const std::function<void(Graph&, ValueId x, ValueId w)>& build) {
    Graph graph;
    graph.set_axes({{"tensor", 2, 0, kTensorLevel}});
    graph.cursor.origin = "strategy of the test";
    graph.cursor.layer = 3;
    graph.declare_input("x", {KM_F32, {2, 4, 6}});
    const ValueId w = graph.add_parameter("w", {KM_F32, {6, 8}}, KM_ROLE_ROW, KM_INIT_NORMAL, 1, true);
    const ValueId x = graph.input("x");
    build(graph, x, w);
    try {
      graph.infer_all();
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string("nothing");
  };
  const Attributes tensor = {{"axes", std::string("tensor")}};
  const auto columns = [](Graph& graph, ValueId x, ValueId w) {
    graph.shard(x, 2, 0);
    graph.shard(w, 0, 0);
    return graph.add1("matmul", {x, w}); // partial
  };
  const std::string twice = message([&](Graph& graph, ValueId x, ValueId w) {
    graph.add1("all_reduce", {graph.add1("all_reduce", {columns(graph, x, w)}, tensor)}, tensor);
  });
  CHECK_THAT(twice, Catch::Contains("axis tensor") && Catch::Contains("reduced twice") &&
                        Catch::Contains("strategy of the test") && Catch::Contains("layer 3") &&
                        Catch::Contains("inputs: replicated"));
  CHECK_THAT(message([&](Graph& graph, ValueId x, ValueId w) {
               const ValueId bias = graph.add_parameter("b", {KM_F32, {8}}, KM_ROLE_REPLICATED, KM_INIT_ZERO, 0, false);
               graph.add1("bias_add", {columns(graph, x, w), bias});
             }),
             Catch::Contains("would be counted once on each rank"));
  CHECK_THAT(message([&](Graph& graph, ValueId x, ValueId w) { graph.add1("gelu", {columns(graph, x, w)}); }),
             Catch::Contains("gelu cannot take"));
  CHECK_THAT(message([&](Graph& graph, ValueId x, ValueId) { graph.add1("all_reduce", {x}, tensor); }),
             Catch::Contains("nothing to reduce"));
  CHECK_THAT(message([&](Graph& graph, ValueId x, ValueId) {
               graph.shard(x, 2, 0);
               graph.add1("all_gather", {x}, {{"axes", std::string("tensor")}, {"dim", int64_t{1}}});
             }),
             Catch::Contains("is sharded(2), but must be sharded(1)"));
  CHECK_THAT(message([&](Graph& graph, ValueId x, ValueId) {
               graph.shard(x, 2, 0);
               graph.add1("all_reduce", {graph.add1("row_max", {x})}, tensor);
             }),
             Catch::Contains("is maximum, but must be partial"));
  CHECK_THAT(message([&](Graph& graph, ValueId, ValueId w) {
               graph.shard(w, 0, 0);
               graph.cursor.phase = Phase::kTail;
               const ValueId state = graph.add_state(0, "plain", {KM_F32, {3, 8}});
               graph.add("assign", {state, graph.add1("copy", {w})});
             }),
             Catch::Contains("they must lie alike"));
}

TEST_CASE("a gather or scatter goes over the innermost axes of a dimension, named from the outside in") {
  const auto build = [](const std::string& axes, const char* op) {
    Graph graph;
    graph.set_axes({{"context", 2, 0, 10}, {"tensor", 3, 0, 20}}); // by level context is the inner one
    graph.declare_input("x", {KM_F32, {2, 12, 6}});
    const ValueId x = graph.input("x");
    if (std::string(op) == "all_gather") {
      graph.shard(x, 1, 1);
      graph.shard(x, 1, 0);
    } else {
      graph.value(x).placements = {{Spread::kPartial, 0}, {Spread::kSharded, 1}};
      if (axes == "tensor") graph.value(x).placements = {{Spread::kSharded, 1}, {Spread::kPartial, 0}};
    }
    graph.add1(op, {x}, {{"axes", axes}, {"dim", int64_t{1}}});
    graph.infer_all();
    check_final(graph);
    return graph.value(graph.node(graph.order().back()).outputs[0]).type.shape[1];
  };
  CHECK(build("context", "all_gather") == 4);
  CHECK(build("tensor,context", "all_gather") == 12);
  CHECK_THROWS_WITH(build("tensor", "all_gather"),
                    Catch::Contains("axis context divides the same dimension inside of axis tensor"));
  CHECK_THROWS_WITH(build("context,tensor", "all_gather"), Catch::Contains("axis context is named before tensor"));
  CHECK(build("context", "reduce_scatter") == 6);
  CHECK_THROWS_WITH(build("tensor", "reduce_scatter"), Catch::Contains("inside of axis tensor"));
}

TEST_CASE("shapes of communication ops: groups, uneven flat parts, dimensions that do not divide") {
  Graph graph;
  graph.set_axes({{"tensor", 2, 1, kTensorLevel}, {"data", 3, 2, kDataLevel}});
  CHECK(graph.group_size("data,tensor") == 6);
  CHECK(graph.group_index("data,tensor") == 5);
  graph.declare_input("x", {KM_F32, {4, 5}});
  const ValueId x = graph.input("x");
  const auto axes = [](const char* names) { return Attributes{{"axes", std::string(names)}}; };
  const auto type = [&](ValueId id) { return to_text(graph.value(id).type); };
  CHECK(type(graph.add1("flat_scatter", {x}, axes("data"))) == "f32[6]");        // 7 7 6
  CHECK(type(graph.add1("flat_scatter", {x}, axes("data,tensor"))) == "f32[3]"); // 4 4 3 3 3 3
  CHECK(type(graph.add1("all_gather", {x}, {{"axes", std::string("data")}, {"dim", int64_t{1}}})) == "f32[4,15]");
  CHECK(type(graph.add1("reduce_scatter", {x}, {{"axes", std::string("tensor")}, {"dim", int64_t{0}}})) == "f32[2,5]");
  CHECK_THROWS_WITH(graph.add1("reduce_scatter", {x}, {{"axes", std::string("tensor")}, {"dim", int64_t{1}}}),
                    Catch::Contains("does not divide by the 2 ranks along tensor"));
  CHECK_THROWS_WITH(graph.add1("all_reduce", {x}, axes("datum")), Catch::Contains("no axis \"datum\""));
  CHECK_THROWS_WITH(graph.add1("all_reduce", {x}, {}), Catch::Contains("axes"));
  CHECK_THROWS_WITH(graph.add1("flat_gather", {x}, {{"axes", std::string("data")}, {"shape", Shape{4, 5}}}),
                    Catch::Contains("must be f32[6]"));
  CHECK_THROWS_WITH(graph.add1("transfer", {x}, {{"from", int64_t{1}}, {"to", int64_t{1}}}),
                    Catch::Contains("must be two stages"));
  CHECK(graph.add("all_reduce", std::vector<ValueId>(20, x), axes("data")).size() == 20);
}

TEST_CASE("the norm of a divided tensor is that of the whole, once it is resolved") {
  const Shape shape = {6, 5};
  const Numbers numbers = random_numbers(30, 9);
  double expected = 0;
  for (const double number : numbers) expected += number * number;
  bool resolved = false;
  Ranks ranks({{"tensor", 2, 0, kTensorLevel}, {"data", 3, 0, kDataLevel}}, [&](Graph& graph) {
    const ValueId p = graph.add_parameter("p", {KM_F32, shape}, KM_ROLE_COLUMN, KM_INIT_NORMAL, 1, true);
    graph.shard(p, 0, 0);
    graph.shard(p, -1, 1);
    const ValueId q = graph.add_parameter("q", {KM_F32, shape}, KM_ROLE_COLUMN, KM_INIT_NORMAL, 1, true);
    graph.cursor.phase = Phase::kTail;
    // The second norm is of what the first was needed for.
    const ValueId ratio = graph.add1("reciprocal", {graph.add1("tensor_norm", {p})});
    graph.set_output("norm", graph.add1("tensor_norm", {graph.add1("multiply", {p, ratio})}));
    graph.set_output("ratio", ratio);
    graph.set_output("plain", graph.add1("tensor_norm", {q}));
    graph.infer_all();
    if (!resolved) CHECK_THROWS_WITH(check_final(graph), Catch::Contains("the norm is that of one rank"));
    resolve_norms(graph);
    resolved = true;
    graph.check();
    check_final(graph);
  });
  for (const char* name : {"p", "q"}) ranks.set(name, numbers);
  ranks.run();
  CHECK(ranks.whole(ranks.graph().output("ratio"), {})[0] == Approx(1 / std::sqrt(expected)));
  CHECK(ranks.whole(ranks.graph().output("norm"), {})[0] == Approx(1));
  CHECK(ranks.whole(ranks.graph().output("plain"), {})[0] == Approx(std::sqrt(expected)));
}

} // namespace
} // namespace kumiki::test
