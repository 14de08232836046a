// Products: matmul, matmul_bias, matmul_group.
#include "core/graph/ops.h"

namespace kumiki::ops {
namespace {

// y of matmul(a, b) by the attributes of `node`; a and b are called by those names in what is thrown.
Type product(const Node& node, const Types& in, size_t a_index, size_t b_index) {
  const Type& a = in[a_index];
  const Type& b = in[b_index];
  const bool transpose_a = node.i64("transpose_a") != 0, transpose_b = node.i64("transpose_b") != 0;
  const auto inputs = [&] {
    return "a is " + to_text(a) + ", b is " + to_text(b) + " (transpose_a = " + std::to_string(transpose_a) +
           ", transpose_b = " + std::to_string(transpose_b) + ")";
  };
  if (a.dtype != b.dtype || (a.dtype != KM_F32 && a.dtype != KM_BF16))
    wrong(node, inputs() + ", but both must be f32 or both bf16");
  if (a.shape.empty()) wrong(node, inputs() + ", but a needs at least one dimension");
  const int64_t rows = last(a) ? a.elements() / last(a) : 0;
  if (!transpose_a || transpose_b) {
    if (b.shape.size() != 2) wrong(node, inputs() + ", but b must have rank 2");
    const int64_t sum_a = transpose_a ? rows : last(a);
    const int64_t sum_b = b.shape[transpose_b ? 1 : 0], n = b.shape[transpose_b ? 0 : 1];
    if (sum_a != sum_b)
      wrong(node, inputs() + ": the sum runs over " + std::to_string(sum_a) + " of a, but " + std::to_string(sum_b) +
                      " of b");
    Type y{dtype_attribute(node), transpose_a ? Shape{last(a)} : leading(a.shape)};
    y.shape.push_back(n);
    return y;
  }
  if (b.shape.empty() || leading(a.shape) != leading(b.shape))
    wrong(node, inputs() + ": the dimensions that are summed over, all but the last, must be equal");
  return Type{dtype_attribute(node), {last(a), last(b)}};
}

// Gradients are f32; the product of one with a bf16 operand needs it in that type.
ValueId as_type_of(Graph& graph, ValueId gradient, ValueId operand) {
  const uint32_t dtype = graph.value(operand).type.dtype;
  if (graph.value(gradient).type.dtype == dtype) return gradient;
  return graph.add1("cast", {gradient}, {{"dtype", std::string(dtype == KM_BF16 ? "bf16" : "f32")}});
}

// Gradient of operand a (operand = 0) or b (1) of matmul(a, b) for the gradient g of its output.
ValueId product_derivative(Graph& graph, const Node& node, ValueId a, ValueId b, size_t operand, ValueId g) {
  const bool transpose_a = node.i64("transpose_a") != 0, transpose_b = node.i64("transpose_b") != 0;
  const int64_t one = 1;
  g = as_type_of(graph, g, operand == 0 ? b : a);
  if (!transpose_a) {
    if (operand == 0)
      return graph.add1("matmul", {g, b}, transpose_b ? Attributes{} : Attributes{{"transpose_b", one}});
    if (transpose_b) return graph.add1("matmul", {g, a}, {{"transpose_a", one}});
    return graph.add1("matmul", {a, g}, {{"transpose_a", one}});
  }
  if (!transpose_b) {
    if (operand == 0) return graph.add1("matmul", {b, g}, {{"transpose_b", one}});
    return graph.add1("matmul", {a, g});
  }
  if (graph.value(a).type.shape.size() != 2)
    wrong(node, "with both transposed, a derivative is known only for a of rank 2");
  if (operand == 0) return graph.add1("matmul", {b, g}, {{"transpose_a", one}, {"transpose_b", one}});
  return graph.add1("matmul", {g, a}, {{"transpose_a", one}, {"transpose_b", one}});
}

Types matmul_bias_shape(const Node& node, const Types& in) {
  const Type y = product(node, in, 0, 1);
  const std::string activation = node.text("activation", "none");
  if (activation != "none" && activation != "gelu" && activation != "silu")
    wrong(node, "attribute activation is \"" + activation + "\", but must be \"none\", \"gelu\" or \"silu\"");
  expect_type(node, in, 2, "bias", vector(last(y)));
  if (activation == "none") return {y};
  if (node.i64("accumulate")) wrong(node, "attribute accumulate goes only with activation \"none\"");
  return {y, y};
}

ValueId matmul_bias_derivative(Graph& graph, const Node& node, size_t input, const Gradients& g) {
  const std::string activation = node.text("activation", "none");
  ValueId du = g[0];
  if (activation != "none") {
    if (du) du = graph.add1(activation + "_backward", {du, node.outputs[1]});
    if (g[1]) du = du ? graph.add1("add", {du, g[1]}) : g[1];
  }
  if (input == 2) return graph.add1("sum_rows", {du});
  return product_derivative(graph, node, node.inputs[0], node.inputs[1], input, du);
}

Types matmul_group_shape(const Node& node, const Types& in) {
  const int64_t n = node.i64("n");
  const bool bias = node.i64("bias") != 0;
  if (n < 1 || in.size() != static_cast<size_t>(1 + n * (bias ? 2 : 1)))
    wrong(node, "n = " + std::to_string(n) + " and bias = " + std::to_string(bias) + " do not fit " +
                    std::to_string(in.size()) + " inputs: x, n matrices, then n biases if bias = 1");
  Types out;
  for (size_t i = 1; i <= static_cast<size_t>(n); ++i) {
    out.push_back(product(node, in, 0, i));
    if (bias) expect_type(node, in, static_cast<size_t>(n) + i, "bias", vector(last(out.back())));
  }
  return out;
}

ValueId matmul_group_derivative(Graph& graph, const Node& node, size_t input, const Gradients& g) {
  const size_t n = static_cast<size_t>(node.i64("n"));
  if (input > n) return g[input - n - 1] ? graph.add1("sum_rows", {g[input - n - 1]}) : 0;
  if (input > 0)
    return g[input - 1] ? product_derivative(graph, node, node.inputs[0], node.inputs[input], 1, g[input - 1]) : 0;
  ValueId sum = 0;
  for (size_t i = 0; i < n; ++i) {
    if (!g[i]) continue;
    const ValueId term = product_derivative(graph, node, node.inputs[0], node.inputs[i + 1], 0, g[i]);
    sum = sum ? graph.add1("add", {sum, term}) : term;
  }
  return sum;
}

} // namespace

std::vector<Rule> products() {
  std::vector<Rule> rules;
  rules.push_back(rule(
      "matmul", 2, 2, {i64("transpose_a"), i64("transpose_b"), text("dtype")},
      [](const Node& node, const Types& in) { return Types{product(node, in, 0, 1)}; },
      [](Graph& graph, const Node& node, size_t input, const Gradients& g) {
        return product_derivative(graph, node, node.inputs[0], node.inputs[1], input, g[0]);
      }));
  rules.back().accumulates = 1;
  rules.push_back(rule("matmul_bias", 3, 3, {i64("transpose_a"), i64("transpose_b"), text("dtype"), text("activation")},
                       matmul_bias_shape, matmul_bias_derivative));
  rules.back().accumulates = 1;
  rules.push_back(rule("matmul_group", 2, KM_MAX_INPUTS, {i64("n"), i64("bias"), i64("transpose_b")},
                       matmul_group_shape, matmul_group_derivative));
  return rules;
}

} // namespace kumiki::ops
