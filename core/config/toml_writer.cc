// Config::to_toml: the resolved configuration as TOML that loads again to the same values.
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <filesystem>

#include "core/config/config.h"
#include "core/config/schema.h"

namespace kumiki {
namespace {

std::string text_literal(const std::string& text) {
  static constexpr const char* kDigits = "0123456789ABCDEF";
  std::string out = "\"";
  for (const char c : text) {
    const unsigned char byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\')
      out += std::string("\\") + c;
    else if (c == '\n')
      out += "\\n";
    else if (c == '\t')
      out += "\\t";
    else if (byte < 0x20 || byte == 0x7F)
      out += std::string("\\u00") + kDigits[byte >> 4] + kDigits[byte & 15];
    else
      out += c;
  }
  return out + '"';
}

// The shortest decimal that reads back to the same double, with a mark of a float.
std::string number_literal(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  char buffer[64];
  const std::to_chars_result end = std::to_chars(buffer, buffer + sizeof(buffer), value);
  std::string out(buffer, end.ptr);
  if (const size_t e = out.find("e-0"); e != std::string::npos) out.erase(e + 2, 1); // 3e-04
  if (out.find_first_of(".e") == std::string::npos) out += ".0";
  return out;
}

std::string key_literal(const std::string& key) {
  const bool bare = !key.empty() && key.find_first_not_of(
                                        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                        "0123456789_-") == std::string::npos;
  return bare ? key : text_literal(key);
}

template <class List, class Show>
std::string list_literal(const List& list, Show show) {
  std::string out = "[";
  for (const auto& element : list) out += (out.size() > 1 ? ", " : "") + show(element);
  return out + "]";
}

std::string literal(const ConfigValue& value) {
  if (const bool* v = std::get_if<bool>(&value.data)) return *v ? "true" : "false";
  if (const int64_t* v = std::get_if<int64_t>(&value.data)) return std::to_string(*v);
  if (const double* v = std::get_if<double>(&value.data)) return number_literal(*v);
  if (const std::string* v = std::get_if<std::string>(&value.data)) return text_literal(*v);
  if (value.is_array()) return list_literal(value.array(), literal);
  std::string out = "{";
  for (const ConfigValue::Entry& entry : value.map()) {
    out += (out.size() > 1 ? ", " : " ") + key_literal(entry.key) + " = " + literal(entry.value);
  }
  return out + (out.size() > 1 ? " }" : "}");
}

// The value of a declared option, the user's or the default; empty if there is neither.
std::string option_literal(const Table& table, const km_option& row) {
  const char* otherwise = row.default_text;
  if (!table.has(row.name) && !otherwise) return "";
  switch (row.type) {
    case KM_OPTION_I64:
      return std::to_string(table.get_i64(row.name, otherwise ? std::strtoll(otherwise, nullptr, 10) : 0));
    case KM_OPTION_F64: return number_literal(table.get_f64(row.name, otherwise ? std::strtod(otherwise, nullptr) : 0));
    case KM_OPTION_BOOL:
      return table.get_bool(row.name, otherwise && std::string(otherwise) == "true") ? "true" : "false";
    case KM_OPTION_STRING: return text_literal(table.get_string(row.name, otherwise ? otherwise : ""));
    case KM_OPTION_PATH: return text_literal(table.get_path(row.name, otherwise ? otherwise : ""));
    case KM_OPTION_STRING_LIST:
      return list_literal(table.get_string_list(row.name, default_list(otherwise)), text_literal);
    case KM_OPTION_I64_LIST: {
      std::vector<int64_t> list;
      for (const std::string& text : default_list(otherwise)) list.push_back(std::strtoll(text.c_str(), nullptr, 10));
      return list_literal(table.get_i64_list(row.name, list), [](int64_t v) { return std::to_string(v); });
    }
    default: return table.has(row.name) ? literal(*table.find(row.name)) : "";
  }
}

class Writer {
 public:
  explicit Writer(bool with_origin) : with_origin_(with_origin) {}

  void header(const std::string& text) { out_ += (out_.empty() ? "" : "\n") + text + "\n"; }
  void line(const std::string& key, const std::string& value, const std::string& origin) {
    if (value.empty()) return;
    std::string text = key_literal(key) + " = " + value;
    if (with_origin_)
      text += std::string(text.size() < kOriginColumn ? kOriginColumn - text.size() : 1, ' ') + "# " + origin;
    out_ += text + "\n";
  }
  void row(const Table& table, const km_option& row) {
    line(row.name, option_literal(table, row), table.origin(row.name));
  }
  void raw(const Table& table, const std::string& key) { line(key, literal(*table.find(key)), table.origin(key)); }
  const std::string& text() const { return out_; }

 private:
  static constexpr size_t kOriginColumn = 40;
  bool with_origin_;
  std::string out_;
};

// The keys of a component: as declared where the declaration is known, else as they stand.
void component_keys(Writer& out, const Table& table, const std::string& core_table,
                    const std::vector<km_option>* declared) {
  if (declared) {
    for (const km_option& row : *declared) out.row(table, row);
  }
  for (const std::string& key : table.keys()) {
    if (is_core_key(core_table, key)) continue;
    bool known = false;
    for (const km_option& row : declared ? *declared : std::vector<km_option>()) known = known || key == row.name;
    if (!known) out.raw(table, key);
  }
}

} // namespace

std::string Config::to_toml(const OptionLookup& lookup, bool with_origin) const {
  Writer out(with_origin);
  const auto declared = [&](const std::string& kind, const std::string& name) {
    return lookup ? lookup(kind, name) : nullptr;
  };
  const auto core = [&](const Table& table, const std::string& name) {
    for (const km_option& row : core_keys_of(name)) {
      if (row.type != kOptionTable) out.row(table, row);
    }
  };

  const Table run = table("run");
  const ConfigValue* batch = run.find("global_batch");
  const bool ramp = batch && batch->is_table();
  if (metrics().empty()) out.line("metrics", "[]", Table("", root_).origin("metrics")); // without it: console
  out.header("[run]");
  for (const km_option& row : core_keys_of("run")) {
    const std::string key = row.name;
    if (key == "name")
      out.line(key, text_literal(run_.name), run.origin(key));
    else if (key != "global_batch")
      out.row(run, row);
    else if (!ramp)
      out.line(key, std::to_string(run_.global_batch.start), run.origin(key));
  }
  if (ramp) {
    out.header("[run.global_batch]");
    core(run.table("global_batch"), "run.global_batch");
  }

  const auto single = [&](const ComponentUse& component) {
    out.header("[" + component.kind + "]");
    core(component.options, component.kind);
    component_keys(out, component.options, component.kind, declared(component.kind, component.name));
  };
  const auto list = [&](const std::vector<ComponentUse>& components) {
    for (const ComponentUse& component : components) {
      out.header("[[" + component.kind + "]]");
      core(component.options, component.kind);
      component_keys(out, component.options, component.kind, declared(component.kind, component.name));
    }
  };
  single(model());
  out.header("[kernels]");
  core(table("kernels"), "kernels");
  for (const ComponentUse& component : kernel_chain()) {
    const std::vector<km_option>* rows = declared("kernels", component.name);
    if (component.options.empty() && (!rows || rows->empty())) continue;
    out.header("[kernels." + key_literal(component.name) + "]");
    component_keys(out, component.options, "", rows);
  }
  single(optimizer_component());
  out.header("[optimizer.schedule]");
  core(table("optimizer.schedule"), "optimizer.schedule");
  list(data());
  list(parallel());
  single(comm());
  list(metrics());
  out.header("[checkpoint]");
  core(table("checkpoint"), "checkpoint");
  out.header("[plugins]");
  std::vector<std::string> paths;
  for (size_t i = 0; i < plugins_.path.size(); ++i) {
    // Files beside the configuration are named so that they are found from anywhere; others lie in lib/kumiki.
    std::error_code error;
    const std::filesystem::path beside =
        std::filesystem::absolute(join_path(plugins_.folder[i], plugins_.path[i]), error);
    paths.push_back(std::filesystem::exists(beside, error) ? beside.lexically_normal().string() : plugins_.path[i]);
  }
  out.line("path", list_literal(paths, text_literal), table("plugins").origin("path"));
  if (!plugins_.sha256.empty()) {
    out.header("[plugins.sha256]");
    const Table pins = table("plugins.sha256");
    for (const std::string& file : pins.keys()) out.raw(pins, file);
  }
  return out.text();
}

} // namespace kumiki
