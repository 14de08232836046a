// tensor: weights are divided by role over the axis, heads of attention and rows of the vocabulary with them.
#include "tensor.h"

#include <algorithm>
#include <map>

namespace kumiki::parallel {
namespace {

struct Tensor {
  TensorOptions options;
  uint32_t shared = 1; // ranks that share a key head: found forward, needed behind autodiff, where shapes are local
};

km_status open(const km_host* host, const km_options* options, void** self) {
  return guarded(host, "tensor", [&] { *self = new Tensor{{host, km_option_i64(options, "sequence") != 0}}; });
}

void close(void* self) { delete static_cast<Tensor*>(self); }

km_status rewrite_forward(void* self, km_graph* graph, const km_axis* axis) {
  auto& tensor = *static_cast<Tensor*>(self);
  const TensorOptions& options = tensor.options;
  return guarded(options.host, "tensor", [&] {
    GraphView view(options.host, graph);
    const bool sequence = options.sequence && view.training(); // one token cannot be divided
    tensor.shared = check_limits(view, *axis, sequence);
    divide_layers(view, *axis, sequence, place_key_heads(view, *axis, tensor.shared));
  });
}

// Sums of gradients that are partial along `axis`, whose name is `axes`, once a step.
void sum_gradients(GraphView& view, uint32_t axis, const std::string& axes, const std::vector<km_value>& parameters) {
  std::map<int32_t, std::vector<km_value>> by_stage;
  for (const km_value parameter : parameters)
    if (view.placement(view.gradient(parameter), axis) == KM_PARTIAL)
      by_stage[view.value(parameter).stage].push_back(parameter);
  for (const auto& [stage, all] : by_stage)
    for (size_t first = 0; first < all.size(); first += KM_MAX_OUTPUTS) {
      const size_t end = std::min<size_t>(all.size(), first + KM_MAX_OUTPUTS);
      std::vector<km_value> gradients;
      for (size_t i = first; i < end; ++i) gradients.push_back(view.gradient(all[i]));
      view.at_phase(KM_PHASE_TAIL, -1, stage);
      const std::vector<km_value> sums = view.add(
          "all_reduce", gradients, {km_string("axes", axes.c_str()), km_string("reduce", "sum")}, gradients.size());
      for (size_t i = first; i < end; ++i) view.set_gradient(all[i], sums[i - first]);
    }
}

// Weights that several ranks have, but that saw only a part: of the tokens, all weights of a divided residual stream
// (norms and biases); of the query heads, the weights of key heads that ranks share.
km_status rewrite_training(void* self, km_graph* graph, const km_axis* axis) {
  const auto& tensor = *static_cast<const Tensor*>(self);
  return guarded(tensor.options.host, "tensor", [&] {
    GraphView view(tensor.options.host, graph);
    const KeyHeads key_heads = place_key_heads(view, *axis, tensor.shared);
    if (key_heads.block == axis->index) return sum_gradients(view, axis->index, axis->name, view.parameters());
    std::vector<km_value> keys, others;
    for (const km_value parameter : view.parameters())
      (view.role(parameter) == KM_ROLE_COLUMN_KV ? keys : others).push_back(parameter);
    sum_gradients(view, axis->index, axis->name, others);
    sum_gradients(view, key_heads.block, axis->name + ("%" + std::to_string(tensor.shared)), keys);
  });
}

const km_option kOptions[] = {
    degree_option("how many ranks share each layer; it divides the heads, and the key heads or is a multiple of them; "
                  "0 = what remains of the ranks"),
    {"sequence", KM_OPTION_BOOL, 0, "false", 0, 0, nullptr,
     "divide the residual stream along the tokens too: less memory, a quarter more traffic"},
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
