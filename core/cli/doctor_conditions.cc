#include "core/cli/doctor_conditions.h"

#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>

#include "core/base/cores.h"
#include "core/base/format.h"
#include "core/base/peak.h"
#include "core/base/threads.h"
#include "core/run/pool.h"

namespace kumiki {
namespace {

constexpr const char* kSystem = "/sys";
constexpr uint64_t kTried = uint64_t{64} << 20;

std::string text_of(const char* path) {
  std::ifstream in(path);
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

void problems(const std::vector<std::string>& found) {
  for (const std::string& problem : found) doctor_row("problem", problem);
}

// As the arena of a run asks for them (core/plan/device.cc).
PageFacts try_large_pages() {
  PageFacts facts;
  facts.enabled = first_line("/sys/kernel/mm/transparent_hugepage/enabled");
  facts.base_page = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  facts.large_page =
      std::strtoull(first_line("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size").c_str(), nullptr, 10);
  void* memory = mmap(nullptr, kTried, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) return facts;
  madvise(memory, kTried, MADV_HUGEPAGE);
  std::memset(memory, 1, kTried);
  const std::string smaps = text_of("/proc/self/smaps");
  if (!smaps.empty()) {
    facts.tried = kTried;
    facts.on_large_pages = large_page_bytes(smaps, reinterpret_cast<uint64_t>(memory), facts.base_page);
  }
  munmap(memory, kTried);
  return facts;
}

// Half of the smallest normal number: 0 where denormals are flushed.
bool flushes_here() {
  volatile float smallest = 1.17549435e-38f;
  volatile float half = smallest * 0.5f;
  return half == 0.0f;
}

} // namespace

void doctor_row(const std::string& name, const std::string& value) {
  std::printf("%-18s %s\n", name.c_str(), value.c_str());
}

void show_conditions() {
  const PageFacts pages = try_large_pages();
  doctor_row("large pages", pages.tried == 0 ? "not known: /proc/self/smaps cannot be read"
                                             : std::to_string(pages.on_large_pages >> 20) + " of " +
                                                   std::to_string(pages.tried >> 20) + " MiB as a run asks for them");
  problems(page_problems(pages));

  std::atomic<size_t> flushing{0};
  size_t threads = 0;
  start_thread([&] { // a pool changes the thread that makes it
    Pool pool(0, false);
    threads = pool.threads();
    pool.each(
        [](void* context, uint32_t, uint32_t) {
          if (flushes_here()) static_cast<std::atomic<size_t>*>(context)->fetch_add(1);
        },
        &flushing);
  })
      .join();
  doctor_row("denormals", "flushed to zero on " + std::to_string(flushing) + " of " + std::to_string(threads) +
                              " threads of a pool");
  problems(denormal_problems(threads, flushing));

  const std::vector<int>& cores = process_cores();
  problems(core_problems(cores.size(), distinct_cores(kSystem, cores)));
}

SpeedFacts measure_speed() {
  const std::vector<int>& cores = process_cores();
  SpeedFacts facts;
  facts.a64fx = is_a64fx(text_of("/proc/cpuinfo"));
  facts.lanes = f32_lanes();
  facts.clock = clock_hertz(cores.front());
  facts.one_core = f32_peak({cores.front()});
  const std::vector<MemoryGroup> groups = memory_groups(kSystem, cores);
  if (groups.size() > 1)
    for (const MemoryGroup& group : groups)
      facts.groups.push_back({group.name, group.cores.size(), f32_peak(group.cores)});
  facts.groups.push_back({"this process", cores.size(), cores.size() > 1 ? f32_peak(cores) : facts.one_core});
  if (facts.one_core <= 0) return facts;

  const auto giga = [](double flops) { return format("%.1f GFLOP/s", flops * 1e-9); };
  const std::string pipes = pipes_text(facts);
  doctor_row("f32 peak", giga(facts.one_core) + " one core (" + peak_instructions() + ", multiply-adds in registers" +
                             (pipes.empty() ? "" : "; " + pipes) + ")");
  for (const GroupSpeed& group : facts.groups)
    if (group.cores > 1)
      doctor_row("", giga(group.flops) + ", " + std::to_string(group.cores) + " cores of " + group.name);
  problems(speed_problems(facts));
  return facts;
}

} // namespace kumiki
