// OptionValues: a component's options as the ABI hands them over, made from the user's table and the component's
// declaration. Wrong ones are Errors with file:line:column, the line, a caret and "did you mean". Floor: plugin (stands
// on config, base, abi).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/config/table.h"
#include "core/plugin/registry.h"
#include "kumiki/base.h"

namespace kumiki {

class OptionValues {
 public:
  // One value for each declared option, in that order; keys of the core in the table are passed over. Paths come out
  // absolute. Throws Error (exit code 2). [any]
  OptionValues(const Component& component, const Table& table);
  OptionValues(const std::string& title, const std::string& kind, const std::vector<km_option>& declared,
               const Table& table);
  OptionValues(OptionValues&&) noexcept;
  OptionValues& operator=(OptionValues&&) noexcept;
  ~OptionValues();

  // Stays at its address, also when this object is moved; valid as long as it.
  const km_options* get() const;

 private:
  struct Storage;
  std::unique_ptr<Storage> storage_;
};

// Checks the options of every component that the configuration names, loading their plugins. Throws the first Error.
void check_components(const Config& config, Registry& registry);

} // namespace kumiki
