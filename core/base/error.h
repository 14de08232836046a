// Errors of the core. Error: the user or the world did something wrong; it says where, what, and the remedy, on one line
// each. KM_CHECK: what only a bug can do. Nothing is thrown in a training step. Floor: base, below all others.
#pragma once

#include <stdexcept>
#include <string>

namespace kumiki {

class Error : public std::runtime_error {
 public:
  // where: "train.toml:12:3", "libacme.so", "layers.0.attention"; empty = none. remedy: what to do; empty = none.
  Error(const std::string& where, const std::string& what, const std::string& remedy = "")
      : std::runtime_error((where.empty() ? "" : where + ": ") + what + (remedy.empty() ? "" : "\n  " + remedy)) {}
  // The exit code of the process; docs/configuration.md lists them.
  int exit_code = 2;
};

[[noreturn]] inline void check_failed(const char* file, int line, const char* expression, const std::string& expected) {
  throw std::logic_error(std::string(file) + ":" + std::to_string(line) + ": expected " + expression +
                         (expected.empty() ? "" : " (" + expected + ")") +
                         "; this is a bug of kumiki, please report it");
}

} // namespace kumiki

#define KM_CHECK(expression, expected) \
  ((expression) ? static_cast<void>(0) : ::kumiki::check_failed(__FILE__, __LINE__, #expression, expected))
