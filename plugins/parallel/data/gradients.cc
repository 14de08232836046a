#include <algorithm>
#include <map>

#include "data.h"

namespace kumiki::parallel {
namespace {

// A tensor that waits for its sum over the axis.
struct Waiting {
  km_value value = 0;
  km_value parameter = 0; // of reduce_gradients
  km_node node = 0;       // of merge_scatters: what makes it now
  bool late = false;      // made in the tail: it waits for a sum over other ranks first
};

uint64_t bytes_of(const GraphView& graph, km_value id) {
  const km_value_info info = graph.value(id);
  return km_bytes(&info.tensor);
}

// Cuts the tensors, in their order, into buckets of at most so many bytes, and of as many tensors as a node can have.
// What is made in the tail goes apart, so that it holds up nothing that backward is done with.
std::vector<std::vector<Waiting>> buckets_of(const GraphView& graph, const std::vector<Waiting>& all,
                                             uint64_t most_bytes) {
  std::vector<std::vector<Waiting>> buckets;
  uint64_t bytes = 0;
  for (const Waiting& one : all) {
    const uint64_t more = bytes_of(graph, one.value);
    if (buckets.empty() || bytes + more > most_bytes || buckets.back().size() == KM_MAX_OUTPUTS ||
        buckets.back().back().late != one.late) {
      buckets.emplace_back();
      bytes = 0;
    }
    buckets.back().push_back(one);
    bytes += more;
  }
  return buckets;
}

std::vector<km_value> values_of(const std::vector<Waiting>& bucket) {
  std::vector<km_value> values;
  for (const Waiting& one : bucket) values.push_back(one.value);
  return values;
}

// The reduce-scatters of this axis in the tail, in order.
std::vector<NodeView> tail_scatters(const GraphView& graph, const km_axis& axis) {
  std::vector<NodeView> found;
  for (NodeView& node : graph.nodes())
    if (node.op == "flat_scatter" && node.phase == KM_PHASE_TAIL && graph.text(node.id, "axes") == axis.name)
      found.push_back(std::move(node));
  return found;
}

} // namespace

void reduce_gradients(GraphView& graph, const DataOptions& options, const km_axis& axis) {
  std::map<km_value, std::vector<km_value>> owners; // by gradient: the parameters that it belongs to
  for (const km_value parameter : graph.parameters()) {
    const km_value gradient = graph.gradient(parameter);
    if (graph.placement(gradient, axis.index) == KM_PARTIAL) owners[gradient].push_back(parameter);
  }
  std::map<int32_t, std::vector<Waiting>> by_stage;
  for (const NodeView& node : graph.nodes())
    for (const km_value output : node.outputs)
      if (const auto found = owners.find(output); found != owners.end())
        for (const km_value parameter : found->second)
          by_stage[graph.value(parameter).stage].push_back({output, parameter, 0, node.phase == KM_PHASE_TAIL});
  for (const auto& [stage, all] : by_stage)
    for (const std::vector<Waiting>& bucket : buckets_of(graph, all, static_cast<uint64_t>(options.bucket))) {
      graph.at_phase(KM_PHASE_TAIL, -1, stage);
      const std::vector<km_value> sums = graph.add(
          "all_reduce", values_of(bucket), {km_string("axes", axis.name), km_string("reduce", "sum")}, bucket.size());
      for (size_t i = 0; i < bucket.size(); ++i) graph.set_gradient(bucket[i].parameter, sums[i]);
    }
}

void merge_scatters(GraphView& graph, const DataOptions& options, const km_axis& axis) {
  std::map<int32_t, std::vector<Waiting>> by_stage;
  for (const NodeView& node : tail_scatters(graph, axis))
    for (const km_value input : node.inputs) by_stage[node.stage].push_back({input, 0, node.id, false});
  for (const auto& [stage, all] : by_stage)
    for (const std::vector<Waiting>& bucket : buckets_of(graph, all, static_cast<uint64_t>(options.bucket))) {
      if (bucket.size() == 1) continue;
      graph.before(bucket.front().node); // what they read is made in the body
      const std::vector<km_value> sums =
          graph.add("flat_scatter", values_of(bucket), {km_string("axes", axis.name)}, bucket.size());
      for (size_t i = 0; i < bucket.size(); ++i) {
        graph.replace(graph.node(bucket[i].node).outputs[0], sums[i]);
        graph.erase(bucket[i].node);
      }
    }
}

void scatter_each_micro_batch(GraphView& graph, const km_axis& axis) {
  std::multimap<km_value, km_value> owners; // by gradient
  for (const km_value parameter : graph.parameters()) owners.emplace(graph.gradient(parameter), parameter);
  for (const NodeView& scatter : tail_scatters(graph, axis)) {
    const km_value sum = scatter.inputs[0];
    const NodeView accumulate = graph.node(graph.value(sum).producer);
    graph.before(accumulate.id);
    const km_value part = graph.add1("flat_scatter", {accumulate.inputs[0]}, {km_string("axes", axis.name)});
    graph.replace_input(accumulate.id, 0, part);
    graph.redirect(scatter.outputs[0], sum, 0);
    for (auto [at, end] = owners.equal_range(scatter.outputs[0]); at != end; ++at) graph.set_gradient(at->second, sum);
    graph.erase(scatter.id);
  }
}

} // namespace kumiki::parallel
