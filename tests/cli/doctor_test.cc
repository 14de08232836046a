// What doctor says of planted systems: pages, denormals, eco mode, shared cores; and nothing of good ones.
#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>
#include <string>

#include <unistd.h>

#include "core/cli/doctor_checks.h"
#include "core/cli/doctor_ranks.h"

namespace kumiki {
namespace {

namespace fs = std::filesystem;

// A folder in place of /sys, gone when the test is.
class System {
 public:
  System() : root_(fs::temp_directory_path() / ("kumiki-doctor-" + std::to_string(getpid()))) {
    fs::create_directories(root_);
  }
  ~System() { fs::remove_all(root_); }
  void put(const std::string& path, const std::string& text) const {
    fs::create_directories((root_ / path).parent_path());
    std::ofstream(root_ / path) << text << "\n";
  }
  std::string root() const { return root_.string(); }

 private:
  fs::path root_;
};

std::vector<int> range(int first, int last) {
  std::vector<int> cores;
  for (int c = first; c <= last; ++c) cores.push_back(c);
  return cores;
}

bool has(const std::vector<std::string>& problems, const std::string& what) {
  for (const std::string& problem : problems)
    if (problem.find(what) != std::string::npos) return true;
  return false;
}

// A node of Fugaku as it should be: 2.2 GHz, two pipes, four memory groups.
SpeedFacts fugaku(double hertz, double pipes) {
  SpeedFacts facts{true, hertz, 16, hertz * 32 * pipes, {}};
  for (int group = 4; group < 8; ++group)
    facts.groups.push_back({"memory group " + std::to_string(group), 12, 12 * facts.one_core});
  facts.groups.push_back({"this process", 48, 48 * facts.one_core});
  return facts;
}

TEST_CASE("lists of cores are read as the kernel writes them") {
  CHECK(parse_core_list("0-3,8") == std::vector<int>{0, 1, 2, 3, 8});
  CHECK(parse_core_list("7") == std::vector<int>{7});
  CHECK(parse_core_list("").empty());
  CHECK(parse_core_list("x").empty());
}

TEST_CASE("memory groups are the NUMA nodes that hold cores of the process, by number") {
  const System system;
  // As on Fugaku: nodes 0 to 3 hold assistant cores.
  system.put("devices/system/node/node0/cpulist", "0");
  for (int g = 0; g < 4; ++g)
    system.put("devices/system/node/node" + std::to_string(4 + g) + "/cpulist",
               std::to_string(12 + 12 * g) + "-" + std::to_string(23 + 12 * g));
  system.put("devices/system/node/possible", "0-7");
  const std::vector<MemoryGroup> all = memory_groups(system.root(), range(12, 59));
  REQUIRE(all.size() == 4);
  CHECK(all[0].name == "memory group 4");
  CHECK(all[3].cores == range(48, 59));
  const std::vector<MemoryGroup> bound = memory_groups(system.root(), range(24, 35));
  REQUIRE(bound.size() == 1);
  CHECK(bound[0].name == "memory group 5");
  CHECK(memory_groups(system.root() + "/none", range(0, 3)).at(0).cores == range(0, 3));
}

TEST_CASE("two threads of one core are named") {
  const System system;
  for (int c = 0; c < 4; ++c) {
    const std::string folder = "devices/system/cpu/cpu" + std::to_string(c) + "/topology/";
    system.put(folder + "physical_package_id", "0");
    system.put(folder + "core_id", std::to_string(c / 2));
  }
  CHECK(distinct_cores(system.root(), range(0, 3)) == 2);
  CHECK(distinct_cores(system.root(), {0, 2}) == 2);
  CHECK(distinct_cores(system.root() + "/none", range(0, 3)) == 4);
  CHECK(has(core_problems(4, 2), "run.threads = 2"));
  CHECK(core_problems(2, 2).empty());
}

TEST_CASE("an A64FX is told by implementer and part") {
  CHECK(is_a64fx("processor\t: 0\nCPU implementer\t: 0x46\nCPU part\t: 0x001\n"));
  CHECK_FALSE(is_a64fx("CPU implementer\t: 0x41\nCPU part\t: 0xd40\n"));
  CHECK_FALSE(is_a64fx("model name : some x86\n"));
  CHECK_FALSE(is_a64fx(""));
}

TEST_CASE("a good node has no problem with its speed") {
  CHECK(speed_problems(fugaku(2.2e9, 1.98)).empty());
  CHECK(pipes_text(fugaku(2.2e9, 1.98)) == "1.98 vectors of multiply-adds a cycle, 2.20 GHz");
}

TEST_CASE("eco mode is half of the multiply-adds a cycle, at any clock, and a slow clock is another thing") {
  CHECK(has(speed_problems(fugaku(2.2e9, 0.99)), "eco mode"));
  CHECK_FALSE(has(speed_problems(fugaku(2.2e9, 0.99)), "GHz, not 2.2"));
  CHECK_FALSE(has(speed_problems(fugaku(2.0e9, 1.98)), "eco mode"));
  CHECK(has(speed_problems(fugaku(2.0e9, 1.98)), "2.00 GHz, not 2.2"));
  SpeedFacts no_clock = fugaku(2.2e9, 0.99);
  no_clock.clock = 0;
  CHECK(has(speed_problems(no_clock), "eco mode"));
  SpeedFacts other = fugaku(2.2e9, 0.99); // a processor with one pipe
  other.a64fx = false;
  CHECK(speed_problems(other).empty());
}

TEST_CASE("cores that others use make a memory group slower than its cores") {
  SpeedFacts facts = fugaku(2.2e9, 1.98);
  facts.groups[1].flops *= 0.5;
  const std::vector<std::string> problems = speed_problems(facts);
  REQUIRE(problems.size() == 1);
  CHECK(has(problems, "memory group 5 reach 50 %"));
  facts.groups[1].flops *= 1.8; // turbo clocks fall with the cores in use
  CHECK(speed_problems(facts).empty());
}

TEST_CASE("large pages are counted in the mapping at hand, transparent or not") {
  const std::string smaps =
      "10000-20000 rw-p 00000000 00:00 0 \nKernelPageSize:       64 kB\nRss:   64 kB\n"
      "AnonHugePages:     0 kB\n"
      "400000-4400000 rw-p 00000000 00:00 0 \nSize:   65536 kB\nKernelPageSize:       64 kB\n"
      "Rss:               65536 kB\nAnonHugePages:     40960 kB\n"
      "80000000-84000000 rw-p 00000000 00:0e 7 /anon_hugepage (deleted)\n"
      "KernelPageSize:     2048 kB\nRss:               65536 kB\nAnonHugePages:         0 kB\n";
  CHECK(large_page_bytes(smaps, 0x400000, 65536) == 40960u * 1024);
  CHECK(large_page_bytes(smaps, 0x10000, 65536) == 0);
  CHECK(large_page_bytes(smaps, 0x80000000, 65536) == 65536u * 1024);
  CHECK(large_page_bytes(smaps, 0x70000000, 65536) == 0);
  CHECK(large_page_bytes("", 0x400000, 65536) == 0);
}

TEST_CASE("a job without large pages is told why") {
  const uint64_t tried = 64u << 20;
  const PageFacts good{"always [madvise] never", 4096, 2u << 20, tried, tried - (2u << 20)};
  CHECK(page_problems(good).empty());
  PageFacts bad = good;
  bad.on_large_pages = 0;
  CHECK(has(page_problems(bad), "fragmented"));
  bad.enabled = "always madvise [never]";
  CHECK(has(page_problems(bad), "are off"));
  bad.enabled = "";
  CHECK(has(page_problems(bad), "offers no"));
  CHECK(has(page_problems({"always [madvise] never", 65536, 512u << 20, tried, 0}), "512 MiB"));
  CHECK(has(page_problems({"always [madvise] never", 65536, 512u << 20, tried, 0}), "pages of 64 KiB"));
  CHECK(page_problems({"", 65536, 0, 0, 0}).empty()); // nothing could be tried
}

TEST_CASE("threads that compute with denormals are counted") {
  CHECK(denormal_problems(12, 12).empty());
  CHECK(has(denormal_problems(12, 11), "1 of 12 threads"));
}

RankFacts rank_on(uint32_t rank, std::vector<int> cores, std::vector<int> memory, uint64_t threads = 0) {
  return {rank, "a1", true, 4, std::move(cores), std::move(memory), threads};
}

TEST_CASE(
    "ranks with cores of their own, alike in memory, have no problem; other hosts have cores of the same numbers") {
  std::vector<RankFacts> ranks = {rank_on(0, {0, 1}, {0}, 2), rank_on(1, {2, 3}, {1}, 2)};
  CHECK(rank_problems(ranks).empty());
  ranks.push_back(rank_on(2, {0, 1}, {0}));
  ranks.back().host = "b2";
  CHECK(rank_problems(ranks).empty());
  CHECK(rank_table(ranks).find("     1  a1    2-3    1\n") != std::string::npos);
}

TEST_CASE("ranks that share cores, have too few, or crowd a memory group are named") {
  const std::vector<std::string> shared =
      rank_problems({rank_on(0, {0, 1}, {0}), rank_on(1, {1, 2}, {0}), rank_on(2, {1}, {0})});
  CHECK(shared.size() == 1);
  CHECK(has(shared, "a1: ranks 0-2 compute on the same cores (1)"));
  const std::vector<std::string> few = rank_problems({rank_on(0, {0, 1}, {0}, 3), rank_on(1, {2, 3, 4}, {0}, 3)});
  CHECK(few.size() == 1);
  CHECK(has(few, "run.threads = 3, but rank 0 has 2 cores"));
  const std::vector<std::string> uneven =
      rank_problems({rank_on(0, {0}, {4}), rank_on(1, {1}, {4}), rank_on(2, {12}, {5})});
  CHECK(uneven.size() == 1);
  CHECK(has(uneven, "2 in memory group 4, 1 in memory group 5"));
}

TEST_CASE("ranks that nobody bound are told how they divide the cores, and which of them get none") {
  std::vector<RankFacts> ranks = {rank_on(0, {}, {}), rank_on(1, {0}, {0}), rank_on(2, {1}, {0})};
  for (RankFacts& rank : ranks) rank.bound = false, rank.host_cores = 2;
  CHECK(rank_table(ranks).find("its 2 cores are divided among 3 ranks") != std::string::npos);
  CHECK(has(rank_problems(ranks), "3 ranks for 2 cores leave rank 0 none of their own"));
}

} // namespace
} // namespace kumiki
