// What strategies put between ranks and between stages. Shape rules know the group along the attribute `axes` by two
// more attributes, group.size and group.index, which Graph::infer_types gives them.
#include <algorithm>

#include "core/graph/ops.h"

namespace kumiki {
namespace ops {
namespace {

struct Group {
  int64_t size, index;
};
Group group(const Node& node) {
  if (node.text("axes").empty()) wrong(node, "attribute axes must name the axes of the group, as \"data\"");
  return {node.i64("group.size", 1), node.i64("group.index", 0)};
}

Types same_types(const Node& node, const Types& in) {
  group(node);
  return in;
}

Types all_reduce_shape(const Node& node, const Types& in) {
  const std::string reduce = node.text("reduce", "sum");
  if (reduce != "sum" && reduce != "max")
    wrong(node, "attribute reduce is \"" + reduce + "\", but must be \"sum\" or \"max\"");
  return same_types(node, in);
}

ValueId all_reduce_derivative(Graph&, const Node& node, size_t input, const Gradients& g) {
  if (node.text("reduce", "sum") != "sum") wrong(node, "a maximum over ranks has no derivative");
  return g[input];
}

Attributes of_group(const Node& node) { return {{"axes", node.text("axes")}}; }
Attributes of_dimension(const Node& node) { return {{"axes", node.text("axes")}, {"dim", node.i64("dim")}}; }

size_t dimension(const Node& node, const Types& in) {
  const int64_t dim = node.i64("dim", -1);
  if (dim < 0 || static_cast<size_t>(dim) >= in[0].shape.size())
    wrong(node, "attribute dim is " + std::to_string(dim) + ", which is no dimension of x, " + to_text(in[0]));
  return static_cast<size_t>(dim);
}

Types all_gather_shape(const Node& node, const Types& in) {
  Type y = in[0];
  const size_t dim = dimension(node, in);
  if (!node.has("whole")) {
    y.shape[dim] *= group(node).size;
    return {y};
  }
  // Nearly equal parts of a dimension that the group may not divide; in the middle of a rewrite x may still be whole.
  const int64_t whole = node.i64("whole");
  if (y.shape[dim] > whole)
    wrong(node, "x is " + to_text(in[0]) + ", but the whole of dimension " + std::to_string(dim) + " is " +
                    std::to_string(whole));
  y.shape[dim] = whole;
  return {y};
}

Types reduce_scatter_shape(const Node& node, const Types& in) {
  Type y = in[0];
  const size_t dim = dimension(node, in);
  const int64_t size = group(node).size;
  if (y.shape[dim] % size)
    wrong(node, "dimension " + std::to_string(dim) + " of x, " + to_text(in[0]) + ", does not divide by the " +
                    std::to_string(size) + " ranks along " + node.text("axes"));
  y.shape[dim] /= size;
  return {y};
}

// Rank i's x goes to rank i + by of the group, rank i - by's comes here.
Types ring_shift_shape(const Node& node, const Types& in) {
  const int64_t size = group(node).size, by = node.i64("by", 1);
  if (size > 1 && by % size == 0)
    wrong(node, "attribute by is " + std::to_string(by) + ": around a ring of " + std::to_string(size) +
                    " ranks that goes nowhere");
  return {in[0]};
}

ValueId ring_shift_derivative(Graph& graph, const Node& node, size_t, const Gradients& g) {
  return graph.add1("ring_shift", {g[0]}, {{"axes", node.text("axes")}, {"by", -node.i64("by", 1)}});
}

Type flat_part(const Node& node, const Type& whole) {
  const auto [size, index] = group(node);
  const int64_t n = whole.elements();
  return Type{whole.dtype, {part_begin(n, size, index + 1) - part_begin(n, size, index)}};
}

Types flat_gather_shape(const Node& node, const Types& in) {
  const auto found = node.attributes.find("shape");
  if (found == node.attributes.end() || !std::holds_alternative<std::vector<int64_t>>(found->second))
    wrong(node, "attribute shape is missing");
  const Type y{in[0].dtype, std::get<std::vector<int64_t>>(found->second)};
  if (std::any_of(y.shape.begin(), y.shape.end(), [](int64_t n) { return n < 1; }))
    wrong(node, "attribute shape is " + to_text(y) + ": dimensions must be at least 1");
  expect_type(node, in, 0, "x", flat_part(node, y));
  return {y};
}

Types flat_scatter_shape(const Node& node, const Types& in) {
  Types out;
  for (const Type& type : in) out.push_back(flat_part(node, type));
  return out;
}

Types transfer_shape(const Node& node, const Types& in) {
  const int64_t from = node.i64("from", -1), to = node.i64("to", -1);
  if (from < 0 || to < 0 || from == to)
    wrong(node, "it goes from stage " + std::to_string(from) + " to " + std::to_string(to) +
                    ": attributes from and to must be two stages");
  return {in[0]};
}

ValueId transfer_derivative(Graph& graph, const Node& node, size_t, const Gradients& g) {
  return graph.add1("transfer", {g[0]}, {{"from", node.i64("to")}, {"to", node.i64("from")}});
}

Types add_stages_shape(const Node& node, const Types& in) {
  for (size_t i = 1; i < in.size(); ++i) expect_type(node, in, i, ("input " + std::to_string(i)).c_str(), in[0]);
  return {in[0]};
}

} // namespace

std::vector<Rule> communication() {
  const AttributeRule axes = text("axes");
  return {
      rule("all_reduce", 1, SIZE_MAX, {axes, text("reduce")}, all_reduce_shape, all_reduce_derivative),
      rule("replicate", 1, 1, {axes}, same_types,
           [](Graph& graph, const Node& node, size_t, const Gradients& g) {
             return graph.add1("all_reduce", {g[0]}, of_group(node));
           }),
      rule("all_gather", 1, 1, {axes, i64("dim"), i64("whole")}, all_gather_shape,
           [](Graph& graph, const Node& node, size_t, const Gradients& g) {
             if (node.has("whole")) wrong(node, "parts of other sizes (attribute whole) have no derivative");
             return graph.add1("reduce_scatter", {g[0]}, of_dimension(node));
           }),
      rule("reduce_scatter", 1, 1, {axes, i64("dim")}, reduce_scatter_shape,
           [](Graph& graph, const Node& node, size_t, const Gradients& g) {
             return graph.add1("all_gather", {g[0]}, of_dimension(node));
           }),
      rule("flat_gather", 1, 1, {axes, i64_list("shape"), i64("ahead")}, flat_gather_shape,
           [](Graph& graph, const Node& node, size_t, const Gradients& g) {
             return graph.add1("flat_scatter", {g[0]}, of_group(node));
           }),
      rule("flat_scatter", 1, SIZE_MAX, {axes}, flat_scatter_shape),
      rule("ring_shift", 1, 1, {axes, i64("by")}, ring_shift_shape, ring_shift_derivative),
      rule("transfer", 1, 1, {i64("from"), i64("to")}, transfer_shape, transfer_derivative),
      rule("add_stages", 1, SIZE_MAX, {i64_list("stages")}, add_stages_shape),
  };
}

} // namespace ops

bool is_communication(const std::string& op) {
  static const std::vector<ops::Rule> rules = ops::communication();
  return std::any_of(rules.begin(), rules.end(), [&](const ops::Rule& rule) { return rule.name == op; });
}

} // namespace kumiki
