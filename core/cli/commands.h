// The commands that compute: train, plan, generate, eval. Each adds itself to the command line; what it does runs inside
// CLI::App::parse and throws Error. Floor: cli.
#pragma once

#include <CLI/CLI.hpp>

namespace kumiki {

void add_train_command(CLI::App& app, int* exit_code);
void add_plan_command(CLI::App& app);
void add_generate_command(CLI::App& app);
void add_eval_command(CLI::App& app);

} // namespace kumiki
