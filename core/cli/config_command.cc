#include "core/cli/config_command.h"

#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "core/config/config.h"
#include "core/plugin/options.h"
#include "core/plugin/reference.h"
#include "core/plugin/registry.h"

namespace kumiki {
namespace {

struct Arguments {
  std::string config;
  std::vector<std::string> sets;
  bool with_origin = false;
};

void add_arguments(CLI::App* command, Arguments& arguments) {
  command->add_option("config", arguments.config, "the configuration (TOML)")->required();
  command->add_option("--set", arguments.sets, "set a value: --set run.steps=100 (may be repeated)")
      ->allow_extra_args(false);
}

void check_config(const Arguments& arguments) {
  const Config config = Config::load(arguments.config, arguments.sets);
  Registry registry(config);
  check_components(config, registry);
  std::printf("%s is good: run %s, %lld steps\n", arguments.config.c_str(), config.run().name.c_str(),
              static_cast<long long>(config.run().steps));
}

void show_config(const Arguments& arguments) {
  const Config config = Config::load(arguments.config, arguments.sets);
  Registry registry(config);
  std::fputs(config.to_toml(registry.option_lookup(), arguments.with_origin).c_str(), stdout);
}

} // namespace

void add_config_command(CLI::App& app) {
  CLI::App* command = app.add_subcommand("config", "check and print configurations");
  command->require_subcommand(1);
  const auto arguments = std::make_shared<Arguments>();

  CLI::App* check =
      command->add_subcommand("check", "say what is wrong with a configuration, plugins' options included");
  add_arguments(check, *arguments);
  check->callback([arguments] { check_config(*arguments); });

  CLI::App* show = command->add_subcommand("show", "print the resolved configuration, defaults included");
  add_arguments(show, *arguments);
  show->add_flag("--origin", arguments->with_origin, "say of each value where it came from");
  show->callback([arguments] { show_config(*arguments); });

  CLI::App* reference =
      command->add_subcommand("reference", "print docs/configuration.md: all keys of core and plugins");
  reference->callback([] {
    Registry registry;
    std::fputs(configuration_reference(registry).c_str(), stdout);
  });
}

} // namespace kumiki
