// A tiny host for tests of comm plugins: loads a .so, finds a component, and opens it as one rank. It stands on abi/ alone.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "kumiki/comm.h"
#include "kumiki/plugin.h"

namespace kumiki::test {

// The host of all ranks; its fail keeps the text for the calling thread, its log prints to standard error.
const km_host* test_host();
// The text of the calling thread's last fail.
std::string last_error();

// A component and the options to open it with. Plugins stay loaded.
class CommPlugin {
 public:
  // Options as text ("ranks" -> "4"), defaults for those left out. Throws std::runtime_error for what is not there.
  CommPlugin(const std::string& file, const std::string& component, const std::map<std::string, std::string>& given);
  CommPlugin(const CommPlugin&) = delete;
  CommPlugin& operator=(const CommPlugin&) = delete;

  const km_comm& table() const { return *table_; }
  const km_options* options() const { return &options_; }

 private:
  const km_comm* table_ = nullptr;
  std::vector<std::string> texts_;
  std::vector<km_option_value> values_;
  km_options options_{};
};

} // namespace kumiki::test
