// Reads TOML into ConfigValues; the only file that knows the TOML library. Floor: config (stands on base).
#pragma once

#include <memory>
#include <string>

#include "core/config/value.h"

namespace kumiki {

// The whole text of source as one table, each value with its origin. Throws Error at the first mistake of syntax, and
// at dates and times and zero characters, which nothing here can take. [any]
ConfigValue read_toml(const std::shared_ptr<const ConfigSource>& source);

// One argument of --set, "a.b=c": a table that holds the one path. What is no TOML value is a string as it stands.
ConfigValue read_set(const std::string& argument);

} // namespace kumiki
