// How values lie over the ranks: for each op the placement of its outputs along an axis, by those of its inputs. One
// table for the whole vocabulary; here the ops that go element by element, sums, updates and communication.
#include "core/graph/placement.h"

#include <algorithm>
#include <bit>
#include <sstream>

namespace kumiki {
namespace placing {

bool Case::all_replicated() const {
  return std::all_of(in.begin(), in.end(), [](const Placement& p) { return p == kReplicated; });
}

void refuse(const std::string& sentence) { throw Error("", sentence); }

void expect_replicated(const Case& c, size_t input, const char* name) {
  if (!c.replicated(input)) refuse(std::string(name) + " must be replicated, but is " + to_text(c.in[input]));
}

void expect_alike(const Case& c, size_t like, size_t first, size_t end) {
  for (size_t i = first; i < end; ++i)
    if (!(c.in[i] == c.in[like]))
      refuse("input " + std::to_string(i) + " is " + to_text(c.in[i]) + ", but input " + std::to_string(like) + " is " +
             to_text(c.in[like]) + ": they must lie alike");
}

void refuse_partial(const Case& c, size_t input) {
  const Spread spread = c.in[input].spread;
  if (spread == Spread::kPartial)
    refuse("input " + std::to_string(input) + " is a partial sum, which " + c.node.op +
           " cannot take: it must be reduced before");
  if (spread == Spread::kPartialMax)
    refuse("input " + std::to_string(input) + " is the maximum of one rank, which " + c.node.op +
           " cannot take: it must be reduced before");
}

Rule linear_in(size_t input, Rule rule) {
  return [input, rule = std::move(rule)](const Case& c) {
    if (!c.partial(input)) return rule(c);
    for (size_t i = 0; i < c.in.size(); ++i)
      if (i != input && !c.replicated(i))
        refuse("input " + std::to_string(input) + " is a partial sum, so the others must be replicated, but input " +
               std::to_string(i) + " is " + to_text(c.in[i]));
    return kPartial;
  };
}

bool over_axis(const Case& c) {
  std::istringstream in(c.node.text("axes"));
  for (std::string one; std::getline(in, one, ',');)
    if (c.graph.axes()[c.axis].named(one)) return true;
  return false;
}

namespace {

// ---- element by element ---------------------------------------------------------------------------------------------

Placement nonlinear(const Case& c) {
  refuse_partial(c, 0);
  return c.in[0];
}

Placement linear(const Case& c) {
  if (c.in[0].spread == Spread::kPartialMax && c.node.op != "copy" && c.node.op != "cast") refuse_partial(c, 0);
  return c.in[0];
}

// All inputs of one shape.
Placement alike(const Case& c) {
  expect_alike(c, 0, 1, c.in.size());
  refuse_partial(c, 0);
  return c.in[0];
}

// Of two operands one may be a number (rank 0): it must be the same on all ranks, unless the other is one too.
bool is_number(const Case& c, size_t input) { return c.rank(input) == 0 && c.rank(1 - input) != 0; }

Placement sum_of_two(const Case& c) {
  for (size_t i = 0; i < 2; ++i) {
    if (!is_number(c, i)) continue;
    expect_replicated(c, i, "a number that is added to a tensor");
    refuse_partial(c, 1 - i);
    return c.in[1 - i];
  }
  if (c.partial(0) != c.partial(1))
    refuse("a partial sum and a value that is none are added: the partial sum must be reduced before");
  expect_alike(c, 0, 1, 2);
  if (c.in[0].spread == Spread::kPartialMax) refuse_partial(c, 0);
  return c.in[0];
}

Placement product_of_two(const Case& c) {
  for (size_t i = 0; i < 2; ++i)
    if (c.partial(i) && c.replicated(1 - i)) return kPartial;
  for (size_t i = 0; i < 2; ++i)
    if (is_number(c, i) && c.replicated(i)) {
      refuse_partial(c, 1 - i);
      return c.in[1 - i];
    }
  return alike(c);
}

Placement quotient(const Case& c) {
  if (c.partial(0) && c.replicated(1)) return kPartial;
  for (size_t i = 0; i < 2; ++i)
    if (is_number(c, i) && c.replicated(i)) {
      refuse_partial(c, 1 - i);
      return c.in[1 - i];
    }
  return alike(c);
}

Placement extremum(const Case& c) {
  for (size_t i = 0; i < 2; ++i)
    if (is_number(c, i) && c.replicated(i)) {
      refuse_partial(c, 1 - i);
      return c.in[1 - i];
    }
  return alike(c);
}

Placement select(const Case& c) {
  expect_alike(c, 1, 2, 3);
  if (c.rank(0) == 0 && c.rank(1) != 0) {
    expect_replicated(c, 0, "the condition");
  } else if (!(c.replicated(0) && c.partial(1))) {
    expect_alike(c, 1, 0, 1);
    refuse_partial(c, 1);
  }
  if (c.in[1].spread == Spread::kPartialMax) refuse_partial(c, 1);
  return c.in[1];
}

Placement bias_add(const Case& c) {
  if (c.partial(0))
    refuse("a bias is added to a partial sum, and would be counted once on each rank: reduce it before");
  refuse_partial(c, 0);
  if (c.last_divided(0)) {
    if (!c.sharded_over(1, 0)) refuse("the columns of x are divided, so the bias must be too");
    return c.in[0];
  }
  expect_replicated(c, 1, "bias");
  if (c.in[0].spread == Spread::kFlat) refuse("x is flat, so its columns are not known");
  return c.in[0];
}

// Whether each coordinate of the axis has samples of its own.
bool divides_batch(const Case& c) {
  const ValueId tokens = c.graph.find("tokens");
  return tokens != 0 && c.graph.placement(tokens, c.axis) == sharded(0);
}

Placement dropout(const Case& c) {
  expect_replicated(c, 1, "seed");
  expect_replicated(c, 2, "sample");
  const Placement& x = c.in[0];
  if (x.spread == Spread::kSharded) {
    if (x.dim == 0 && !divides_batch(c))
      refuse("dropout over a divided dimension 0, where the ranks along the axis share their samples");
    if (x.dim == 1 && !c.node.has("offset"))
      refuse("dropout over a divided dimension 1 needs its attribute offset: ranks would draw the same numbers");
    if (x.dim > 1)
      refuse("dropout draws by the number of an element in its sample, which is not known if dimension " +
             std::to_string(x.dim) + " is divided");
  } else if (x.spread == Spread::kFlat) {
    refuse("dropout takes no flat value");
  }
  return linear(c);
}

// ---- sums and updates -----------------------------------------------------------------------------------------------

Placement sum_rows(const Case& c) {
  if (c.rows_divided(0)) return kPartial;
  if (c.last_divided(0)) return sharded(0);
  if (c.in[0].spread == Spread::kFlat) refuse("x is flat, so its rows are not known");
  return linear(c);
}

Placement sum_squares(const Case& c) {
  refuse_partial(c, 0);
  return c.divided(0) ? kPartial : kReplicated;
}

// As resolve_norms makes it; until then check_final refuses it of what is divided.
Placement tensor_norm(const Case& c) {
  refuse_partial(c, 0);
  return kReplicated;
}

Placement all_replicated(const Case& c) {
  for (size_t i = 0; i < c.in.size(); ++i) expect_replicated(c, i, ("input " + std::to_string(i)).c_str());
  return kReplicated;
}

// p, g, then states, of one shape; then numbers.
Placement adamw_update(const Case& c) {
  expect_alike(c, 0, 1, 4);
  refuse_partial(c, 0);
  for (size_t i = 4; i < 8; ++i) expect_replicated(c, i, "a number of the update");
  return c.in[0];
}

Placement assign(const Case& c) {
  refuse_partial(c, 1);
  if (!(c.in[0] == c.in[1]))
    refuse("the state is " + to_text(c.in[0]) + ", its new value " + to_text(c.in[1]) + ": they must lie alike");
  return c.in[0];
}

Placement accumulate(const Case& c) {
  if (c.in[0].spread == Spread::kPartialMax) refuse_partial(c, 0);
  return c.in[0];
}

// ---- communication --------------------------------------------------------------------------------------------------

// Input `input` must be `from` along the axes of the op and becomes `to`; along others it stays as it is.
Placement turned(const Case& c, size_t input, const Placement& from, const Placement& to, const char* otherwise) {
  if (!over_axis(c)) return c.in[input];
  if (!(c.in[input] == from))
    refuse("input " + std::to_string(input) + " is " + to_text(c.in[input]) + ", but must be " + to_text(from) + ": " +
           otherwise);
  return to;
}

Placement all_reduce(const Case& c) {
  const bool sum = c.node.text("reduce", "sum") == "sum";
  const Placement from{sum ? Spread::kPartial : Spread::kPartialMax, 0};
  if (!over_axis(c) && c.in[c.output].spread == (sum ? Spread::kPartialMax : Spread::kPartial))
    refuse(sum ? "a maximum is reduced as a sum" : "a sum is reduced as a maximum");
  return turned(c, c.output, from, kReplicated, "there is nothing to reduce, or it is reduced twice");
}

Placement replicate(const Case& c) {
  return turned(c, 0, kReplicated, kReplicated, "replicate opens what each rank computes a part of");
}

Placement all_gather(const Case& c) {
  return turned(c, 0, sharded(static_cast<size_t>(c.node.i64("dim"))), kReplicated,
                "there is nothing to gather along this dimension");
}

Placement reduce_scatter(const Case& c) {
  return turned(c, 0, kPartial, sharded(static_cast<size_t>(c.node.i64("dim"))),
                "there is nothing to reduce, or it is reduced twice");
}

Placement flat_gather(const Case& c) {
  return turned(c, 0, {Spread::kFlat, 0}, kReplicated, "there is nothing to gather");
}

Placement flat_scatter(const Case& c) {
  return turned(c, c.output, kPartial, {Spread::kFlat, 0}, "there is nothing to reduce, or it is reduced twice");
}

// The parts go round: what comes lies as what goes. Along other axes the ranks of a ring have the same coordinate.
Placement ring_shift(const Case& c) {
  if (over_axis(c) && c.in[0].spread != Spread::kSharded)
    refuse("input 0 is " + to_text(c.in[0]) + ", but only parts of a divided dimension go round");
  return c.in[0];
}

Placement transfer(const Case& c) { return c.in[0]; }

Placement add_stages(const Case& c) {
  expect_alike(c, 0, 1, c.in.size());
  if (c.in[0].spread == Spread::kPartialMax) refuse_partial(c, 0);
  return c.in[0];
}

Table make_table() {
  Table table = {
      {"add", sum_of_two},
      {"subtract", sum_of_two},
      {"multiply", product_of_two},
      {"divide", quotient},
      {"maximum", extremum},
      {"minimum", extremum},
      {"power", extremum},
      {"gelu_backward", linear_in(0, alike)},
      {"silu_backward", linear_in(0, alike)},
      {"swiglu", alike},
      {"swiglu_backward", linear_in(0, alike)},
      {"select", select},
      {"bias_add", bias_add},
      {"dropout", dropout},
      {"sum_rows", sum_rows},
      {"sum_squares", sum_squares},
      {"tensor_norm", tensor_norm},
      {"gradient_scale", all_replicated},
      {"adamw_update", adamw_update},
      {"assign", assign},
      {"accumulate", accumulate},
      {"all_reduce", all_reduce},
      {"replicate", replicate},
      {"all_gather", all_gather},
      {"reduce_scatter", reduce_scatter},
      {"flat_gather", flat_gather},
      {"flat_scatter", flat_scatter},
      {"ring_shift", ring_shift},
      {"transfer", transfer},
      {"add_stages", add_stages},
  };
  for (const char* op : {"copy", "negate", "scale", "cast"}) table[op] = linear;
  for (const char* op : {"square", "sqrt", "reciprocal", "exp", "log", "abs", "sign", "tanh", "gelu", "silu"})
    table[op] = nonlinear;
  add_layers(table);
  return table;
}

const Table& table() {
  static const Table rules = make_table();
  return rules;
}

// An op that brings no rule: all that is known is that ranks with equal inputs make equal outputs.
Placement unknown(const Case& c) {
  if (!c.all_replicated())
    refuse(c.node.op + " has no placement rule (km_op_rules), so it takes replicated values only");
  return kReplicated;
}

} // namespace
} // namespace placing

bool has_placement_rule(const std::string& op) { return placing::table().count(op) != 0; }

Placement infer_placement(const Graph& graph, const Node& node, const std::vector<Placement>& inputs, size_t output,
                          size_t axis) {
  const OpRules& rules = graph.rules(node.op);
  if (rules.placement) return rules.placement(graph, node, inputs, output, axis);
  const uint64_t mask = static_cast<uint64_t>(node.i64("accumulate"));
  const size_t plain = inputs.size() - std::min(inputs.size(), static_cast<size_t>(std::popcount(mask)));
  const std::vector<Placement> in(inputs.begin(), inputs.begin() + static_cast<std::ptrdiff_t>(plain));
  const auto found = placing::table().find(node.op);
  const placing::Case c{graph, node, in, output, axis};
  const Placement result = found == placing::table().end() ? placing::unknown(c) : found->second(c);
  if (mask >> output & 1) {
    const size_t before = static_cast<size_t>(std::popcount(mask & ((uint64_t{1} << output) - 1)));
    const Placement& addend = inputs[plain + before];
    if (!(addend == result))
      placing::refuse("the addend of output " + std::to_string(output) + " is " + to_text(addend) +
                      ", but what it is added to is " + to_text(result));
  }
  return result;
}

} // namespace kumiki
