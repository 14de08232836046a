#include <algorithm>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "core/base/error.h"
#include "core/cli/commands.h"
#include "core/cli/plan_machine.h"
#include "core/run/engine.h"
#include "core/run/trainer.h"

namespace kumiki {
namespace {

nlohmann::json plan_json(const Plan& plan, const ModelFlops& flops, int64_t parameters) {
  nlohmann::json json;
  json["parameters"] = parameters;
  json["flops_per_micro_batch"] = flops.full;
  json["flops_per_micro_batch_causal"] = flops.causal;
  json["memory_bytes"]["total"] = plan.leaf_bytes() + plan.arena.bytes;
  for (const MemoryRow& row : plan.memory) json["memory_bytes"][row.what] = row.bytes;
  size_t body = 0;
  for (const Segment& segment : plan.body) body += segment.steps.size();
  json["steps"] = {{"head", plan.head.steps.size()}, {"body", body}, {"tail", plan.tail.steps.size()}};
  return json;
}

// A table for the first rank of each coordinate of the pipeline, out of one graph.
void print_memory_of_stages(Registry& registry, const Config& config, Engine& engine, const Graph& graph,
                            int64_t ranks) {
  const Strategies& first = engine.strategies();
  int64_t stride = 1;
  for (int32_t i = 0; i < first.pipeline_axis(); ++i) stride *= first.axes()[static_cast<size_t>(i)].degree;
  for (int64_t c = 0; c < first.pipeline_degree(); ++c) {
    const Strategies strategies(engine.host(), registry, config, c * stride, ranks);
    const Plan plan = make_plan(graph, engine.chain(), training_plan_options(config, strategies), &strategies);
    std::printf("coordinate %lld of the pipeline, rank %lld\n%s", static_cast<long long>(c),
                static_cast<long long>(c * stride), memory_table(plan).c_str());
  }
}

} // namespace

void add_plan_command(CLI::App& app) {
  struct Arguments {
    std::string config, show;
    std::vector<std::string> sets;
    bool json = false, graphviz = false;
    int64_t ranks = 0, rank = -1;
    PlanMachineArguments machine;
  };
  auto a = std::make_shared<Arguments>();
  CLI::App* command = app.add_subcommand("plan", "what a run will do and need, without running it");
  command->add_option("config", a->config, "the configuration (TOML)")->required();
  command->add_option("--set", a->sets, "set a value: --set run.micro_batch=4 (may be repeated)")
      ->allow_extra_args(false);
  command
      ->add_option("--show", a->show,
                   "graph: as the model builds it; training: with gradients and update; plan: the steps; memory; with "
                   "--machine: report, memory, timeline")
      ->check(CLI::IsMember({"graph", "training", "plan", "memory", "report", "timeline"}));
  command->add_option("--ranks", a->ranks, "ranks of the run (default 1)")->check(CLI::PositiveNumber);
  command->add_option("--rank", a->rank, "whose graph and plan to show (default 0; memory: one of each stage)")
      ->check(CLI::NonNegativeNumber);
  CLI::Option* machine = command->add_option("--machine", a->machine.machine,
                                             "predict a run on this machine: a name in configs/machines, or a file");
  command->add_option("--nodes", a->machine.nodes, "nodes of the machine, in place of --ranks")
      ->check(CLI::PositiveNumber)
      ->needs(machine);
  command->add_option("--ranks-per-node", a->machine.ranks_per_node, "other than the machine file says")
      ->check(CLI::PositiveNumber)
      ->needs(machine);
  command->add_option("--tokens", a->machine.tokens, "tokens of the whole run: how many days it takes")
      ->check(CLI::PositiveNumber)
      ->needs(machine);
  command->add_option("--trace", a->machine.trace, "write one step as a Chrome trace (Perfetto) to this file")
      ->needs(machine);
  command->add_flag("--suggest", a->machine.suggest, "search layouts of these ranks, print the best that fit")
      ->needs(machine);
  command->add_flag("--json", a->json, "the figures as JSON");
  command->add_flag("--graphviz", a->graphviz, "graph and training as Graphviz");
  command->callback([a] {
    if (!a->machine.machine.empty()) {
      PlanMachineArguments& m = a->machine;
      m.config = a->config, m.sets = a->sets, m.ranks = a->ranks, m.json = a->json, m.show = a->show;
      if (m.show == "graph" || m.show == "training" || m.show == "plan" || a->rank >= 0 || a->graphviz)
        throw Error("--machine", "predicts the run as a whole",
                    "leave out --rank and --graphviz, and show report, memory or timeline");
      return plan_on_machine(m);
    }
    if (a->show == "report" || a->show == "timeline")
      throw Error("--show", a->show + " is of a run on a machine", "name one with --machine");
    if (a->show.empty()) a->show = "memory";
    const bool one_of_each_stage = a->rank < 0 && a->show == "memory";
    a->ranks = std::max<int64_t>(a->ranks, 1);
    a->rank = std::max<int64_t>(a->rank, 0);
    const Config config = Config::load(a->config, a->sets);
    Registry registry(config);
    check_components(config, registry);
    if (a->rank >= a->ranks)
      throw Error("--rank", std::to_string(a->rank) + " is none of " + std::to_string(a->ranks) + " ranks");
    Engine::Options options;
    options.rank = a->rank;
    options.ranks = a->ranks;
    Engine engine(registry, config, options);
    std::unique_ptr<Graph> graph =
        engine.model().build(engine.shape(KM_MODE_TRAIN, config.run().micro_batch), engine.chain());
    const ModelFlops flops = training_flops(*graph);
    int64_t parameters = 0;
    for (ValueId p : graph->parameters()) parameters += graph->value(p).type.elements();
    const Strategies& strategies = engine.strategies();
    strategies.rewrite_forward(*graph);
    const auto print = [&] { std::printf("%s", (a->graphviz ? to_graphviz(*graph) : to_text(*graph)).c_str()); };
    if (a->show == "graph" && !a->json) return print();
    const auto optimizer = engine.open_optimizer();
    make_training_graph(*graph, *optimizer, engine.chain(), strategies, engine.training_options());
    if (a->show == "training" && !a->json) return print();
    const Plan plan = make_plan(*graph, engine.chain(), training_plan_options(config, strategies), &strategies);
    if (a->json)
      std::printf("%s\n", plan_json(plan, flops, parameters).dump(2).c_str());
    else if (a->show == "plan")
      std::printf("%s", step_table(plan, engine.chain()).c_str());
    else if (!one_of_each_stage || strategies.pipeline_degree() == 1)
      std::printf("%s", memory_table(plan).c_str());
    else
      print_memory_of_stages(registry, config, engine, *graph, a->ranks);
  });
}

} // namespace kumiki
