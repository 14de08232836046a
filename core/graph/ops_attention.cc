// Attention and positions.
#include <utility>

#include "core/graph/ops.h"

namespace kumiki::ops {
namespace {

struct Heads {
  int64_t batch, tokens, keys, query_heads, key_heads;
};

// q [B, T, Hq·D], k and v [B, S, Hk·D], by attribute head_width.
Heads expect_heads(const Node& node, const Types& in) {
  for (size_t i = 0; i < 3; ++i) {
    const char* name = i == 0 ? "q" : i == 1 ? "k" : "v";
    expect_dtype(node, in, i, name, KM_F32);
    expect_rank(node, in, i, name, 3, 3);
  }
  const Shape &q = in[0].shape, &k = in[1].shape;
  expect_type(node, in, 2, "v", in[1]);
  const int64_t width = node.i64("head_width");
  const auto shapes = [&] {
    return "q is " + to_text(in[0]) + ", k and v are " + to_text(in[1]) + ", head_width is " + std::to_string(width);
  };
  if (width < 1 || q[2] % width || k[2] % width || q[2] == 0 || k[2] == 0)
    wrong(node, shapes() + ": the last dimensions must be multiples of head_width");
  const Heads heads{q[0], q[1], k[1], q[2] / width, k[2] / width};
  if (heads.query_heads % heads.key_heads)
    wrong(node, shapes() + ": " + std::to_string(heads.query_heads) + " query heads do not divide by " +
                    std::to_string(heads.key_heads) + " key heads");
  if (k[0] != q[0]) wrong(node, shapes() + ": the batch (dimension 0) must be the same");
  return heads;
}

// Checks the inputs from `next` on, which depend on the mask.
void expect_mask(const Node& node, const Types& in, const Heads& heads, size_t next) {
  const std::string mask = node.text("mask", "causal");
  const size_t more = mask == "causal" ? 0 : 1;
  if (mask != "causal" && mask != "segments" && mask != "cached")
    wrong(node, "attribute mask is \"" + mask + "\", but must be \"causal\", \"cached\" or \"segments\"");
  if (in.size() != next + more)
    wrong(node, "mask \"" + mask + "\" takes " + std::to_string(next + more) + " inputs, but there are " +
                    std::to_string(in.size()));
  if (mask == "cached") expect_type(node, in, next, "past", scalar(KM_I32));
  if (mask == "segments") expect_type(node, in, next, "segments", Type{KM_I32, {heads.batch, heads.tokens}});
  if (mask == "cached" ? heads.keys < heads.tokens : heads.keys != heads.tokens)
    wrong(node, "q is " + to_text(in[0]) + ", k is " + to_text(in[1]) + ": with mask \"" + mask + "\" k needs " +
                    (mask == "cached" ? "at least as many" : "as many") + " tokens (dimension 1) as q");
}

Type lse_type(const Heads& heads) { return Type{KM_F32, {heads.batch, heads.query_heads, heads.tokens}}; }

Types attention_shape(const Node& node, const Types& in) {
  const Heads heads = expect_heads(node, in);
  expect_mask(node, in, heads, 3);
  return {in[0], lse_type(heads)};
}

Types attention_backward_shape(const Node& node, const Types& in) {
  const Heads heads = expect_heads(node, in);
  expect_type(node, in, 3, "o", in[0]);
  expect_type(node, in, 4, "lse", lse_type(heads));
  expect_type(node, in, 5, "d_o", in[0]);
  expect_mask(node, in, heads, 6);
  if (node.text("mask", "causal") == "cached") wrong(node, "mask \"cached\" has no derivative");
  return {in[0], in[1], in[2]};
}

ValueId attention_derivative(Graph& graph, const Node& node, size_t input, const Gradients& g) {
  no_gradient_through(node, g, 1, "lse");
  if (input > 2) return 0;
  if (node.text("mask", "causal") == "cached") wrong(node, "mask \"cached\" has no derivative");
  const auto& in = node.inputs;
  std::vector<ValueId> inputs = {in[0], in[1], in[2], node.outputs[0], node.outputs[1], g[0]};
  inputs.insert(inputs.end(), in.begin() + 3, in.end());
  return graph.add("attention_backward", inputs, node.attributes)[input];
}

// ---- parts: queries of one rank, keys of another (strategy context) --------------------------------------------------

// Queries from `first` on see the keys before `keys`, with mask "causal" (as many keys as queries) query t the keys 0 … t.
// `next`: where the segments of queries and keys stand, if they are kept apart.
void expect_part(const Node& node, const Types& in, const Heads& heads, size_t next) {
  const std::string mask = node.text("mask", "none");
  if (mask != "none" && mask != "causal")
    wrong(node, "attribute mask is \"" + mask + "\", but must be \"none\" or \"causal\"");
  const int64_t first = node.i64("first"), keys = node.i64("keys", heads.keys);
  const std::string of = " of " + std::to_string(heads.tokens) + " queries and " + std::to_string(heads.keys) + " keys";
  if (mask == "causal" && (heads.tokens != heads.keys || first != 0 || keys != heads.keys))
    wrong(node, "with mask \"causal\" k needs as many tokens as q, and the part is all" + of);
  if (first < 0 || first >= heads.tokens || keys < 1 || keys > heads.keys)
    wrong(node, "attribute first is " + std::to_string(first) + ", keys is " + std::to_string(keys) +
                    ": there is no such part" + of);
  if (in.size() == next) return;
  if (in.size() != next + 2)
    wrong(node, "it takes the segments of queries and of keys, or neither, but there are " + std::to_string(in.size()) +
                    " inputs");
  expect_type(node, in, next, "query_segments", Type{KM_I32, {heads.batch, heads.tokens}});
  expect_type(node, in, next + 1, "key_segments", Type{KM_I32, {heads.batch, heads.keys}});
}

Types attention_part_shape(const Node& node, const Types& in) {
  const Heads heads = expect_heads(node, in);
  expect_part(node, in, heads, 3);
  return {in[0], lse_type(heads)};
}

Types attention_part_backward_shape(const Node& node, const Types& in) {
  const Heads heads = expect_heads(node, in);
  expect_type(node, in, 3, "o", in[0]);
  expect_type(node, in, 4, "lse", lse_type(heads));
  expect_type(node, in, 5, "d_o", in[0]);
  expect_part(node, in, heads, 6);
  return {in[0], in[1], in[2]};
}

// o and lse of the whole that a part is merged into. Backward needs nothing else of the other parts: with them the
// probabilities of a part are e^(scores - lse), and dS = P (d_o vᵀ - d_o · o) as for the whole.
std::pair<ValueId, ValueId> merged(const Graph& graph, const Node& part) {
  const auto merge_of = [&](ValueId value) -> NodeId {
    for (const NodeId user : graph.users(value))
      if (graph.node(user).op == "attention_merge") return user;
    return 0;
  };
  NodeId merge = merge_of(part.outputs[0]);
  if (merge == 0 || merge_of(part.outputs[1]) != merge || graph.users(part.outputs[0]).size() != 1)
    wrong(part, "its derivative is that of the whole: only an attention_merge may read o and lse of a part");
  for (NodeId next; (next = merge_of(graph.node(merge).outputs[0])) != 0;) merge = next;
  return {graph.node(merge).outputs[0], graph.node(merge).outputs[1]};
}

// The gradient that reaches a part is d_o of the whole: attention_merge hands it on as it is.
ValueId attention_part_derivative(Graph& graph, const Node& node, size_t input, const Gradients& g) {
  if (input > 2) return 0;
  const auto [o, lse] = merged(graph, node);
  const auto& in = node.inputs;
  std::vector<ValueId> inputs = {in[0], in[1], in[2], o, lse, g[0]};
  inputs.insert(inputs.end(), in.begin() + 3, in.end());
  return graph.add("attention_part_backward", inputs, node.attributes)[input];
}

// o_0, lse_0, o_1, lse_1, …
Types attention_merge_shape(const Node& node, const Types& in) {
  if (in.size() % 2) wrong(node, "it takes pairs of o and lse, but there are " + std::to_string(in.size()) + " inputs");
  expect_rank(node, in, 0, "o", 3, 3);
  const int64_t width = node.i64("head_width");
  if (width < 1 || last(in[0]) % width)
    wrong(node, "o is " + to_text(in[0]) + ", head_width is " + std::to_string(width) +
                    ": the last dimension must be a multiple of it");
  const Type lse{KM_F32, {in[0].shape[0], last(in[0]) / width, in[0].shape[1]}};
  for (size_t i = 0; i < in.size(); i += 2) {
    expect_type(node, in, i, "o", Type{KM_F32, in[0].shape});
    expect_type(node, in, i + 1, "lse", lse);
  }
  return {in[0], lse};
}

ValueId attention_merge_derivative(Graph&, const Node& node, size_t input, const Gradients& g) {
  no_gradient_through(node, g, 1, "lse");
  return input % 2 ? 0 : g[0]; // see attention_part_derivative
}

// ---- positions ------------------------------------------------------------------------------------------------------

Types rope_shape(const Node& node, const Types& in) {
  expect_dtype(node, in, 0, "x", KM_F32);
  expect_rank(node, in, 0, "x", 3, 3);
  const int64_t width = node.i64("head_width");
  if (width < 2 || width % 2 || last(in[0]) % width)
    wrong(node, "x is " + to_text(in[0]) + ", head_width is " + std::to_string(width) +
                    ": it must be even, and the last dimension a multiple of it");
  if (in.size() > 1) expect_type(node, in, 1, "past", scalar(KM_I32));
  expect_positions(node, in[0].shape[1]);
  return {in[0]};
}

ValueId rope_derivative(Graph& graph, const Node& node, size_t input, const Gradients& g) {
  if (input != 0) return 0;
  Attributes attributes = node.attributes;
  attributes["sign"] = -node.f64("sign", 1);
  std::vector<ValueId> inputs = node.inputs;
  inputs[0] = g[0];
  return graph.add1("rope", inputs, attributes);
}

Types add_position_shape(const Node& node, const Types& in) {
  expect_dtype(node, in, 0, "x", KM_F32);
  expect_dtype(node, in, 1, "table", KM_F32);
  expect_rank(node, in, 0, "x", 3, 3);
  expect_rank(node, in, 1, "table", 2, 2);
  const Shape &x = in[0].shape, &table = in[1].shape;
  expect_positions(node, x[1]);
  const int64_t end = positions_end(node, x[1]);
  if (table[1] != x[2] || table[0] < end)
    wrong(node, "x is " + to_text(in[0]) + ", table is " + to_text(in[1]) + ", positions end at " +
                    std::to_string(end) + ": the table needs rows of the width of x, and a row for each position");
  if (in.size() > 2) expect_type(node, in, 2, "past", scalar(KM_I32));
  return {in[0]};
}

ValueId add_position_derivative(Graph& graph, const Node& node, size_t input, const Gradients& g) {
  if (input == 0) return g[0];
  if (input == 2) return 0;
  if (node.inputs.size() > 2) wrong(node, "with past, the table has no derivative");
  Attributes attributes = node.attributes; // offset, fold
  attributes["rows"] = graph.value(node.inputs[1]).type.shape[0];
  return graph.add1("add_position_backward", {g[0]}, std::move(attributes));
}

Types add_position_backward_shape(const Node& node, const Types& in) {
  expect_dtype(node, in, 0, "dy", KM_F32);
  expect_rank(node, in, 0, "dy", 3, 3);
  expect_positions(node, in[0].shape[1]);
  const int64_t rows = node.i64("rows"), end = positions_end(node, in[0].shape[1]);
  if (rows < end)
    wrong(node, "dy is " + to_text(in[0]) + ", but attribute rows is " + std::to_string(rows) +
                    " and its positions end at " + std::to_string(end));
  return {Type{KM_F32, {rows, in[0].shape[2]}}};
}

Types cache_append_shape(const Node& node, const Types& in) {
  for (size_t i = 0; i < 2; ++i) {
    expect_dtype(node, in, i, i ? "x" : "cache", KM_F32);
    expect_rank(node, in, i, i ? "x" : "cache", 3, 3);
  }
  const Shape &cache = in[0].shape, &x = in[1].shape;
  if (cache[0] != x[0] || cache[2] != x[2] || cache[1] < x[1])
    wrong(node, "cache is " + to_text(in[0]) + ", x is " + to_text(in[1]) +
                    ": batch and width must be the same, and the cache must hold the tokens of x");
  expect_type(node, in, 2, "past", scalar(KM_I32));
  return {in[0]};
}

Types last_token_shape(const Node& node, const Types& in) {
  expect_dtype(node, in, 0, "x", KM_F32);
  expect_rank(node, in, 0, "x", 3, 3);
  return {Type{KM_F32, {in[0].shape[0], in[0].shape[2]}}};
}

} // namespace

std::vector<Rule> attention() {
  const std::vector<AttributeRule> attributes = {i64("head_width"), text("mask"), f64("scale")};
  const std::vector<AttributeRule> part = {i64("head_width"), text("mask"), f64("scale"),
                                           i64("first"),      i64("keys"),  text("axes")};
  const AttributeRule offset = i64("offset"), fold = i64("fold"), fold_offset = i64("fold_offset");
  std::vector<Rule> rules = {
      rule("attention", 3, 4, attributes, attention_shape, attention_derivative),
      rule("attention_backward", 6, 7, attributes, attention_backward_shape),
      rule("attention_part", 3, 5, part, attention_part_shape, attention_part_derivative),
      rule("attention_part_backward", 6, 8, part, attention_part_backward_shape),
      rule("attention_merge", 2, KM_MAX_INPUTS, {i64("head_width")}, attention_merge_shape, attention_merge_derivative),
      rule("rope", 1, 2, {i64("head_width"), f64("base"), f64("sign"), offset, fold, fold_offset}, rope_shape,
           rope_derivative),
      rule("add_position", 2, 3, {offset, fold, fold_offset}, add_position_shape, add_position_derivative),
      rule("cache_append", 3, 3, {}, cache_append_shape),
      rule("last_token", 1, 1, {}, last_token_shape),
      rule("add_position_backward", 1, 1, {i64("rows"), offset, fold, fold_offset}, add_position_backward_shape),
  };
  rules.back().accumulates = 1;
  return rules;
}

} // namespace kumiki::ops
