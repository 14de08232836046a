#include "core/cli/doctor_checks.h"

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <sstream>

#include "core/base/format.h"

namespace kumiki {
namespace {

constexpr double kFugakuHertz = 2.2e9;
constexpr double kOnePipe = 1.5; // multiply-adds a cycle: below, one of A64FX's two pipes is off
constexpr double kShared = 0.75; // of so many times one core's peak: below, cores are not this process's alone

// The value of "name : value" or "name: value kB" in a line of /proc.
bool value_of(const std::string& line, const std::string& name, std::string& value) {
  if (line.rfind(name, 0) != 0) return false;
  const size_t colon = line.find_first_not_of(" \t", name.size());
  if (colon == std::string::npos || line[colon] != ':') return false;
  const size_t begin = line.find_first_not_of(" \t", colon + 1);
  value = begin == std::string::npos ? "" : line.substr(begin);
  return true;
}

double multiply_adds_a_cycle(const SpeedFacts& facts) { return facts.one_core / (2.0 * facts.lanes * facts.clock); }

std::string mebibytes(uint64_t bytes) {
  if (bytes < (uint64_t{1} << 20)) return std::to_string(bytes >> 10) + " KiB";
  return std::to_string(bytes >> 20) + " MiB";
}

} // namespace

std::string first_line(const std::filesystem::path& file) {
  std::ifstream in(file);
  std::string line;
  std::getline(in, line);
  return line;
}

std::vector<int> parse_core_list(const std::string& text) {
  std::vector<int> cores;
  std::istringstream parts(text);
  for (std::string part; std::getline(parts, part, ',');) {
    int first = 0, last = 0;
    const int read = std::sscanf(part.c_str(), "%d-%d", &first, &last);
    if (read < 1 || first < 0) break;
    if (read == 1) last = first;
    for (int core = first; core <= last; ++core) cores.push_back(core);
  }
  return cores;
}

std::vector<MemoryGroup> memory_groups(const std::string& system, const std::vector<int>& cores) {
  std::map<int, MemoryGroup> found;
  std::error_code none;
  for (const auto& entry : std::filesystem::directory_iterator(system + "/devices/system/node", none)) {
    const std::string name = entry.path().filename().string();
    if (name.rfind("node", 0) != 0 || name.size() < 5 || !std::isdigit(static_cast<unsigned char>(name[4]))) continue;
    const int number = std::atoi(name.c_str() + 4);
    MemoryGroup group{"memory group " + std::to_string(number), {}};
    for (const int core : parse_core_list(first_line(entry.path() / "cpulist")))
      if (std::find(cores.begin(), cores.end(), core) != cores.end()) group.cores.push_back(core);
    if (!group.cores.empty()) found[number] = std::move(group);
  }
  std::vector<MemoryGroup> groups;
  for (auto& [number, group] : found) groups.push_back(std::move(group));
  if (groups.empty()) groups.push_back({"memory group 0", cores});
  return groups;
}

size_t distinct_cores(const std::string& system, const std::vector<int>& cores) {
  std::set<std::string> found;
  for (const int core : cores) {
    const std::string folder = system + "/devices/system/cpu/cpu" + std::to_string(core) + "/topology/";
    const std::string id = first_line(folder + "core_id");
    if (id.empty()) return cores.size();
    found.insert(first_line(folder + "physical_package_id") + "/" + id);
  }
  return found.size();
}

uint64_t large_page_bytes(const std::string& smaps, uint64_t address, uint64_t base_page) {
  std::istringstream lines(smaps);
  bool inside = false;
  uint64_t page = 0, resident = 0, transparent = 0;
  for (std::string line; std::getline(lines, line);) {
    std::string value;
    char* end = nullptr;
    const uint64_t begin = std::strtoull(line.c_str(), &end, 16);
    if (end != line.c_str() && *end == '-') { // "7f12…-7f34… rw-p …": the next mapping
      const uint64_t past = std::strtoull(end + 1, nullptr, 16);
      if (inside) break;
      inside = begin <= address && address < past;
    } else if (inside) {
      const auto kilobytes = [&] { return std::strtoull(value.c_str(), nullptr, 10) * 1024; };
      if (value_of(line, "KernelPageSize", value)) page = kilobytes();
      if (value_of(line, "Rss", value)) resident = kilobytes();
      if (value_of(line, "AnonHugePages", value)) transparent = kilobytes();
    }
  }
  return page > base_page ? std::max(resident, transparent) : transparent;
}

bool is_a64fx(const std::string& cpuinfo) {
  std::istringstream lines(cpuinfo);
  std::string implementer, part;
  for (std::string line; std::getline(lines, line);) {
    if (implementer.empty()) value_of(line, "CPU implementer", implementer);
    if (part.empty()) value_of(line, "CPU part", part);
  }
  return implementer == "0x46" && part == "0x001";
}

std::string pipes_text(const SpeedFacts& facts) {
  if (facts.clock <= 0 || facts.lanes <= 0) return "";
  return format("%.2f vectors of multiply-adds a cycle, %.2f GHz", multiply_adds_a_cycle(facts), facts.clock * 1e-9);
}

std::vector<std::string> speed_problems(const SpeedFacts& facts) {
  std::vector<std::string> problems;
  if (facts.a64fx && facts.one_core > 0) {
    const bool known = facts.clock > 0 && facts.lanes > 0;
    const double hertz = known ? facts.clock : kFugakuHertz;
    const double pipes = facts.one_core / (2.0 * (known ? facts.lanes : 16) * hertz);
    if (pipes < kOnePipe)
      problems.push_back(
          format("eco mode: %.2f vectors of multiply-adds a cycle, where two floating-point pipes make "
                 "2; half the peak is lost: submit with -L \"freq=2200,eco_state=0\"",
                 pipes));
    if (known && facts.clock < 0.97 * kFugakuHertz)
      problems.push_back(
          format("the clock is %.2f GHz, not 2.2: submit with -L \"freq=2200,eco_state=0\"", facts.clock * 1e-9));
  }
  for (const GroupSpeed& group : facts.groups) {
    const double alone = static_cast<double>(group.cores) * facts.one_core;
    if (group.cores < 2 || alone <= 0 || group.flops >= kShared * alone) continue;
    problems.push_back(
        format("the %zu cores of %s reach %.0f %% of %zu times one core: threads share cores, or other "
               "processes run on them: give each rank cores of its own",
               group.cores, group.name.c_str(), 100 * group.flops / alone, group.cores));
  }
  return problems;
}

std::vector<std::string> page_problems(const PageFacts& facts) {
  if (facts.tried == 0 || 2 * facts.on_large_pages >= facts.tried) return {};
  std::string why;
  if (facts.enabled.empty())
    why = "the kernel offers no transparent huge pages";
  else if (facts.enabled.find("[never]") != std::string::npos)
    why =
        "transparent huge pages are off: /sys/kernel/mm/transparent_hugepage/enabled says never, \"madvise\" is enough";
  else if (facts.large_page > facts.tried)
    why = "a transparent huge page has " + mebibytes(facts.large_page) + " here, and only what is larger gets them";
  else
    why = "the kernel found no free ones: memory is fragmented or short";
  return {mebibytes(facts.on_large_pages) + " of " + mebibytes(facts.tried) +
          " are on large pages, all else on pages of " + mebibytes(facts.base_page) + ": " + why};
}

std::vector<std::string> denormal_problems(size_t threads, size_t flushing) {
  if (flushing >= threads) return {};
  return {
      format("%zu of %zu threads compute with denormals, which cost some hundred cycles each: set flush-to-zero on "
             "them",
             threads - flushing, threads)};
}

std::vector<std::string> core_problems(size_t process_cores, size_t distinct) {
  if (distinct >= process_cores) return {};
  return {
      format("the %zu processors of this process are threads of %zu cores: threads share cores; run.threads = %zu "
             "gives each a core of its own",
             process_cores, distinct, distinct)};
}

} // namespace kumiki
