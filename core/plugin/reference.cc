#include "core/plugin/reference.h"

#include <algorithm>
#include <sstream>

#include "core/config/schema.h"

namespace kumiki {
namespace {

constexpr const char* kOpening = R"(# Configuration

Made by `bazel run //tests/plugin:update_reference` (or, from a release, `kumiki config reference`) out of what the
program and its plugins declare; a test compares them. Change the declarations (core/config/schema.cc, the plugin's
`km_option` rows), then run the command again.

A run is one TOML file. Every table names its component by `use`; all other keys of the table are options that the
component declares, beside the few that belong to the core. `kumiki config check FILE` says what is wrong with a file,
with line and column; `kumiki config show FILE --origin` prints every value, defaults too, and where it came from;
`runs/NAME/config.toml` is the same without origins, and loads again to the same values.

## How values come together

- `extends = ["../base.toml"]`, relative to the file that says it. What the file itself says wins over what it extends,
  and of several files the later wins. Tables are merged key by key.
- `[[parallel]]` and `[[metrics]]` are merged with the earlier element of the same `use`. A new strategy goes to its
  place in the order tensor, context, pipeline, data, recompute; others go to the end. `[[data]]` replaces the earlier
  list as a whole.
- A table that names another component than before (`use`) keeps the core's keys and drops the options of the former
  component.
- `--set table.key=value` wins over all files, and the last one over earlier ones. The value is TOML; what is not, is
  taken as a string, so `--set run.name=first` needs no quotes, and a list of names may be written
  `--set kernels.use=a,b`. `--set parallel.tensor.degree=2` and `--set metrics.jsonl.KEY=VALUE` reach the element by its
  `use`, and add it where it is not there; `--set data.0.path=FILE` reaches the first `[[data]]`.
- Paths are relative to the file that names them; in `--set`, to the current folder. `run.output` is always relative to
  the current folder.

## Exit codes

| code | meaning |
| --- | --- |
| 0 | good |
| 1 | internal error: a bug of kumiki or of a plugin |
| 2 | the configuration, an option or an argument |
| 3 | the data |
| 4 | a checkpoint |
| 5 | numbers: the loss is not finite |
| 6 | the system: memory, disk, files |
| 85 | stopped before the end (signal or `run.max_wall`), checkpoint saved: start again with `--resume` |
| 86 | hung, or another rank was lost |
| 87 | ranks that should hold the same weights do not |

)";

std::string number(double value) {
  std::ostringstream out;
  out.precision(15);
  out << value;
  return out.str();
}

std::string type_of(const km_option& row) {
  switch (row.type) {
    case KM_OPTION_I64: return "integer";
    case KM_OPTION_F64: return "number";
    case KM_OPTION_STRING: return "string";
    case KM_OPTION_BOOL: return "boolean";
    case KM_OPTION_PATH: return "path";
    case KM_OPTION_I64_LIST: return "list of integers";
    case KM_OPTION_STRING_LIST: return "list of strings";
    case kOptionTable: return "table";
    default: return "type " + std::to_string(row.type);
  }
}

std::string default_of(const km_option& row) {
  if (row.flags & KM_OPTION_REQUIRED) return "required";
  if (!row.default_text) return "";
  const bool quoted = row.type == KM_OPTION_STRING || row.type == KM_OPTION_PATH;
  return quoted ? "\"" + std::string(row.default_text) + "\"" : row.default_text;
}

std::string values_of(const km_option& row) {
  if (row.choices) {
    std::string out = row.choices;
    for (size_t at = out.find('|'); at != std::string::npos; at = out.find('|', at + 2)) out.replace(at, 1, ", ");
    return out;
  }
  if (row.minimum == 0 && row.maximum == 0) return "";
  if (row.maximum >= kNoLimit) return "≥ " + number(row.minimum);
  return number(row.minimum) + " … " + number(row.maximum);
}

std::string cell(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '|') out += '\\';
    out += c == '\n' ? ' ' : c;
  }
  return out;
}

std::string code(const std::string& text) { return text.empty() || text == "required" ? text : "`" + cell(text) + "`"; }

void core_table(const CoreTable& table, std::string& out) {
  const std::string name = table.name;
  out += "## " + std::string(table.is_array ? "[[" + name + "]]" : "[" + name + "]") + "\n\n" + table.help + "\n\n";
  out += options_as_markdown(core_keys_of(name)) + "\n";
  for (const CoreKey& key : core_keys()) { // tables inside it, once each
    const std::string inner = key.table;
    if (inner.rfind(name + ".", 0) != 0 || out.find("`" + inner + "`:") != std::string::npos) continue;
    out += "`" + inner + "`:\n\n" + options_as_markdown(core_keys_of(inner)) + "\n";
  }
}

} // namespace

std::string options_as_markdown(const std::vector<km_option>& options) {
  std::string out = "| key | type | default | values | meaning |\n| --- | --- | --- | --- | --- |\n";
  for (const km_option& row : options) {
    out += "| `" + std::string(row.name) + "` | " + type_of(row) + " | " + code(default_of(row)) + " | " +
           cell(values_of(row)) + " | " + cell(row.help ? row.help : "") + " |\n";
  }
  return out;
}

std::string options_as_text(const std::vector<km_option>& options) {
  std::string out;
  for (const km_option& row : options) {
    std::string line = "  " + std::string(row.name) + " (" + type_of(row);
    const std::string otherwise = default_of(row), values = values_of(row);
    if (!otherwise.empty()) line += otherwise == "required" ? ", required" : ", default " + otherwise;
    if (!values.empty()) line += ", " + values;
    out += line + ")" + (row.help && *row.help ? ": " + std::string(row.help) : "") + "\n";
  }
  return out;
}

std::string configuration_reference(Registry& registry) {
  registry.load_all();
  std::string out = kOpening;
  for (const CoreTable& table : core_tables()) {
    core_table(table, out);
    if (!*table.kind) continue;
    for (const Component* component : registry.components()) {
      if (component->kind != table.kind) continue;
      out += "### " + component->kind + " `" + component->name + "`\n\n" + component->summary + "\n\n";
      out += component->options.empty() ? "No options.\n\n" : options_as_markdown(component->options) + "\n";
    }
  }
  out.pop_back();
  return out;
}

} // namespace kumiki
