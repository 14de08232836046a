#include "core/cli/doctor_file.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "core/base/format.h"

namespace kumiki {
namespace {

// Products whose smallest dimension is below a limit are a class; the limits lie between the widths that are measured.
constexpr int kLimits[] = {96, 192, 384, 640};

std::string quoted(const std::string& text) { return nlohmann::json(text).dump(); }

// FLOPs a second of all samples of a class with `from` <= smallest dimension < `below`, as a share of the peak; 0: none.
double share_of(const MachineFacts& facts, const std::string& op_class, double from = 0, double below = 1e300) {
  double flops = 0, seconds = 0;
  for (const RateSample& s : facts.rates.samples)
    if (s.op_class == op_class && s.smallest >= from && s.smallest < below) flops += s.flops, seconds += s.seconds;
  return seconds > 0 ? std::min(1.0, flops / seconds / facts.f32_flops) : 0;
}

double elementwise_share(const MachineFacts& facts) {
  double bytes = 0, seconds = 0;
  for (const RateSample& s : facts.rates.samples)
    if (s.op_class == "elementwise") bytes += s.bytes, seconds += s.seconds;
  return seconds > 0 ? std::min(1.0, bytes / seconds / facts.bytes_per_second) : 0;
}

std::string figure(const char* key, double value, const char* how) {
  return value > 0 ? format("%s = %.3g    # %s\n", key, value, how) : "";
}

std::string efficiency_text(const MachineFacts& facts) {
  std::string text =
      "\n[efficiency]    # FLOPs and seconds of all kernels of a class, in training steps of five GPTs through the "
      "executor\n";
  text += figure("matmul", share_of(facts, "matmul", kLimits[3]), "smallest of M, N, K: 768");
  text += format("skinny_below = %d\n", kLimits[0]);
  text += figure("matmul_skinny", share_of(facts, "matmul", 0, kLimits[0]), "64");
  std::string below;
  for (size_t i = 1; i < std::size(kLimits); ++i)
    if (const double share = share_of(facts, "matmul", kLimits[i - 1], kLimits[i]); share > 0)
      below += format("%s%d = %.3g", below.empty() ? "" : ", ", kLimits[i], share);
  if (!below.empty()) text += "matmul_below = { " + below + " }    # 128, 256, 512\n";
  for (const char* name : {"projection", "attention", "attention_backward"})
    text += figure(name, share_of(facts, name), "all five");
  return text + figure("elementwise", elementwise_share(facts), "all else: bytes a second, as a share of the triad");
}

} // namespace

std::string network_text(const NetworkFacts& facts) {
  std::vector<HockneyPoint> points;
  std::string seen;
  for (const NetworkSample& sample : facts.samples) {
    points.push_back(hockney_point(sample, facts.ranks));
    const char* name = sample.op == KM_COMM_SEND             ? "send"
                       : sample.op == KM_COMM_ALL_REDUCE     ? "all_reduce"
                       : sample.op == KM_COMM_REDUCE_SCATTER ? "reduce_scatter"
                                                             : "all_gather";
    seen += format("#   %-14s %8.0f bytes %10.1f us\n", name, sample.bytes, sample.seconds * 1e6);
  }
  const Hockney fit = fit_hockney(points);
  const bool inside = facts.ranks_of_host == facts.ranks;
  return format("\n# Fit of latency and bandwidth to medians over %u ranks:\n", facts.ranks) + seen +
         "[[network]]\nname = " + (inside ? "\"memory\"\n" : "\"link\"\n") +
         format("latency = %.3g\nbytes_per_second = %.3g\n", fit.latency, fit.bytes_per_second) +
         format("overlap = %.3g    # an all_reduce of 8 MiB beside computing\n", facts.overlap);
}

std::string machine_text(const MachineFacts& facts) {
  const bool network = !facts.network.samples.empty();
  std::string text = "# Written by kumiki doctor --measure" +
                     (facts.ranks > 1 ? format(": %lld ranks measured at the same time, figures of one of them",
                                               static_cast<long long>(facts.ranks))
                                      : std::string(": what one process reaches on this machine")) +
                     ".\n";
  text += "name = " + quoted(facts.processor) + "\n";
  text += "source = " + quoted("measured by kumiki doctor --measure, " + facts.instructions) + "\n";
  text += format("nodes = 1    # this machine: more ranks share its cores\nranks_per_node = %lld\ncores = %lld\n",
                 static_cast<long long>(facts.ranks), static_cast<long long>(facts.cores));
  text += figure("f32_flops", facts.f32_flops, "independent multiply-adds in registers, best of three");
  text += figure("bf16_flops", facts.bf16_flops, "the same, of bf16 products");
  text += figure("bytes_per_second", facts.bytes_per_second, "triad, best of three");
  text += figure("memory_bytes", facts.memory_bytes, "MemTotal of /proc/meminfo");
  text += figure("step_overhead", facts.rates.step_overhead, "outside of kernels, by the executor's profile");
  if (network) text += "collectives = \"ring\"    # as comm mpi moves them\n";
  text += efficiency_text(facts);
  return network ? text + network_text(facts.network) : text;
}

} // namespace kumiki
