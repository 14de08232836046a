#include "core/cli/doctor_command.h"

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <set>
#include <sstream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "core/base/cores.h"
#include "core/base/error.h"
#include "core/base/format.h"
#include "core/base/peak.h"
#include "core/cli/doctor_conditions.h"
#include "core/cli/doctor_measure.h"
#include "core/cli/doctor_ranks.h"
#include "core/graph/graph.h"
#include "core/plugin/options.h"
#include "core/plugin/registry.h"
#include "core/run/communicator.h"
#include "core/run/launch.h"
#include "core/run/pool.h"
#include "kumiki/kernels.h"
#include "nlohmann/json.hpp"

namespace kumiki {
namespace {

// The value of "name : value" in a file of /proc; the first that is there.
std::string proc_value(const std::string& path, const std::string& name) {
  std::ifstream in(path);
  for (std::string line; std::getline(in, line);) {
    if (line.rfind(name, 0) != 0) continue;
    const size_t colon = line.find(':');
    if (colon == std::string::npos) continue;
    if (line.find_first_not_of(" \t", name.size()) != colon) continue; // a longer name
    const size_t begin = line.find_first_not_of(" \t", colon + 1);
    return begin == std::string::npos ? "" : line.substr(begin);
  }
  return "";
}

std::string gigabytes(const std::string& kilobytes) {
  if (kilobytes.empty()) return "unknown";
  return format("%.1f GiB", std::strtod(kilobytes.c_str(), nullptr) / (1024.0 * 1024.0));
}

size_t physical_cores() {
  const std::string system = "/sys";
  return distinct_cores(system, parse_core_list(first_line(system + "/devices/system/cpu/online")));
}

std::string processor() {
  const std::string model = proc_value("/proc/cpuinfo", "model name");
  if (!model.empty()) return model;
  return "implementer " + proc_value("/proc/cpuinfo", "CPU implementer") + ", part " +
         proc_value("/proc/cpuinfo", "CPU part");
}

void show_processor() {
  doctor_row("processor", processor());
  doctor_row("cores", std::to_string(physical_cores()) + " (" + std::to_string(std::thread::hardware_concurrency()) +
                          " threads), " + std::to_string(process_cores().size()) + " for this process");
  for (int i = 0; i < 8; ++i) {
    const std::string folder = "/sys/devices/system/cpu/cpu0/cache/index" + std::to_string(i) + "/";
    const std::string size = first_line(folder + "size");
    if (size.empty()) continue;
    doctor_row(
        "cache L" + first_line(folder + "level"),
        size + " " + first_line(folder + "type") + ", shared by cores " + first_line(folder + "shared_cpu_list"));
  }
  std::string flags = proc_value("/proc/cpuinfo", "flags");
  if (flags.empty()) flags = proc_value("/proc/cpuinfo", "Features");
  static const std::set<std::string> interesting = {
      "sse4_2",      "avx",         "avx2",        "fma",      "f16c",     "avx512f",  "avx512bw", "avx512vl",
      "avx512_bf16", "avx512_vnni", "avx512_fp16", "avx_vnni", "amx_bf16", "amx_int8", "amx_tile", "asimd",
      "fphp",        "asimdhp",     "bf16",        "sve",      "sve2",     "svebf16",  "sme"};
  std::istringstream words(flags);
  std::string found;
  for (std::string word; words >> word;) {
    if (interesting.count(word)) found += (found.empty() ? "" : " ") + word;
  }
  doctor_row("SIMD", found.empty() ? "none that is known here" : found);
}

void show_memory() {
  doctor_row("memory", gigabytes(proc_value("/proc/meminfo", "MemTotal")) + ", free " +
                           gigabytes(proc_value("/proc/meminfo", "MemAvailable")));
  const std::string transparent = first_line("/sys/kernel/mm/transparent_hugepage/enabled");
  doctor_row("huge pages", "transparent: " + (transparent.empty() ? "not offered" : transparent) +
                               "; reserved: " + proc_value("/proc/meminfo", "HugePages_Total") + " of " +
                               proc_value("/proc/meminfo", "Hugepagesize"));
}

void show_environment() {
  std::string found;
  for (const char* name :
       {"OMP_NUM_THREADS", "OMP_PROC_BIND", "OMP_PLACES", "KMP_AFFINITY", "GOMP_CPU_AFFINITY", "OMPI_COMM_WORLD_SIZE",
        "PMI_SIZE", "PMIX_RANK", "SLURM_NTASKS", "PJM_MPI_PROC", "CUDA_VISIBLE_DEVICES", "KUMIKI_PLUGINS"}) {
    if (const char* value = std::getenv(name)) found += (found.empty() ? "" : " ") + std::string(name) + "=" + value;
  }
  doctor_row("environment", found.empty() ? "nothing set that matters here" : found);
}

void show_build() {
  std::string text = "compiler " __VERSION__ ", C++ " + std::to_string(__cplusplus);
#if defined(__OPTIMIZE__)
  text += ", optimized";
#else
  text += ", not optimized (build with -c opt)";
#endif
#if defined(__SANITIZE_ADDRESS__)
  text += ", address sanitizer";
#endif
#if defined(__SANITIZE_THREAD__)
  text += ", thread sanitizer";
#endif
  doctor_row("build", text);
}

void show_kernels() {
  Registry registry;
  registry.load_all();
  Host host;
  Pool pool(1, false);
  host.set_context(&pool);
  host.set_service(KM_PARALLEL_SERVICE, Pool::service());
  host.set_service(KM_GRAPH_SERVICE, graph_service());
  for (const Component* component : registry.components()) {
    if (component->kind != "kernels") continue;
    std::string result;
    try {
      const km_kernels table = table_of<km_kernels>(*component, "kernels", KM_KERNELS_VERSION);
      const OptionValues options(*component, Table("kernels." + component->name));
      void* self = nullptr;
      check(table.open(host.abi(), options.get(), &self), "", "");
      table.close(self);
      result = "opens here";
    } catch (const Error& error) {
      result = std::string("does not open here: ") + error.what();
    }
    doctor_row("kernels " + component->name, component->plugin->version + " " + result);
  }
  for (const std::string& refusal : registry.refusals()) doctor_row("plugin", refusal);
  if (registry.components().empty())
    doctor_row("plugins", "none found; `kumiki plugin list` says where they are looked for");
}

struct Arguments {
  std::string config;
  bool measure = false;
  MeasureArguments measured;
};

// The first rank speaks for its host, then for where all ranks compute; all measure together.
void report(Arguments& arguments, const Config& config, Communicator* communicator) {
  const RankFacts own = facts_of_rank(config, communicator);
  std::vector<RankFacts> ranks;
  if (communicator) ranks = gather_facts(own, *communicator);
  if (own.rank == 0) {
    show_processor();
    show_memory();
    show_environment();
    show_build();
    show_kernels();
    show_conditions();
    if (communicator) {
      std::printf("\n%s", rank_table(ranks).c_str());
      for (const std::string& problem : rank_problems(ranks)) doctor_row("problem", problem);
    }
  }
  if (communicator) communicator->barrier();
  if (!arguments.measure) return;
  arguments.measured.processor = processor();
  measure_machine(arguments.measured, communicator);
}

// Ranks join as those of `train` do.
void examine(Arguments& arguments) {
  if (!arguments.config.empty()) {
    run_ranks(arguments.config, {}, [&](const Config& config, Registry&, Communicator* communicator) {
      report(arguments, config, communicator);
      return 0;
    });
    return;
  }
  // As little as a configuration must say; of it only [comm] counts here.
  const Config config = Config::parse(
      "[run]\nsteps = 1\nsequence = 1\n[model]\nuse = \"gpt\"\n[[data]]\nuse = \"synthetic\"\n", "doctor");
  Registry registry(config);
  const CommChoice choice = choose_comm(config, registry);
  if (!choice.component) return report(arguments, config, nullptr);
  Host host;
  Communicator communicator(host, choice);
  try {
    report(arguments, config, &communicator);
  } catch (const Error& error) {
    communicator.abort(error.exit_code, error.what());
    throw;
  }
}

} // namespace

void add_doctor_command(CLI::App& app) {
  const auto arguments = std::make_shared<Arguments>();
  CLI::App* command = app.add_subcommand(
      "doctor", "what this machine has, which kernels open on it, and under a launcher where each rank computes");
  CLI::Option* measured = command->add_flag("--measure", arguments->measure,
                                            "measure peaks, memory bandwidth, kernels and, under a launcher, messages "
                                            "between the ranks (half a minute, 2 GB)");
  command->add_option("--output", arguments->measured.output, "write what was measured to this machine file (TOML)")
      ->needs(measured);
  command->add_flag("--network", arguments->measured.network_only, "measure the messages between ranks alone")
      ->needs(measured);
  command->add_option("config", arguments->config,
                      "a configuration: its [comm], and run.threads to compare with cores");
  command->callback([arguments] { examine(*arguments); });
}

} // namespace kumiki
