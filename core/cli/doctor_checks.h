// What `kumiki doctor` makes of what it found: sentences about what keeps this process from the machine's speed. In:
// figures and texts of the system, so that tests can plant them. Out: a sentence for each problem, with a remedy. Floor:
// cli.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace kumiki {

// Cores that share a memory: a NUMA node, on A64FX a core memory group. Only those that this process may use.
struct MemoryGroup {
  std::string name; // "memory group 4"
  std::vector<int> cores;
};

// Empty where the file cannot be read. [any]
std::string first_line(const std::filesystem::path& file);

// "0-3,8" -> 0 1 2 3 8; what cannot be read ends the list. [any]
std::vector<int> parse_core_list(const std::string& text);

// From `system`/devices/system/node/node*/cpulist, by number; one group of all `cores` where there is nothing to read.
std::vector<MemoryGroup> memory_groups(const std::string& system, const std::vector<int>& cores);

// How many cores, as the processor has them, the `cores` of the system are: threads of one core count once. As many as
// `cores` where `system`/devices/system/cpu/cpu*/topology says nothing.
size_t distinct_cores(const std::string& system, const std::vector<int>& cores);

// Bytes on large pages of the mapping that begins at `address`, from the text of /proc/PID/smaps: transparent ones, or
// all of it where its pages are larger than `base_page` as such.
uint64_t large_page_bytes(const std::string& smaps, uint64_t address, uint64_t base_page);

// Whether the text of /proc/cpuinfo is an A64FX's: implementer 0x46, part 0x001.
bool is_a64fx(const std::string& cpuinfo);

// FLOP/s of cores that were measured together.
struct GroupSpeed {
  std::string name; // "memory group 4", "all cores"
  size_t cores = 1;
  double flops = 0;
};

struct SpeedFacts {
  bool a64fx = false;
  double clock = 0;    // Hz while one core computed; 0: not known
  int lanes = 0;       // f32 numbers of a vector
  double one_core = 0; // FLOP/s
  std::vector<GroupSpeed> groups;
};

struct PageFacts {
  std::string enabled;     // /sys/kernel/mm/transparent_hugepage/enabled; empty: not offered
  uint64_t base_page = 0;  // bytes
  uint64_t large_page = 0; // bytes of a transparent one; 0: not known
  uint64_t tried = 0;      // bytes that were asked for, and touched
  uint64_t on_large_pages = 0;
};

std::vector<std::string> speed_problems(const SpeedFacts& facts);
std::vector<std::string> page_problems(const PageFacts& facts);
// Of `threads` that compute, `flushing` take denormals as zero.
std::vector<std::string> denormal_problems(size_t threads, size_t flushing);
std::vector<std::string> core_problems(size_t process_cores, size_t distinct);

// "1.98 vectors of multiply-adds a cycle, 2.20 GHz"; "" where the clock is not known.
std::string pipes_text(const SpeedFacts& facts);

} // namespace kumiki
