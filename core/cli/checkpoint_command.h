// kumiki checkpoint inspect|verify|export|import: looks at checkpoints, and takes models from and to the form of
// Hugging Face's transformers. Floor: cli.
#pragma once

#include <CLI/CLI.hpp>

namespace kumiki {

void add_checkpoint_command(CLI::App& app);

} // namespace kumiki
