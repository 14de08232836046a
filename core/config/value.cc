#include "core/config/value.h"

#include <filesystem>

namespace kumiki {
namespace {

// The line of the text and, below it, carets under `width` characters from `column`. Columns count characters, not
// bytes; East Asian ones take two cells on a terminal.
std::string excerpt(const std::string& text, uint32_t line, uint32_t column, uint32_t width) {
  size_t begin = 0;
  for (uint32_t i = 1; i < line; ++i) {
    const size_t end = text.find('\n', begin);
    if (end == std::string::npos) return "";
    begin = end + 1;
  }
  std::string shown = text.substr(begin, text.find('\n', begin) - begin);
  if (!shown.empty() && shown.back() == '\r') shown.pop_back();
  std::string pad, carets;
  uint32_t at = 0;
  for (size_t i = 0; i < shown.size(); ++i) {
    const unsigned char c = static_cast<unsigned char>(shown[i]);
    if ((c & 0xC0) == 0x80) continue; // inside a character
    ++at;
    const bool wide = c >= 0xE1; // from U+1000 on
    if (at < column)
      pad += c == '\t' ? "\t" : wide ? "  " : " ";
    else if (at < column + width)
      carets += wide ? "^^" : "^";
    if (c < 0x20 && c != '\t') shown[i] = '?';
  }
  if (carets.empty()) carets = "^";
  constexpr size_t kLongestLine = 240;
  if (shown.size() > kLongestLine) return "";
  const std::string number = std::to_string(line);
  return "\n  " + number + " | " + shown + "\n  " + std::string(number.size(), ' ') + " | " + pad + carets;
}

} // namespace

std::string Origin::text() const {
  if (!source) return "default";
  if (line == 0) return source->name;
  return source->name + ":" + std::to_string(line) + ":" + std::to_string(column);
}

const ConfigValue::Entry* ConfigValue::entry(std::string_view key) const {
  if (!is_table()) return nullptr;
  for (const Entry& candidate : map()) {
    if (candidate.key == key) return &candidate;
  }
  return nullptr;
}

const ConfigValue* ConfigValue::find(std::string_view key) const {
  const Entry* found = entry(key);
  return found ? &found->value : nullptr;
}

ConfigValue* ConfigValue::find(std::string_view key) {
  return const_cast<ConfigValue*>(static_cast<const ConfigValue*>(this)->find(key));
}

std::string ConfigValue::kind() const {
  static constexpr const char* kNames[] = {"a boolean", "an integer", "a number", "a string", "a list", "a table"};
  return kNames[data.index()];
}

Error config_error(const Origin& origin, const std::string& what, const std::string& remedy) {
  std::string shown;
  if (origin.source && origin.line > 0) shown = excerpt(origin.source->text, origin.line, origin.column, origin.width);
  return Error(origin.source ? origin.text() : "", what + shown, remedy);
}

std::string join_path(const std::string& folder, const std::string& path) {
  return (std::filesystem::path(folder) / path).lexically_normal().string();
}

} // namespace kumiki
