// recompute: marks forward nodes whose results backward computes again in place of keeping them (Chen et al. 2016). The
// core makes the clones, each right before its first reader in backward. "full" keeps only what enters each layer;
// "selective" drops what attention makes, which is large and cheap to make again (Korthikanti et al. 2022, section 5).
#include <string>

#include "plugins/parallel/graph_view.h"

namespace kumiki::parallel {
namespace {

struct Recompute {
  const km_host* host = nullptr;
  std::string mode;
  int64_t layers = 0; // how many from the first; 0: all
};

// A layer's output goes on to another layer (or stage): it is what is kept.
bool stays_inside(const GraphView& graph, const NodeView& node) {
  for (const km_value output : node.outputs)
    for (const km_node user : graph.users(output)) {
      const NodeView reader = graph.node(user);
      if (reader.layer != node.layer || reader.op == "transfer") return false;
    }
  return true;
}

// What attention makes, divided over ranks or not; the keys of other ranks are kept, or fetched again, as context says.
bool is_attention(const std::string& op) {
  return op == "attention" || op == "attention_part" || op == "attention_merge";
}

void mark(const Recompute& options, GraphView graph) {
  if (options.mode == "none" || !graph.training()) return;
  for (const NodeView& node : graph.nodes()) {
    if (node.phase != KM_PHASE_BODY || node.part != KM_PART_FORWARD || node.layer < 0 || node.op == "transfer")
      continue;
    if (options.layers > 0 && node.layer >= options.layers) continue;
    if (options.mode == "full" ? stays_inside(graph, node) : is_attention(node.op)) graph.mark_again(node.id);
  }
}

km_status open(const km_host* host, const km_options* options, void** self) {
  return guarded(host, "recompute", [&] {
    *self = new Recompute{host, km_option_string(options, "mode"), km_option_i64(options, "layers")};
  });
}

void close(void* self) { delete static_cast<Recompute*>(self); }

km_status rewrite_forward(void* self, km_graph* graph, const km_axis*) {
  const auto& options = *static_cast<const Recompute*>(self);
  return guarded(options.host, "recompute", [&] { mark(options, GraphView(options.host, graph)); });
}

const km_option kOptions[] = {
    {"mode", KM_OPTION_STRING, 0, "selective", 0, 0, "none|selective|full",
     "what backward computes again: nothing, attention, or all but what enters each layer"},
    {"layers", KM_OPTION_I64, 0, "0", 0, 1e6, nullptr, "for how many layers, from the first; 0 = all"},
};
const km_parallel_strategy kRecompute = {sizeof(km_parallel_strategy),
                                         KM_LEVEL_RECOMPUTE,
                                         KM_PARALLEL_ALONE,
                                         0,
                                         open,
                                         close,
                                         rewrite_forward,
                                         nullptr,
                                         nullptr};

} // namespace

km_component recompute_component() {
  return {"parallel",
          "recompute",
          KM_PARALLEL_VERSION,
          sizeof kOptions / sizeof *kOptions,
          &kRecompute,
          kOptions,
          "computes activations again in backward, in place of keeping them"};
}

} // namespace kumiki::parallel
