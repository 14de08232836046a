#include "gradients.h"

#include <map>

namespace kumiki::parallel {
namespace {

uint64_t bytes_of(const GraphView& graph, km_value id) {
  const km_value_info info = graph.value(id);
  return km_bytes(&info.tensor);
}

} // namespace

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

void reduce_gradients(GraphView& graph, uint64_t bucket_bytes, const km_axis& axis) {
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
    for (const std::vector<Waiting>& bucket : buckets_of(graph, all, bucket_bytes)) {
      graph.at_phase(KM_PHASE_TAIL, -1, stage);
      const std::vector<km_value> sums = graph.add(
          "all_reduce", values_of(bucket), {km_string("axes", axis.name), km_string("reduce", "sum")}, bucket.size());
      for (size_t i = 0; i < bucket.size(); ++i) graph.set_gradient(bucket[i].parameter, sums[i]);
    }
}

} // namespace kumiki::parallel
