// Runs a graph node by node on the reference kernels: one micro-batch, no planner, no memory plan. Tests compare graphs
// with each other by what they compute. Values are given and read as vectors of double, whatever their type.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "core/graph/graph.h"

namespace kumiki::test {

using Numbers = std::vector<double>;

class Interpreter {
 public:
  explicit Interpreter(const Graph& graph) : graph_(graph) {}

  // Of a leaf, by name. Step scalars that are not set are 1 (step, loss_scale, apply …) or 0 (past, micro).
  void set(const std::string& leaf, const Numbers& numbers);
  // Runs all nodes in order. Throws with the node and the kernel's words where one fails. All stages are here: a
  // transfer is a copy, add_stages a sum. Communication along axes needs other ranks (ranks.h).
  void run();
  // The same by steps: all leaves, then one node.
  void start();
  void step(const Node& node) { run_node(node); }
  // What a communication op made.
  void put(ValueId value, const Numbers& numbers);
  Numbers get(ValueId value) const;
  Numbers get_output(const std::string& name) const { return get(graph_.output(name)); }
  // What was assigned to a state or parameter in the last run; empty if nothing.
  Numbers assigned(const std::string& leaf) const;

 private:
  using Bytes = std::vector<unsigned char>;
  void fill_leaves();
  void run_node(const Node& node);

  const Graph& graph_;
  std::map<std::string, Numbers> given_;
  std::map<ValueId, Bytes> buffers_;
  std::map<ValueId, Bytes> assigned_;
};

// Draws in [-1, 1): the same for the same seed.
Numbers random_numbers(int64_t count, uint64_t seed);

// Sets every parameter (small draws; norm weights around 1), tokens, targets (some of them -1) and segments that the
// graph has; `vocabulary` bounds the tokens.
void set_random_leaves(Interpreter& interpreter, const Graph& graph, int64_t vocabulary, uint64_t seed);

// The largest difference of two runs' numbers, divided by the largest magnitude of `expected` (or 1 if that is
// smaller).
double difference(const Numbers& expected, const Numbers& got);

} // namespace kumiki::test
