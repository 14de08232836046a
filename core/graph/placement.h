// The rules by which placements of outputs follow from those of inputs, along one axis: what they see, and the few that
// most ops share. Internal to core/graph: placement.cc has the table and simple ops, placement_layers.cc the rest.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "core/base/error.h"
#include "core/graph/graph.h"

namespace kumiki::placing {

constexpr Placement kReplicated{};
constexpr Placement kPartial{Spread::kPartial, 0};
inline Placement sharded(size_t dim) { return {Spread::kSharded, static_cast<int32_t>(dim)}; }

// A node as a rule sees it: along one axis, without the addends of `accumulate`.
struct Case {
  const Graph& graph;
  const Node& node;
  const std::vector<Placement>& in;
  size_t output;
  size_t axis;

  size_t rank(size_t input) const { return graph.value(node.inputs[input]).type.shape.size(); }
  const Shape& shape(size_t input) const { return graph.value(node.inputs[input]).type.shape; }
  bool replicated(size_t input) const { return in[input].spread == Spread::kReplicated; }
  bool partial(size_t input) const { return in[input].spread == Spread::kPartial; }
  bool divided(size_t input) const { return in[input].spread == Spread::kSharded || in[input].spread == Spread::kFlat; }
  bool sharded_over(size_t input, size_t dim) const { return in[input] == sharded(dim); }
  bool last_divided(size_t input) const { return rank(input) > 0 && sharded_over(input, rank(input) - 1); }
  bool rows_divided(size_t input) const {
    return in[input].spread == Spread::kSharded && static_cast<size_t>(in[input].dim) + 1 < rank(input);
  }
  bool all_replicated() const;
};

[[noreturn]] void refuse(const std::string& sentence);
// Throws unless the input is replicated; `name` is that of docs/ops.md.
void expect_replicated(const Case& c, size_t input, const char* name);
// Throws unless the inputs [first, end) lie as input `like` does.
void expect_alike(const Case& c, size_t like, size_t first, size_t end);
void refuse_partial(const Case& c, size_t input);
bool over_axis(const Case& c); // whether the op's attribute axes names the axis

using Rule = std::function<Placement(const Case&)>;
// An op that is linear in input `input` if the others are held: a partial sum there is one of the output.
Rule linear_in(size_t input, Rule rule);

using Table = std::map<std::string, Rule>;
void add_layers(Table& table); // products, norms, attention, positions, embedding, loss

} // namespace kumiki::placing
