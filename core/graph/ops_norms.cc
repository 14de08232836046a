// Norms. Rows are the leading dimensions; mean and rstd have the shape of x without its last dimension.
#include "core/graph/ops.h"

namespace kumiki::ops {
namespace {

Type row_statistic(const Type& x) { return Type{KM_F32, leading(x.shape)}; }

void expect_rows(const Node& node, const Types& in, size_t x) {
  expect_f32(node, in);
  expect_rank(node, in, x, "x", 1, SIZE_MAX);
}

Types layernorm_shape(const Node& node, const Types& in) {
  expect_rows(node, in, 0);
  expect_type(node, in, 1, "weight", vector(last(in[0])));
  expect_type(node, in, 2, "bias", vector(last(in[0])));
  return {in[0], row_statistic(in[0]), row_statistic(in[0])};
}

Types layernorm_backward_shape(const Node& node, const Types& in) {
  expect_rows(node, in, 1);
  expect_type(node, in, 0, "dy", in[1]);
  expect_type(node, in, 2, "weight", vector(last(in[1])));
  expect_type(node, in, 3, "mean", row_statistic(in[1]));
  expect_type(node, in, 4, "rstd", row_statistic(in[1]));
  return {in[1]};
}

Types layernorm_backward_weight_shape(const Node& node, const Types& in) {
  expect_rows(node, in, 1);
  expect_type(node, in, 0, "dy", in[1]);
  expect_type(node, in, 2, "mean", row_statistic(in[1]));
  expect_type(node, in, 3, "rstd", row_statistic(in[1]));
  return {vector(last(in[1])), vector(last(in[1]))};
}

Types rmsnorm_shape(const Node& node, const Types& in) {
  expect_rows(node, in, 0);
  expect_type(node, in, 1, "weight", vector(last(in[0])));
  return {in[0], row_statistic(in[0])};
}

Types rmsnorm_backward_shape(const Node& node, const Types& in) {
  expect_rows(node, in, 1);
  expect_type(node, in, 0, "dy", in[1]);
  expect_type(node, in, 2, "weight", vector(last(in[1])));
  expect_type(node, in, 3, "rstd", row_statistic(in[1]));
  return {in[1]};
}

Types rmsnorm_backward_weight_shape(const Node& node, const Types& in) {
  expect_rows(node, in, 1);
  expect_type(node, in, 0, "dy", in[1]);
  expect_type(node, in, 2, "rstd", row_statistic(in[1]));
  return {vector(last(in[1]))};
}

// add_<norm>(a, b, …) is s = a + b and <norm>(s, …): the outputs of the norm stand behind s.
decltype(OpRules::shape) after_add(Types (*norm)(const Node&, const Types&)) {
  return [norm](const Node& node, const Types& in) {
    expect_rows(node, in, 0);
    expect_type(node, in, 1, "b", in[0]);
    Types rest(in.begin() + 1, in.end());
    Types out = norm(node, rest);
    out.insert(out.begin(), in[0]);
    return out;
  };
}

// The gradient of the norm's input (parameter = 0), weight (1) or bias (2), for the gradient dy of its output.
struct NormValues {
  ValueId x, weight, mean, rstd; // mean: 0 for rmsnorm
};
ValueId norm_derivative(Graph& graph, const NormValues& v, size_t parameter, ValueId dy) {
  if (v.mean == 0) {
    if (parameter == 0) return graph.add1("rmsnorm_backward", {dy, v.x, v.weight, v.rstd});
    return graph.add1("rmsnorm_backward_weight", {dy, v.x, v.rstd});
  }
  if (parameter == 0) return graph.add1("layernorm_backward", {dy, v.x, v.weight, v.mean, v.rstd});
  return graph.add("layernorm_backward_weight", {dy, v.x, v.mean, v.rstd})[parameter - 1];
}

ValueId layernorm_derivative(Graph& graph, const Node& node, size_t input, const Gradients& g) {
  no_gradient_through(node, g, 1, "mean");
  no_gradient_through(node, g, 2, "rstd");
  return norm_derivative(graph, {node.inputs[0], node.inputs[1], node.outputs[1], node.outputs[2]}, input, g[0]);
}

ValueId rmsnorm_derivative(Graph& graph, const Node& node, size_t input, const Gradients& g) {
  no_gradient_through(node, g, 1, "rstd");
  return norm_derivative(graph, {node.inputs[0], node.inputs[1], 0, node.outputs[1]}, input, g[0]);
}

ValueId add_norm_derivative(Graph& graph, const Node& node, size_t input, const Gradients& g) {
  const bool layernorm = node.op == "add_layernorm";
  no_gradient_through(node, g, 2, layernorm ? "mean" : "rstd");
  if (layernorm) no_gradient_through(node, g, 3, "rstd");
  const NormValues values{node.outputs[0], node.inputs[2], layernorm ? node.outputs[2] : 0,
                          node.outputs[layernorm ? 3 : 2]};
  if (input >= 2) return g[1] ? norm_derivative(graph, values, input - 1, g[1]) : 0;
  if (!g[1]) return g[0];
  const ValueId ds = norm_derivative(graph, values, 0, g[1]);
  return g[0] ? graph.add1("add", {g[0], ds}) : ds;
}

} // namespace

std::vector<Rule> norms() {
  std::vector<Rule> rules = {
      rule("layernorm", 3, 3, {f64("epsilon")}, layernorm_shape, layernorm_derivative),
      rule("layernorm_backward", 5, 5, {}, layernorm_backward_shape),
      rule("layernorm_backward_weight", 4, 4, {}, layernorm_backward_weight_shape),
      rule("add_layernorm", 4, 4, {f64("epsilon")}, after_add(layernorm_shape), add_norm_derivative),
      rule("rmsnorm", 2, 2, {f64("epsilon")}, rmsnorm_shape, rmsnorm_derivative),
      rule("rmsnorm_backward", 4, 4, {}, rmsnorm_backward_shape),
      rule("rmsnorm_backward_weight", 3, 3, {}, rmsnorm_backward_weight_shape),
      rule("add_rmsnorm", 3, 3, {f64("epsilon")}, after_add(rmsnorm_shape), add_norm_derivative),
  };
  for (Rule& r : rules) {
    if (r.name == "layernorm_backward_weight")
      r.accumulates = 3;
    else if (r.name.find("_backward") != std::string::npos)
      r.accumulates = 1;
  }
  return rules;
}

} // namespace kumiki::ops
