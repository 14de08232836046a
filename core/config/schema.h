// The keys of the configuration that belong to the core: one list of rows (schema.cc), from which files are checked,
// structs are filled and docs/configuration.md is made. Floor: config (stands on base, abi).
#pragma once

#include <string>
#include <vector>

#include "kumiki/base.h"

namespace kumiki {

// The type, in a row of core_keys, of a key that is a table itself: its rows stand under its own name.
inline constexpr uint32_t kOptionTable = 100;

// A maximum of a row that is none: whole numbers up to here are exact in f64.
inline constexpr double kNoLimit = 1e15;

// One key of the core. `table` is "run", "optimizer.schedule", …; of arrays of tables ("data") the keys stand in each
// element.
struct CoreKey {
  const char* table;
  km_option option;
};

// In the order in which they are printed.
const std::vector<CoreKey>& core_keys();
// The rows of one table.
std::vector<km_option> core_keys_of(const std::string& table);
// Null if the core has no such key.
const km_option* find_core_key(const std::string& table, const std::string& key);
// True where a component's table `table` ("model", "data", "parallel", …) holds `key` for the core, not for the
// component.
bool is_core_key(const std::string& table, const std::string& key);
// The tables that a file may hold, in the order in which they are printed, with one line of help each.
struct CoreTable {
  const char* name;
  bool is_array;    // [[data]]
  const char* kind; // of the component that the other keys belong to; "" = all keys are the core's
  const char* help;
};
const std::vector<CoreTable>& core_tables();
const CoreTable* find_core_table(const std::string& name);

// The parts of a declared default: "[a, b]" or "a, b" -> a, b; without quotes.
std::vector<std::string> default_list(const char* text);

} // namespace kumiki
