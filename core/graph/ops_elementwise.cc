// Element by element, and the sums.
#include "core/graph/ops.h"

namespace kumiki::ops {
namespace {

Types binary_shape(const Node& node, const Types& in) {
  expect_f32(node, in);
  if (in[0].shape.empty()) return {in[1]};
  if (in[1].shape.empty() || in[0] == in[1]) return {in[0]};
  wrong(node, "a is " + to_text(in[0]) + ", b is " + to_text(in[1]) +
                  ", but both must have the same shape, or one of them []");
}

Types unary_shape(const Node& node, const Types& in) {
  expect_f32(node, in);
  return {in[0]};
}

// The vocabulary has no sum of all elements, so an operand of rank 0 gets its gradient only where the result is of
// rank 0.
void expect_no_broadcast(const Graph& graph, const Node& node, size_t input) {
  const Shape& own = graph.value(node.inputs[input]).type.shape;
  if (own == graph.value(node.outputs[0]).type.shape) return;
  wrong(node, "no derivative for operand " + std::to_string(input) + " of shape [] where the result is " +
                  to_text(graph.value(node.outputs[0]).type));
}

using Binary = ValueId (*)(Graph&, const Node&, size_t input, ValueId g);
Rule binary(const char* name, Binary derivative) {
  return rule(name, 2, 2, {}, binary_shape,
              [derivative](Graph& graph, const Node& node, size_t input, const Gradients& g) {
                expect_no_broadcast(graph, node, input);
                return derivative(graph, node, input, g[0]);
              });
}

// 1 where input 0 is the one that maximum (minimum) took, else 0; ties go to input 1.
ValueId took_first(Graph& graph, const Node& node, bool maximum) {
  const ValueId a = node.inputs[maximum ? 0 : 1], b = node.inputs[maximum ? 1 : 0];
  const ValueId sign = graph.add1("sign", {graph.add1("subtract", {a, b})});
  return graph.add1("maximum", {sign, graph.constant(0)});
}
ValueId extremum_derivative(Graph& graph, const Node& node, size_t input, ValueId g) {
  const ValueId first = graph.add1("multiply", {g, took_first(graph, node, node.op == "maximum")});
  return input == 0 ? first : graph.add1("subtract", {g, first});
}

std::vector<Rule> binaries() {
  return {
      binary("add", [](Graph&, const Node&, size_t, ValueId g) { return g; }),
      binary("subtract", [](Graph& graph, const Node&, size_t input,
                            ValueId g) { return input == 0 ? g : graph.add1("negate", {g}); }),
      binary("multiply",
             [](Graph& graph, const Node& node, size_t input, ValueId g) {
               return graph.add1("multiply", {g, node.inputs[1 - input]});
             }),
      binary("divide",
             [](Graph& graph, const Node& node, size_t input, ValueId g) {
               if (input == 0) return graph.add1("divide", {g, node.inputs[1]});
               const ValueId product = graph.add1("multiply", {g, node.outputs[0]});
               return graph.add1("negate", {graph.add1("divide", {product, node.inputs[1]})});
             }),
      binary("maximum", extremum_derivative),
      binary("minimum", extremum_derivative),
      binary("power",
             [](Graph& graph, const Node& node, size_t input, ValueId g) {
               const ValueId a = node.inputs[0], b = node.inputs[1];
               if (input == 1)
                 return graph.add1("multiply", {g, graph.add1("multiply", {node.outputs[0], graph.add1("log", {a})})});
               const ValueId less = graph.add1("subtract", {b, graph.constant(1)});
               return graph.add1("multiply", {g, graph.add1("multiply", {b, graph.add1("power", {a, less})})});
             }),
  };
}

using Unary = ValueId (*)(Graph&, const Node&, ValueId x, ValueId y, ValueId g);
Rule unary(const char* name, Unary derivative) {
  return rule(name, 1, 1, {}, unary_shape, [derivative](Graph& graph, const Node& node, size_t, const Gradients& g) {
    return derivative(graph, node, node.inputs[0], node.outputs[0], g[0]);
  });
}
ValueId scaled(Graph& graph, ValueId x, double factor) { return graph.add1("scale", {x}, {{"factor", factor}}); }

std::vector<Rule> unaries() {
  return {
      unary("copy", [](Graph&, const Node&, ValueId, ValueId, ValueId g) { return g; }),
      unary("negate", [](Graph& graph, const Node&, ValueId, ValueId, ValueId g) { return graph.add1("negate", {g}); }),
      unary("square",
            [](Graph& graph, const Node&, ValueId x, ValueId, ValueId g) {
              return graph.add1("multiply", {g, scaled(graph, x, 2)});
            }),
      unary("sqrt",
            [](Graph& graph, const Node&, ValueId, ValueId y, ValueId g) {
              return graph.add1("divide", {g, scaled(graph, y, 2)});
            }),
      unary("reciprocal",
            [](Graph& graph, const Node&, ValueId, ValueId y, ValueId g) {
              return graph.add1("negate", {graph.add1("multiply", {g, graph.add1("square", {y})})});
            }),
      unary("exp",
            [](Graph& graph, const Node&, ValueId, ValueId y, ValueId g) {
              return graph.add1("multiply", {g, y});
            }),
      unary("log",
            [](Graph& graph, const Node&, ValueId x, ValueId, ValueId g) {
              return graph.add1("divide", {g, x});
            }),
      unary("abs",
            [](Graph& graph, const Node&, ValueId x, ValueId, ValueId g) {
              return graph.add1("multiply", {g, graph.add1("sign", {x})});
            }),
      unary("sign", [](Graph&, const Node&, ValueId, ValueId, ValueId) -> ValueId { return 0; }),
      unary("tanh",
            [](Graph& graph, const Node&, ValueId, ValueId y, ValueId g) {
              return graph.add1("subtract", {g, graph.add1("multiply", {g, graph.add1("square", {y})})});
            }),
      unary("gelu",
            [](Graph& graph, const Node&, ValueId x, ValueId, ValueId g) {
              return graph.add1("gelu_backward", {g, x});
            }),
      unary("silu",
            [](Graph& graph, const Node&, ValueId x, ValueId, ValueId g) {
              return graph.add1("silu_backward", {g, x});
            }),
  };
}

Types same_shapes(const Node& node, const Types& in, const std::vector<const char*>& names) {
  expect_f32(node, in);
  for (size_t i = 1; i < in.size(); ++i) expect_type(node, in, i, names[i], in[0]);
  return {in[0]};
}

std::vector<Rule> activations() {
  std::vector<Rule> rules;
  for (const char* name : {"gelu_backward", "silu_backward"}) {
    rules.push_back(rule(name, 2, 2, {}, [](const Node& node, const Types& in) {
      return same_shapes(node, in, {"dy", "x"});
    }));
    rules.back().accumulates = 1;
  }
  rules.push_back(rule(
      "swiglu", 2, 2, {},
      [](const Node& node, const Types& in) {
        return same_shapes(node, in, {"gate", "up"});
      },
      [](Graph& graph, const Node& node, size_t input, const Gradients& g) {
        return graph.add("swiglu_backward", {g[0], node.inputs[0], node.inputs[1]})[input];
      }));
  rules.push_back(rule("swiglu_backward", 3, 3, {}, [](const Node& node, const Types& in) {
    same_shapes(node, in, {"dy", "gate", "up"});
    return Types{in[0], in[0]};
  }));
  return rules;
}

Types select_shape(const Node& node, const Types& in) {
  expect_f32(node, in);
  if (!in[0].shape.empty()) expect_type(node, in, 0, "c", in[1]);
  expect_type(node, in, 2, "b", in[1]);
  return {in[1]};
}
ValueId select_derivative(Graph& graph, const Node& node, size_t input, const Gradients& g) {
  if (input == 0) return 0;
  const ValueId chosen = graph.add1("square", {graph.add1("sign", {node.inputs[0]})}); // 1 where c is not 0
  const ValueId first = graph.add1("multiply", {g[0], chosen});
  return input == 1 ? first : graph.add1("subtract", {g[0], first});
}

Types cast_shape(const Node& node, const Types& in) {
  if (in[0].dtype != KM_F32 && in[0].dtype != KM_BF16)
    wrong(node, "x is " + to_text(in[0]) + ", but must be f32 or bf16");
  return {Type{dtype_attribute(node), in[0].shape}};
}

Types bias_add_shape(const Node& node, const Types& in) {
  expect_f32(node, in);
  expect_rank(node, in, 0, "x", 1, SIZE_MAX);
  expect_type(node, in, 1, "bias", vector(last(in[0])));
  return {in[0]};
}

Types dropout_shape(const Node& node, const Types& in) {
  expect_dtype(node, in, 0, "x", KM_F32);
  expect_rank(node, in, 0, "x", 1, SIZE_MAX);
  expect_type(node, in, 1, "seed", scalar(KM_I64));
  expect_type(node, in, 2, "sample", scalar(KM_I64));
  const double probability = node.f64("probability");
  if (!(probability >= 0 && probability < 1))
    wrong(node, "attribute probability is " + std::to_string(probability) + ", but must be at least 0 and less than 1");
  // x may hold a part of each sample: the elements from offset (and fold_offset) on, of sample_elements.
  const int64_t elements = in[0].shape[0] ? in[0].elements() / in[0].shape[0] : 0;
  expect_positions(node, elements);
  const int64_t end = positions_end(node, elements), all = node.i64("sample_elements", end);
  if (end > all)
    wrong(node, "x is " + to_text(in[0]) + ": its " + std::to_string(elements) + " elements of a sample end at " +
                    std::to_string(end) + " (attributes offset, fold_offset), but attribute sample_elements is " +
                    std::to_string(all));
  return {in[0]};
}

std::vector<Rule> others() {
  std::vector<Rule> rules;
  rules.push_back(
      rule("scale", 1, 1, {f64("factor")}, unary_shape, [](Graph& graph, const Node& node, size_t, const Gradients& g) {
        return scaled(graph, g[0], node.f64("factor", 1));
      }));
  rules.push_back(rule("select", 3, 3, {}, select_shape, select_derivative));
  rules.push_back(rule("cast", 1, 1, {text("dtype")}, cast_shape,
                       [](Graph&, const Node&, size_t, const Gradients& g) { return g[0]; }));
  rules.push_back(
      rule("bias_add", 2, 2, {}, bias_add_shape, [](Graph& graph, const Node&, size_t input, const Gradients& g) {
        return input == 0 ? g[0] : graph.add1("sum_rows", {g[0]});
      }));
  rules.push_back(
      rule("dropout", 3, 3,
           {f64("probability"), i64("stream"), i64("offset"), i64("fold"), i64("fold_offset"), i64("sample_elements")},
           dropout_shape, [](Graph& graph, const Node& node, size_t input, const Gradients& g) -> ValueId {
             if (input != 0) return 0;
             return graph.add1("dropout", {g[0], node.inputs[1], node.inputs[2]}, node.attributes);
           }));
  return rules;
}

Types to_scalar(const Node& node, const Types& in) {
  expect_f32(node, in);
  return {scalar()};
}

std::vector<Rule> sums() {
  std::vector<Rule> rules;
  rules.push_back(rule("sum_rows", 1, 1, {}, [](const Node& node, const Types& in) {
    expect_f32(node, in);
    expect_rank(node, in, 0, "x", 1, SIZE_MAX);
    return Types{vector(last(in[0]))};
  }));
  rules.back().accumulates = 1;
  rules.push_back(
      rule("sum_squares", 1, 1, {}, to_scalar, [](Graph& graph, const Node& node, size_t, const Gradients& g) {
        return graph.add1("multiply", {node.inputs[0], scaled(graph, g[0], 2)});
      }));
  rules.push_back(
      rule("tensor_norm", 1, 1, {}, to_scalar, [](Graph& graph, const Node& node, size_t, const Gradients& g) {
        return graph.add1("multiply", {node.inputs[0], graph.add1("divide", {g[0], node.outputs[0]})});
      }));
  return rules;
}

} // namespace

std::vector<Rule> elementwise() {
  std::vector<Rule> all;
  for (auto* family : {&binaries, &unaries, &activations, &others, &sums})
    for (Rule& rules : (*family)()) all.push_back(std::move(rules));
  return all;
}

} // namespace kumiki::ops
