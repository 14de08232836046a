// Embedding and loss.
#include "core/graph/ops.h"

namespace kumiki::ops {
namespace {

Types embedding_shape(const Node& node, const Types& in) {
  expect_dtype(node, in, 0, "tokens", KM_I32);
  expect_dtype(node, in, 1, "table", KM_F32);
  expect_rank(node, in, 1, "table", 2, 2);
  Type y{KM_F32, in[0].shape};
  y.shape.push_back(in[1].shape[1]);
  return {y};
}

ValueId embedding_derivative(Graph& graph, const Node& node, size_t input, const Gradients& g) {
  if (input == 0) return 0;
  const int64_t rows = graph.value(node.inputs[1]).type.shape[0];
  return graph.add1("embedding_backward", {node.inputs[0], g[0]}, {{"rows", rows}});
}

Types embedding_backward_shape(const Node& node, const Types& in) {
  expect_dtype(node, in, 0, "tokens", KM_I32);
  expect_dtype(node, in, 1, "dy", KM_F32);
  if (in[1].shape.empty() || leading(in[1].shape) != in[0].shape)
    wrong(node, "tokens are " + to_text(in[0]) + ", dy is " + to_text(in[1]) +
                    ": dy needs one more dimension, else the same");
  const int64_t rows = node.i64("rows");
  if (rows < 1) wrong(node, "attribute rows is " + std::to_string(rows) + ", but must be the rows of the table");
  return {Type{KM_F32, {rows, last(in[1])}}};
}

void expect_logits(const Node& node, const Types& in) {
  expect_dtype(node, in, 0, "logits", KM_F32);
  expect_rank(node, in, 0, "logits", 1, SIZE_MAX);
  expect_type(node, in, 1, "targets", Type{KM_I32, leading(in[0].shape)});
}

Types cross_entropy_shape(const Node& node, const Types& in) {
  expect_logits(node, in);
  return {scalar(), scalar()};
}

ValueId cross_entropy_derivative(Graph& graph, const Node& node, size_t input, const Gradients& g) {
  if (input != 0 || !g[0]) return 0; // how many targets there are does not depend on the logits
  return graph.add1("cross_entropy_backward", {node.inputs[0], node.inputs[1], g[0]});
}

Types cross_entropy_backward_shape(const Node& node, const Types& in) {
  expect_logits(node, in);
  expect_type(node, in, 2, "d_loss", scalar());
  return {in[0]};
}

void expect_projection(const Node& node, const Types& in) {
  const auto shapes = [&] { return "x is " + to_text(in[0]) + ", w is " + to_text(in[1]); };
  if (in[0].dtype != in[1].dtype || (in[0].dtype != KM_F32 && in[0].dtype != KM_BF16))
    wrong(node, shapes() + ", but both must be f32 or both bf16");
  if (in[0].shape.empty() || in[1].shape.size() != 2 || last(in[0]) != last(in[1]))
    wrong(node, shapes() + ": x must be [..., K] and w [V, K]");
  expect_type(node, in, 2, "targets", Type{KM_I32, leading(in[0].shape)});
}

Types projection_cross_entropy_shape(const Node& node, const Types& in) {
  expect_projection(node, in);
  return {scalar(), scalar()};
}

ValueId projection_cross_entropy_derivative(Graph& graph, const Node& node, size_t input, const Gradients& g) {
  if (input == 2 || !g[0]) return 0;
  const auto& in = node.inputs;
  return graph.add("projection_cross_entropy_train", {in[0], in[1], in[2], g[0]})[2 + input];
}

Types projection_cross_entropy_train_shape(const Node& node, const Types& in) {
  expect_projection(node, in);
  expect_type(node, in, 3, "d_loss", scalar());
  return {scalar(), scalar(), Type{KM_F32, in[0].shape}, Type{KM_F32, in[1].shape}};
}

} // namespace

std::vector<Rule> losses() {
  std::vector<Rule> rules = {
      rule("embedding", 2, 2, {}, embedding_shape, embedding_derivative),
      rule("cross_entropy", 2, 2, {}, cross_entropy_shape, cross_entropy_derivative),
      rule("cross_entropy_backward", 3, 3, {}, cross_entropy_backward_shape),
      rule("projection_cross_entropy", 3, 3, {}, projection_cross_entropy_shape, projection_cross_entropy_derivative),
  };
  rules.push_back(rule("embedding_backward", 2, 2, {i64("rows")}, embedding_backward_shape));
  rules.back().accumulates = 1;
  rules.push_back(rule("projection_cross_entropy_train", 4, 4, {}, projection_cross_entropy_train_shape));
  rules.back().accumulates = 4 | 8;
  return rules;
}

} // namespace kumiki::ops
