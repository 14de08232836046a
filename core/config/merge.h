// How several sources become one tree: files that extend others, and --set arguments. Later wins; tables are merged key
// by key. Elements of [[parallel]] and [[metrics]] are merged with the earlier one of the same `use`; a new strategy
// goes to its canonical place. [[data]] replaces the earlier list as a whole. Where `use` changes, the options of the
// former component are dropped. Floor: config (stands on base).
#pragma once

#include <string>
#include <vector>

#include "core/config/value.h"

namespace kumiki {

// Reads `path` and all that it extends. Throws Error: unreadable, not TOML, a cycle.
ConfigValue load_extended(const std::string& path);
// The same for a text, whose `extends` are relative to the current folder.
ConfigValue load_extended_text(const std::string& text, const std::string& name);

// Lays `over` onto `base`, both whole configurations.
void merge_config(ConfigValue& base, const ConfigValue& over);

// Lays --set arguments onto `base`, in their order, those of `use` first. "parallel.tensor.degree=2" and
// "metrics.jsonl.x=…" reach the element by its `use` and add it where it is not there, "data.0.path=…" the first
// [[data]].
void apply_sets(ConfigValue& base, const std::vector<std::string>& arguments);

} // namespace kumiki
