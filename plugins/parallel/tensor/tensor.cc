// tensor: weights are divided by role over the axis, heads of attention and rows of the vocabulary with them.
#include "tensor.h"

#include <algorithm>
#include <map>

namespace kumiki::parallel {
namespace {

km_status open(const km_host* host, const km_options* options, void** self) {
  return guarded(host, "tensor", [&] { *self = new TensorOptions{host, km_option_i64(options, "sequence") != 0}; });
}

void close(void* self) { delete static_cast<TensorOptions*>(self); }

km_status rewrite_forward(void* self, km_graph* graph, const km_axis* axis) {
  const auto& options = *static_cast<const TensorOptions*>(self);
  return guarded(options.host, "tensor", [&] {
    GraphView view(options.host, graph);
    const bool sequence = options.sequence && view.training(); // one token cannot be divided
    check_limits(view, *axis, sequence);
    divide_layers(view, *axis, sequence);
  });
}

// Weights that all ranks have, but that saw only a part of the tokens (norms and biases of a divided residual stream):
// their gradients are summed once a step.
km_status rewrite_training(void* self, km_graph* graph, const km_axis* axis) {
  const auto& options = *static_cast<const TensorOptions*>(self);
  return guarded(options.host, "tensor", [&] {
    GraphView view(options.host, graph);
    std::map<int32_t, std::vector<km_value>> by_stage;
    for (const km_value parameter : view.parameters())
      if (view.placement(view.gradient(parameter), axis->index) == KM_PARTIAL)
        by_stage[view.value(parameter).stage].push_back(parameter);
    for (const auto& [stage, all] : by_stage)
      for (size_t first = 0; first < all.size(); first += KM_MAX_OUTPUTS) {
        const size_t end = std::min<size_t>(all.size(), first + KM_MAX_OUTPUTS);
        std::vector<km_value> gradients;
        for (size_t i = first; i < end; ++i) gradients.push_back(view.gradient(all[i]));
        view.at_phase(KM_PHASE_TAIL, -1, stage);
        const std::vector<km_value> sums = view.add(
            "all_reduce", gradients, {km_string("axes", axis->name), km_string("reduce", "sum")}, gradients.size());
        for (size_t i = first; i < end; ++i) view.set_gradient(all[i], sums[i - first]);
      }
  });
}

const km_option kOptions[] = {
    degree_option("how many ranks share each layer; heads must divide by it; 0 = what remains of the ranks"),
    {"sequence", KM_OPTION_BOOL, 0, "false", 0, 0, nullptr,
     "divide the residual stream along the tokens too: less memory, the same traffic"},
};
const km_parallel_strategy kTensor = {
    sizeof(km_parallel_strategy), KM_LEVEL_TENSOR, 0, 0, open, close, rewrite_forward, rewrite_training, nullptr};

} // namespace

km_component tensor_component() {
  return {"parallel",
          "tensor",
          KM_PARALLEL_VERSION,
          sizeof kOptions / sizeof *kOptions,
          &kTensor,
          kOptions,
          "layers divided over ranks: heads, columns and rows of weights, the vocabulary"};
}

} // namespace kumiki::parallel
