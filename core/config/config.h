// Config: one run's configuration, from a TOML file, the files that it extends, and --set arguments. In: paths and
// texts. Out: checked settings of the core as plain structs, and a Table for each component that the file names, whose
// options the plugin floor checks (core/plugin/options.h). The keys of the core, their types, defaults and ranges stand
// in one list, core/config/schema.cc. Floor: config (stands on base, abi).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/config/table.h"
#include "kumiki/base.h"

namespace kumiki {

// Sequences of one update: from `start` to `end`, growing linearly with the tokens seen until `tokens`. No ramp: start
// == end.
struct GlobalBatch {
  int64_t start = 1;
  int64_t end = 1;
  int64_t tokens = 0;
};

struct RunSettings {
  std::string name; // default: the file's name without ".toml"
  int64_t seed = 0;
  int64_t steps = 0;
  int64_t sequence = 0;
  int64_t micro_batch = 0;
  GlobalBatch global_batch;
  std::string compute;       // "f32", "bf16"
  int64_t threads = 0;       // 0 = all cores
  std::string output;        // folder that holds runs/NAME; relative to the current folder
  int64_t eval_every = 0;    // steps; 0 = never
  int64_t eval_batches = 0;  // micro-batches of one evaluation
  double max_wall = 0;       // seconds; 0 = no limit
  double time_limit = 0;     // seconds that a rank waits for a message of others
  int64_t compare_every = 0; // steps; ranks that hold the same weights compare them; 0 = never
  int64_t sample_every = 0;  // steps; 0 = never
  std::string sample_prompt;
  int64_t sample_tokens = 0;
};

struct ScheduleSettings {
  std::string use;    // "constant", "cosine", "linear", "wsd"
  int64_t warmup = 0; // steps
  double minimum = 0; // learning rate at the end
  int64_t decay = 0;  // wsd: steps of the decay at the end
};

struct OptimizerSettings {
  std::string use;
  double learning_rate = 0;
  double clip = 0; // of the global norm; 0 = none
  ScheduleSettings schedule;
};

struct CheckpointSettings {
  int64_t every = 0; // steps; 0 = only at the end
  int64_t keep = 0;  // newest that stay; 0 = all
};

struct KernelsSettings {
  std::vector<std::string> use; // the chain, in order
  std::string select;           // "order", "fastest"
};

struct PluginSettings {
  std::vector<std::string> path;                           // as written: absolute, or see Registry::add_file
  std::vector<std::string> folder;                         // of each path: the folder of the file that names it
  std::vector<std::string> origin;                         // of each path
  std::vector<std::pair<std::string, std::string>> sha256; // file name -> hex
};

// One component that the configuration names.
struct ComponentUse {
  std::string kind; // "model", "kernels", …
  std::string name; // what `use` says
  Table options;    // its table; keys of the core are in it too (is_core_key)
  Origin origin;    // where the name was said
};

// The declared options of component (kind, name); null where it is not known.
using OptionLookup = std::function<const std::vector<km_option>*(const std::string& kind, const std::string& name)>;

class Config {
 public:
  // Reads a file, what it extends, and `sets` ("a.b=c", last wins), and checks every key of the core. Throws Error
  // (exit code 2). [any]
  static Config load(const std::string& path, const std::vector<std::string>& sets = {});
  // The same for a text; `name` stands for the path in messages and its folder is the current one.
  static Config parse(const std::string& text, const std::string& name, const std::vector<std::string>& sets = {});

  const std::string& path() const { return path_; }
  const RunSettings& run() const { return run_; }
  const OptimizerSettings& optimizer() const { return optimizer_; }
  const CheckpointSettings& checkpoint() const { return checkpoint_; }
  const KernelsSettings& kernels() const { return kernels_; }
  const PluginSettings& plugins() const { return plugins_; }

  // A table by name ("run", "optimizer.schedule"), empty if absent: for errors that point at what the user wrote.
  Table table(const std::string& name) const;
  ComponentUse model() const;
  ComponentUse optimizer_component() const;
  ComponentUse comm() const;              // name "auto" unless the user chose
  std::vector<ComponentUse> data() const; // in the order written; the weight: options.get_f64("weight", 1.0)
  std::vector<ComponentUse> parallel()
      const; // the first is the innermost axis; options.get_i64("degree", 0): 0 = what remains
  std::vector<ComponentUse> metrics() const;
  std::vector<ComponentUse> kernel_chain() const; // options of a kernels component: [kernels.NAME]
  std::vector<ComponentUse> components() const;   // all of the above, but comm "auto"

  // The whole configuration as TOML that loads again to the same values: defaults written out, paths absolute, no
  // `extends`. With a lookup also the defaults of components' options. with_origin: each line closes with where its
  // value came from.
  std::string to_toml(const OptionLookup& lookup = nullptr, bool with_origin = false) const;

 private:
  friend class ConfigBuilder;
  ComponentUse single(const std::string& kind) const;
  std::string path_;
  std::shared_ptr<const ConfigValue> root_;
  RunSettings run_;
  OptimizerSettings optimizer_;
  CheckpointSettings checkpoint_;
  KernelsSettings kernels_;
  PluginSettings plugins_;
};

} // namespace kumiki
