#include "core/config/table.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <sstream>

#include "core/base/suggest.h"

namespace kumiki {
namespace {

std::string full_name(const std::string& table, const std::string& key) {
  return table.empty() ? key : table + "." + key;
}

std::string shown(double value) {
  std::ostringstream out;
  out << value;
  return out.str();
}

// "at least 0", "at most 1", "from 0 to 1"
template <class T>
std::string range_text(T minimum, T maximum, T lowest, T highest, std::string (*show)(T)) {
  if (maximum == highest) return "at least " + show(minimum);
  if (minimum == lowest) return "at most " + show(maximum);
  return "from " + show(minimum) + " to " + show(maximum);
}

std::string show_i64(int64_t value) { return std::to_string(value); }

Error wrong_type(const ConfigValue& value, const std::string& name, const std::string& expected) {
  return config_error(value.origin, name + " must be " + expected + ", not " + value.kind());
}

int64_t to_i64(const ConfigValue& value, const std::string& name) {
  if (const int64_t* integer = std::get_if<int64_t>(&value.data)) return *integer;
  if (const double* number = std::get_if<double>(&value.data)) {
    if (std::abs(*number) <= 0x1p53 && std::floor(*number) == *number) return static_cast<int64_t>(*number);
    throw config_error(value.origin, name + " must be a whole number, not " + shown(*number));
  }
  throw wrong_type(value, name, "an integer");
}

std::vector<std::string> cut_at_commas(const std::string& text) {
  std::vector<std::string> out;
  std::istringstream in(text);
  for (std::string part; std::getline(in, part, ',');) {
    const size_t first = part.find_first_not_of(" \t");
    if (first != std::string::npos) out.push_back(part.substr(first, part.find_last_not_of(" \t") - first + 1));
  }
  return out;
}

std::string absolute_path(const std::string& text, const Origin& origin) {
  if (text.empty()) return "";
  const std::string path = join_path(origin.source ? origin.source->folder : "", text);
  std::error_code error;
  const std::filesystem::path current = std::filesystem::current_path(error);
  return join_path(current.string(), path);
}

// The values of a list, or the one value that stands for it.
std::vector<const ConfigValue*> elements(const ConfigValue& value) {
  std::vector<const ConfigValue*> out;
  if (!value.is_array()) return {&value};
  for (const ConfigValue& element : value.array()) out.push_back(&element);
  return out;
}

} // namespace

Table::Table(std::string name) : Table(std::move(name), std::make_shared<const ConfigValue>()) {}

Table::Table(std::string name, std::shared_ptr<const ConfigValue> value)
    : name_(std::move(name)), value_(std::move(value)), read_(std::make_shared<std::set<std::string>>()) {
  if (!value_->is_table()) throw wrong_type(*value_, name_, "a table");
}

bool Table::empty() const { return value_->map().empty(); }

bool Table::has(const std::string& key) const { return value_->entry(key) != nullptr; }

std::vector<std::string> Table::keys() const {
  std::vector<std::string> out;
  for (const ConfigValue::Entry& entry : value_->map()) out.push_back(entry.key);
  return out;
}

const ConfigValue* Table::find(const std::string& key) const {
  read_->insert(key);
  return value_->find(key);
}

int64_t Table::get_i64(const std::string& key, int64_t otherwise, int64_t minimum, int64_t maximum) const {
  const ConfigValue* value = find(key);
  if (!value) return otherwise;
  const std::string name = full_name(name_, key);
  const int64_t out = to_i64(*value, name);
  if (out < minimum || out > maximum) {
    throw config_error(value->origin, name + " = " + std::to_string(out) + " is out of range: " +
                                          range_text(minimum, maximum, kLowest, kHighest, show_i64));
  }
  return out;
}

double Table::get_f64(const std::string& key, double otherwise, double minimum, double maximum) const {
  const ConfigValue* value = find(key);
  if (!value) return otherwise;
  const std::string name = full_name(name_, key);
  double out = 0;
  if (const int64_t* integer = std::get_if<int64_t>(&value->data))
    out = static_cast<double>(*integer);
  else if (const double* number = std::get_if<double>(&value->data))
    out = *number;
  else
    throw wrong_type(*value, name, "a number");
  if (!std::isfinite(out)) throw config_error(value->origin, name + " must be finite");
  if (out < minimum || out > maximum) {
    throw config_error(value->origin, name + " = " + shown(out) + " is out of range: " +
                                          range_text(minimum, maximum, -kInfinity, kInfinity, shown));
  }
  return out;
}

bool Table::get_bool(const std::string& key, bool otherwise) const {
  const ConfigValue* value = find(key);
  if (!value) return otherwise;
  if (const bool* out = std::get_if<bool>(&value->data)) return *out;
  throw wrong_type(*value, full_name(name_, key), "true or false");
}

std::string Table::get_string(const std::string& key, const std::string& otherwise, const std::string& choices) const {
  const ConfigValue* value = find(key);
  if (!value) return otherwise;
  const std::string* out = std::get_if<std::string>(&value->data);
  if (!out) throw wrong_type(*value, full_name(name_, key), "a string");
  if (choices.empty()) return *out;
  std::vector<std::string> names;
  std::istringstream in(choices);
  for (std::string choice; std::getline(in, choice, '|');) names.push_back(choice);
  if (std::find(names.begin(), names.end(), *out) != names.end()) return *out;
  std::string all;
  for (const std::string& choice : names) all += (all.empty() ? "" : ", ") + choice;
  const std::string near = nearest(*out, names);
  throw config_error(value->origin, full_name(name_, key) + " = \"" + *out + "\" is not one of " + all,
                     near.empty() ? "" : suggestion(*out, names));
}

std::string Table::get_path(const std::string& key, const std::string& otherwise) const {
  const std::string text = get_string(key, otherwise);
  const ConfigValue* value = find(key);
  return absolute_path(text, value ? value->origin : Origin{});
}

std::vector<int64_t> Table::get_i64_list(const std::string& key, std::vector<int64_t> otherwise) const {
  const ConfigValue* value = find(key);
  if (!value) return otherwise;
  std::vector<int64_t> out;
  for (const ConfigValue* element : elements(*value)) out.push_back(to_i64(*element, full_name(name_, key)));
  return out;
}

std::vector<std::string> Table::get_string_list(const std::string& key, std::vector<std::string> otherwise) const {
  const ConfigValue* value = find(key);
  if (!value) return otherwise;
  const std::string* whole = std::get_if<std::string>(&value->data);
  if (whole && value->origin.source && value->origin.line == 0) return cut_at_commas(*whole);
  std::vector<std::string> out;
  for (const ConfigValue* element : elements(*value)) {
    const std::string* text = std::get_if<std::string>(&element->data);
    if (!text) throw wrong_type(*element, full_name(name_, key), "a list of strings");
    out.push_back(*text);
  }
  return out;
}

std::vector<std::string> Table::get_path_list(const std::string& key) const {
  std::vector<std::string> out = get_string_list(key);
  for (std::string& path : out) path = absolute_path(path, find(key)->origin);
  return out;
}

Table Table::table(const std::string& key) const {
  const ConfigValue* value = find(key);
  if (!value) { // errors about it name the file
    Origin origin = value_->origin;
    origin.line = origin.column = 0;
    return Table(full_name(name_, key), std::make_shared<const ConfigValue>(ConfigValue::Map{}, origin));
  }
  return Table(full_name(name_, key), std::shared_ptr<const ConfigValue>(value_, value));
}

std::vector<Table> Table::tables(const std::string& key) const {
  const ConfigValue* value = find(key);
  std::vector<Table> out;
  if (!value) return out;
  for (const ConfigValue* element : elements(*value)) {
    const std::string name = full_name(name_, key) + "." + std::to_string(out.size());
    if (!element->is_table()) throw wrong_type(*element, name, "a table, [[" + key + "]]");
    out.emplace_back(name, std::shared_ptr<const ConfigValue>(value_, element));
  }
  return out;
}

void Table::finish() const {
  for (const ConfigValue::Entry& entry : value_->map()) {
    if (read_->count(entry.key)) continue;
    throw key_error(
        entry.key,
        (name_.empty() ? "there" : name_) + (name_.empty() ? " is no \"" : " has no key \"") + entry.key + "\"",
        suggestion(entry.key, {read_->begin(), read_->end()}));
  }
}

std::string Table::origin(const std::string& key) const {
  const ConfigValue* value = value_->find(key);
  return value ? value->origin.text() : "default";
}

std::string Table::origin() const { return value_->origin.text(); }

Error Table::error(const std::string& key, const std::string& what, const std::string& remedy) const {
  const ConfigValue* value = value_->find(key);
  return config_error(value ? value->origin : value_->origin, what, remedy);
}

Error Table::key_error(const std::string& key, const std::string& what, const std::string& remedy) const {
  const ConfigValue::Entry* entry = value_->entry(key);
  return config_error(entry ? entry->key_origin : value_->origin, what, remedy);
}

} // namespace kumiki
