// A value of a configuration and where it came from. The TOML reader makes a tree of these, merging keeps each one's
// origin, and errors show it: file:line:column, the line, a caret. Floor: config (stands on base, abi).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "core/base/error.h"

namespace kumiki {

// A text that values were read from. Shared by all that point into it.
struct ConfigSource {
  std::string name;   // the path as the user would write it, or "--set a.b=c"
  std::string folder; // what paths in it are relative to; "" is the current folder
  std::string text;   // empty for --set
};

struct Origin {
  std::shared_ptr<const ConfigSource> source; // null: a default
  uint32_t line = 0, column = 0;              // from 1; 0 if the source has no lines
  uint32_t width = 1;                         // characters that the caret underlines
  // "train.toml:12:3", "--set run.steps=4", "default".
  std::string text() const;
};

class ConfigValue {
 public:
  using Array = std::vector<ConfigValue>;
  struct Entry;
  using Map = std::vector<Entry>; // in the order of the text; keys are unique

  std::variant<bool, int64_t, double, std::string, Array, Map> data;
  Origin origin;

  ConfigValue() : data(Map{}) {}
  template <class T>
  ConfigValue(T value, Origin from) : data(std::move(value)), origin(std::move(from)) {}

  bool is_table() const { return std::holds_alternative<Map>(data); }
  bool is_array() const { return std::holds_alternative<Array>(data); }
  const Map& map() const { return std::get<Map>(data); }
  Map& map() { return std::get<Map>(data); }
  const Array& array() const { return std::get<Array>(data); }
  Array& array() { return std::get<Array>(data); }
  // The entry's value, or null. Of tables only.
  const ConfigValue* find(std::string_view key) const;
  ConfigValue* find(std::string_view key);
  const Entry* entry(std::string_view key) const;
  // "a boolean", "an integer", "a number", "a string", "a list", "a table".
  std::string kind() const;
};

struct ConfigValue::Entry {
  std::string key;
  Origin key_origin;
  ConfigValue value;
};

// The error at `origin`: its place, what, the line with a caret under it, the remedy.
Error config_error(const Origin& origin, const std::string& what, const std::string& remedy = "");
// `path` as seen from `folder`, cleaned of "." and ".."; absolute paths stay.
std::string join_path(const std::string& folder, const std::string& path);

} // namespace kumiki
