// Placement of the ops that layers are made of: products, norms, attention and positions, embedding and loss, with
// their derivatives. A value is divided by samples (dimension 0), tokens (1), or heads and columns (the last).
#include "core/graph/placement.h"

namespace kumiki::placing {
namespace {

// ---- products -------------------------------------------------------------------------------------------------------

// y of matmul(a, b), where b stands at input `b`.
Placement product(const Case& c, size_t b) {
  constexpr size_t a = 0;
  if (c.in[a].spread == Spread::kPartialMax) refuse_partial(c, a);
  if (c.in[b].spread == Spread::kPartialMax) refuse_partial(c, b);
  if (c.in[a].spread == Spread::kFlat || c.in[b].spread == Spread::kFlat)
    refuse("a product takes no flat operand: flat_gather comes before");
  if (c.partial(a) || c.partial(b)) {
    if (c.partial(a) ? c.replicated(b) : c.replicated(a)) return kPartial;
    refuse("of two operands, one a partial sum, the other must be replicated");
  }
  const bool transpose_a = c.node.i64("transpose_a") != 0, transpose_b = c.node.i64("transpose_b") != 0;
  if (c.replicated(a) && c.replicated(b)) return kReplicated;
  const std::string both = "a is " + to_text(c.in[a]) + ", b is " + to_text(c.in[b]);
  if (!transpose_a) {
    const size_t summed = transpose_b ? 1 : 0, columns = 1 - summed;
    if (c.replicated(b) && c.rows_divided(a)) return c.in[a];
    if (c.replicated(a) && c.sharded_over(b, columns)) return sharded(c.rank(a) - 1);
    if (c.last_divided(a) && c.sharded_over(b, summed)) return kPartial;
    refuse(both + ": the dimension that the sum runs over must be divided in both or in none");
  }
  if (c.last_divided(a) && c.replicated(b)) return sharded(0);
  if (transpose_b) {
    if (c.replicated(a) && c.sharded_over(b, 0)) return sharded(1);
    if (c.rows_divided(a) && c.rank(a) == 2 && c.sharded_over(b, 1)) return kPartial;
  } else {
    if (c.replicated(a) && c.last_divided(b)) return sharded(1);
    if (c.rows_divided(a) && c.in[a] == c.in[b]) return kPartial;
  }
  refuse(both + ": the rows that the sum runs over must be divided alike in both or in none");
}

Placement with_bias(const Case& c, const Placement& y, size_t columns, size_t bias) {
  if (y == kPartial)
    refuse("a bias is added to a partial sum, and would be counted once on each rank: reduce it before");
  if (y == sharded(columns)) {
    if (!c.sharded_over(bias, 0)) refuse("the columns of the product are divided, so the bias must be too");
  } else {
    expect_replicated(c, bias, "bias");
  }
  return y;
}

size_t product_columns(const Case& c) { return c.node.i64("transpose_a") ? 1 : c.rank(0) - 1; }

Placement matmul(const Case& c) { return product(c, 1); }
Placement matmul_bias(const Case& c) { return with_bias(c, product(c, 1), product_columns(c), 2); }
Placement matmul_group(const Case& c) {
  const Placement y = product(c, 1 + c.output);
  if (!c.node.i64("bias")) return y;
  return with_bias(c, y, product_columns(c), 1 + static_cast<size_t>(c.node.i64("n")) + c.output);
}

// ---- norms ----------------------------------------------------------------------------------------------------------

// x [..., N] whole along its last dimension; what belongs to the rows lies as x does.
void expect_rows(const Case& c, size_t x) {
  refuse_partial(c, x);
  if (!c.replicated(x) && !c.rows_divided(x)) refuse("a norm needs its rows whole, but x is " + to_text(c.in[x]));
}

Placement norm(const Case& c) {
  expect_rows(c, 0);
  for (size_t i = 1; i < c.in.size(); ++i) expect_replicated(c, i, i == 1 ? "weight" : "bias");
  return c.in[0];
}

Placement add_norm(const Case& c) {
  if (c.partial(0) != c.partial(1))
    refuse("a partial sum and a value that is none are added: the partial sum must be reduced before");
  expect_rows(c, 0);
  expect_alike(c, 0, 1, 2);
  for (size_t i = 2; i < c.in.size(); ++i) expect_replicated(c, i, i == 2 ? "weight" : "bias");
  return c.in[0];
}

// dy, x, weight, statistics of rows.
Placement norm_backward(const Case& c) {
  expect_rows(c, 1);
  expect_alike(c, 1, 0, 1);
  expect_replicated(c, 2, "weight");
  expect_alike(c, 1, 3, c.in.size());
  return c.in[1];
}

// dy, x, statistics of rows.
Placement norm_backward_weight(const Case& c) {
  expect_rows(c, 1);
  expect_alike(c, 1, 0, 1);
  expect_alike(c, 1, 2, c.in.size());
  return c.rows_divided(1) ? kPartial : kReplicated;
}

// ---- attention and positions ----------------------------------------------------------------------------------------

// Samples or heads, alike in q, k and v. A single key head, which all query heads read, may be on all ranks.
bool shares_key_head(const Case& c) {
  return c.sharded_over(0, 2) && c.replicated(1) && c.replicated(2) && c.shape(1)[2] == c.node.i64("head_width");
}

void expect_attention(const Case& c, size_t mask) {
  refuse_partial(c, 0);
  if (!c.replicated(0) && !c.sharded_over(0, 0) && !c.sharded_over(0, 2))
    refuse("attention may be divided by samples (dimension 0) or heads (2), but q is " + to_text(c.in[0]));
  if (!shares_key_head(c)) expect_alike(c, 0, 1, 3);
  if (mask >= c.in.size()) return;
  if (c.node.text("mask", "causal") == "segments" && c.sharded_over(0, 0))
    expect_alike(c, 0, mask, mask + 1);
  else
    expect_replicated(c, mask, "the mask's input");
}

// lse [B, Hq, T]
Placement of_lse(const Placement& q) { return q == sharded(2) ? sharded(1) : q; }

Placement attention(const Case& c) {
  expect_attention(c, 3);
  return c.output == 0 ? c.in[0] : of_lse(c.in[0]);
}

// q, k, v, o, lse, d_o
Placement attention_backward(const Case& c) {
  expect_attention(c, 6);
  expect_alike(c, 0, 3, 4);
  if (!(c.in[4] == of_lse(c.in[0]))) refuse("lse is " + to_text(c.in[4]) + ", but q is " + to_text(c.in[0]));
  expect_alike(c, 0, 5, 6);
  return c.output > 0 && shares_key_head(c) ? kPartial : c.in[0];
}

// A part of attention whose ranks, along the axis that it names, have queries and keys of their own: q, k, v and o lie by
// tokens, lse as they do, its dimension 2. Over other axes it is attention.
bool divides_tokens(const Case& c, size_t inputs) {
  for (const size_t i : {1, 2}) { // that keys have gone around shows only in the node that they come from
    const NodeId producer = c.graph.value(c.node.inputs[i]).producer;
    if (producer == 0 || c.graph.node(producer).op != "ring_shift") continue;
    if (c.graph.node(producer).text("axes") != c.node.text("axes"))
      refuse("input " + std::to_string(i) + " has gone around a ring along " + c.graph.node(producer).text("axes") +
             ", but the queries are divided along \"" + c.node.text("axes") + "\"");
  }
  if (!over_axis(c)) return false;
  for (size_t i = 0; i < inputs; ++i)
    if (!c.sharded_over(i, i == 4 ? 2 : 1))
      refuse("input " + std::to_string(i) + " is " + to_text(c.in[i]) +
             ", but along this axis each rank has queries and keys of its own");
  for (size_t i = inputs; i < c.in.size(); ++i)
    if (!c.sharded_over(i, 1)) refuse("segments are " + to_text(c.in[i]) + ", but must lie by tokens");
  return true;
}

void expect_part(const Case& c, size_t segments) {
  expect_attention(c, c.in.size());
  for (size_t i = segments; i < c.in.size(); ++i)
    if (c.sharded_over(0, 0))
      expect_alike(c, 0, i, i + 1);
    else
      expect_replicated(c, i, "segments");
}

Placement attention_part(const Case& c) {
  if (divides_tokens(c, 3)) return c.output == 0 ? sharded(1) : sharded(2);
  expect_part(c, 3);
  return c.output == 0 ? c.in[0] : of_lse(c.in[0]);
}

Placement attention_part_backward(const Case& c) {
  if (divides_tokens(c, 6)) return sharded(1);
  expect_part(c, 6);
  expect_alike(c, 0, 3, 4);
  if (!(c.in[4] == of_lse(c.in[0]))) refuse("lse is " + to_text(c.in[4]) + ", but q is " + to_text(c.in[0]));
  expect_alike(c, 0, 5, 6);
  return c.output > 0 && shares_key_head(c) ? kPartial : c.in[0];
}

// o_0, lse_0, o_1, lse_1, …: token by token and head by head.
Placement attention_merge(const Case& c) {
  refuse_partial(c, 0);
  if (c.in[0].spread == Spread::kFlat || c.in[0].spread == Spread::kPartialMax) refuse("o is " + to_text(c.in[0]));
  const Placement lse = c.sharded_over(0, 1) ? sharded(2) : of_lse(c.in[0]);
  for (size_t i = 0; i < c.in.size(); ++i)
    if (!(c.in[i] == (i % 2 ? lse : c.in[0])))
      refuse("input " + std::to_string(i) + " is " + to_text(c.in[i]) + ", but o is " + to_text(c.in[0]));
  return c.output == 0 ? c.in[0] : lse;
}

Placement rope(const Case& c) {
  if (c.in.size() > 1) expect_replicated(c, 1, "past");
  if (c.sharded_over(0, 1) && !c.node.has("offset"))
    refuse("the tokens of x are divided, so it needs the attribute offset: all ranks would count from 0");
  if (c.in[0].spread == Spread::kPartialMax) refuse_partial(c, 0);
  if (c.in[0].spread == Spread::kFlat) refuse("x is flat, so its tokens are not known");
  return c.in[0];
}

Placement add_position(const Case& c) {
  if (c.partial(0))
    refuse("positions are added to a partial sum, and would be counted once on each rank: reduce it before");
  refuse_partial(c, 0);
  if (c.in.size() > 2) expect_replicated(c, 2, "past");
  if (c.sharded_over(0, 2)) {
    if (!c.sharded_over(1, 1)) refuse("the columns of x are divided, so those of the table must be too");
    return c.in[0];
  }
  expect_replicated(c, 1, "table");
  if (c.sharded_over(0, 1) && !c.node.has("offset"))
    refuse("the tokens of x are divided, so it needs the attribute offset: all ranks would count from 0");
  if (c.in[0].spread == Spread::kFlat) refuse("x is flat, so its tokens are not known");
  return c.in[0];
}

Placement add_position_backward(const Case& c) {
  if (c.sharded_over(0, 2)) return sharded(1);
  if (c.sharded_over(0, 1) && !c.node.has("offset"))
    refuse("the tokens of dy are divided, so it needs the attribute offset: all ranks would count from 0");
  if (c.rows_divided(0) || c.partial(0)) return kPartial;
  expect_replicated(c, 0, "dy");
  return kReplicated;
}

Placement cache_append(const Case& c) {
  expect_alike(c, 0, 1, 2);
  refuse_partial(c, 0);
  expect_replicated(c, 2, "past");
  if (c.sharded_over(0, 1) || c.in[0].spread == Spread::kFlat) refuse("the tokens of a cache cannot be divided");
  return c.in[0];
}

Placement last_token(const Case& c) {
  if (c.sharded_over(0, 1)) refuse("the tokens of x are divided: only one rank has the last of them");
  if (c.sharded_over(0, 2)) return sharded(1);
  if (c.in[0].spread == Spread::kFlat || c.in[0].spread == Spread::kPartialMax) refuse("x is " + to_text(c.in[0]));
  return c.in[0];
}

// ---- embedding and loss ---------------------------------------------------------------------------------------------

void expect_offset(const Case& c) {
  if (!c.node.has("offset"))
    refuse("the vocabulary is divided, so it needs the attribute offset: all ranks would count its rows from 0");
}

Placement embedding(const Case& c) {
  refuse_partial(c, 0);
  if (c.in[1].spread == Spread::kFlat) refuse("the table is flat: flat_gather comes before");
  if (c.replicated(0)) {
    if (c.sharded_over(1, 0)) {
      expect_offset(c);
      return kPartial;
    }
    if (c.sharded_over(1, 1)) return sharded(c.rank(0));
  }
  expect_replicated(c, 1, "table");
  return c.in[0];
}

// tokens, dy. That the table is divided by rows shows only in the node whose derivative this is.
Placement embedding_backward(const Case& c) {
  refuse_partial(c, 0);
  if (c.graph.alive(c.node.derived_from)) {
    const Node& forward = c.graph.node(c.node.derived_from);
    if (forward.op == "embedding" && c.graph.placement(forward.inputs[1], c.axis) == sharded(0)) {
      expect_offset(c);
      expect_replicated(c, 0, "tokens");
      expect_replicated(c, 1, "dy, where the rows of the table are divided,");
      return sharded(0);
    }
  }
  if (c.partial(1)) {
    expect_replicated(c, 0, "tokens");
    return kPartial;
  }
  if (c.last_divided(1)) {
    expect_replicated(c, 0, "tokens");
    return sharded(1);
  }
  expect_alike(c, 1, 0, 1);
  if (c.in[1].spread == Spread::kFlat) refuse("dy is flat, so its tokens are not known");
  return c.rows_divided(1) ? kPartial : kReplicated;
}

// Rows of logits (or of x) and targets alike: whether they are divided.
bool rows_of_loss(const Case& c, size_t rows, size_t targets) {
  refuse_partial(c, rows);
  if (c.last_divided(rows))
    refuse("the columns are divided: over a divided vocabulary the loss is row_max, row_exp_pick, cross_entropy_parts");
  if (c.in[rows].spread == Spread::kFlat) refuse("the rows of what is flat are not known");
  if (!(c.in[targets] == c.in[rows]))
    refuse("targets are " + to_text(c.in[targets]) + ", but the rows that they belong to are " + to_text(c.in[rows]));
  return c.rows_divided(rows);
}

Placement cross_entropy(const Case& c) { return rows_of_loss(c, 0, 1) ? kPartial : kReplicated; }

Placement cross_entropy_backward(const Case& c) {
  rows_of_loss(c, 0, 1);
  expect_replicated(c, 2, "d_loss");
  return c.in[0];
}

Placement projection_cross_entropy(const Case& c) {
  const bool divided = rows_of_loss(c, 0, 2);
  expect_replicated(c, 1, "w");
  if (c.in.size() > 3) expect_replicated(c, 3, "d_loss");
  if (c.output == 2) return c.in[0]; // d_x
  return divided ? kPartial : kReplicated;
}

// logits, and what has a number for each of their rows. Whether the vocabulary is divided.
bool vocabulary_divided(const Case& c, size_t rows_end) {
  refuse_partial(c, 0);
  if (c.in[0].spread == Spread::kFlat) refuse("logits are flat, so their rows are not known");
  if (!c.last_divided(0)) {
    expect_alike(c, 0, 1, rows_end);
    return false;
  }
  if (rows_end > 1) expect_offset(c);
  for (size_t i = 1; i < rows_end; ++i) {
    refuse_partial(c, i);
    expect_replicated(c, i, "what belongs to the rows of divided logits");
  }
  return true;
}

Placement row_max(const Case& c) { return vocabulary_divided(c, 1) ? Placement{Spread::kPartialMax, 0} : c.in[0]; }

Placement row_exp_pick(const Case& c) { return vocabulary_divided(c, 3) ? kPartial : c.in[0]; }

Placement cross_entropy_parts(const Case& c) {
  if (vocabulary_divided(c, 5)) return kReplicated;
  return c.rows_divided(0) ? kPartial : kReplicated;
}

Placement cross_entropy_parts_backward(const Case& c) {
  vocabulary_divided(c, 4);
  expect_replicated(c, 4, "d_loss");
  return c.in[0];
}

} // namespace

void add_layers(Table& table) {
  table.insert({
      {"matmul", matmul},
      {"matmul_bias", matmul_bias},
      {"matmul_group", matmul_group},
      {"layernorm", norm},
      {"rmsnorm", norm},
      {"add_layernorm", add_norm},
      {"add_rmsnorm", add_norm},
      {"layernorm_backward", linear_in(0, norm_backward)},
      {"rmsnorm_backward", linear_in(0, norm_backward)},
      {"layernorm_backward_weight", linear_in(0, norm_backward_weight)},
      {"rmsnorm_backward_weight", linear_in(0, norm_backward_weight)},
      {"attention", attention},
      {"attention_backward", linear_in(5, attention_backward)},
      {"attention_part", attention_part},
      {"attention_part_backward", linear_in(5, attention_part_backward)},
      {"attention_merge", attention_merge},
      {"rope", rope},
      {"add_position", add_position},
      {"add_position_backward", add_position_backward},
      {"cache_append", cache_append},
      {"last_token", last_token},
      {"embedding", embedding},
      {"embedding_backward", embedding_backward},
      {"cross_entropy", cross_entropy},
      {"cross_entropy_backward", linear_in(2, cross_entropy_backward)},
      {"projection_cross_entropy", projection_cross_entropy},
      {"projection_cross_entropy_train", projection_cross_entropy},
      {"row_max", row_max},
      {"row_exp_pick", row_exp_pick},
      {"cross_entropy_parts", cross_entropy_parts},
      {"cross_entropy_parts_backward", linear_in(4, cross_entropy_parts_backward)},
  });
}

} // namespace kumiki::placing
