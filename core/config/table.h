// Table: a view of one table of a configuration with typed getters that know where each value came from. A getter for a
// key that is not there gives `otherwise`; one for a value of the wrong type or out of range throws Error with
// file:line:column, the line and a caret. A Table is a light handle, valid after its Config is gone. Not safe for
// several threads at once. Floor: config (stands on base, abi).
#pragma once

#include <cstdint>
#include <limits>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "core/config/value.h"

namespace kumiki {

class Table {
 public:
  // An empty table. `name` is how errors call it: "optimizer", "parallel.tensor", "data.0".
  explicit Table(std::string name = "");
  Table(std::string name, std::shared_ptr<const ConfigValue> value);

  const std::string& name() const { return name_; }
  // The component's name: the key `use`, or `otherwise`.
  std::string use(const std::string& otherwise = "") const { return get_string("use", otherwise); }
  bool empty() const;
  bool has(const std::string& key) const;
  std::vector<std::string> keys() const;                 // in the order of the text
  const ConfigValue* find(const std::string& key) const; // null if absent; counts as read

  static constexpr int64_t kLowest = std::numeric_limits<int64_t>::min();
  static constexpr int64_t kHighest = std::numeric_limits<int64_t>::max();
  static constexpr double kInfinity = std::numeric_limits<double>::infinity();

  // Both limits are included. get_i64 takes a float with an integral value (1e9), get_f64 takes integers.
  int64_t get_i64(const std::string& key, int64_t otherwise, int64_t minimum = kLowest,
                  int64_t maximum = kHighest) const;
  double get_f64(const std::string& key, double otherwise, double minimum = -kInfinity,
                 double maximum = kInfinity) const;
  bool get_bool(const std::string& key, bool otherwise) const;
  // choices: "order|fastest"; empty = any.
  std::string get_string(const std::string& key, const std::string& otherwise, const std::string& choices = "") const;
  // An absolute path: relative ones are taken from the folder of the file that names it (from the current one in
  // --set).
  std::string get_path(const std::string& key, const std::string& otherwise) const;
  // One value stands for a list of one; a string of --set is cut at commas.
  std::vector<int64_t> get_i64_list(const std::string& key, std::vector<int64_t> otherwise = {}) const;
  std::vector<std::string> get_string_list(const std::string& key, std::vector<std::string> otherwise = {}) const;
  std::vector<std::string> get_path_list(const std::string& key) const;
  Table table(const std::string& key) const;               // empty if absent
  std::vector<Table> tables(const std::string& key) const; // array of tables; empty if absent

  // Throws Error at the first key that no getter asked for, with "did you mean" among those that were.
  void finish() const;

  // "train.toml:12:3", "--set a.b=c" or "default": of a key, and of the table itself.
  std::string origin(const std::string& key) const;
  std::string origin() const;
  // An Error that points at the value of `key` (at the table where it is absent) / at the key itself. key "" is the
  // table.
  Error error(const std::string& key, const std::string& what, const std::string& remedy = "") const;
  Error key_error(const std::string& key, const std::string& what, const std::string& remedy = "") const;

 private:
  std::string name_;
  std::shared_ptr<const ConfigValue> value_;    // a table
  std::shared_ptr<std::set<std::string>> read_; // keys that getters asked for; shared by copies
};

} // namespace kumiki
