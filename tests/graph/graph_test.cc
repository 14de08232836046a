// The graph's own bookkeeping: order, readers, cursor, rewriting, and the words of its errors.
#include <algorithm>
#include <catch2/catch.hpp>
#include <chrono>
#include <random>

#include "core/base/error.h"
#include "core/graph/graph.h"
#include "tests/graph/models.h"

namespace kumiki::test {
namespace {

ValueId leaf(Graph& graph, const std::string& name, const Shape& shape) {
  return graph.add_parameter(name, Type{KM_F32, shape}, KM_ROLE_REPLICATED, KM_INIT_NORMAL, 1, false);
}

std::vector<std::string> ops(const Graph& graph) {
  std::vector<std::string> names;
  for (const NodeId id : graph.order()) names.push_back(graph.node(id).op);
  return names;
}

} // namespace

TEST_CASE("nodes go where the cursor stands and take layer, stage, phase and part from there") {
  Graph graph;
  const ValueId x = leaf(graph, "x", {4});
  graph.cursor.layer = 3;
  const ValueId a = graph.add1("exp", {x});
  graph.cursor.layer = 4;
  const ValueId b = graph.add1("tanh", {a});
  graph.stand_before(graph.value(b).producer);
  const ValueId c = graph.add1("negate", {a});
  const ValueId d = graph.add1("square", {c});
  CHECK(graph.value(d).layer == 4);
  graph.stand_after(graph.value(a).producer);
  graph.add1("abs", {a});
  CHECK(graph.node(graph.order()[1]).layer == 3);
  graph.stand_at_end();
  graph.add1("copy", {b});
  CHECK(ops(graph) == std::vector<std::string>{"exp", "abs", "negate", "square", "tanh", "copy"});
  graph.stand_after(graph.order().back());
  graph.add1("log", {b});
  graph.stand_at_end();
  CHECK(graph.cursor.layer == 4);
  CHECK(ops(graph).back() == "log");
  graph.check();
}

TEST_CASE("the order stays true under many insertions, moves and erasures at random places") {
  const uint64_t seed = 20240607;
  INFO("seed " << seed);
  std::mt19937_64 engine(seed);
  Graph graph;
  const ValueId x = leaf(graph, "x", {2});
  std::vector<NodeId> expected;
  for (int step = 0; step < 4000; ++step) {
    const size_t place = expected.empty() ? 0 : engine() % expected.size();
    const uint64_t what = engine() % 10;
    if (what == 0 && !expected.empty()) {
      graph.erase(expected[place]);
      expected.erase(expected.begin() + static_cast<std::ptrdiff_t>(place));
    } else if (what == 1 && !expected.empty()) {
      const size_t to = engine() % expected.size();
      const NodeId node = expected[place], before = expected[to];
      graph.move_before(node, before);
      if (node != before) {
        expected.erase(expected.begin() + static_cast<std::ptrdiff_t>(place));
        expected.insert(std::find(expected.begin(), expected.end(), before), node);
      }
    } else {
      // Mostly at the front, where labels run out fastest.
      const size_t at = what < 8 ? 0 : place;
      graph.cursor.before = expected.empty() ? 0 : expected[at];
      const NodeId node = graph.value(graph.add1("exp", {x})).producer;
      expected.insert(expected.begin() + static_cast<std::ptrdiff_t>(at), node);
    }
  }
  CHECK(graph.order() == expected);
  CHECK(graph.users(x) == expected);
  for (size_t i = 1; i < expected.size(); ++i) CHECK(graph.precedes(expected[i - 1], expected[i]));
  graph.check();
  size_t walked = 0;
  for (NodeId id = graph.next(0); id != 0; id = graph.next(id)) CHECK(id == expected[walked++]);
  CHECK(walked == expected.size());
}

TEST_CASE("a walk goes on after the node at hand was erased, also when all were numbered anew") {
  Graph graph;
  const ValueId x = leaf(graph, "x", {2});
  std::vector<NodeId> nodes;
  nodes.reserve(5);
  for (int i = 0; i < 5; ++i) nodes.push_back(graph.value(graph.add1("exp", {x})).producer);
  graph.erase(nodes[2]);
  CHECK(graph.next(nodes[2]) == nodes[3]);
  for (int i = 0; i < 200; ++i) {
    graph.cursor.before = graph.order().front();
    graph.add1("tanh", {x});
  }
  CHECK(graph.next(nodes[2]) == nodes[3]);
}

TEST_CASE("leaves are shared by name") {
  Graph graph;
  const ValueId w = leaf(graph, "w", {2, 3});
  CHECK(leaf(graph, "w", {2, 3}) == w);
  CHECK_THROWS_WITH(leaf(graph, "w", {3, 2}), Catch::Contains("f32[2,3]") && Catch::Contains("f32[3,2]"));
  CHECK(graph.constant(0.5) == graph.constant(0.5));
  CHECK(graph.constant(0.0) != graph.constant(-0.0));
  CHECK(graph.step_scalar("seed") == graph.step_scalar("seed"));
  CHECK(graph.value(graph.step_scalar("seed")).type.dtype == KM_I64);
  CHECK_THROWS_WITH(graph.step_scalar("sead"), Catch::Contains("sead"));
  const ValueId m = graph.add_state(w, "m", Type{KM_F32, {2, 3}});
  CHECK(graph.value(m).name == "w/m");
  CHECK_THROWS(graph.add_state(w, "m", Type{KM_F32, {2, 3}}));
  CHECK_THROWS_WITH(graph.input("tokens"), Catch::Contains("no input \"tokens\""));
  CHECK(graph.input("segments") == 0);
  graph.declare_input("tokens", Type{KM_I32, {2, 3}});
  const ValueId tokens = graph.input("tokens");
  CHECK(graph.find("tokens") == tokens);
  // The batch input and the tail's count have the same name and are different values.
  CHECK(graph.step_scalar("tokens") != tokens);
  CHECK(graph.parameters() == std::vector<ValueId>{w});
}

TEST_CASE("what varies between micro-batches is known, also after rewriting") {
  Graph graph;
  graph.declare_input("tokens", Type{KM_I32, {2, 3}});
  const ValueId table = leaf(graph, "table", {5, 4});
  const ValueId still = graph.add1("scale", {table}, {{"factor", 2.0}});
  const ValueId x = graph.add1("embedding", {graph.input("tokens"), still});
  const ValueId y = graph.add1("tanh", {x});
  const ValueId sum = graph.add1("accumulate", {y});
  CHECK_FALSE(graph.value(still).varies);
  CHECK(graph.value(x).varies);
  CHECK(graph.value(y).varies);
  CHECK_FALSE(graph.value(sum).varies);
  const ValueId state = graph.add_state(0, "fixed", Type{KM_F32, {2, 3, 4}});
  graph.replace_uses(x, state);
  CHECK_FALSE(graph.value(y).varies);
  graph.replace_input(graph.value(y).producer, 0, x);
  CHECK(graph.value(y).varies);
  graph.check();
}

TEST_CASE("assign keeps a state where apply is 0: by select, or by the op itself") {
  Graph graph;
  const ValueId p = leaf(graph, "p", {4});
  const ValueId g = graph.add1("accumulate", {graph.add1("square", {p})});
  graph.cursor.phase = Phase::kTail;
  const ValueId m = graph.add_state(p, "m", Type{KM_F32, {4}}), v = graph.add_state(p, "v", Type{KM_F32, {4}});
  std::vector<ValueId> in = {p, g, m, v};
  for (const char* name : {"learning_rate", "step", "gradient_scale", "apply"}) in.push_back(graph.step_scalar(name));
  const auto out =
      graph.add("adamw_update", in, {{"beta1", 0.9}, {"beta2", 0.95}, {"epsilon", 1e-8}, {"weight_decay", 0.1}});
  graph.assign(p, out[0]);
  graph.assign(m, out[1]);
  graph.assign(v, out[2]);
  const ValueId other = graph.add_state(p, "other", Type{KM_F32, {4}});
  graph.assign(other, graph.add1("add", {other, g}));
  const auto names = ops(graph);
  CHECK(std::count(names.begin(), names.end(), "select") == 1);
  CHECK_THROWS_WITH(graph.assign(other, graph.step_scalar("apply")),
                    Catch::Contains("f32[4]") && Catch::Contains("f32[]"));
  CHECK_THROWS_WITH(graph.assign(g, g), Catch::Contains("only a state"));
  graph.check();

  Graph decode(KM_MODE_DECODE);
  const ValueId cache = decode.add_state(0, "cache", Type{KM_F32, {1, 8, 4}});
  decode.assign(cache, decode.add1("cache_append", {cache, leaf(decode, "x", {1, 1, 4}), decode.step_scalar("past")}));
  CHECK(ops(decode) == std::vector<std::string>{"cache_append", "assign"});
  decode.check();
}

TEST_CASE("the tail's scalars stand in as leaves until they are computed") {
  Graph graph;
  const ValueId placeholder = graph.step_scalar("apply");
  graph.cursor.phase = Phase::kTail;
  const ValueId one = graph.constant(1);
  const auto scale = graph.add("gradient_scale", {one, one, graph.step_scalar("loss_scale")}, {{"clip", 1.0}});
  const ValueId reader = graph.add1("negate", {placeholder});
  graph.set_tail_scalar("apply", scale[2]);
  CHECK(graph.step_scalar("apply") == scale[2]);
  CHECK(graph.node(graph.value(reader).producer).inputs[0] == scale[2]);
  CHECK_THROWS_WITH(graph.set_tail_scalar("seed", scale[2]), Catch::Contains("seed"));
  graph.check();
}

TEST_CASE("an erased node was read by nobody, and what leads nowhere is erased") {
  Graph graph;
  build_gpt(graph, {});
  const size_t before = graph.order().size();
  const ValueId x = graph.add1("exp", {leaf(graph, "x", {3})});
  graph.add1("tanh", {x});
  CHECK_THROWS_WITH(graph.erase(graph.value(x).producer), Catch::Contains("reads it"));
  CHECK_THROWS_WITH(graph.erase(graph.value(graph.output("loss")).producer), Catch::Contains("output \"loss\""));
  graph.erase_dead();
  CHECK(graph.order().size() == before);
  graph.check();
}

TEST_CASE("a copy is a graph of its own") {
  Graph graph;
  build_llama(graph, {});
  const std::string text = to_text(graph);
  Graph copy(graph);
  autodiff(copy);
  CHECK(to_text(graph) == text);
  graph.check();
  copy.check();
}

TEST_CASE("errors name the op and the shapes") {
  Graph graph;
  graph.cursor.origin = "model gpt";
  graph.cursor.layer = 2;
  const ValueId a = leaf(graph, "a", {2, 3}), b = leaf(graph, "b", {4, 5}), c = leaf(graph, "c", {3});
  using Catch::Contains;
  CHECK_THROWS_WITH(graph.add("matmul", {a, b}), Contains("layer 2, model gpt") && Contains("matmul") &&
                                                     Contains("f32[2,3]") && Contains("f32[4,5]"));
  CHECK_THROWS_WITH(graph.add("mat_mul", {a, b}), Contains("did you mean \"matmul\""));
  CHECK_THROWS_WITH(graph.add("add", {a, b}), Contains("add") && Contains("f32[2,3]") && Contains("f32[4,5]"));
  CHECK_THROWS_WITH(graph.add("matmul", {a}), Contains("1 inputs, but it takes 2"));
  CHECK_THROWS_WITH(graph.add("matmul", {a, b}, {{"transposeb", int64_t{1}}}),
                    Contains("transposeb") && Contains("transpose_b"));
  CHECK_THROWS_WITH(graph.add("scale", {a}, {{"factor", std::string("2")}}), Contains("factor is a string"));
  CHECK_THROWS_WITH(graph.add("layernorm", {a, c, b}), Contains("bias is f32[4,5], but must be f32[3]"));
  CHECK_THROWS_WITH(graph.add("sum_rows", {a, a}, {{"accumulate", int64_t{1}}}),
                    Contains("addend of output 0 is f32[2,3]") && Contains("f32[3]"));
  CHECK_THROWS_WITH(graph.add("tanh", {a, a}, {{"accumulate", int64_t{1}}}),
                    Contains("tanh has no attribute \"accumulate\""));
  CHECK_THROWS_WITH(graph.add("matmul", {a, 99}), Contains("input 1 is no value of this graph"));
  CHECK(graph.order().empty());
}

TEST_CASE("addends of accumulate are checked and leave the shape rule alone") {
  Graph graph;
  const ValueId a = leaf(graph, "a", {2, 3}), b = leaf(graph, "b", {3, 5}), y = leaf(graph, "y", {2, 5});
  const ValueId sum = graph.add1("matmul", {a, b, y}, {{"accumulate", int64_t{1}}});
  CHECK(graph.value(sum).type.shape == Shape{2, 5});
  const ValueId dy = leaf(graph, "dy", {4, 3}), r = leaf(graph, "r", {4}), w = leaf(graph, "w", {3});
  CHECK(graph.add("layernorm_backward_weight", {dy, dy, r, r, w}, {{"accumulate", int64_t{2}}}).size() == 2);
  CHECK_THROWS_WITH(graph.add("layernorm_backward_weight", {dy, dy, r, r, w, w}, {{"accumulate", int64_t{5}}}),
                    Catch::Contains("only the bits 3"));
  graph.check();
}

TEST_CASE("an attribute that changes the outputs adds them, and takes away only what nobody reads") {
  Graph graph;
  const ValueId y =
      graph.add1("matmul_bias", {leaf(graph, "a", {2, 3}), leaf(graph, "b", {3, 5}), leaf(graph, "c", {5})});
  Node& node = graph.node(graph.value(y).producer);
  node.attributes["activation"] = std::string("gelu");
  graph.infer(node.id);
  REQUIRE(node.outputs.size() == 2);
  graph.check();
  const ValueId reader = graph.add1("exp", {node.outputs[1]});
  node.attributes["activation"] = std::string("none");
  CHECK_THROWS_WITH(graph.infer(node.id), Catch::Contains("loses an output that is read"));
  graph.erase(graph.value(reader).producer);
  graph.infer(node.id);
  CHECK(node.outputs == std::vector<ValueId>{y});
  graph.check();
}

TEST_CASE("an op that a provider brings is built, differentiated once for all inputs, and checked like any other") {
  Graph graph;
  OpRules rules;
  rules.name = "acme.pair";
  rules.shape = [](const Node&, const std::vector<Type>& in) { return std::vector<Type>{in[0]}; };
  OpRules backward = rules;
  backward.name = "acme.pair_backward";
  backward.shape = [](const Node&, const std::vector<Type>& in) { return std::vector<Type>{in[1], in[2]}; };
  rules.derivative = [](Graph& g, const Node& node, size_t input, const std::vector<ValueId>& gradients) {
    return g.add("acme.pair_backward", {gradients[0], node.inputs[0], node.inputs[1]}, node.attributes)[input];
  };
  graph.add_provider([&](const std::string& op) -> const OpRules* {
    return op == rules.name ? &rules : op == backward.name ? &backward : nullptr;
  });
  const ValueId y = graph.add1("acme.pair", {leaf(graph, "a", {3}), leaf(graph, "b", {3})}, {{"any", int64_t{1}}});
  graph.set_output("loss", graph.add1("sum_squares", {y}));
  autodiff(graph);
  graph.check();
  const auto names = ops(graph);
  CHECK(std::count(names.begin(), names.end(), "acme.pair_backward") == 1);
  CHECK_THROWS_WITH(graph.add("acme.other", {y}), Catch::Contains("need the plugin"));
}

TEST_CASE("costs are the field's formulas") {
  Graph graph;
  const ValueId x = leaf(graph, "x", {2, 8, 16}), w = leaf(graph, "w", {32, 16});
  const auto flops = [&](ValueId value) { return cost(graph, graph.node(graph.value(value).producer)).flops; };
  const ValueId y = graph.add1("matmul", {x, w}, {{"transpose_b", int64_t{1}}});
  CHECK(flops(y) == 2.0 * 16 * 32 * 16);
  CHECK(flops(graph.add1("matmul", {y, x}, {{"transpose_a", int64_t{1}}})) == 2.0 * 16 * 32 * 16);
  CHECK(flops(graph.add1("matmul", {y, w})) == 2.0 * 16 * 32 * 16);
  // causal: (T + 1) / 2 keys a query, 2·D multiply-adds a pair, 2 heads of 8
  const ValueId o = graph.add1("attention", {x, x, x}, {{"head_width", int64_t{8}}, {"mask", std::string("causal")}});
  CHECK(flops(o) == 2 * (2 * 2.0 * 2 * 8 * 8 * 4.5));
  CHECK(cost(graph, graph.node(graph.value(y).producer)).bytes == 4.0 * (2 * 8 * 16 + 32 * 16 + 2 * 8 * 32));
}

TEST_CASE("a graph of 15,000 nodes is built, differentiated and checked (times are reported, not asserted)") {
  using Clock = std::chrono::steady_clock;
  const auto milliseconds = [](Clock::time_point from) {
    return std::chrono::duration<double, std::milli>(Clock::now() - from).count();
  };
  ModelShape shape;
  shape.layers = 240;
  shape.dropout = 0.1;
  Graph graph;
  auto from = Clock::now();
  build_gpt(graph, shape);
  const double built = milliseconds(from);
  from = Clock::now();
  autodiff(graph);
  const double differentiated = milliseconds(from);
  from = Clock::now();
  graph.check();
  const double checked = milliseconds(from);
  CHECK(graph.order().size() > 15000);
  WARN(graph.order().size() << " nodes: built in " << built << " ms, differentiated in " << differentiated
                            << " ms, checked in " << checked << " ms");
}

} // namespace kumiki::test
