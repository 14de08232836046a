// The graph as a strategy sees it: the functions of the service kumiki.graph/1 in C++ form. Reads give copies, so that
// they stay true while the graph changes. A call that the service refuses throws Failure; the service keeps the words
// of its own error, which the core shows. In: km_graph* of one call of the strategy, on whose thread all runs.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "components.h"
#include "kumiki/graph.h"

namespace kumiki::parallel {

struct NodeView {
  km_node id = 0;
  std::string op;
  std::vector<km_value> inputs, outputs;
  uint32_t phase = 0; // KM_PHASE_*
  uint32_t part = 0;  // KM_PART_*
  int32_t layer = -1;
  int32_t stage = 0;
};

class GraphView {
 public:
  GraphView(const km_host* host, km_graph* graph);

  // -- read --
  bool training() const { return service_.mode(graph_) == KM_MODE_TRAIN; }
  std::vector<NodeView> nodes() const; // in order, as they are now
  NodeView node(km_node id) const;
  km_value_info value(km_value id) const;
  std::string name(km_value id) const { return value(id).name; }
  std::vector<km_node> users(km_value id) const;
  std::vector<km_value> parameters() const;
  uint32_t role(km_value id) const { return value(id).role; } // 0 unless it is a parameter
  int64_t i64(km_node id, const char* attribute, int64_t otherwise = 0) const;
  bool f64(km_node id, const char* attribute, double* number) const; // false: it has none
  std::string text(km_node id, const char* attribute) const;
  km_value gradient(km_value parameter) const { return service_.gradient(graph_, parameter); }
  km_value tied_to(km_value parameter) const { return service_.tied_to(graph_, parameter); }
  uint32_t placement(km_value id, uint32_t axis) const; // KM_REPLICATED …
  void cost(km_node id, double* flops, double* bytes) const;

  // -- cursor --
  void before(km_node id) { ask(service_.before(graph_, id)); }
  void after(km_node id) { ask(service_.after(graph_, id)); }
  void at_phase(uint32_t phase, int32_t layer, int32_t stage) { ask(service_.at_phase(graph_, phase, layer, stage)); }

  // -- write --
  // All outputs of a new node at the cursor, `count` of them.
  std::vector<km_value> add(const char* op, const std::vector<km_value>& inputs,
                            const std::vector<km_attribute>& attributes, size_t count);
  // The only output of a new node at the cursor.
  km_value add1(const char* op, const std::vector<km_value>& inputs, const std::vector<km_attribute>& attributes) {
    return add(op, inputs, attributes, 1)[0];
  }
  void replace_input(km_node id, uint32_t input, km_value now) { ask(service_.replace_input(graph_, id, input, now)); }
  // All nodes that read `old`, but `except`, read `now`. Their types may differ until the end of the rewrite.
  void redirect(km_value old, km_value now, km_node except);
  // As redirect, for values of one type: outputs of the graph and gradients move along.
  void replace(km_value old, km_value now, km_node except = 0) { ask(service_.replace_uses(graph_, old, now, except)); }
  void set_attribute(km_node id, const km_attribute& attribute) { ask(service_.set_attribute(graph_, id, &attribute)); }
  void set_output(const char* name, km_value id) { ask(service_.set_output(graph_, name, id)); }
  void erase(km_node id) { ask(service_.erase(graph_, id)); }
  void shard(km_value leaf, uint32_t axis, int32_t dim) { ask(service_.shard(graph_, leaf, axis, dim)); }
  // An axis split into blocks of `inner` neighbours: the numbers of the axis of blocks, and of that of a block's ranks.
  std::pair<uint32_t, uint32_t> split_axis(uint32_t axis, uint32_t inner);
  void set_gradient(km_value parameter, km_value id) { ask(service_.set_gradient(graph_, parameter, id)); }
  void set_stages(int32_t stages) { ask(service_.set_stages(graph_, stages)); }
  void set_node_stage(km_node id, int32_t stage) { ask(service_.set_node_stage(graph_, id, stage)); }
  void set_value_stage(km_value leaf, int32_t stage) { ask(service_.set_value_stage(graph_, leaf, stage)); }
  km_value add_tied_copy(km_value parameter, int32_t stage);
  void mark_again(km_node id) { ask(service_.mark_again(graph_, id)); }

 private:
  static void ask(km_status status);

  km_graph* graph_;
  const km_graph_service& service_;
};

// Where part `index` of `degree` nearly equal, contiguous parts of n things begins: as the core divides leaves.
inline int64_t part_begin(int64_t n, int64_t degree, int64_t index) {
  const int64_t rest = n % degree;
  return n / degree * index + (index < rest ? index : rest);
}

// "1, 2, 4": the degrees up to `most` that `fits` takes.
template <typename Fits>
std::string degrees_that(int64_t most, Fits fits) {
  std::string text;
  for (int64_t degree = 1; degree <= most; ++degree)
    if (fits(degree)) text += (text.empty() ? "" : ", ") + std::to_string(degree);
  return text;
}

} // namespace kumiki::parallel
