// pipeline: the layers are cut into stages that follow each other on different ranks, and micro-batches flow through
// them.
#include "pipeline.h"

#include <map>
#include <memory>

namespace kumiki::parallel {
namespace {

km_status open(const km_host* host, const km_options* options, void** self) {
  return guarded(host, "pipeline", [&] {
    auto pipeline = std::make_unique<PipelineOptions>();
    pipeline->host = host;
    pipeline->schedule = km_option_string(options, "schedule");
    pipeline->chunks = km_option_i64(options, "chunks");
    const bool interleaved = pipeline->schedule == "interleaved";
    if (pipeline->chunks == 0) pipeline->chunks = interleaved ? 2 : 1;
    if (interleaved != (pipeline->chunks > 1))
      fail_user("schedule \"" + pipeline->schedule + "\" with chunks = " + std::to_string(pipeline->chunks) +
                ": \"interleaved\" takes 2 or more stages for each rank, the others 1");
    *self = pipeline.release();
  });
}

void close(void* self) { delete static_cast<PipelineOptions*>(self); }

km_status rewrite_forward(void* self, km_graph* graph, const km_axis* axis) {
  const auto& options = *static_cast<const PipelineOptions*>(self);
  return guarded(options.host, "pipeline", [&] {
    GraphView view(options.host, graph);
    cut_into_stages(view, axis->degree * options.chunks);
  });
}

// A parameter and its copies on other stages get the sum of their gradients.
km_status rewrite_training(void* self, km_graph* graph, const km_axis*) {
  const auto& options = *static_cast<const PipelineOptions*>(self);
  return guarded(options.host, "pipeline", [&] {
    GraphView view(options.host, graph);
    std::map<km_value, std::vector<km_value>> families; // by the original: it and its copies
    for (const km_value parameter : view.parameters())
      if (const km_value original = view.tied_to(parameter)) {
        std::vector<km_value>& family = families[original];
        if (family.empty()) family.push_back(original);
        family.push_back(parameter);
      }
    for (const auto& [original, family] : families) {
      std::vector<km_value> gradients;
      std::vector<int64_t> stages;
      for (const km_value member : family) {
        gradients.push_back(view.gradient(member));
        stages.push_back(view.value(member).stage);
      }
      km_attribute among = {"stages", KM_ATTRIBUTE_I64_LIST, static_cast<uint32_t>(stages.size()), {0}};
      among.value.i64_list = stages.data();
      view.at_phase(KM_PHASE_TAIL, -1, KM_EVERY_STAGE);
      const km_value sum = view.add1("add_stages", gradients, {among});
      for (const km_value member : family) view.set_gradient(member, sum);
    }
  });
}

km_status schedule(void* self, const km_schedule* schedule) {
  const auto& options = *static_cast<const PipelineOptions*>(self);
  return guarded(options.host, "pipeline", [&] { emit_schedule(options, *schedule); });
}

const km_option kOptions[] = {
    degree_option("how many ranks the layers are cut over; 0 = what remains of the ranks"),
    {"schedule", KM_OPTION_STRING, 0, "1f1b", 0, 0, "gpipe|1f1b|interleaved|zero_bubble",
     "the order in which a rank works on micro-batches"},
    {"chunks", KM_OPTION_I64, 0, "0", 0, 1e4, nullptr,
     "stages of each rank: 2 or more with interleaved; 0 = 2, else 1"},
};
const km_parallel_strategy kPipeline = {sizeof(km_parallel_strategy),
                                        KM_LEVEL_PIPELINE,
                                        KM_PARALLEL_STAGES,
                                        0,
                                        open,
                                        close,
                                        rewrite_forward,
                                        rewrite_training,
                                        schedule};

} // namespace

km_component pipeline_component() {
  return {"parallel",
          "pipeline",
          KM_PARALLEL_VERSION,
          sizeof kOptions / sizeof *kOptions,
          &kPipeline,
          kOptions,
          "layers cut into stages on different ranks; micro-batches flow through them"};
}

} // namespace kumiki::parallel
