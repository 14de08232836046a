// What of a graph has to do with many ranks: the mesh, how leaves are divided over it, stages, and inference of all
// types and placements after a rewrite.
#include <algorithm>
#include <sstream>

#include "core/base/error.h"
#include "core/graph/graph.h"

namespace kumiki {
namespace {

std::string where(const Node& node) {
  std::string text = node.layer >= 0 ? "layer " + std::to_string(node.layer) : "";
  if (!node.origin.empty()) text += (text.empty() ? "" : ", ") + node.origin;
  return text;
}

} // namespace

std::string to_text(const Placement& placement) {
  switch (placement.spread) {
    case Spread::kReplicated: return "replicated";
    case Spread::kSharded: return "sharded(" + std::to_string(placement.dim) + ")";
    case Spread::kFlat: return "flat";
    case Spread::kPartial: return "partial";
    case Spread::kPartialMax: return "maximum";
  }
  return "?";
}

void Graph::set_axes(std::vector<Axis> axes) {
  axes_ = std::move(axes);
  mesh_axes_.clear();
  for (size_t i = 0; i < axes_.size(); ++i) mesh_axes_.push_back({i});
}

const std::vector<size_t>& Graph::mesh_axes(size_t mesh_axis) const {
  if (mesh_axis >= mesh_axes_.size()) throw Error("", "axis " + std::to_string(mesh_axis) + " is not of this mesh");
  return mesh_axes_[mesh_axis];
}

std::pair<size_t, size_t> Graph::split_axis(size_t mesh_axis, int64_t inner) {
  const std::vector<size_t> halves = mesh_axes(mesh_axis);
  const size_t at = halves.back();
  if (halves.size() == 2) {
    if (axes_[at].degree != inner)
      throw Error("", "axis " + axes_[at].part_of + " is split into blocks of " + std::to_string(axes_[at].degree) +
                          " already, and cannot be into blocks of " + std::to_string(inner));
    const auto handle = [&](size_t axis) {
      return static_cast<size_t>(std::find(mesh_axes_.begin(), mesh_axes_.end(), std::vector<size_t>{axis}) -
                                 mesh_axes_.begin());
    };
    return {handle(halves[0]), handle(halves[1])};
  }
  const Axis whole = axes_[at];
  if (!whole.part_of.empty()) throw Error("", "axis " + whole.name + " is half of one already");
  if (inner < 2 || inner >= whole.degree || whole.degree % inner != 0)
    throw Error("", "axis " + whole.name + " of " + std::to_string(whole.degree) +
                        " ranks cannot be split into blocks of " + std::to_string(inner));
  for (const Value& v : values_)
    if (at < v.placements.size() && v.placements[at].spread != Spread::kReplicated)
      throw Error(v.name, "axis " + whole.name + " cannot be split once something is divided over it");
  const std::string text = std::to_string(inner);
  axes_[at] = {whole.name + "%" + text, inner, whole.coordinate % inner, whole.level, whole.name, false};
  axes_.insert(
      axes_.begin() + static_cast<std::ptrdiff_t>(at) + 1,
      {whole.name + "/" + text, whole.degree / inner, whole.coordinate / inner, whole.level, whole.name, true});
  for (Value& v : values_)
    if (at < v.placements.size())
      v.placements.insert(v.placements.begin() + static_cast<std::ptrdiff_t>(at) + 1, Placement{});
  for (std::vector<size_t>& axes : mesh_axes_)
    for (size_t& axis : axes) axis += axis > at ? 1 : 0;
  mesh_axes_[mesh_axis] = {at + 1, at};
  mesh_axes_.push_back({at + 1});
  mesh_axes_.push_back({at});
  return {mesh_axes_.size() - 2, mesh_axes_.size() - 1};
}

size_t Graph::axis_index(const std::string& name) const {
  std::string names;
  for (size_t i = 0; i < axes_.size(); ++i) {
    if (axes_[i].name == name) return i;
    names += (names.empty() ? "" : ", ") + axes_[i].name;
  }
  throw Error("", "there is no axis \"" + name + "\"", names.empty() ? "this run has one rank" : "axes: " + names);
}

std::vector<size_t> Graph::group_axes(const std::string& axes) const {
  std::vector<size_t> indices;
  std::istringstream in(axes);
  for (std::string name; std::getline(in, name, ',');) {
    const auto is_half = [&](const Axis& axis) { return axis.part_of == name; };
    if (std::none_of(axes_.begin(), axes_.end(), is_half)) {
      indices.push_back(axis_index(name));
      continue;
    }
    for (size_t i = axes_.size(); i-- > 0;) // the outer half stands behind the inner
      if (is_half(axes_[i])) indices.push_back(i);
  }
  if (indices.empty()) throw Error("", "a communication op names no axis");
  return indices;
}

int64_t Graph::group_size(const std::string& axes) const {
  int64_t size = 1;
  for (const size_t i : group_axes(axes)) size *= axes_[i].degree;
  return size;
}

int64_t Graph::group_index(const std::string& axes) const {
  int64_t index = 0;
  for (const size_t i : group_axes(axes)) index = index * axes_[i].degree + axes_[i].coordinate;
  return index;
}

Placement Graph::placement(ValueId id, size_t axis) const {
  const std::vector<Placement>& placements = value(id).placements;
  return axis < placements.size() ? placements[axis] : Placement{};
}

void Graph::shard(ValueId leaf, int32_t dim, const std::vector<size_t>& axes) {
  Value& v = value(leaf);
  if (v.producer != 0) throw Error(v.name, "shard: only a leaf can be divided");
  int64_t degree = 1, coordinate = 0;
  std::string names;
  for (const size_t axis : axes) {
    if (axis >= axes_.size()) throw Error(v.name, "shard: axis " + std::to_string(axis) + " is not of this mesh");
    if (placement(leaf, axis).spread != Spread::kReplicated)
      throw Error(v.name, "shard: it is divided over axis " + axes_[axis].name + " already");
    degree *= axes_[axis].degree;
    coordinate = coordinate * axes_[axis].degree + axes_[axis].coordinate;
    names += (names.empty() ? "" : ",") + axes_[axis].name;
  }
  if (v.logical_shape.empty()) {
    v.logical_shape = v.box_shape = v.type.shape;
    v.box_offset.assign(v.type.shape.size(), 0);
  }
  const auto cut = [&](int64_t n, const std::string& what) {
    if (n < degree)
      throw Error(v.name, what + " of " + std::to_string(n) + " cannot be divided over the " + std::to_string(degree) +
                              " ranks of axis " + names);
    return std::pair<int64_t, int64_t>{part_begin(n, degree, coordinate), part_begin(n, degree, coordinate + 1)};
  };
  v.placements.resize(axes_.size());
  if (dim < 0) {
    const bool flat = v.flat_end >= 0;
    const int64_t begin = flat ? v.flat_begin : 0, end = flat ? v.flat_end : v.type.elements();
    const auto [from, to] = cut(end - begin, "a range");
    v.flat_begin = begin + from;
    v.flat_end = begin + to;
    v.type.shape = {to - from};
    for (const size_t axis : axes) v.placements[axis] = {Spread::kFlat, 0};
    return;
  }
  if (v.flat_end >= 0) throw Error(v.name, "shard: a dimension cannot be divided after the elements were");
  const size_t d = static_cast<size_t>(dim);
  if (d >= v.type.shape.size()) throw Error(v.name, "shard: there is no dimension " + std::to_string(dim));
  const auto [from, to] = cut(v.type.shape[d], "dimension " + std::to_string(dim));
  v.box_offset[d] += from;
  v.box_shape[d] = v.type.shape[d] = to - from;
  for (const size_t axis : axes) v.placements[axis] = {Spread::kSharded, dim};
}

ValueId Graph::add_tied_copy(ValueId parameter, int32_t stage) {
  const Value original = value(parameter);
  if (original.kind != ValueKind::kParameter) throw Error(original.name, "only a parameter can have a tied copy");
  Value copy = original;
  copy.id = 0;
  copy.stage = stage;
  copy.tied_to = parameter;
  const Cursor before = cursor;
  cursor.layer = original.layer;
  cursor.stage = stage;
  const ValueId id = new_leaf(original.name + "@stage" + std::to_string(stage), std::move(copy));
  cursor = before;
  return id;
}

void Graph::set_stage(NodeId id, int32_t stage) {
  Node& n = node(id);
  n.stage = stage;
  for (const ValueId output : n.outputs) value(output).stage = stage;
  settle_stage(id);
}

void Graph::settle_stage(NodeId id) {
  Node& n = nodes_[id];
  if (n.op == "transfer") {
    n.stage = static_cast<int32_t>(n.i64("from"));
    values_[n.outputs[0]].stage = static_cast<int32_t>(n.i64("to"));
  } else if (n.op == "add_stages") {
    const std::vector<int64_t> stages = n.list("stages");
    n.stage = values_[n.outputs[0]].stage = stages.empty() ? kEveryStage : static_cast<int32_t>(stages[0]);
  }
}

bool Graph::stands_on(ValueId id, int32_t stage) const {
  const Value& v = value(id);
  if (v.kind == ValueKind::kConstant || v.kind == ValueKind::kScalar) return true;
  if (v.stage == kEveryStage || v.stage == stage) return true;
  if (v.producer == 0 || nodes_[v.producer].op != "add_stages") return false;
  const std::vector<int64_t> stages = nodes_[v.producer].list("stages");
  return std::find(stages.begin(), stages.end(), stage) != stages.end();
}

NodeId Graph::first_of_body() const {
  for (const NodeId id : order_)
    if (nodes_[id].phase != Phase::kHead) return id;
  return 0;
}

void Graph::infer_all() {
  for (const NodeId id : order_) {
    infer(id);
    const Node& n = nodes_[id];
    if (axes_.empty()) continue;
    for (size_t output = 0; output < n.outputs.size(); ++output)
      values_[n.outputs[output]].placements.assign(axes_.size(), Placement{});
    for (size_t axis = 0; axis < axes_.size(); ++axis) {
      std::vector<Placement> in;
      in.reserve(n.inputs.size());
      for (const ValueId input : n.inputs) in.push_back(placement(input, axis));
      for (size_t output = 0; output < std::max<size_t>(n.outputs.size(), 1); ++output) {
        try {
          const Placement p = infer_placement(*this, n, in, output, axis);
          if (output < n.outputs.size()) values_[n.outputs[output]].placements[axis] = p;
        } catch (const Error& error) {
          std::string held;
          for (size_t i = 0; i < in.size(); ++i) held += (i ? ", " : "") + to_text(in[i]);
          throw Error(where(n), "axis " + axes_[axis].name + ": " + error.what() + " (inputs: " + held + ")",
                      "in " + to_text(*this, n));
        }
      }
    }
  }
}

} // namespace kumiki
