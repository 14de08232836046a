#include "core/config/config.h"

#include <cstdlib>
#include <filesystem>

#include "core/base/suggest.h"
#include "core/config/merge.h"
#include "core/config/schema.h"

namespace kumiki {
namespace {

// Reads keys of the core by their row in the schema: type, default and range stand there only.
class CoreReader {
 public:
  CoreReader(std::string table, Table values) : name_(std::move(table)), values_(std::move(values)) {}

  int64_t i64(const char* key) const {
    const km_option& row = find(key);
    const int64_t otherwise = row.default_text ? std::strtoll(row.default_text, nullptr, 10) : 0;
    const int64_t maximum = row.maximum >= kNoLimit ? Table::kHighest : static_cast<int64_t>(row.maximum);
    return values_.get_i64(key, otherwise, static_cast<int64_t>(row.minimum), maximum);
  }
  double f64(const char* key) const {
    const km_option& row = find(key);
    const double otherwise = row.default_text ? std::strtod(row.default_text, nullptr) : 0;
    return values_.get_f64(key, otherwise, row.minimum, row.maximum >= kNoLimit ? Table::kInfinity : row.maximum);
  }
  std::string string(const char* key) const {
    const km_option& row = find(key);
    return values_.get_string(key, row.default_text ? row.default_text : "", row.choices ? row.choices : "");
  }
  std::vector<std::string> strings(const char* key) const {
    return values_.get_string_list(key, default_list(find(key).default_text));
  }
  const Table& values() const { return values_; }

 private:
  const km_option& find(const char* key) const {
    const km_option* row = find_core_key(name_, key);
    KM_CHECK(row, "every key that is read has a row in the schema");
    if ((row->flags & KM_OPTION_REQUIRED) && !values_.has(key)) {
      std::string title = "[" + name_ + "]";
      const CoreTable* table = find_core_table(name_);
      if (table && table->is_array) title = "[" + title + "]";
      throw values_.error("", title + " lacks `" + std::string(key) + "`: " + row->help, add_line(key, *row));
    }
    return *row;
  }
  std::string add_line(const std::string& key, const km_option& row) const {
    return "add `" + key + " = " + (row.type == KM_OPTION_STRING ? "\"...\"" : "...") + "`";
  }
  std::string name_;
  Table values_;
};

std::string stem_of(const std::string& path) {
  const std::string stem = std::filesystem::path(path).stem().string();
  return stem.empty() || stem == "." || stem == ".." ? "run" : stem;
}

GlobalBatch read_global_batch(const Table& run, int64_t micro_batch) {
  const ConfigValue* value = run.find("global_batch");
  GlobalBatch out;
  if (!value) {
    out.start = out.end = micro_batch;
  } else if (value->is_table()) {
    const CoreReader ramp("run.global_batch", run.table("global_batch"));
    out = {ramp.i64("start"), ramp.i64("end"), ramp.i64("tokens")};
    ramp.values().finish();
    if (out.end < out.start)
      throw ramp.values().error("end", "the ramp of run.global_batch must not fall: end < start");
  } else {
    out.start = out.end = CoreReader("run", run).i64("global_batch");
  }
  return out;
}

RunSettings read_run(const Table& table, const std::string& path) {
  const CoreReader run("run", table);
  RunSettings out;
  out.name = run.string("name");
  if (out.name.empty()) out.name = stem_of(path);
  if (out.name.find('/') != std::string::npos || out.name == "." || out.name == "..") {
    throw table.error("name", "run.name \"" + out.name + "\" cannot be the name of a folder", "leave out the slash");
  }
  out.seed = run.i64("seed");
  out.steps = run.i64("steps");
  out.sequence = run.i64("sequence");
  out.micro_batch = run.i64("micro_batch");
  out.global_batch = read_global_batch(table, out.micro_batch);
  out.compute = run.string("compute");
  out.threads = run.i64("threads");
  out.output = run.string("output");
  out.eval_every = run.i64("eval_every");
  out.eval_batches = run.i64("eval_batches");
  out.max_wall = run.f64("max_wall");
  out.time_limit = run.f64("time_limit");
  out.compare_every = run.i64("compare_every");
  out.sample_every = run.i64("sample_every");
  out.sample_prompt = run.string("sample_prompt");
  out.sample_tokens = run.i64("sample_tokens");
  table.finish();
  return out;
}

OptimizerSettings read_optimizer(const Table& table) {
  const CoreReader optimizer("optimizer", table);
  const CoreReader schedule("optimizer.schedule", table.table("schedule"));
  OptimizerSettings out;
  out.use = optimizer.string("use");
  out.learning_rate = optimizer.f64("learning_rate");
  out.clip = optimizer.f64("clip");
  out.schedule = {schedule.string("use"), schedule.i64("warmup"), schedule.f64("minimum"), schedule.i64("decay")};
  schedule.values().finish();
  if (out.schedule.minimum > out.learning_rate) {
    throw schedule.values().error("minimum", "optimizer.schedule.minimum is above optimizer.learning_rate");
  }
  return out;
}

CheckpointSettings read_checkpoint(const Table& table) {
  const CoreReader checkpoint("checkpoint", table);
  CheckpointSettings out{checkpoint.i64("every"), checkpoint.i64("keep")};
  table.finish();
  return out;
}

KernelsSettings read_kernels(const Table& table) {
  const CoreReader kernels("kernels", table);
  KernelsSettings out{kernels.strings("use"), kernels.string("select")};
  if (out.use.empty()) throw table.error("use", "kernels.use names no component", "for example use = [\"generic\"]");
  for (const std::string& key : table.keys()) {
    if (is_core_key("kernels", key)) continue;
    bool chosen = false;
    for (const std::string& name : out.use) chosen = chosen || name == key;
    if (!chosen) {
      std::vector<std::string> known = out.use;
      for (const km_option& row : core_keys_of("kernels")) known.emplace_back(row.name);
      throw table.key_error(key, "[kernels] has no key \"" + key + "\", and kernels.use no such component",
                            suggestion(key, known));
    }
    table.table(key); // must be a table
  }
  return out;
}

PluginSettings read_plugins(const Table& table) {
  const CoreReader plugins("plugins", table);
  PluginSettings out;
  out.path = plugins.strings("path");
  if (const ConfigValue* path = table.find("path")) {
    out.folder.assign(out.path.size(), path->origin.source ? path->origin.source->folder : "");
    out.origin.assign(out.path.size(), path->origin.text());
  }
  const Table pins = table.table("sha256");
  for (const std::string& file : pins.keys()) {
    const std::string hex = pins.get_string(file, "");
    if (hex.size() != 64 || hex.find_first_not_of("0123456789abcdefABCDEF") != std::string::npos) {
      throw pins.error(file, "plugins.sha256 of " + file + " is not 64 hexadecimal digits",
                       "`sha256sum FILE` prints them");
    }
    out.sha256.emplace_back(file, hex);
  }
  table.finish();
  return out;
}

} // namespace

// Makes a Config of a merged tree, checking what belongs to the core.
class ConfigBuilder {
 public:
  static Config build(ConfigValue root, const std::string& path, const std::vector<std::string>& sets) {
    if (!root.find("metrics")) {
      ConfigValue console(ConfigValue::Map{{"use", {}, ConfigValue(std::string("console"), Origin{})}}, Origin{});
      root.map().push_back({"metrics", {}, ConfigValue(ConfigValue::Array{std::move(console)}, Origin{})});
    }
    apply_sets(root, sets);
    Config out;
    out.path_ = path;
    out.root_ = std::make_shared<const ConfigValue>(std::move(root));
    check_table_names(out);
    out.run_ = read_run(out.table("run"), path);
    out.optimizer_ = read_optimizer(out.table("optimizer"));
    out.checkpoint_ = read_checkpoint(out.table("checkpoint"));
    out.kernels_ = read_kernels(out.table("kernels"));
    out.plugins_ = read_plugins(out.table("plugins"));
    check_components(out);
    return out;
  }

 private:
  static void check_table_names(const Config& config) {
    std::vector<std::string> known;
    for (const CoreTable& table : core_tables()) known.emplace_back(table.name);
    for (const ConfigValue::Entry& entry : config.root_->map()) {
      const CoreTable* table = find_core_table(entry.key);
      if (!table) {
        const bool is_key = !entry.value.is_table() && !entry.value.is_array();
        throw config_error(
            entry.key_origin,
            is_key ? "the key \"" + entry.key + "\" stands in no table" : "there is no table [" + entry.key + "]",
            is_key ? "put it below the [table] that it belongs to" : suggestion(entry.key, known));
      }
      const std::string shape =
          table->is_array ? "a list of tables, [[" + entry.key + "]]" : "a table, [" + entry.key + "]";
      if (table->is_array ? !entry.value.is_array() : !entry.value.is_table()) {
        throw config_error(entry.key_origin, entry.key + " must be " + shape + ", not " + entry.value.kind());
      }
      // A misspelt key is said before the key that it was meant for is missed.
      if (!*table->kind) check_keys(config.table(entry.key), entry.key);
    }
  }

  static void check_keys(const Table& table, const std::string& name) {
    std::vector<std::string> known;
    for (const km_option& row : core_keys_of(name)) known.emplace_back(row.name);
    for (const std::string& key : table.keys()) {
      if (is_core_key(name, key)) continue;
      throw table.key_error(key, "[" + name + "] has no key \"" + key + "\"", suggestion(key, known));
    }
  }

  static void check_components(const Config& config) {
    CoreReader("model", config.table("model")).string("use");
    CoreReader("comm", config.table("comm")).string("use");
    const Table root("", config.root_);
    for (const Table& element : root.tables("data")) {
      CoreReader("data", element).string("use");
      CoreReader("data", element).f64("weight");
    }
    for (const Table& element : root.tables("parallel")) {
      CoreReader("parallel", element).string("use");
      CoreReader("parallel", element).i64("degree");
    }
    for (const Table& element : root.tables("metrics")) CoreReader("metrics", element).string("use");
    if (config.data().empty()) {
      throw Error(config.path(), "there is no [[data]]", "add [[data]] with `use = \"...\"`: where samples come from");
    }
  }
};

Config Config::load(const std::string& path, const std::vector<std::string>& sets) {
  return ConfigBuilder::build(load_extended(path), path, sets);
}

Config Config::parse(const std::string& text, const std::string& name, const std::vector<std::string>& sets) {
  return ConfigBuilder::build(load_extended_text(text, name), name, sets);
}

Table Config::table(const std::string& name) const {
  Table out("", root_);
  size_t begin = 0;
  for (size_t dot = 0; dot != std::string::npos; begin = dot + 1) {
    dot = name.find('.', begin);
    out = out.table(name.substr(begin, dot - begin));
  }
  return out;
}

namespace {

// Elements of a list, named by their `use` in messages where that is unique, else by their number.
std::vector<ComponentUse> list_of(const std::shared_ptr<const ConfigValue>& root, const std::string& kind) {
  std::vector<ComponentUse> out;
  const ConfigValue* list = root->find(kind);
  if (!list) return out;
  const ConfigValue::Array& elements = list->array();
  for (size_t i = 0; i < elements.size(); ++i) {
    const std::string use = std::get<std::string>(elements[i].find("use")->data);
    const std::string name = kind + "." + (kind == "data" ? std::to_string(i) : use);
    out.push_back({kind, use, Table(name, std::shared_ptr<const ConfigValue>(root, &elements[i])),
                   elements[i].find("use")->origin});
  }
  return out;
}

} // namespace

ComponentUse Config::single(const std::string& kind) const {
  const Table options = table(kind);
  const km_option* row = find_core_key(kind, "use");
  const ConfigValue* use = options.find("use");
  return {kind, options.use(row->default_text ? row->default_text : ""), options, use ? use->origin : Origin{}};
}

ComponentUse Config::model() const { return single("model"); }
ComponentUse Config::optimizer_component() const { return single("optimizer"); }
ComponentUse Config::comm() const { return single("comm"); }
std::vector<ComponentUse> Config::data() const { return list_of(root_, "data"); }
std::vector<ComponentUse> Config::parallel() const { return list_of(root_, "parallel"); }
std::vector<ComponentUse> Config::metrics() const { return list_of(root_, "metrics"); }

std::vector<ComponentUse> Config::kernel_chain() const {
  std::vector<ComponentUse> out;
  const Table kernels = table("kernels");
  const ConfigValue* use = kernels.find("use");
  for (size_t i = 0; i < kernels_.use.size(); ++i) {
    const std::string& name = kernels_.use[i];
    out.push_back({"kernels", name, kernels.table(name),
                   !use              ? Origin{}
                   : use->is_array() ? use->array()[i].origin
                                     : use->origin});
  }
  return out;
}

std::vector<ComponentUse> Config::components() const {
  std::vector<ComponentUse> out = {model()};
  const auto add = [&](const std::vector<ComponentUse>& more) { out.insert(out.end(), more.begin(), more.end()); };
  add(kernel_chain());
  out.push_back(optimizer_component());
  add(data());
  add(parallel());
  add(metrics());
  if (comm().name != "auto") out.push_back(comm());
  return out;
}

} // namespace kumiki
