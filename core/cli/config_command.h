// `kumiki config check|show|reference`. Floor: cli.
#pragma once

#include <CLI/CLI.hpp>

namespace kumiki {

void add_config_command(CLI::App& app);

} // namespace kumiki
