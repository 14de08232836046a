// `kumiki plugin list|info`. Floor: cli.
#pragma once

#include <CLI/CLI.hpp>

namespace kumiki {

void add_plugin_command(CLI::App& app);

} // namespace kumiki
