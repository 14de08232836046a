#include "core/plugin/options.h"

#include <cmath>
#include <cstdlib>

#include "core/base/suggest.h"
#include "core/config/schema.h"

namespace kumiki {

struct OptionValues::Storage {
  km_options view{};
  std::vector<km_option_value> values;
  std::vector<std::unique_ptr<std::string>> strings; // behind pointers: their text stays where it is
  std::vector<std::unique_ptr<std::vector<int64_t>>> i64_lists;
  std::vector<std::unique_ptr<std::vector<const char*>>> string_lists;

  const char* keep(std::string text) {
    strings.push_back(std::make_unique<std::string>(std::move(text)));
    return strings.back()->c_str();
  }
};

namespace {

bool has_range(const km_option& row) { return row.minimum != 0 || row.maximum != 0; }

int64_t lowest(const km_option& row) {
  return has_range(row) && row.minimum > -0x1p63 ? static_cast<int64_t>(std::ceil(row.minimum)) : Table::kLowest;
}
int64_t highest(const km_option& row) {
  return has_range(row) && row.maximum < 0x1p63 ? static_cast<int64_t>(std::floor(row.maximum)) : Table::kHighest;
}

void set_i64(km_option_value& value, int64_t number) {
  value.i64 = number;
  value.f64 = static_cast<double>(number);
}

std::string missing(const km_option& row) {
  std::string out = "option `" + std::string(row.name) + "` is required";
  if (row.help && *row.help) out += ": " + std::string(row.help);
  return out;
}

} // namespace

OptionValues::OptionValues(const Component& component, const Table& table)
    : OptionValues(component.title(), component.kind, component.options, table) {}

OptionValues::OptionValues(const std::string& title, const std::string& kind, const std::vector<km_option>& declared,
                           const Table& table)
    : storage_(new Storage) {
  std::vector<std::string> names; // for "did you mean"
  for (const km_option& row : declared) names.emplace_back(row.name);
  // [kernels.NAME] holds nothing of the core's, the other kinds' tables do.
  const std::string core_table = kind == "kernels" ? "" : kind;
  for (const std::string& key : table.keys()) {
    if (is_core_key(core_table, key)) continue;
    bool known = false;
    for (const km_option& row : declared) known = known || key == row.name;
    if (known) continue;
    std::vector<std::string> all = names;
    for (const km_option& row : core_keys_of(core_table)) all.emplace_back(row.name);
    throw table.key_error(key, title + " has no option \"" + key + "\"",
                          suggestion(key, nearest(key, all).empty() ? names : all));
  }

  Storage& out = *storage_;
  out.values.reserve(declared.size());
  for (const km_option& row : declared) {
    const bool given = table.has(row.name);
    if (!given && (row.flags & KM_OPTION_REQUIRED)) {
      throw table.error("", title + ": " + missing(row), "add `" + std::string(row.name) + " = ...` to the table");
    }
    const char* otherwise = row.default_text;
    km_option_value value{};
    value.name = row.name;
    value.type = row.type;
    value.given = given ? 1 : 0;
    value.string = "";
    switch (row.type) {
      case KM_OPTION_I64:
        set_i64(value, table.get_i64(row.name, otherwise ? std::strtoll(otherwise, nullptr, 10) : 0, lowest(row),
                                     highest(row)));
        break;
      case KM_OPTION_F64:
        value.f64 = table.get_f64(row.name, otherwise ? std::strtod(otherwise, nullptr) : 0,
                                  has_range(row) ? row.minimum : -Table::kInfinity,
                                  has_range(row) ? row.maximum : Table::kInfinity);
        break;
      case KM_OPTION_BOOL:
        set_i64(value, table.get_bool(row.name, otherwise && std::string(otherwise) == "true"));
        break;
      case KM_OPTION_STRING:
        value.string = out.keep(table.get_string(row.name, otherwise ? otherwise : "", row.choices ? row.choices : ""));
        break;
      case KM_OPTION_PATH: value.string = out.keep(table.get_path(row.name, otherwise ? otherwise : "")); break;
      case KM_OPTION_I64_LIST: {
        std::vector<int64_t> list;
        for (const std::string& text : default_list(otherwise)) list.push_back(std::strtoll(text.c_str(), nullptr, 10));
        list = table.get_i64_list(row.name, list);
        for (const int64_t number : list) {
          if (number < lowest(row) || number > highest(row)) {
            throw table.error(row.name, table.name() + "." + row.name + " holds " + std::to_string(number) +
                                            ", which is out of range: from " + std::to_string(lowest(row)) + " to " +
                                            std::to_string(highest(row)));
          }
        }
        out.i64_lists.push_back(std::make_unique<std::vector<int64_t>>(std::move(list)));
        value.i64_list = out.i64_lists.back()->data();
        value.count = static_cast<uint32_t>(out.i64_lists.back()->size());
        break;
      }
      case KM_OPTION_STRING_LIST: {
        auto list = std::make_unique<std::vector<const char*>>();
        for (std::string& text : table.get_string_list(row.name, default_list(otherwise)))
          list->push_back(out.keep(text));
        value.string_list = list->data();
        value.count = static_cast<uint32_t>(list->size());
        out.string_lists.push_back(std::move(list));
        break;
      }
      default:
        throw Error(title,
                    "declares option \"" + std::string(row.name) + "\" of a type that this kumiki does not know (" +
                        std::to_string(row.type) + ")",
                    "use a newer kumiki, or an older plugin");
    }
    out.values.push_back(value);
  }
  out.view.struct_size = sizeof(km_options);
  out.view.count = static_cast<uint32_t>(out.values.size());
  out.view.values = out.values.data();
}

OptionValues::OptionValues(OptionValues&&) noexcept = default;
OptionValues& OptionValues::operator=(OptionValues&&) noexcept = default;
OptionValues::~OptionValues() = default;

const km_options* OptionValues::get() const { return &storage_->view; }

void check_components(const Config& config, Registry& registry) {
  for (const ComponentUse& use : config.components()) {
    OptionValues(registry.find(use), use.options);
  }
}

} // namespace kumiki
