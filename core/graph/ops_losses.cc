// Embedding and loss.
#include "core/graph/ops.h"

namespace kumiki::ops {
namespace {

Types embedding_shape(const Node& node, const Types& in) {
  expect_dtype(node, in, 0, "tokens", KM_I32);
  expect_dtype(node, in, 1, "table", KM_F32);
  expect_rank(node, in, 1, "table", 2, 2);
  if (node.i64("offset") < 0)
    wrong(node, "attribute offset is " + std::to_string(node.i64("offset")) + ", less than 0");
  Type y{KM_F32, in[0].shape};
  y.shape.push_back(in[1].shape[1]);
  return {y};
}

ValueId embedding_derivative(Graph& graph, const Node& node, size_t input, const Gradients& g) {
  if (input == 0) return 0;
  Attributes attributes = node.attributes; // offset
  attributes["rows"] = graph.value(node.inputs[1]).type.shape[0];
  return graph.add1("embedding_backward", {node.inputs[0], g[0]}, std::move(attributes));
}

Types embedding_backward_shape(const Node& node, const Types& in) {
  expect_dtype(node, in, 0, "tokens", KM_I32);
  expect_dtype(node, in, 1, "dy", KM_F32);
  if (in[1].shape.empty() || leading(in[1].shape) != in[0].shape)
    wrong(node, "tokens are " + to_text(in[0]) + ", dy is " + to_text(in[1]) +
                    ": dy needs one more dimension, else the same");
  const int64_t rows = node.i64("rows");
  if (rows < 1) wrong(node, "attribute rows is " + std::to_string(rows) + ", but must be the rows of the table");
  if (node.i64("offset") < 0)
    wrong(node, "attribute offset is " + std::to_string(node.i64("offset")) + ", less than 0");
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

// ---- the loss over a divided vocabulary: logits of the words offset … offset + V - 1 --------------------------------

// Inputs [first, end) have a number for each row of logits.
void expect_row_numbers(const Node& node, const Types& in, size_t first, const std::vector<const char*>& names) {
  const int64_t offset = node.i64("offset");
  if (offset < 0) wrong(node, "attribute offset is " + std::to_string(offset) + ", less than 0");
  for (size_t i = 0; i < names.size(); ++i)
    expect_type(node, in, first + i, names[i], Type{KM_F32, leading(in[0].shape)});
}

Types row_max_shape(const Node& node, const Types& in) {
  expect_dtype(node, in, 0, "logits", KM_F32);
  expect_rank(node, in, 0, "logits", 1, SIZE_MAX);
  return {Type{KM_F32, leading(in[0].shape)}};
}

Types row_exp_pick_shape(const Node& node, const Types& in) {
  expect_logits(node, in);
  expect_row_numbers(node, in, 2, {"max"});
  return {in[2], in[2]};
}

Types cross_entropy_parts_shape(const Node& node, const Types& in) {
  expect_logits(node, in);
  expect_row_numbers(node, in, 2, {"max", "sum_exp", "picked"});
  return {scalar(), scalar()};
}

// Of the whole loss: the effect of the logits on max, sum_exp and picked is in it, so that these have none of their
// own.
ValueId cross_entropy_parts_derivative(Graph& graph, const Node& node, size_t input, const Gradients& g) {
  if (input != 0 || !g[0]) return 0;
  const auto& in = node.inputs;
  return graph.add1("cross_entropy_parts_backward", {in[0], in[1], in[2], in[3], g[0]}, node.attributes);
}

// Nothing but cross_entropy_parts may read what these make, which hands no gradient to it.
ValueId no_effect(Graph&, const Node& node, size_t, const Gradients&) {
  wrong(node, "the loss depends on it other than through cross_entropy_parts");
}

Types cross_entropy_parts_backward_shape(const Node& node, const Types& in) {
  expect_logits(node, in);
  expect_row_numbers(node, in, 2, {"max", "sum_exp"});
  expect_type(node, in, 4, "d_loss", scalar());
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
      rule("embedding", 2, 2, {i64("offset")}, embedding_shape, embedding_derivative),
      rule("cross_entropy", 2, 2, {}, cross_entropy_shape, cross_entropy_derivative),
      rule("cross_entropy_backward", 3, 3, {}, cross_entropy_backward_shape),
      rule("row_max", 1, 1, {}, row_max_shape, no_effect),
      rule("row_exp_pick", 3, 3, {i64("offset")}, row_exp_pick_shape, no_effect),
      rule("cross_entropy_parts", 5, 5, {i64("offset")}, cross_entropy_parts_shape, cross_entropy_parts_derivative),
      rule("cross_entropy_parts_backward", 5, 5, {i64("offset")}, cross_entropy_parts_backward_shape),
      rule("projection_cross_entropy", 3, 3, {}, projection_cross_entropy_shape, projection_cross_entropy_derivative),
  };
  rules.push_back(rule("embedding_backward", 2, 2, {i64("rows"), i64("offset")}, embedding_backward_shape));
  rules.back().accumulates = 1;
  rules.push_back(rule("projection_cross_entropy_train", 4, 4, {}, projection_cross_entropy_train_shape));
  rules.back().accumulates = 4 | 8;
  return rules;
}

} // namespace kumiki::ops
