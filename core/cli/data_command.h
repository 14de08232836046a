// kumiki data tokenize|show: makes Megatron .bin/.idx files of text, and shows what a run would read. Floor: cli.
#pragma once

#include <CLI/CLI.hpp>

namespace kumiki {

void add_data_command(CLI::App& app);

} // namespace kumiki
