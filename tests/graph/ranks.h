// Several ranks of one mesh in one thread: each has its graph and its numbers, they run node by node side by side, and
// where a node communicates along axes their numbers meet.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/graph/graph.h"
#include "tests/graph/interpreter.h"

namespace kumiki::test {

// Elements of dimension `dim` of a row-major tensor from `begin` to `end`.
Numbers part_of(const Numbers& whole, const Shape& shape, size_t dim, int64_t begin, int64_t end);
// The parts along `dim`, in order, joined; `shape` is that of the whole.
Numbers joined(const std::vector<Numbers>& parts, const Shape& shape, size_t dim);

class Ranks {
 public:
  // `axes` innermost first, without coordinates. build gets the graph of each rank, with its axes set, and must add the
  // same nodes in each.
  Ranks(const std::vector<Axis>& axes, const std::function<void(Graph&)>& build);

  size_t size() const { return graphs_.size(); }
  const Graph& graph(size_t rank = 0) const { return *graphs_[rank]; }
  Interpreter& interpreter(size_t rank) { return *interpreters_[rank]; }
  // Gives each rank its part of the leaf, by how the leaf is divided. `whole` has the leaf's logical shape.
  void set(const std::string& leaf, const Numbers& whole);
  void run();
  // The whole of a value of this id on each rank, put together by its placements; `shape` is that of the whole.
  Numbers whole(ValueId value, const Shape& shape) const;

 private:
  std::vector<size_t> group(size_t rank, const std::string& axes) const; // in the order of the group
  void communicate(const std::vector<const Node*>& nodes);

  std::vector<std::unique_ptr<Graph>> graphs_;
  std::vector<std::unique_ptr<Interpreter>> interpreters_;
};

} // namespace kumiki::test
