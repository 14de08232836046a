#include "core/plan/scale/report.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "core/base/format.h"

namespace kumiki {
namespace {

std::string share_line(const char* what, double seconds, double all, const std::string& more = "") {
  return format("  %-22s %9s  %5.1f %%%s%s\n", what, with_seconds(seconds).c_str(), 100 * seconds / all,
                more.empty() ? "" : "  ", more.c_str());
}

std::string stages_text(const CoordinateMemory& memory) {
  std::string text;
  for (const int32_t stage : memory.stages) text += (text.empty() ? "" : ",") + std::to_string(stage);
  return text;
}

// The rows of all coordinates, in the order in which they first come.
std::vector<std::string> row_names(const Prediction& p) {
  std::vector<std::string> names;
  for (const CoordinateMemory& m : p.memory)
    for (const MemoryRow& row : m.rows)
      if (std::find(names.begin(), names.end(), row.what) == names.end()) names.push_back(row.what);
  return names;
}

uint64_t row_of(const CoordinateMemory& memory, const std::string& what) {
  for (const MemoryRow& row : memory.rows)
    if (row.what == what) return row.bytes;
  return 0;
}

} // namespace

std::string with_unit(double value, const char* unit) {
  static constexpr const char* kPrefixes[] = {"", "k", "M", "G", "T", "P", "E"};
  size_t i = 0;
  while (value >= 999.5 && i + 1 < std::size(kPrefixes)) value /= 1000, ++i;
  return format("%.*f %s%s", value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2, value, kPrefixes[i], unit);
}

std::string with_seconds(double seconds) {
  if (seconds >= 1 || seconds == 0) return format("%.3g s", seconds);
  if (seconds >= 1e-3) return format("%.3g ms", seconds * 1e3);
  return format("%.3g us", seconds * 1e6);
}

std::string report_memory(const Prediction& p) {
  const std::vector<std::string> names = row_names(p);
  std::string text = format("memory of a rank, MB%s\n",
                            p.memory_bytes > 0 ? (" (" + with_unit(p.memory_bytes, "B") + " usable)").c_str() : "");
  text += format("  %-10s %-12s", "coordinate", "stages");
  for (const std::string& name : names) text += format("  %s", name.c_str());
  text += "  total\n";
  for (size_t c = 0; c < p.memory.size(); ++c) {
    const CoordinateMemory& m = p.memory[c];
    text += format("  %-10zu %-12s", c, stages_text(m).c_str());
    for (const std::string& name : names)
      text += format("  %*.0f", static_cast<int>(name.size()), static_cast<double>(row_of(m, name)) * 1e-6);
    const bool fits = p.memory_bytes == 0 || static_cast<double>(m.total) <= p.memory_bytes;
    text += format("  %5.0f%s\n", static_cast<double>(m.total) * 1e-6, fits ? "" : "  DOES NOT FIT");
  }
  return text;
}

std::string report_table(const Prediction& p) {
  const RunFacts& run = p.run;
  std::string text =
      format("%s: %s parameters, %lld ranks (%s), %lld a node of %s\n", run.config.c_str(),
             with_unit(static_cast<double>(run.parameters), "").c_str(), static_cast<long long>(run.ranks),
             run.layout.c_str(), static_cast<long long>(p.ranks_per_node), p.machine.c_str());
  text += format("step       %s for %.0f tokens: %lld micro-batches of %lld sequences on each of %lld\n",
                 with_seconds(p.seconds).c_str(), p.tokens_per_step(), static_cast<long long>(run.micro_batches),
                 static_cast<long long>(run.micro_batch), static_cast<long long>(run.batch_degree));
  text += format("speed      %s a rank, %s in all, %.1f %% of peak (%s, %s); %.0f tokens a second\n",
                 with_unit(p.flops_per_second(), "FLOP/s").c_str(),
                 with_unit(p.flops_per_second() * static_cast<double>(run.ranks), "FLOP/s").c_str(),
                 100 * p.share_of_peak(), run.bf16 ? "bf16" : "f32", with_unit(p.peak, "FLOP/s").c_str(),
                 p.tokens_per_step() / p.seconds);
  if (run.tokens > 0)
    text += format("duration   %.1f days for %s tokens\n", p.days(), with_unit(run.tokens, "").c_str());
  text += "\nwhere the time of a step goes, mean of the stages' ranks\n";
  text += share_line("computing", p.computed, p.seconds);
  for (const auto& [name, seconds] : p.classes) text += share_line(("  " + name).c_str(), seconds, p.seconds);
  text += share_line("  of it the update", p.update, p.seconds);
  text += share_line("bubble", p.idle, p.seconds,
                     p.schedule_bubble > 0 ? format("waiting for other stages; the schedule alone, with equal stages, "
                                                    "leaves %.1f %%",
                                                    100 * p.schedule_bubble)
                                           : "");
  for (const AxisTime& axis : p.axes)
    text += share_line(("waiting for " + axis.axes).c_str(), axis.exposed, p.seconds,
                       format("messages take %s, %.0f %% of it hidden", with_seconds(axis.seconds).c_str(),
                              100 * p.hidden_share(axis)));
  if (!p.traffic.empty()) {
    text +=
        format("\ntraffic of a rank and step\n  %-16s %-16s %10s %12s %10s\n", "axes", "op", "calls", "bytes", "time");
    for (const Traffic& t : p.traffic)
      text += format("  %-16s %-16s %10.0f %12s %10s\n", t.axes.c_str(), t.op.c_str(), t.calls,
                     with_unit(t.bytes, "B").c_str(), with_seconds(t.seconds).c_str());
  }
  return text + "\n" + report_memory(p);
}

std::string report_json(const Prediction& p) {
  nlohmann::json json;
  const RunFacts& run = p.run;
  json["config"] = run.config;
  json["machine"] = p.machine;
  json["ranks"] = run.ranks;
  json["ranks_per_node"] = p.ranks_per_node;
  json["layout"] = run.layout;
  json["parameters"] = run.parameters;
  json["micro_batches"] = run.micro_batches;
  json["tokens_per_step"] = p.tokens_per_step();
  json["seconds_per_step"] = p.seconds;
  json["flops_per_second"] = p.flops_per_second();
  json["share_of_peak"] = p.share_of_peak();
  json["share_of_peak_causal"] = p.share_of_peak_causal();
  json["bubble"] = p.bubble();
  json["schedule_bubble"] = p.schedule_bubble;
  if (run.tokens > 0) json["days"] = p.days();
  json["fits"] = p.fits();
  json["seconds"]["computed"] = p.computed;
  json["seconds"]["bubble"] = p.idle;
  json["seconds"]["update"] = p.update;
  json["seconds"]["by_class"] = p.classes;
  json["axes"] = nlohmann::json::array();
  for (const AxisTime& axis : p.axes)
    json["axes"].push_back({{"axes", axis.axes}, {"seconds", axis.seconds}, {"exposed", axis.exposed}});
  json["traffic"] = nlohmann::json::array();
  for (const Traffic& t : p.traffic)
    json["traffic"].push_back(
        {{"axes", t.axes}, {"op", t.op}, {"calls", t.calls}, {"bytes", t.bytes}, {"seconds", t.seconds}});
  json["memory"] = nlohmann::json::array();
  for (const CoordinateMemory& m : p.memory) {
    nlohmann::json one = {{"rank", m.rank}, {"stages", m.stages}, {"total", m.total}};
    for (const MemoryRow& row : m.rows) one["bytes"][row.what] = row.bytes;
    json["memory"].push_back(std::move(one));
  }
  return json.dump(2) + "\n";
}

} // namespace kumiki
