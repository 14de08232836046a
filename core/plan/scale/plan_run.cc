#include "core/plan/scale/plan_run.h"

#include <algorithm>

#include "core/base/error.h"
#include "core/plan/scale/kernels.h"

namespace kumiki {
namespace {

km_model_shape training_shape(const Config& config) {
  km_model_shape shape{};
  shape.struct_size = sizeof shape;
  shape.mode = KM_MODE_TRAIN;
  shape.batch = config.run().micro_batch;
  shape.tokens = shape.sequence = config.run().sequence;
  shape.vocabulary = config.model().options.get_i64("vocabulary", 0);
  return shape;
}

// The first rank of each coordinate of the pipeline.
std::vector<int64_t> first_ranks(const Strategies& strategies) {
  if (strategies.pipeline_axis() < 0) return {0};
  int64_t stride = 1;
  for (int32_t i = 0; i < strategies.pipeline_axis(); ++i) stride *= strategies.axes()[static_cast<size_t>(i)].degree;
  std::vector<int64_t> ranks;
  for (int64_t c = 0; c < strategies.pipeline_degree(); ++c) ranks.push_back(c * stride);
  return ranks;
}

int32_t micro_batches_of(const Config& config, const Strategies& strategies) {
  const GlobalBatch& batch = config.run().global_batch;
  const int64_t sequences = std::max(batch.start, batch.end);
  const int64_t at_once = config.run().micro_batch * strategies.batch_degree();
  if (sequences % at_once != 0)
    throw config.table("run").error("global_batch",
                                    std::to_string(sequences) + " sequences are no multiple of micro_batch x " +
                                        std::to_string(strategies.batch_degree()) +
                                        " ranks that read data = " + std::to_string(at_once),
                                    "make it a multiple, or divide the ranks in another way");
  return static_cast<int32_t>(sequences / at_once);
}

// What a graph is made with: a host, the kernels that stand for a machine's, the opened model.
struct Parts {
  Parts(Registry& registry, const Config& config, uint64_t workspace) : kernels(workspace) {
    host.set_service(KM_GRAPH_SERVICE, graph_service());
    std::vector<std::pair<const Component*, OptionValues>> members;
    members.emplace_back(&kernels.component(), OptionValues(kernels.component(), Table("kernels.machine")));
    chain = std::make_unique<KernelChain>(host, members);
    const ComponentUse use = config.model();
    const Component& component = registry.find("model", use.name);
    model = std::make_unique<Model>(host, component, OptionValues(component, use.options));
  }
  Host host;
  const MachineKernels kernels;
  std::unique_ptr<KernelChain> chain;
  std::unique_ptr<Model> model;
};

int64_t parameters_of(const Graph& graph) {
  int64_t sum = 0;
  for (const ValueId p : graph.parameters()) sum += graph.value(p).type.elements();
  return sum;
}

} // namespace

ModelShape model_shape(Registry& registry, const Config& config) {
  const Parts parts(registry, config, 0);
  const std::unique_ptr<Graph> graph = parts.model->build(training_shape(config), *parts.chain);
  ModelShape shape;
  shape.sequence = config.run().sequence;
  shape.sequences = std::max(config.run().global_batch.start, config.run().global_batch.end);
  shape.bf16 = config.run().compute == "bf16";
  shape.parameters = static_cast<double>(parameters_of(*graph));
  shape.flops = training_flops(*graph).full / static_cast<double>(config.run().micro_batch);
  for (const NodeId id : graph->order()) {
    const Node& node = graph->node(id);
    shape.layers = std::max<int64_t>(shape.layers, node.layer + 1);
    if (node.op == "embedding") {
      shape.vocabulary = graph->value(node.inputs[1]).type.shape[0];
      shape.width = graph->value(node.inputs[1]).type.shape[1];
    }
    if (node.op == "attention") {
      const int64_t head_width = node.i64("head_width", 1);
      shape.heads = graph->value(node.inputs[0]).type.shape.back() / head_width;
      shape.key_heads = graph->value(node.inputs[1]).type.shape.back() / head_width;
    }
  }
  return shape;
}

Prediction plan_run(Registry& registry, const Config& config, const Machine& machine, int64_t ranks, bool spans) {
  Parts parts(registry, config, machine.workspace);
  KernelChain& chain = *parts.chain;
  std::vector<std::unique_ptr<Strategies>> strategies;
  strategies.push_back(std::make_unique<Strategies>(parts.host, registry, config, 0, ranks));
  for (const int64_t rank : first_ranks(*strategies[0]))
    if (rank > 0) strategies.push_back(std::make_unique<Strategies>(parts.host, registry, config, rank, ranks));
  const Strategies& first = *strategies[0];
  const int32_t micro_batches = micro_batches_of(config, first);
  const ComponentUse use = config.optimizer_component();
  const Component& component = registry.find("optimizer", use.name);
  const Optimizer optimizer(parts.host, component, OptionValues(component, use.options));

  RunFacts run;
  run.config = config.path();
  run.layout = first.text().empty() ? "one rank" : first.text();
  run.ranks = ranks;
  run.micro_batches = micro_batches;
  run.micro_batch = config.run().micro_batch;
  run.batch_degree = first.batch_degree();
  run.sequence = config.run().sequence;
  run.bf16 = config.run().compute == "bf16";

  // The coordinates of a pipeline have one graph; each plan takes its own stages out of it.
  const std::unique_ptr<Graph> graph = parts.model->build(training_shape(config), chain);
  run.flops = training_flops(*graph);
  run.parameters = parameters_of(*graph);
  first.rewrite_forward(*graph);
  make_training_graph(*graph, optimizer, chain, first, {run.bf16, true, config.optimizer().clip});
  check_schedules(first, graph->stages(), micro_batches, true);

  PlanOptions options;
  options.micro_batches = micro_batches;
  options.prepack = false; // packed copies are the kernels' own affair, and nobody asks them here
  std::vector<RankPlan> plans;
  for (const auto& s : strategies) {
    RankPlan plan;
    plan.plan = make_plan(*graph, chain, options, s.get());
    plan.schedule = make_schedule(plan.plan, micro_batches, s.get());
    plan.strategies = s.get();
    plans.push_back(std::move(plan));
  }
  return predict(machine, *graph, plans, run, spans);
}

} // namespace kumiki
