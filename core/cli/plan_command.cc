#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "core/base/error.h"
#include "core/cli/commands.h"
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

} // namespace

void add_plan_command(CLI::App& app) {
  struct Arguments {
    std::string config, show = "memory";
    std::vector<std::string> sets;
    bool json = false, graphviz = false;
    int64_t ranks = 1, rank = 0;
  };
  auto a = std::make_shared<Arguments>();
  CLI::App* command = app.add_subcommand("plan", "what a run will do and need, without running it");
  command->add_option("config", a->config, "the configuration (TOML)")->required();
  command->add_option("--set", a->sets, "set a value: --set run.micro_batch=4 (may be repeated)")
      ->allow_extra_args(false);
  command
      ->add_option("--show", a->show,
                   "graph: as the model builds it; training: with gradients and update; plan: the steps; memory")
      ->capture_default_str()
      ->check(CLI::IsMember({"graph", "training", "plan", "memory"}));
  command->add_option("--ranks", a->ranks, "ranks of the run")->capture_default_str()->check(CLI::PositiveNumber);
  command->add_option("--rank", a->rank, "whose graph and plan to show")
      ->capture_default_str()
      ->check(CLI::NonNegativeNumber);
  command->add_flag("--json", a->json, "the figures as JSON");
  command->add_flag("--graphviz", a->graphviz, "graph and training as Graphviz");
  command->callback([a] {
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
    else
      std::printf("%s", memory_table(plan).c_str());
  });
}

} // namespace kumiki
