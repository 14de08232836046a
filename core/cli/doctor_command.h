// `kumiki doctor`: what this machine has, and which kernels components open on it. Floor: cli.
#pragma once

#include <CLI/CLI.hpp>

namespace kumiki {

void add_doctor_command(CLI::App& app);

} // namespace kumiki
