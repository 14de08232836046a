#include "core/cli/plan_machine.h"

#include <cstdio>
#include <filesystem>
#include <fstream>

#include "core/base/error.h"
#include "core/base/log.h"
#include "core/plan/scale/plan_run.h"
#include "core/plan/scale/report.h"
#include "core/plan/scale/suggest.h"

namespace kumiki {
namespace {

// Beside the program, in the current folder, and beside the configuration.
std::vector<std::string> machine_folders(const std::string& config) {
  namespace fs = std::filesystem;
  std::error_code none;
  std::vector<std::string> folders = {"configs/machines"};
  const fs::path program = fs::read_symlink("/proc/self/exe", none);
  if (!none)
    folders.push_back((program.parent_path() / "../share/kumiki/configs/machines").lexically_normal().string());
  const fs::path beside = fs::path(config).parent_path();
  folders.push_back((beside / "machines").lexically_normal().string());
  folders.push_back((beside / "../machines").lexically_normal().string());
  return folders;
}

Machine open_machine(const PlanMachineArguments& a) {
  const Machine machine = load_machine(find_machine(a.machine, machine_folders(a.config)));
  return a.ranks_per_node > 0 ? machine.with_ranks_per_node(a.ranks_per_node) : machine;
}

void write_text(const std::string& file, const std::string& text) {
  std::ofstream out(file);
  out << text;
  out.close();
  if (!out) throw Error(file, "cannot be written", "name a file in a folder that exists");
}

} // namespace

void plan_on_machine(const PlanMachineArguments& a) {
  Machine machine = open_machine(a);
  if (a.nodes > 0 && a.ranks > 0)
    throw Error("--nodes", "--ranks says the same", "give one of them: ranks are nodes x ranks per node");
  const int64_t ranks = a.ranks > 0 ? a.ranks : a.nodes > 0 ? a.nodes * machine.ranks_per_node : 1;
  if (a.ranks_per_node == 0) machine = machine.for_ranks(ranks);
  const Config config = Config::load(a.config, a.sets);
  Registry registry(config);
  if (config.model().options.get_i64("vocabulary", 0) == 0)
    log_warning("no data is read for a plan: the model's usual vocabulary is taken, set model.vocabulary for another");
  if (a.suggest) {
    SuggestCount count;
    const std::vector<Suggestion> found = suggest(registry, a.config, a.sets, machine, ranks, &count);
    if (a.json) {
      std::printf("%s", suggestions_json(found).c_str());
    } else {
      std::printf("%zu layouts of %lld ranks of %s may fit; planned in full: the best %zu by estimate\n%s",
                  count.possible, static_cast<long long>(ranks), machine.name.c_str(), count.planned,
                  suggestions_table(found).c_str());
    }
    return;
  }
  const bool timeline = a.show == "timeline";
  Prediction prediction = plan_run(registry, config, machine, ranks, timeline || !a.trace.empty());
  prediction.run.tokens = a.tokens;
  if (!a.trace.empty()) write_text(a.trace, report_trace(prediction));
  const std::string text = a.json               ? report_json(prediction)
                           : timeline           ? report_timeline(prediction, 100)
                           : a.show == "memory" ? report_memory(prediction)
                                                : report_table(prediction);
  std::printf("%s", text.c_str());
}

} // namespace kumiki
