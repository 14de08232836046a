// data: each coordinate of the axis reads samples of its own; gradients are summed over it. zero = 0 sums whole
// gradients; 1 to 3 divide each parameter, its gradient and its optimizer states by elements over the axis (ZeRO,
// Rajbhandari et al. 2020) and gather the parameter where it is read: 1 and 2 once a step, 3 again before each use.
#include "data.h"

#include "plugins/parallel/gradients.h"

namespace kumiki::parallel {
namespace {

std::vector<int64_t> shape_of(const km_value_info& value) {
  return {value.tensor.dims, value.tensor.dims + value.tensor.rank};
}

// Divides one parameter by elements, and gathers it.
void divide(GraphView& graph, km_value parameter, const DataOptions& options, const km_axis& axis) {
  const km_value_info info = graph.value(parameter);
  const std::vector<int64_t> shape = shape_of(info);
  km_attribute whole = {"shape", KM_ATTRIBUTE_I64_LIST, static_cast<uint32_t>(shape.size()), {0}};
  whole.value.i64_list = shape.data();
  std::vector<km_attribute> attributes = {km_string("axes", axis.name), whole};
  const std::vector<km_node> readers = graph.users(parameter);
  graph.shard(parameter, axis.index, -1);
  if (options.zero < 3) {
    graph.at_phase(KM_PHASE_HEAD, info.layer, info.stage);
    const km_value gathered = graph.add1("flat_gather", {parameter}, attributes);
    graph.redirect(parameter, gathered, graph.value(gathered).producer);
    return;
  }
  if (options.prefetch > 0) attributes.push_back(km_i64("ahead", options.prefetch));
  for (const km_node reader : readers) {
    graph.before(reader);
    const km_value gathered = graph.add1("flat_gather", {parameter}, attributes);
    graph.mark_again(graph.value(gathered).producer); // backward gathers once more, in place of keeping it
    const std::vector<km_value> inputs = graph.node(reader).inputs;
    for (uint32_t i = 0; i < inputs.size(); ++i)
      if (inputs[i] == parameter) graph.replace_input(reader, i, gathered);
  }
}

km_status open(const km_host* host, const km_options* options, void** self) {
  return guarded(host, "data", [&] {
    *self = new DataOptions{host, km_option_i64(options, "zero"), km_option_i64(options, "bucket"),
                            km_option_i64(options, "prefetch")};
  });
}

void close(void* self) { delete static_cast<DataOptions*>(self); }

km_status rewrite_forward(void* self, km_graph* graph, const km_axis* axis) {
  const auto& options = *static_cast<const DataOptions*>(self);
  return guarded(options.host, "data", [&] {
    GraphView view(options.host, graph);
    if (options.zero == 0) return;
    for (const km_value parameter : view.parameters()) {
      const km_value_info info = view.value(parameter);
      if (km_elements(&info.tensor) >= axis->degree) divide(view, parameter, options, *axis);
    }
  });
}

km_status rewrite_training(void* self, km_graph* graph, const km_axis* axis) {
  const auto& options = *static_cast<const DataOptions*>(self);
  return guarded(options.host, "data", [&] {
    GraphView view(options.host, graph);
    reduce_gradients(view, static_cast<uint64_t>(options.bucket), *axis); // first: it asks for placements
    if (options.zero == 1) merge_scatters(view, options, *axis);
    if (options.zero == 2) scatter_each_micro_batch(view, *axis);
  });
}

const km_option kOptions[] = {
    degree_option("how many copies of the model share the batch; 0 = what remains of the ranks"),
    {"zero", KM_OPTION_I64, 0, "0", 0, 3, nullptr,
     "what is divided over the axis: 0 nothing; 1 parameters and optimizer states; 2 sums of gradients too; 3 also "
     "between uses"},
    kBucketOption,
    {"prefetch", KM_OPTION_I64, 0, "1", 0, 1024, nullptr,
     "with zero = 3: how many layers ahead the gather of a parameter begins; 0 = right before the step that reads it"},
};
const km_parallel_strategy kData = {sizeof(km_parallel_strategy),
                                    KM_LEVEL_DATA,
                                    KM_PARALLEL_BATCH,
                                    0,
                                    open,
                                    close,
                                    rewrite_forward,
                                    rewrite_training,
                                    nullptr};

} // namespace

km_component data_component() {
  return {"parallel",
          "data",
          KM_PARALLEL_VERSION,
          sizeof kOptions / sizeof *kOptions,
          &kData,
          kOptions,
          "copies of the model that share the batch; ZeRO 0 to 3"};
}

} // namespace kumiki::parallel
