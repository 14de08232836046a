#include <map>

#include "data.h"
#include "plugins/parallel/gradients.h"

namespace kumiki::parallel {
namespace {

// The reduce-scatters of this axis in the tail, in order.
std::vector<NodeView> tail_scatters(const GraphView& graph, const km_axis& axis) {
  std::vector<NodeView> found;
  for (NodeView& node : graph.nodes())
    if (node.op == "flat_scatter" && node.phase == KM_PHASE_TAIL && graph.text(node.id, "axes") == axis.name)
      found.push_back(std::move(node));
  return found;
}

} // namespace

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
