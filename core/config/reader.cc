#include "core/config/reader.h"

#include <algorithm>

#include <toml++/toml.h>

namespace kumiki {
namespace {

using SourcePtr = std::shared_ptr<const ConfigSource>;

Origin origin_of(const toml::source_region& region, const SourcePtr& source) {
  Origin origin;
  origin.source = source;
  if (source->text.empty()) return origin;  // --set: its name is all there is to show
  origin.line = std::max<uint32_t>(1, region.begin.line);
  origin.column = std::max<uint32_t>(1, region.begin.column);
  if (region.end.line == region.begin.line && region.end.column > region.begin.column) {
    origin.width = region.end.column - region.begin.column;
  }
  return origin;
}

std::string checked_text(const std::string& text, const Origin& origin) {
  if (text.find('\0') != std::string::npos) {
    throw config_error(origin, "a string holds the character U+0000", "remove it: no option can take it");
  }
  return text;
}

ConfigValue convert(const toml::node& node, const SourcePtr& source) {
  const Origin origin = origin_of(node.source(), source);
  switch (node.type()) {
    case toml::node_type::boolean: return ConfigValue(node.as_boolean()->get(), origin);
    case toml::node_type::integer: return ConfigValue(node.as_integer()->get(), origin);
    case toml::node_type::floating_point: return ConfigValue(node.as_floating_point()->get(), origin);
    case toml::node_type::string: return ConfigValue(checked_text(node.as_string()->get(), origin), origin);
    case toml::node_type::array: {
      ConfigValue::Array out;
      for (const toml::node& element : *node.as_array()) out.push_back(convert(element, source));
      return ConfigValue(std::move(out), origin);
    }
    case toml::node_type::table: {
      ConfigValue::Map out;
      for (const auto& [key, value] : *node.as_table()) {
        const Origin key_origin = origin_of(key.source(), source);
        out.push_back({checked_text(std::string(key.str()), key_origin), key_origin, convert(value, source)});
      }
      // The library sorts by name; people expect what they wrote first to come first.
      std::stable_sort(out.begin(), out.end(), [](const ConfigValue::Entry& a, const ConfigValue::Entry& b) {
        return std::pair(a.key_origin.line, a.key_origin.column) < std::pair(b.key_origin.line, b.key_origin.column);
      });
      return ConfigValue(std::move(out), origin);
    }
    default: throw config_error(origin, "dates and times are not used here", "write it as a string, in quotes");
  }
}

std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    static constexpr const char* kDigits = "0123456789ABCDEF";
    const unsigned char byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') out += '\\';
    if (byte < 0x20 || byte == 0x7F) out += std::string("\\u00") + kDigits[byte >> 4] + kDigits[byte & 15];
    else out += c;
  }
  return out + '"';
}

bool is_single_path(const ConfigValue& value) {
  return !value.is_table() || (value.map().size() == 1 && is_single_path(value.map()[0].value));
}

}  // namespace

ConfigValue read_toml(const SourcePtr& source) {
  try {
    ConfigValue root = convert(toml::parse(std::string_view(source->text)), source);
    root.origin.line = root.origin.column = 0;  // the file as a whole
    return root;
  } catch (const toml::parse_error& error) {
    Origin origin = origin_of(error.source(), source);
    // An empty or broken-off text has its fault behind the last character.
    origin.column = std::max<uint32_t>(1, origin.column);
    throw config_error(origin, std::string("not valid TOML: ") + std::string(error.description()));
  }
}

ConfigValue read_set(const std::string& argument) {
  const auto source = std::make_shared<ConfigSource>(ConfigSource{"--set " + argument, "", ""});
  const std::string remedy = "write it as --set table.key=value, for example --set run.steps=100";
  const size_t equals = argument.find('=');
  if (equals == std::string::npos || equals == 0) throw Error(source->name, "there is no KEY=VALUE", remedy);
  const std::string key = argument.substr(0, equals), value = argument.substr(equals + 1);
  if (key.find_first_of("\n\r#[]{}") != std::string::npos) throw Error(source->name, "the key is not valid", remedy);
  // First as TOML; then as a string, so that the shell's quotes need no second pair.
  if (value.find_first_of("\n\r") == std::string::npos) {
    try {
      ConfigValue out = convert(toml::parse(std::string_view(argument)), source);
      if (out.map().size() == 1) return out;
    } catch (const toml::parse_error&) {
    }
  }
  try {
    ConfigValue out = convert(toml::parse(key + "=" + quoted(value)), source);
    if (is_single_path(out)) return out;
  } catch (const toml::parse_error&) {
  }
  throw Error(source->name, "the key or the value is not valid", remedy);
}

}  // namespace kumiki
