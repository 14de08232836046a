// Gradients by autodiff equal finite differences of the loss: of each derivative rule by itself, and of whole models.
#include <catch2/catch.hpp>
#include <cmath>
#include <functional>

#include "core/base/error.h"
#include "core/graph/graph.h"
#include "tests/graph/interpreter.h"
#include "tests/graph/models.h"

namespace kumiki::test {
namespace {

// The slope of the loss at the parameters of `interpreter`, along `direction` of one parameter: central differences
// at h and 2h, so that the error is of order h⁴ and f32 values of the loss are enough.
double slope(Interpreter& interpreter, const std::string& parameter, const Numbers& at, const Numbers& direction,
             double h) {
  const auto loss = [&](double step) {
    Numbers moved = at;
    for (size_t i = 0; i < at.size(); ++i) moved[i] += step * direction[i];
    interpreter.set(parameter, moved);
    interpreter.run();
    return interpreter.get_output("loss")[0];
  };
  const double near = (loss(h) - loss(-h)) / (2 * h), far = (loss(2 * h) - loss(-2 * h)) / (4 * h);
  interpreter.set(parameter, at);
  return (4 * near - far) / 3;
}

double dot(const Numbers& a, const Numbers& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

double norm(const Numbers& a) { return std::sqrt(dot(a, a)); }

// Checks each parameter along its own gradient (where a wrong scale shows) and along a random direction.
void check_gradients(const Graph& forward, const std::function<void(Interpreter&, const Graph&)>& set,
                     double h = 0.01) {
  Graph graph(forward);
  autodiff(graph);
  graph.check();
  Interpreter backward(graph), loss(forward);
  set(backward, graph);
  set(loss, forward);
  backward.run();
  for (const ValueId parameter : graph.parameters()) {
    const std::string& name = graph.value(parameter).name;
    INFO("parameter " << name);
    loss.run();
    const Numbers at = loss.get(parameter);
    const Numbers gradient = backward.get(graph.gradients().at(parameter));
    const double length = norm(gradient);
    REQUIRE(length > 0);
    Numbers along = gradient;
    for (double& number : along) number /= length;
    const double most = std::max(1.0, length);
    CHECK(std::fabs(slope(loss, name, at, along, h) - length) < 1e-3 * most);
    Numbers across = random_numbers(static_cast<int64_t>(at.size()), 77);
    const double size = norm(across);
    for (double& number : across) number /= size;
    CHECK(std::fabs(slope(loss, name, at, across, h) - dot(across, gradient)) < 1e-3 * most);
  }
}

void set_all(Interpreter& interpreter, const Graph& graph) { set_random_leaves(interpreter, graph, 11, 5); }

// ---- one rule at a time ---------------------------------------------------------------------------------------------

struct Case {
  std::string name;
  std::function<ValueId(Graph&)> build; // the value whose weighted squares are the loss
  double low = -0.9, high = 0.9;        // range of the parameters
};

ValueId leaf(Graph& graph, const std::string& name, const Shape& shape) {
  return graph.add_parameter(name, Type{KM_F32, shape}, KM_ROLE_REPLICATED, KM_INIT_NORMAL, 1, false);
}
Attributes transposed(int64_t a, int64_t b) { return {{"transpose_a", a}, {"transpose_b", b}}; }

Case unary(const std::string& op, double low, double high) {
  return {op, [op](Graph& g) { return g.add1(op, {leaf(g, "x", {3, 4})}); }, low, high};
}
Case binary(const std::string& op, double low, double high) {
  return {op, [op](Graph& g) { return g.add1(op, {leaf(g, "a", {3, 4}), leaf(g, "b", {3, 4})}); }, low, high};
}
Case product(const std::string& what, const Shape& a, const Shape& b, int64_t ta, int64_t tb) {
  return {what, [=](Graph& g) { return g.add1("matmul", {leaf(g, "a", a), leaf(g, "b", b)}, transposed(ta, tb)); }};
}

std::vector<Case> cases() {
  const auto attention_of = [](const char* mask, int64_t keys) {
    return [=](Graph& g) {
      std::vector<ValueId> in = {leaf(g, "q", {2, 5, 8}), leaf(g, "k", {2, 5, 4 * keys}),
                                 leaf(g, "v", {2, 5, 4 * keys})};
      if (std::string(mask) == "segments") in.push_back(g.input("segments"));
      return g.add1("attention", in, {{"head_width", int64_t{4}}, {"mask", std::string(mask)}, {"scale", 0.7}});
    };
  };
  std::vector<Case> all = {
      unary("copy", -1, 1),
      unary("negate", -1, 1),
      unary("square", -1, 1),
      unary("sqrt", 0.5, 2),
      unary("reciprocal", 0.6, 2),
      unary("exp", -1, 1),
      unary("log", 0.5, 2),
      unary("abs", 0.3, 1),
      unary("tanh", -1, 1),
      unary("gelu", -2, 2),
      unary("silu", -2, 2),
      binary("add", -1, 1),
      binary("subtract", -1, 1),
      binary("multiply", -1, 1),
      binary("divide", 0.6, 2),
      binary("power", 0.6, 2),
      binary("swiglu", -2, 2),
      product("matmul", {2, 3, 4}, {4, 5}, 0, 0),
      product("matmul transpose_b", {2, 3, 4}, {5, 4}, 0, 1),
      product("matmul transpose_a", {2, 3, 4}, {2, 3, 5}, 1, 0),
      product("matmul transpose_a transpose_b", {3, 4}, {5, 3}, 1, 1),
      binary("maximum", -1, 1),
      {"minimum",
       [](Graph& g) {
         return g.add1(
             "add", {g.add1("minimum", {leaf(g, "a", {4}), leaf(g, "b", {4})}),
                     g.add1("scale", {g.add1("maximum", {leaf(g, "a", {4}), leaf(g, "b", {4})})}, {{"factor", 0.5}})});
       }},
      {"multiply by a constant",
       [](Graph& g) {
         return g.add1("multiply", {leaf(g, "x", {3, 4}), g.constant(1.5)});
       }},
      {"divide by a constant",
       [](Graph& g) {
         return g.add1("divide", {leaf(g, "x", {3, 4}), g.constant(3)});
       }},
      {"power of a constant",
       [](Graph& g) {
         return g.add1("power", {leaf(g, "x", {3, 4}), g.constant(3)});
       },
       0.5, 1},
      {"scale",
       [](Graph& g) {
         return g.add1("scale", {leaf(g, "x", {3, 4})}, {{"factor", -2.5}});
       }},
      {"select",
       [](Graph& g) {
         const ValueId c = g.add1("sign", {g.add1("maximum", {leaf(g, "a", {3, 4}), g.constant(0)})});
         return g.add1("select", {c, leaf(g, "a", {3, 4}), leaf(g, "b", {3, 4})});
       }},
      {"cast to f32",
       [](Graph& g) {
         return g.add1("cast", {leaf(g, "x", {3, 4})}, {{"dtype", std::string("f32")}});
       }},
      {"bias_add",
       [](Graph& g) {
         return g.add1("bias_add", {leaf(g, "x", {2, 3, 4}), leaf(g, "bias", {4})});
       }},
      {"dropout",
       [](Graph& g) {
         return g.add1("dropout", {leaf(g, "x", {3, 40}), g.step_scalar("seed"), g.step_scalar("sample")},
                       {{"probability", 0.3}, {"stream", int64_t{4}}});
       }},
      {"sum_squares",
       [](Graph& g) {
         return g.add1("sum_squares", {leaf(g, "x", {3, 4})});
       }},
      {"tensor_norm",
       [](Graph& g) {
         return g.add1("tensor_norm", {leaf(g, "x", {3, 4})});
       }},
      {"layernorm",
       [](Graph& g) {
         return g.add1("layernorm", {leaf(g, "x", {2, 3, 6}), leaf(g, "w", {6}), leaf(g, "b", {6})},
                       {{"epsilon", 1e-3}});
       }},
      {"rmsnorm",
       [](Graph& g) {
         return g.add1("rmsnorm", {leaf(g, "x", {2, 3, 6}), leaf(g, "w", {6})}, {{"epsilon", 1e-3}});
       }},
      {"add_layernorm",
       [](Graph& g) {
         const auto out =
             g.add("add_layernorm", {leaf(g, "a", {3, 6}), leaf(g, "b", {3, 6}), leaf(g, "w", {6}), leaf(g, "c", {6})},
                   {{"epsilon", 1e-3}});
         return g.add1("add", {out[0], out[1]});
       }},
      {"add_rmsnorm",
       [](Graph& g) {
         const auto out =
             g.add("add_rmsnorm", {leaf(g, "a", {3, 6}), leaf(g, "b", {3, 6}), leaf(g, "w", {6})}, {{"epsilon", 1e-3}});
         return g.add1("multiply", {out[0], out[1]});
       }},
      {"add_rmsnorm, sum unread",
       [](Graph& g) {
         return g.add("add_rmsnorm", {leaf(g, "a", {3, 6}), leaf(g, "b", {3, 6}), leaf(g, "w", {6})},
                      {{"epsilon", 1e-3}})[1];
       }},
      {"attention", attention_of("causal", 2)},
      {"attention, grouped heads", attention_of("causal", 1)},
      {"attention, segments", attention_of("segments", 2)},
      {"rope",
       [](Graph& g) {
         return g.add1("rope", {leaf(g, "x", {2, 5, 8})}, {{"head_width", int64_t{4}}, {"base", 100.0}});
       }},
      {"add_position",
       [](Graph& g) {
         return g.add1("add_position", {leaf(g, "x", {2, 5, 4}), leaf(g, "table", {5, 4})});
       }},
      {"embedding",
       [](Graph& g) {
         return g.add1("embedding", {g.input("tokens"), leaf(g, "table", {11, 4})});
       }},
      {"cross_entropy",
       [](Graph& g) {
         return g.add1("cross_entropy", {leaf(g, "logits", {2, 5, 11}), g.input("targets")});
       }},
      {"projection_cross_entropy",
       [](Graph& g) {
         return g.add1("projection_cross_entropy",
                       {leaf(g, "x", {2, 5, 4}), leaf(g, "w", {11, 4}), g.input("targets")});
       }},
  };
  for (const char* activation : {"none", "gelu", "silu"})
    all.push_back({std::string("matmul_bias ") + activation, [activation](Graph& g) {
                     const auto out =
                         g.add("matmul_bias", {leaf(g, "a", {2, 3, 4}), leaf(g, "b", {5, 4}), leaf(g, "bias", {5})},
                               {{"transpose_b", int64_t{1}}, {"activation", std::string(activation)}});
                     return out.size() == 1 ? out[0] : g.add1("add", {out[0], g.add1("square", {out[1]})});
                   }});
  for (const int64_t bias : {0, 1})
    all.push_back(
        {"matmul_group bias " + std::to_string(bias), [bias](Graph& g) {
           std::vector<ValueId> in = {leaf(g, "x", {2, 3, 4}), leaf(g, "b1", {5, 4}), leaf(g, "b2", {5, 4})};
           if (bias) in.insert(in.end(), {leaf(g, "bias1", {5}), leaf(g, "bias2", {5})});
           const auto out = g.add("matmul_group", in, {{"n", int64_t{2}}, {"bias", bias}, {"transpose_b", int64_t{1}}});
           return g.add1("multiply", {out[0], out[1]});
         }});
  // Parts of one attention over keys of several ranks; nine parts need a merge of merges.
  for (const int64_t parts : {2, 9})
    all.push_back({"attention in " + std::to_string(parts) + " parts", [parts](Graph& g) {
                     const ValueId q = leaf(g, "q", {1, 4, 8});
                     const auto part = [&](int64_t i, Attributes attributes) {
                       const std::string number = std::to_string(i);
                       attributes["head_width"] = int64_t{4};
                       return g.add("attention_part",
                                    {q, leaf(g, "k" + number, {1, 4, 4}), leaf(g, "v" + number, {1, 4, 4})},
                                    attributes);
                     };
                     std::vector<ValueId> pairs;
                     for (int64_t i = 0; i < parts; ++i) {
                       const auto out = part(i, i == 0       ? Attributes{{"mask", std::string("causal")}}
                                                : i % 2 == 0 ? Attributes{{"keys", int64_t{2}}}
                                                             : Attributes{{"first", int64_t{2}}});
                       pairs.insert(pairs.end(), out.begin(), out.end());
                       if (pairs.size() == 16) pairs = g.add("attention_merge", pairs, {{"head_width", int64_t{4}}});
                     }
                     return g.add1("attention_merge", pairs, {{"head_width", int64_t{4}}});
                   }});
  return all;
}

} // namespace

TEST_CASE("the derivative of each op is the slope of the loss") {
  for (const Case& c : cases()) {
    INFO(c.name);
    Graph graph;
    for (const char* name : {"tokens", "targets", "segments"}) graph.declare_input(name, Type{KM_I32, {2, 5}});
    const ValueId y = c.build(graph);
    // Each element of y counts differently, and not linearly: loss = Σ (y · weight)².
    const Shape shape = graph.value(y).type.shape;
    graph.set_output(
        "loss",
        graph.add1("sum_squares", {graph.add1("multiply", {y, graph.add_state(0, "weight", Type{KM_F32, shape})})}));
    const auto set = [&](Interpreter& interpreter, const Graph& of) {
      set_all(interpreter, of);
      for (const ValueId id : of.parameters()) {
        Numbers numbers = random_numbers(of.value(id).type.elements(), 100 + id);
        for (double& number : numbers) number = c.low + (c.high - c.low) * (number + 1) / 2;
        interpreter.set(of.value(id).name, numbers);
      }
      Numbers weight = random_numbers(graph.value(y).type.elements(), 9);
      for (double& number : weight) number = 1 + 0.5 * number;
      interpreter.set("weight", weight);
    };
    check_gradients(graph, set);
  }
}

TEST_CASE("gradients of a GPT-like model are the slopes of its loss") {
  for (const double dropout : {0.0, 0.2}) {
    Graph graph;
    ModelShape shape;
    shape.dropout = dropout;
    shape.segments = dropout > 0;
    build_gpt(graph, shape);
    check_gradients(graph, set_all, 0.003);
  }
}

TEST_CASE("gradients of a LLaMA-like model are the slopes of its loss") {
  for (const bool tied : {false, true}) {
    Graph graph;
    ModelShape shape;
    shape.tied = tied;
    build_llama(graph, shape);
    check_gradients(graph, set_all, 0.003);
  }
}

TEST_CASE("what a part of attention gives may be read by a merge alone: its derivative is that of the whole") {
  for (const bool beside : {false, true}) {
    Graph graph;
    const ValueId q = leaf(graph, "q", {1, 4, 8});
    const auto part = graph.add("attention_part", {q, q, q}, {{"head_width", int64_t{4}}});
    ValueId y = part[0];
    if (beside)
      y = graph.add1("add", {y, graph.add1("attention_merge", {part[0], part[1]}, {{"head_width", int64_t{4}}})});
    graph.set_output("loss", graph.add1("sum_squares", {y}));
    CHECK_THROWS_WITH(autodiff(graph), Catch::Contains("only an attention_merge may read o and lse of a part"));
  }
}

TEST_CASE("the loss scale multiplies every gradient") {
  Graph graph;
  build_llama(graph, {});
  autodiff(graph);
  Interpreter one(graph), many(graph);
  set_all(one, graph);
  set_all(many, graph);
  many.set("loss_scale", {64});
  one.run();
  many.run();
  for (const auto& [parameter, gradient] : graph.gradients()) {
    Numbers expected = one.get(gradient);
    for (double& number : expected) number *= 64;
    CHECK(difference(expected, many.get(gradient)) < 1e-6);
  }
}

TEST_CASE("gradients of parameters are part W, of activations part B, and B never waits for W") {
  Graph graph;
  build_gpt(graph, {});
  autodiff(graph);
  size_t weight = 0;
  for (const NodeId id : graph.order()) {
    const Node& node = graph.node(id);
    if (node.part == Part::kWeight) ++weight;
    if (node.part == Part::kBackward) {
      for (const ValueId input : node.inputs) {
        const NodeId producer = graph.value(input).producer;
        if (producer) CHECK(graph.node(producer).part != Part::kWeight);
      }
    }
    if (node.op == "sum_rows" || node.op == "embedding_backward" || node.op == "layernorm_backward_weight" ||
        node.op == "accumulate" || node.i64("transpose_a"))
      CHECK(node.part == Part::kWeight);
    if (node.op == "layernorm_backward" || node.op == "attention_backward" || node.op == "gelu_backward")
      CHECK(node.part == Part::kBackward);
  }
  CHECK(weight > 20);
}

TEST_CASE("a backward op with several outputs stands once") {
  Graph graph;
  build_llama(graph, {});
  autodiff(graph);
  std::map<std::string, int> count;
  for (const NodeId id : graph.order()) ++count[graph.node(id).op];
  CHECK(count["attention_backward"] == 2); // layers
  CHECK(count["swiglu_backward"] == 2);
  CHECK(count["accumulate"] == static_cast<int>(graph.parameters().size()));
}

TEST_CASE("backward nodes keep layer and stage of their forward node") {
  Graph graph;
  build_gpt(graph, {});
  for (const NodeId id : graph.order()) graph.node(id).stage = graph.node(id).layer == 1 ? 1 : 0;
  for (const NodeId id : graph.order())
    for (const ValueId output : graph.node(id).outputs) graph.value(output).stage = graph.node(id).stage;
  autodiff(graph);
  for (const NodeId id : graph.order()) {
    const Node& node = graph.node(id);
    if (node.derived_from == 0 || node.op == "add") continue;
    CHECK(node.layer == graph.node(node.derived_from).layer);
    CHECK(node.stage == graph.node(node.derived_from).stage);
    CHECK(node.origin == "autodiff");
  }
}

TEST_CASE("autodiff says what cannot be differentiated") {
  Graph unused;
  ModelShape shape;
  build_gpt(unused, shape);
  unused.add_parameter("lonely", Type{KM_F32, {3}}, KM_ROLE_REPLICATED, KM_INIT_ZERO, 0, false);
  CHECK_THROWS_WITH(autodiff(unused), Catch::Contains("lonely") && Catch::Contains("does not depend"));

  Graph no_derivative;
  const ValueId x = leaf(no_derivative, "x", {2, 3, 4});
  no_derivative.set_output("loss", no_derivative.add1("sum_squares", {no_derivative.add1("last_token", {x})}));
  CHECK_THROWS_WITH(autodiff(no_derivative), Catch::Contains("last_token has no derivative"));

  Graph no_loss;
  CHECK_THROWS_WITH(autodiff(no_loss), Catch::Contains("no output \"loss\""));

  Graph dead_end;
  const ValueId a = leaf(dead_end, "a", {3});
  dead_end.set_output("loss", dead_end.add1("sum_squares", {dead_end.add1("sign", {a})}));
  CHECK_THROWS_WITH(autodiff(dead_end), Catch::Contains("does not depend on this parameter"));
}

} // namespace kumiki::test
