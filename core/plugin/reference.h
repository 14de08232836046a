// The configuration reference, docs/configuration.md: made from the core's rows (core/config/schema.cc) and from what
// the components declare, so that it cannot differ from what the program checks. Floor: plugin (stands on config, base,
// abi).
#pragma once

#include <string>
#include <vector>

#include "core/plugin/registry.h"

namespace kumiki {

// Markdown. Loads every plugin of the registry's folders. [main]
std::string configuration_reference(Registry& registry);

// A table of options in markdown, and as lines for a terminal.
std::string options_as_markdown(const std::vector<km_option>& options);
std::string options_as_text(const std::vector<km_option>& options);

} // namespace kumiki
