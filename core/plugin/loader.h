// Loads one plugin file: safety of the file, entry symbol, negotiation, and a copy of the description into structs of
// the host's own size. In: a path. Out: PluginFile. Floor: plugin (stands on config, base, abi).
#pragma once

#include <string>
#include <vector>

#include "core/plugin/registry.h"

namespace kumiki {

struct PluginFile {
  PluginInfo info;
  std::vector<Component> components; // their `plugin` is not set yet
};

// Throws Error, one line that names the file and what to do: writable by others, another content than `pinned_sha256`
// (empty: no pin), not loadable, no entry symbol, an ABI that this host does not speak, structs smaller than those of
// ABI 0.1. The file stays loaded if it is accepted. [main]
PluginFile load_plugin(const std::string& real_path, const std::string& pinned_sha256, const Host& host);

} // namespace kumiki
