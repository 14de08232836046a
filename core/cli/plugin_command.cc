#include "core/cli/plugin_command.h"

#include <cstdio>
#include <memory>
#include <string>

#include "core/base/suggest.h"
#include "core/plugin/reference.h"
#include "core/plugin/registry.h"

namespace kumiki {
namespace {

void list_plugins() {
  Registry registry;
  registry.load_all();
  for (const Component* component : registry.components()) {
    std::printf("%-10s %-14s %-10s %s\n", component->kind.c_str(), component->name.c_str(),
                component->plugin->version.c_str(), component->summary.c_str());
  }
  if (registry.components().empty()) {
    std::printf("no plugin found in:\n");
    for (const std::string& folder : registry.folders()) std::printf("  %s\n", folder.c_str());
  }
  for (const std::string& refusal : registry.refusals()) std::printf("%s\n", refusal.c_str());
}

void print_component(const Component& component) {
  const PluginInfo& plugin = *component.plugin;
  std::printf("%s: %s\n", component.title().c_str(), component.summary.c_str());
  std::printf("  plugin %s %s by %s, licence %s, ABI 0.%u, interface version %u\n  %s\n", plugin.name.c_str(),
              plugin.version.c_str(), plugin.vendor.c_str(), plugin.licence.c_str(), plugin.abi_minor,
              component.interface_version, plugin.file.c_str());
  std::fputs(component.options.empty() ? "  no options\n" : "options:\n", stdout);
  std::fputs(options_as_text(component.options).c_str(), stdout);
}

// NAME is a component's name or a plugin's; "kind.name" picks among equal names.
void show_plugin(const std::string& name, const std::string& file) {
  Registry registry;
  if (!file.empty()) registry.add_file(file);
  registry.load_all();
  std::vector<std::string> known;
  size_t shown = 0;
  for (const Component* component : registry.components()) {
    known.push_back(component->name);
    if (component->name != name && component->plugin->name != name && component->kind + "." + component->name != name) {
      continue;
    }
    if (shown++) std::printf("\n");
    print_component(*component);
  }
  if (shown == 0) throw Error("", "there is no component or plugin \"" + name + "\"", suggestion(name, known));
}

} // namespace

void add_plugin_command(CLI::App& app) {
  CLI::App* command = app.add_subcommand("plugin", "list and describe plugins");
  command->require_subcommand(1);
  command->add_subcommand("list", "every component of every plugin that is found")->callback(list_plugins);

  struct Arguments {
    std::string name, file;
  };
  const auto arguments = std::make_shared<Arguments>();
  CLI::App* info = command->add_subcommand("info", "what a component does, and its options");
  info->add_option("name", arguments->name, "of a component (adamw, optimizer.adamw) or of a plugin")->required();
  info->add_option("--file", arguments->file, "also look into this plugin file");
  info->callback([arguments] { show_plugin(arguments->name, arguments->file); });
}

} // namespace kumiki
