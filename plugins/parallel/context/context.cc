// context: the tokens of each sequence are divided over the axis, and attention goes round a ring (Liu et al. 2023): each
// rank keeps its queries, and sees the keys and values of all ranks one after another.
#include "context.h"

#include "plugins/parallel/gradients.h"

namespace kumiki::parallel {
namespace {

km_status open(const km_host* host, const km_options* options, void** self) {
  return guarded(host, "context", [&] {
    *self = new ContextOptions{host, km_option_i64(options, "bucket"), km_option_i64(options, "again") != 0};
  });
}

void close(void* self) { delete static_cast<ContextOptions*>(self); }

km_status rewrite_forward(void* self, km_graph* graph, const km_axis* axis) {
  const auto& options = *static_cast<const ContextOptions*>(self);
  return guarded(options.host, "context", [&] {
    GraphView view(options.host, graph);
    if (!view.training()) return; // one token cannot be divided: all ranks generate the same
    const std::set<km_value> inputs = place_tokens(view, *axis);
    divide_attention(view, *axis, options.again);
    for (const km_value input : inputs) view.shard(input, axis->index, 1);
  });
}

km_status rewrite_training(void* self, km_graph* graph, const km_axis* axis) {
  const auto& options = *static_cast<const ContextOptions*>(self);
  return guarded(options.host, "context", [&] {
    GraphView view(options.host, graph);
    reduce_gradients(view, static_cast<uint64_t>(options.bucket), *axis); // all saw a part of the tokens only
    start_shifts_early(view, *axis);
  });
}

const km_option kOptions[] = {
    degree_option(
        "how many ranks share each sequence; twice the degree must divide its tokens; 0 = what remains of the "
        "ranks"),
    {"again", KM_OPTION_BOOL, 0, "false", 0, 0, nullptr,
     "backward fetches the keys and values of the other ranks once more: less memory, more traffic"},
    kBucketOption,
};
const km_parallel_strategy kContext = {sizeof(km_parallel_strategy),
                                       KM_LEVEL_CONTEXT,
                                       KM_PARALLEL_TOKENS,
                                       0,
                                       open,
                                       close,
                                       rewrite_forward,
                                       rewrite_training,
                                       nullptr};

} // namespace

km_component context_component() {
  return {"parallel",
          "context",
          KM_PARALLEL_VERSION,
          sizeof kOptions / sizeof *kOptions,
          &kContext,
          kOptions,
          "the tokens of each sequence divided over ranks, attention around a ring"};
}

} // namespace kumiki::parallel
