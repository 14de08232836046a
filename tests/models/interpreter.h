// The plainest way to run a graph, for tests: every node in order with a kernels component, each value in memory of its
// own, states and parameters changed after the last node. No plan, no fusion, no threads.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "tests/models/component.h"

namespace kumiki::test {

class Interpreter {
 public:
  // Both outlive this. All values begin as zeros, but constants.
  Interpreter(const Graph& graph, const Component& kernels);

  // By id, or by the name of a leaf or step scalar; the type must be the value's. A name that the graph does not have is
  // ignored, since graphs read only the scalars that they need.
  void set(ValueId value, const std::vector<float>& elements);
  void set(const std::string& name, const std::vector<float>& elements);
  void set_i32(const std::string& name, const std::vector<int32_t>& elements);
  void set_i64(const std::string& name, int64_t element);
  std::vector<float> get(ValueId value) const;
  std::vector<float> get(const std::string& name) const;
  // Runs all nodes of the given phases (all by default), then what was assigned takes effect.
  void run();
  void run(Phase only);

 private:
  ValueId find(const std::string& name) const;
  void write(ValueId value, const void* bytes, size_t size);
  void run_node(const Node& node);
  void run_nodes(const Phase* only);

  const Graph& graph_;
  const Component& kernels_;
  std::map<ValueId, std::vector<unsigned char>> memory_;
};

// Fixed values for parameters that depend on name and element only, so that graphs of several modes agree: norms near one,
// the rest of size `size`.
void fill_parameters(const Graph& graph, Interpreter& interpreter, double size = 0.3);

} // namespace kumiki::test
