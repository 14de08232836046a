// Placement rules. Every combination of placements of an op's inputs is tried over an axis of two ranks: what a rule
// takes is listed here, and must be true: both ranks run the op on their parts, and the outputs, put together as the
// rule says, are those of the op on the whole.
#include <catch2/catch.hpp>
#include <cmath>
#include <set>

#include "core/base/error.h"
#include "tests/graph/placement_cases.h"
#include "tests/graph/ranks.h"

namespace kumiki::test {
namespace {

Placement replicated() { return {}; }
Placement sharded(int32_t dim) { return {Spread::kSharded, dim}; }
Placement partial() { return {Spread::kPartial, 0}; }

std::string letter(const Placement& p) {
  switch (p.spread) {
    case Spread::kReplicated: return "R";
    case Spread::kSharded: return std::to_string(p.dim);
    case Spread::kFlat: return "F";
    case Spread::kPartial: return "P";
    case Spread::kPartialMax: return "M";
  }
  return "?";
}

std::string letters(const std::vector<Placement>& placements) {
  std::string text;
  for (const Placement& p : placements) text += letter(p);
  return text;
}

// The whole of each input: numbers that the op takes.
Numbers whole_input(const PlacementCase& c, size_t i) {
  const Type& type = c.inputs[i];
  Numbers numbers = random_numbers(type.elements(), 17 + i);
  if (type.dtype == KM_I64) return {i == 1 ? 12345.0 : 40.0};
  if (type.dtype == KM_I32) {
    if (type.shape.empty()) return {0};
    for (double& number : numbers) number = std::floor((number + 1) * 4); // 0 … 7
    if (c.op != "embedding" && c.op != "embedding_backward") numbers[3] = -1;
  } else if (c.op == "log" || c.op == "sqrt" || c.op == "power" || (c.op == "divide" && i == 1) ||
             (c.op == "adamw_update" && i == 3) || (c.op.starts_with("cross_entropy_parts") && i == 3) ||
             c.op == "gradient_scale" || c.op == "reciprocal") {
    for (double& number : numbers) number = 1.5 + number;
  }
  return numbers;
}

// What the model or a strategy writes where a dimension is divided: where this rank's part begins.
Attributes attributes_of(const PlacementCase& c, const std::vector<Placement>& in, int64_t rank) {
  Attributes attributes = c.attributes;
  const auto begin = [&](size_t i, size_t dim) { return rank * c.inputs[i].shape[dim] / 2; };
  if (c.op == "embedding" && in[1] == sharded(0)) attributes["offset"] = begin(1, 0);
  if ((c.op == "rope" || c.op == "add_position" || c.op == "add_position_backward") && in[0] == sharded(1))
    attributes["offset"] = begin(0, 1);
  if (c.op == "dropout" && in[0] == sharded(1)) attributes["offset"] = begin(0, 1) * c.inputs[0].shape[2];
  if ((c.op == "row_exp_pick" || c.op.starts_with("cross_entropy_parts")) && in[0] == sharded(2))
    attributes["offset"] = begin(0, 2);
  return attributes;
}

std::string name_of(size_t input) { return "input" + std::to_string(input); }

Shape local(const Type& type, const Placement& p) {
  Shape shape = type.shape;
  if (p.spread == Spread::kSharded) shape[static_cast<size_t>(p.dim)] /= 2;
  return shape;
}

void build(Graph& graph, const PlacementCase& c, const std::vector<Placement>& in) {
  if (c.batch) {
    graph.declare_input("tokens", i32({1, 4}));
    graph.value(graph.input("tokens")).placements = {sharded(0)};
  }
  std::vector<ValueId> inputs;
  for (size_t i = 0; i < c.inputs.size(); ++i) {
    graph.declare_input(name_of(i), {c.inputs[i].dtype, local(c.inputs[i], in[i])});
    inputs.push_back(graph.input(name_of(i)));
    graph.value(inputs.back()).placements = {in[i]};
  }
  graph.add(c.op, inputs, attributes_of(c, in, graph.axes().empty() ? 0 : graph.axes()[0].coordinate));
}

// The numbers that each rank has of an input.
std::vector<Numbers> spread(const PlacementCase& c, size_t i, const Placement& p) {
  const Numbers whole = whole_input(c, i);
  if (p.spread == Spread::kPartial) {
    Numbers other = random_numbers(c.inputs[i].elements(), 99 + i), rest = whole;
    for (size_t e = 0; e < rest.size(); ++e) rest[e] -= other[e];
    return {rest, other};
  }
  if (p.spread == Spread::kReplicated) return {whole, whole};
  const size_t dim = static_cast<size_t>(p.dim);
  const int64_t n = c.inputs[i].shape[dim];
  return {part_of(whole, c.inputs[i].shape, dim, 0, n / 2), part_of(whole, c.inputs[i].shape, dim, n / 2, n)};
}

void expect_true(const PlacementCase& c, Ranks& ranks, const std::vector<Placement>& in, Interpreter& one,
                 const Graph& whole) {
  for (size_t i = 0; i < c.inputs.size(); ++i) {
    std::vector<Numbers> parts = spread(c, i, in[i]);
    // Each rank of the batch counts its samples from where they begin.
    if (c.op == "dropout" && i == 2 && in[0] == sharded(0))
      parts[1][0] += static_cast<double>(c.inputs[0].shape[0]) / 2;
    for (size_t rank = 0; rank < 2; ++rank) ranks.interpreter(rank).set(name_of(i), parts[rank]);
  }
  if (c.batch)
    for (size_t rank = 0; rank < 2; ++rank) ranks.interpreter(rank).set("tokens", {0, 0, 0, 0});
  ranks.run();
  const Node& expected = whole.node(whole.order().back());
  const Node& node = ranks.graph().node(ranks.graph().order().back());
  for (size_t o = 0; o < node.outputs.size(); ++o) {
    const Numbers all = one.get(expected.outputs[o]);
    CHECK(difference(all, ranks.whole(node.outputs[o], whole.value(expected.outputs[o]).type.shape)) < 3e-6);
  }
}

// Calls task for each combination of placements of the inputs.
void combinations(const PlacementCase& c, size_t input, std::vector<Placement>& in,
                  const std::function<void(const std::vector<Placement>&)>& task) {
  if (input == c.inputs.size()) return task(in);
  const Type& type = c.inputs[input];
  const auto with = [&](const Placement& p) {
    in.push_back(p);
    combinations(c, input + 1, in, task);
    in.pop_back();
  };
  with(replicated());
  if (type.dtype == KM_F32) with(partial());
  for (size_t dim = 0; dim < type.shape.size(); ++dim) with(sharded(static_cast<int32_t>(dim)));
}

TEST_CASE("each placement that a rule takes is true, and no other is taken than those listed") {
  std::set<std::string> seen;
  for (const PlacementCase& c : placement_cases()) {
    INFO(c.op << (c.batch ? ", over the batch" : ""));
    seen.insert(c.op);
    const std::vector<Placement> all(c.inputs.size(), replicated());
    Graph whole;
    build(whole, {c.op, c.inputs, c.attributes, "", false}, all);
    Interpreter one(whole);
    for (size_t i = 0; i < c.inputs.size(); ++i) one.set(name_of(i), whole_input(c, i));
    one.run();
    std::string taken;
    std::vector<Placement> in;
    combinations(c, 0, in, [&](const std::vector<Placement>& placements) {
      std::unique_ptr<Ranks> ranks;
      try {
        ranks = std::make_unique<Ranks>(std::vector<Axis>{{"axis", 2, 0, 1}}, [&](Graph& graph) {
          build(graph, c, placements);
          graph.infer_all();
        });
      } catch (const Error&) {
        return;
      }
      const Graph& graph = ranks->graph();
      std::vector<Placement> out;
      for (const ValueId output : graph.node(graph.order().back()).outputs) out.push_back(graph.placement(output, 0));
      const std::string line = letters(placements) + ">" + letters(out);
      taken += (taken.empty() ? "" : " ") + line;
      INFO(line);
      expect_true(c, *ranks, placements, one, whole);
    });
    CHECK(taken == c.taken);
  }
  // What no kernel runs, and tensor_norm, which resolve_norms replaces: mesh_test.cc.
  for (const std::string& op : builtin_ops()) {
    INFO(op);
    CHECK(has_placement_rule(op));
    if (!is_communication(op) && op != "assign" && op != "accumulate" && op != "tensor_norm")
      CHECK(seen.count(op) == 1);
  }
}

} // namespace
} // namespace kumiki::test
