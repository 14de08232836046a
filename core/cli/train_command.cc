#include <memory>
#include <string>
#include <vector>

#include "core/cli/commands.h"
#include "core/run/launch.h"
#include "core/run/trainer.h"

namespace kumiki {

void add_train_command(CLI::App& app, int* exit_code) {
  struct Arguments {
    std::string config;
    std::vector<std::string> sets;
    int64_t steps = 0;
    TrainOptions options;
  };
  auto arguments = std::make_shared<Arguments>();
  CLI::App* command = app.add_subcommand("train", "train the model that a configuration describes");
  command->add_option("config", arguments->config, "the configuration (TOML)")->required();
  command->add_option("--set", arguments->sets, "set a value: --set run.steps=100 (may be repeated)")
      ->allow_extra_args(false);
  command->add_option("--steps", arguments->steps, "the last step; short for --set run.steps=N")
      ->check(CLI::PositiveNumber);
  command->add_flag("--resume", arguments->options.resume, "go on from the newest checkpoint of runs/NAME");
  command->add_flag("--fresh", arguments->options.fresh, "start over: removes the checkpoints of runs/NAME");
  command->add_flag("--profile", arguments->options.profile, "time each op; prints a table at the end");
  command->add_flag("--trace", arguments->options.trace,
                    "keep the times of three steps of every rank: runs/NAME/trace.json, for Perfetto");
  command->callback([arguments, exit_code] {
    std::vector<std::string> sets = arguments->sets;
    if (arguments->steps > 0) sets.push_back("run.steps=" + std::to_string(arguments->steps));
    *exit_code =
        run_ranks(arguments->config, sets, [&](const Config& config, Registry& registry, Communicator* communicator) {
          return train(config, registry, arguments->options, communicator);
        });
  });
}

} // namespace kumiki
