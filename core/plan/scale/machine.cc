#include "core/plan/scale/machine.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "core/base/error.h"
#include "core/config/reader.h"

namespace kumiki {
namespace {

double positive(const Table& table, const std::string& key, double otherwise) {
  const double value = table.get_f64(key, otherwise);
  if (!(value > 0) || !std::isfinite(value))
    throw table.error(key, table.has(key) ? key + " must be above 0" : "the key `" + key + "` is missing",
                      "docs/machines.md says what it is");
  return value;
}

double not_negative(const Table& table, const std::string& key) {
  const double value = table.get_f64(key, 0);
  if (!(value >= 0) || !std::isfinite(value)) throw table.error(key, key + " must be 0 or more");
  return value;
}

double share(const Table& table, const std::string& key, double otherwise) {
  const double value = table.get_f64(key, otherwise);
  if (!(value > 0 && value <= 1)) throw table.error(key, key + " is a share: above 0, at most 1");
  return value;
}

void read_efficiency(const Table& table, Machine& machine) {
  // What a class is without a figure of its own: the next better known one.
  const double matmul = share(table, "matmul", 0.7);
  machine.efficiency["matmul"] = matmul;
  machine.efficiency["matmul_skinny"] = share(table, "matmul_skinny", matmul / 2);
  machine.efficiency["projection"] = share(table, "projection", matmul);
  machine.efficiency["attention"] = share(table, "attention", matmul / 2);
  machine.efficiency["attention_backward"] = share(table, "attention_backward", machine.efficiency["attention"]);
  machine.efficiency["elementwise"] = share(table, "elementwise", 0.9);
  machine.skinny_below = table.get_i64("skinny_below", 256, 0);
  const Table below = table.table("matmul_below");
  for (const std::string& key : below.keys()) {
    const int64_t limit =
        key.find_first_not_of("0123456789") == std::string::npos && key.size() <= 9 ? std::stoll(key) : 0;
    if (limit <= machine.skinny_below)
      throw below.key_error(key, "a limit of matmul_below is an integer above skinny_below",
                            "matmul_below = { 512 = 0.8 }: products whose smallest dimension is below 512");
    machine.matmul_below[limit] = share(below, key, 1);
  }
  table.finish();
}

void read_network(const std::vector<Table>& tables, double overlap, Machine& machine) {
  for (const Table& table : tables) {
    NetworkLevel level;
    level.name = table.get_string("name", "");
    if (level.name.empty()) throw table.error("name", "the level has no name", "name = \"node\"");
    level.ranks = table.get_i64("ranks", 0, 0);
    level.latency = not_negative(table, "latency");
    level.bytes_per_second = positive(table, "bytes_per_second", 0);
    level.shared = not_negative(table, "shared_bytes_per_second");
    level.overlap = table.get_f64("overlap", overlap, 0, 1);
    table.get_string("source", "");
    table.finish();
    const bool last = machine.network.size() + 1 == tables.size();
    if (last && level.ranks != 0)
      throw table.error("ranks", "the last level joins all ranks", "leave `ranks` out, or add a level");
    if (!last && (level.ranks < 2 || (!machine.network.empty() && level.ranks % machine.network.back().ranks != 0)))
      throw table.error("ranks", "a level joins 2 ranks or more, in blocks of the level before",
                        "inner levels come first");
    machine.network.push_back(std::move(level));
  }
}

} // namespace

Machine Machine::with_ranks_per_node(int64_t ranks) const {
  if (ranks < 1) throw Error(file, "a node has one rank or more");
  const double all_cores = static_cast<double>(cores * ranks_per_node) / ranks_of_core;
  const double before = static_cast<double>(ranks_per_node) / ranks_of_core;
  Machine other = *this;
  other.ranks_per_node = ranks;
  other.cores = std::max<int64_t>(1, std::llround(all_cores) / ranks);
  other.ranks_of_core = std::max(1.0, static_cast<double>(ranks) / all_cores);
  const double factor = before * other.ranks_of_core / static_cast<double>(ranks);
  other.f32_flops *= factor;
  other.bf16_flops *= factor;
  other.bytes_per_second *= factor;
  other.memory_bytes *= static_cast<double>(ranks_per_node) / static_cast<double>(ranks);
  for (NetworkLevel& level : other.network)
    if (level.ranks > 0) level.ranks = std::max<int64_t>(1, level.ranks * ranks / ranks_per_node);
  return other;
}

Machine Machine::for_ranks(int64_t ranks) const {
  return nodes > 0 ? with_ranks_per_node((ranks + nodes - 1) / nodes) : *this;
}

double Machine::product_share(double smallest) const {
  if (smallest < static_cast<double>(skinny_below)) return efficiency.at("matmul_skinny");
  for (const auto& [limit, share] : matmul_below)
    if (smallest < static_cast<double>(limit)) return share;
  return efficiency.at("matmul");
}

Machine parse_machine(const std::string& text, const std::string& file) {
  auto source = std::make_shared<ConfigSource>();
  source->name = file;
  source->folder = std::filesystem::path(file).parent_path().string();
  source->text = text;
  const Table table("machine", std::make_shared<const ConfigValue>(read_toml(source)));
  Machine machine;
  machine.file = file;
  machine.name = table.get_string("name", "");
  if (machine.name.empty()) throw Error(file, "the machine has no name", "add name = \"…\"");
  table.get_string("source", "");
  machine.nodes = table.get_i64("nodes", 0, 0);
  machine.ranks_per_node = table.get_i64("ranks_per_node", 1, 1);
  machine.cores = table.get_i64("cores", 1, 1);
  if (!table.has("f32_flops") || !table.has("bytes_per_second"))
    throw Error(file, "f32_flops and bytes_per_second are needed", "docs/machines.md says what they are");
  machine.f32_flops = positive(table, "f32_flops", 0);
  machine.bf16_flops = positive(table, "bf16_flops", machine.f32_flops);
  machine.bytes_per_second = positive(table, "bytes_per_second", 0);
  machine.memory_bytes = not_negative(table, "memory_bytes");
  machine.step_overhead = not_negative(table, "step_overhead");
  const double overlap = table.get_f64("overlap", 1, 0, 1);
  machine.workspace = static_cast<uint64_t>(not_negative(table, "workspace_bytes"));
  const std::string algorithm = table.get_string("collectives", "fastest", "fastest|ring|tree");
  machine.collectives = algorithm == "ring"   ? Machine::Algorithm::kRing
                        : algorithm == "tree" ? Machine::Algorithm::kTree
                                              : Machine::Algorithm::kFastest;
  read_efficiency(table.table("efficiency"), machine);
  read_network(table.tables("network"), overlap, machine);
  table.finish();
  // A file of `kumiki doctor` knows one process: ranks beside each other copy through memory, there and back.
  if (machine.network.empty()) machine.network.push_back({"memory", 0, 5e-6, machine.bytes_per_second / 4, overlap, 0});
  return machine;
}

Machine load_machine(const std::string& file) {
  std::ifstream in(file);
  std::stringstream text;
  text << in.rdbuf();
  if (!in) throw Error(file, "cannot be read");
  return parse_machine(text.str(), file);
}

std::string find_machine(const std::string& name, const std::vector<std::string>& folders) {
  namespace fs = std::filesystem;
  if (name.find('/') != std::string::npos || name.ends_with(".toml")) return name;
  std::string known;
  for (const std::string& folder : folders) {
    const fs::path file = fs::path(folder) / (name + ".toml");
    if (fs::exists(file)) return file.string();
    std::error_code none;
    for (const auto& entry : fs::directory_iterator(folder, none))
      if (entry.path().extension() == ".toml" && known.find(entry.path().stem().string()) == std::string::npos)
        known += (known.empty() ? "" : ", ") + entry.path().stem().string();
  }
  std::string where;
  for (const std::string& folder : folders) where += (where.empty() ? "" : ", ") + folder;
  throw Error("--machine", "there is no machine file " + name + ".toml in " + where,
              known.empty() ? "give the path of a machine file" : "known are " + known + "; a path is taken, too");
}

} // namespace kumiki
