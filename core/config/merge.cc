#include "core/config/merge.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "core/config/reader.h"
#include "core/config/schema.h"
#include "core/config/table.h"

namespace kumiki {
namespace {

constexpr size_t kLargestFile = size_t{16} << 20;
constexpr const char* kStrategyOrder[] = {"tensor", "context", "pipeline", "data", "recompute"};

// The string at `key`, or null.
const std::string* text_at(const ConfigValue& table, const char* key) {
  const ConfigValue* value = table.find(key);
  return value ? std::get_if<std::string>(&value->data) : nullptr;
}

bool is_list_table(const std::string& name) {
  const CoreTable* table = find_core_table(name);
  return table && table->is_array;
}

// A single [data] stands for [[data]].
void make_list(ConfigValue& value) {
  if (!value.is_table()) return;
  ConfigValue element = value;
  const Origin origin = value.origin;
  value = ConfigValue(ConfigValue::Array{std::move(element)}, origin);
}

size_t strategy_rank(const std::string& name) {
  const auto found = std::find(std::begin(kStrategyOrder), std::end(kStrategyOrder), name);
  return static_cast<size_t>(found - std::begin(kStrategyOrder));
}

// Where a new element goes: strategies before the first that belongs further out, all else to the end.
ConfigValue::Array::iterator place_for(const std::string& list, ConfigValue::Array& elements, const std::string& use) {
  const size_t rank = strategy_rank(use);
  if (list != "parallel" || rank == std::size(kStrategyOrder)) return elements.end();
  return std::find_if(elements.begin(), elements.end(), [&](const ConfigValue& element) {
    const std::string* other = text_at(element, "use");
    return other && strategy_rank(*other) > rank && strategy_rank(*other) < std::size(kStrategyOrder);
  });
}

ConfigValue* find_element(ConfigValue::Array& elements, const std::string& use) {
  for (ConfigValue& element : elements) {
    const std::string* other = text_at(element, "use");
    if (other && *other == use) return &element;
  }
  return nullptr;
}

// Options of the component that was chosen before say nothing about another one.
void drop_options(ConfigValue& table, const std::string& name) {
  ConfigValue::Map& map = table.map();
  std::erase_if(map, [&](const ConfigValue::Entry& entry) { return !is_core_key(name, entry.key); });
}

void forget_former_component(ConfigValue& table, const std::string& name, const ConfigValue* new_use) {
  const CoreTable* known = find_core_table(name);
  if (!known || !*known->kind || !new_use) return;
  if (name == "kernels") { // [kernels.NAME] of those that are still in the chain stay
    std::vector<std::string> chain;
    try {
      ConfigValue::Map only{{"use", {}, *new_use}};
      chain = Table(name, std::make_shared<const ConfigValue>(std::move(only), Origin{})).get_string_list("use");
    } catch (const Error&) {
      return; // not a list of names: the check of the core's keys says so
    }
    std::erase_if(table.map(), [&](const ConfigValue::Entry& entry) {
      return !is_core_key(name, entry.key) && std::find(chain.begin(), chain.end(), entry.key) == chain.end();
    });
    return;
  }
  const std::string* before = text_at(table, "use");
  const std::string* now = std::get_if<std::string>(&new_use->data);
  if (before && now && *before != *now) drop_options(table, name);
}

void put(ConfigValue& table, const ConfigValue::Entry& entry) {
  for (ConfigValue::Entry& there : table.map()) {
    if (there.key == entry.key) {
      there = entry;
      return;
    }
  }
  table.map().push_back(entry);
}

void merge_tables(ConfigValue& base, const ConfigValue& over, const std::string& name) {
  forget_former_component(base, name, over.find("use"));
  for (const ConfigValue::Entry& entry : over.map()) {
    ConfigValue* there = base.find(entry.key);
    const std::string inner = name.empty() ? entry.key : name + "." + entry.key;
    if (there && there->is_table() && entry.value.is_table())
      merge_tables(*there, entry.value, inner);
    else
      put(base, entry);
  }
}

void check_unique_use(const std::string& list, const ConfigValue& value) {
  const ConfigValue::Array& elements = value.array();
  for (size_t i = 0; i < elements.size(); ++i) {
    const std::string* use = text_at(elements[i], "use");
    for (size_t j = 0; use && j < i; ++j) {
      const std::string* other = text_at(elements[j], "use");
      if (!other || *other != *use) continue;
      throw config_error(elements[i].find("use")->origin, "[[" + list + "]] has \"" + *use + "\" twice",
                         "the first is at " + elements[j].find("use")->origin.text() + "; keep one of them");
    }
  }
}

void merge_lists(const std::string& list, ConfigValue& base, const ConfigValue& over) {
  for (const ConfigValue& element : over.array()) {
    const std::string* use = text_at(element, "use");
    ConfigValue* there = use ? find_element(base.array(), *use) : nullptr;
    if (there)
      merge_tables(*there, element, list);
    else
      base.array().insert(use ? place_for(list, base.array(), *use) : base.array().end(), element);
  }
}

std::string read_text(const std::string& path, const Origin* from) {
  const auto fail = [&](const std::string& what) {
    const std::string remedy = "give the path of a TOML file; configs/ has examples";
    if (from) throw config_error(*from, "cannot read " + path + ": " + what);
    throw Error(path, "cannot read the configuration: " + what, remedy);
  };
  std::error_code error;
  if (std::filesystem::is_directory(path, error)) fail("it is a folder");
  errno = 0;
  std::ifstream in(path, std::ios::binary);
  if (!in) fail(errno ? std::strerror(errno) : "cannot open it");
  std::string text(std::istreambuf_iterator<char>(in), {});
  if (in.bad()) fail("reading failed");
  if (text.size() > kLargestFile) fail("larger than 16 MiB, so hardly a configuration");
  return text;
}

ConfigValue load_with(const std::shared_ptr<const ConfigSource>& source, std::vector<std::string>& stack);

ConfigValue load_file(const std::string& path, const Origin* from, std::vector<std::string>& stack) {
  std::error_code error;
  std::string identity = std::filesystem::weakly_canonical(path, error).string();
  if (identity.empty()) identity = path;
  if (from && std::find(stack.begin(), stack.end(), identity) != stack.end()) {
    throw config_error(*from, "the files extend each other in a circle: " + path + " is being read already",
                       "remove this line, or move what both need into a third file");
  }
  auto source = std::make_shared<ConfigSource>();
  source->name = path;
  source->folder = std::filesystem::path(path).parent_path().string();
  source->text = read_text(path, from);
  stack.push_back(identity);
  ConfigValue out = load_with(source, stack);
  stack.pop_back();
  return out;
}

ConfigValue load_with(const std::shared_ptr<const ConfigSource>& source, std::vector<std::string>& stack) {
  ConfigValue own = read_toml(source);
  ConfigValue out(ConfigValue::Map{}, own.origin);
  if (const ConfigValue* extends = own.find("extends")) {
    std::vector<ConfigValue> files;
    if (extends->is_array())
      files = extends->array();
    else
      files = {*extends};
    for (const ConfigValue& file : files) {
      const std::string* path = std::get_if<std::string>(&file.data);
      if (!path) throw config_error(file.origin, "extends must be a list of file names, not " + file.kind());
      merge_config(out, load_file(join_path(source->folder, *path), &file.origin, stack));
    }
    std::erase_if(own.map(), [](const ConfigValue::Entry& entry) { return entry.key == "extends"; });
  }
  merge_config(out, own);
  return out;
}

} // namespace

ConfigValue load_extended(const std::string& path) {
  std::vector<std::string> stack;
  return load_file(path, nullptr, stack);
}

ConfigValue load_extended_text(const std::string& text, const std::string& name) {
  std::vector<std::string> stack;
  return load_with(std::make_shared<ConfigSource>(ConfigSource{name, "", text}), stack);
}

void merge_config(ConfigValue& base, const ConfigValue& over) {
  for (const ConfigValue::Entry& entry : over.map()) {
    ConfigValue::Entry mine = entry;
    if (is_list_table(mine.key)) make_list(mine.value);
    const bool by_use = (mine.key == "parallel" || mine.key == "metrics") && mine.value.is_array();
    if (by_use) check_unique_use(mine.key, mine.value);
    ConfigValue* there = base.find(mine.key);
    if (by_use && there && there->is_array() && !mine.value.array().empty())
      merge_lists(mine.key, *there, mine.value);
    else if (there && there->is_table() && mine.value.is_table())
      merge_tables(*there, mine.value, mine.key);
    else
      put(base, mine);
  }
}

namespace {

// The one path that a --set argument names: a.b.c, and its value.
struct Assignment {
  std::vector<std::string> path;
  ConfigValue value;
};

void flatten(const ConfigValue& value, std::vector<std::string>& path, std::vector<Assignment>& out) {
  if (!value.is_table() || value.map().empty()) {
    out.push_back({path, value});
    return;
  }
  for (const ConfigValue::Entry& entry : value.map()) {
    path.push_back(entry.key);
    flatten(entry.value, path, out);
    path.pop_back();
  }
}

ConfigValue& table_at(ConfigValue& table, const std::string& key, const Origin& origin) {
  ConfigValue* there = table.find(key);
  if (!there || !there->is_table()) {
    put(table, {key, origin, ConfigValue(ConfigValue::Map{}, origin)});
    there = table.find(key);
  }
  return *there;
}

// The element of a list that --set names, by number or by `use`; made if it is not there.
ConfigValue& element_at(ConfigValue& root, const std::string& list, const std::string& name, const Origin& origin) {
  ConfigValue* there = root.find(list);
  if (!there || !there->is_array()) {
    put(root, {list, origin, ConfigValue(ConfigValue::Array{}, origin)});
    there = root.find(list);
  }
  ConfigValue::Array& elements = there->array();
  if (!name.empty() && name.size() < 9 && name.find_first_not_of("0123456789") == std::string::npos) {
    const size_t number = std::stoul(name);
    if (number < elements.size()) return elements[number];
    throw config_error(origin, "there is no [[" + list + "]] number " + name,
                       "there are " + std::to_string(elements.size()) + ", counted from 0");
  }
  if (ConfigValue* found = find_element(elements, name)) {
    const auto same = [&](const ConfigValue& element) {
      const std::string* use = text_at(element, "use");
      return use && *use == name;
    };
    if (std::count_if(elements.begin(), elements.end(), same) == 1) return *found;
    throw config_error(origin, "several [[" + list + "]] use \"" + name + "\"",
                       "name the one by its number, from 0: --set " + list + ".0.KEY=VALUE");
  }
  ConfigValue fresh(ConfigValue::Map{{"use", origin, ConfigValue(name, origin)}}, origin);
  return *elements.insert(place_for(list, elements, name), std::move(fresh));
}

void assign(ConfigValue& root, const Assignment& assignment) {
  const std::vector<std::string>& path = assignment.path;
  const Origin& origin = assignment.value.origin;
  ConfigValue* table = &root;
  std::string name; // of the table, for forget_former_component
  size_t next = 0;
  if (path.size() >= 2 && is_list_table(path[0])) {
    table = &element_at(root, path[0], path[1], origin);
    name = path[0];
    next = 2;
    if (!table->is_table()) throw config_error(origin, "[[" + path[0] + "]] " + path[1] + " is no table");
    if (path.size() == 2) {
      if (assignment.value.is_table()) return; // "parallel.data={}": it is there now
      throw config_error(origin, "[[" + path[0] + "]] " + path[1] + " must be a table, not " + assignment.value.kind(),
                         "name a key of it: --set " + path[0] + "." + path[1] + ".KEY=VALUE");
    }
  }
  for (; next + 1 < path.size(); ++next) {
    table = &table_at(*table, path[next], origin);
    name += (name.empty() ? "" : ".") + path[next];
  }
  if (path.back() == "use") forget_former_component(*table, name, &assignment.value);
  ConfigValue value = assignment.value;
  if (path.size() == 1 && is_list_table(path[0])) make_list(value);
  put(*table, {path.back(), origin, std::move(value)});
}

} // namespace

void apply_sets(ConfigValue& base, const std::vector<std::string>& arguments) {
  std::vector<Assignment> assignments;
  for (const std::string& argument : arguments) {
    std::vector<std::string> path;
    flatten(read_set(argument), path, assignments);
  }
  // A component's options follow its choice, wherever they stand on the command line.
  std::stable_partition(assignments.begin(), assignments.end(),
                        [](const Assignment& a) { return a.path.back() == "use"; });
  for (const Assignment& assignment : assignments) {
    if (assignment.path[0] == "extends") {
      throw config_error(assignment.value.origin, "extends cannot be set here",
                         "give the other file as the configuration");
    }
    assign(base, assignment);
  }
}

} // namespace kumiki
