// A small host for tests of data and metrics plugins: loads a .so, finds a component, turns options given as text into
// values by the component's declaration, and keeps what fail and log said. It stands on abi/ alone.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <vector>

#include "kumiki/data.h"
#include "kumiki/metrics.h"
#include "kumiki/plugin.h"

namespace kumiki::test {

class ComponentHost {
 public:
  ComponentHost();
  ComponentHost(const ComponentHost&) = delete;
  ComponentHost& operator=(const ComponentHost&) = delete;

  const km_host* table() const { return &handle_.host; }
  // The text of the calling thread's last fail.
  static std::string last_error();
  const std::vector<std::string>& log_lines() const { return handle_.lines; }

  struct Handle {
    km_host host;
    std::vector<std::string> lines;
  };

 private:
  Handle handle_{};
};

// The component of a plugin; throws std::runtime_error if it is not there. Plugins stay loaded.
const km_component& load_component(const ComponentHost& host, const std::string& path, const std::string& kind,
                                   const std::string& name);

// Values for every declared option: as given, else the default. Throws std::runtime_error on an unknown name.
class Options {
 public:
  Options(const km_component& component, const std::map<std::string, std::string>& given);
  const km_options* get() const { return &options_; }

 private:
  std::deque<std::string> texts_;
  std::vector<km_option_value> values_;
  km_options options_{};
};

// A folder of the test's own, removed with all that is in it.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const std::string& path() const { return path_; }
  // Writes a file below it, with the folders to it; gives its path.
  std::string write(const std::string& name, const std::string& bytes) const;

 private:
  std::string path_;
};

std::string read_file(const std::string& path);

} // namespace kumiki::test
