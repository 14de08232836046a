#include "tests/graph/ranks.h"

#include <algorithm>
#include <map>
#include <stdexcept>

namespace kumiki::test {
namespace {

int64_t product(const Shape& shape, size_t begin, size_t end) {
  int64_t n = 1;
  for (size_t i = begin; i < end; ++i) n *= shape[i];
  return n;
}

void add_to(Numbers& sum, const Numbers& more, bool maximum) {
  for (size_t i = 0; i < sum.size(); ++i) sum[i] = maximum ? std::max(sum[i], more[i]) : sum[i] + more[i];
}

} // namespace

Numbers part_of(const Numbers& whole, const Shape& shape, size_t dim, int64_t begin, int64_t end) {
  const int64_t inner = product(shape, dim + 1, shape.size()), outer = product(shape, 0, dim);
  Numbers part;
  for (int64_t o = 0; o < outer; ++o) {
    const auto from = whole.begin() + (o * shape[dim] + begin) * inner;
    part.insert(part.end(), from, from + (end - begin) * inner);
  }
  return part;
}

Numbers joined(const std::vector<Numbers>& parts, const Shape& shape, size_t dim) {
  const int64_t outer = product(shape, 0, dim);
  Numbers whole;
  for (int64_t o = 0; o < outer; ++o)
    for (const Numbers& part : parts) {
      const int64_t each = static_cast<int64_t>(part.size()) / outer;
      whole.insert(whole.end(), part.begin() + o * each, part.begin() + (o + 1) * each);
    }
  return whole;
}

Ranks::Ranks(const std::vector<Axis>& axes, const std::function<void(Graph&)>& build) {
  size_t size = 1;
  for (const Axis& axis : axes) size *= static_cast<size_t>(axis.degree);
  for (size_t rank = 0; rank < size; ++rank) {
    std::vector<Axis> mine = axes;
    size_t rest = rank;
    for (Axis& axis : mine) {
      axis.coordinate = static_cast<int64_t>(rest) % axis.degree;
      rest /= static_cast<size_t>(axis.degree);
    }
    graphs_.push_back(std::make_unique<Graph>());
    graphs_.back()->set_axes(mine);
    build(*graphs_.back());
    interpreters_.push_back(std::make_unique<Interpreter>(*graphs_.back()));
  }
}

void Ranks::set(const std::string& leaf, const Numbers& whole) {
  for (size_t rank = 0; rank < size(); ++rank) {
    const Value& value = graphs_[rank]->value(graphs_[rank]->find(leaf));
    Numbers numbers = whole;
    Shape shape = value.logical_shape;
    for (size_t d = 0; d < shape.size(); ++d) {
      numbers = part_of(numbers, shape, d, value.box_offset[d], value.box_offset[d] + value.box_shape[d]);
      shape[d] = value.box_shape[d];
    }
    if (value.flat_end >= 0) numbers = Numbers(numbers.begin() + value.flat_begin, numbers.begin() + value.flat_end);
    interpreters_[rank]->set(leaf, numbers);
  }
}

std::vector<size_t> Ranks::group(size_t rank, const std::string& axes) const {
  const auto others = [&](const Graph& graph) {
    std::vector<int64_t> coordinates;
    for (const Axis& axis : graph.axes())
      if (("," + axes + ",").find("," + axis.name + ",") == std::string::npos) coordinates.push_back(axis.coordinate);
    return coordinates;
  };
  std::vector<size_t> members;
  for (size_t other = 0; other < size(); ++other)
    if (others(*graphs_[other]) == others(*graphs_[rank])) members.push_back(other);
  std::sort(members.begin(), members.end(),
            [&](size_t a, size_t b) { return graphs_[a]->group_index(axes) < graphs_[b]->group_index(axes); });
  return members;
}

void Ranks::communicate(const std::vector<const Node*>& nodes) {
  const std::string op = nodes[0]->op, axes = nodes[0]->text("axes");
  std::map<std::pair<size_t, size_t>, Numbers> made; // by rank and output
  for (size_t rank = 0; rank < size(); ++rank) {
    const std::vector<size_t> members = group(rank, axes);
    const size_t index = static_cast<size_t>(graphs_[rank]->group_index(axes));
    const int64_t degree = static_cast<int64_t>(members.size());
    for (size_t i = 0; i < nodes[rank]->inputs.size(); ++i) {
      std::vector<Numbers> all;
      for (const size_t member : members) all.push_back(interpreters_[member]->get(nodes[member]->inputs[i]));
      const Shape& shape = graphs_[rank]->value(nodes[rank]->inputs[i]).type.shape;
      const Shape& to = graphs_[rank]->value(nodes[rank]->outputs[i]).type.shape;
      const size_t dim = static_cast<size_t>(nodes[rank]->i64("dim"));
      Numbers sum = all[0];
      if (op == "all_reduce" || op == "reduce_scatter" || op == "flat_scatter")
        for (size_t m = 1; m < all.size(); ++m) add_to(sum, all[m], nodes[rank]->text("reduce", "sum") == "max");
      Numbers& result = made[{rank, i}];
      if (op == "all_reduce") {
        result = sum;
      } else if (op == "replicate") {
        result = all[index];
      } else if (op == "ring_shift") {
        const int64_t by = nodes[rank]->i64("by", 1);
        result = all[static_cast<size_t>(((static_cast<int64_t>(index) - by) % degree + degree) % degree)];
      } else if (op == "all_gather") {
        result = joined(all, to, dim);
      } else if (op == "reduce_scatter") {
        const int64_t each = shape[dim] / degree;
        result = part_of(sum, shape, dim, static_cast<int64_t>(index) * each, static_cast<int64_t>(index + 1) * each);
      } else if (op == "flat_gather") {
        for (const Numbers& part : all) result.insert(result.end(), part.begin(), part.end());
      } else if (op == "flat_scatter") {
        const int64_t n = static_cast<int64_t>(sum.size()), place = static_cast<int64_t>(index);
        result = Numbers(sum.begin() + part_begin(n, degree, place), sum.begin() + part_begin(n, degree, place + 1));
      } else {
        throw std::logic_error("ranks do not know " + op);
      }
    }
  }
  for (const auto& [key, numbers] : made) interpreters_[key.first]->put(nodes[key.first]->outputs[key.second], numbers);
}

void Ranks::run() {
  for (auto& interpreter : interpreters_) interpreter->start();
  for (size_t step = 0; step < graphs_[0]->order().size(); ++step) {
    std::vector<const Node*> nodes;
    for (const auto& graph : graphs_) nodes.push_back(&graph->node(graph->order().at(step)));
    if (is_communication(nodes[0]->op) && nodes[0]->has("axes"))
      communicate(nodes);
    else
      for (size_t rank = 0; rank < size(); ++rank) interpreters_[rank]->step(*nodes[rank]);
  }
}

Numbers Ranks::whole(ValueId id, const Shape& shape) const {
  // Axis by axis: what was divided last is joined first, deepest in the recursion. Elements are divided after
  // dimensions, and a dimension from the outer axes to the inner ones.
  const std::vector<Axis>& axes = graphs_[0]->axes();
  std::vector<size_t> by_level;
  for (size_t axis = 0; axis < axes.size(); ++axis) by_level.push_back(axis);
  const auto is_flat = [&](size_t axis) { return graphs_[0]->placement(id, axis).spread == Spread::kFlat; };
  std::sort(by_level.begin(), by_level.end(),
            [&](size_t a, size_t b) { return is_flat(a) != is_flat(b) ? is_flat(b) : axes[a].level > axes[b].level; });
  std::vector<int64_t> at(axes.size(), 0);
  const std::function<Numbers(size_t, Shape)> join = [&](size_t depth, Shape box) -> Numbers {
    if (depth == axes.size()) {
      for (size_t rank = 0; rank < size(); ++rank) {
        bool here = true;
        for (size_t axis = 0; axis < axes.size(); ++axis)
          here = here && graphs_[rank]->axes()[axis].coordinate == at[axis];
        if (here) return interpreters_[rank]->get(id);
      }
      throw std::logic_error("no rank has these coordinates");
    }
    const size_t axis = by_level[depth];
    const Placement placement = graphs_[0]->placement(id, axis);
    std::vector<Numbers> parts;
    for (int64_t c = 0; c < axes[axis].degree; ++c) {
      at[axis] = c;
      Shape inner = box;
      if (placement.spread == Spread::kSharded) {
        int64_t& n = inner[static_cast<size_t>(placement.dim)];
        n = part_begin(n, axes[axis].degree, c + 1) - part_begin(n, axes[axis].degree, c);
      }
      parts.push_back(join(depth + 1, inner));
    }
    if (placement.spread == Spread::kSharded) return joined(parts, box, static_cast<size_t>(placement.dim));
    Numbers result = parts[0];
    for (size_t c = 1; c < parts.size(); ++c) {
      if (placement.spread == Spread::kFlat)
        result.insert(result.end(), parts[c].begin(), parts[c].end());
      else if (placement.spread != Spread::kReplicated)
        add_to(result, parts[c], placement.spread == Spread::kPartialMax);
      else if (parts[c] != parts[0])
        throw std::runtime_error("replicated on axis " + axes[axis].name + ", but ranks differ");
    }
    return result;
  };
  return join(0, shape);
}

} // namespace kumiki::test
