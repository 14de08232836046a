#include "core/cli/doctor_ranks.h"

#include <unistd.h>

#include <algorithm>
#include <map>
#include <set>

#include "core/base/cores.h"
#include "core/base/format.h"
#include "core/cli/doctor_checks.h"
#include "nlohmann/json.hpp"

namespace kumiki {
namespace {

// 0 1 2 3 8 -> "0-3,8"
std::string ranges(const std::vector<int>& numbers) {
  std::string text;
  for (size_t i = 0; i < numbers.size();) {
    size_t end = i + 1;
    while (end < numbers.size() && numbers[end] == numbers[end - 1] + 1) ++end;
    text += (text.empty() ? "" : ",") + std::to_string(numbers[i]);
    if (end - i > 1) text += "-" + std::to_string(numbers[end - 1]);
    i = end;
  }
  return text;
}

std::map<std::string, std::vector<const RankFacts*>> by_host(const std::vector<RankFacts>& ranks) {
  std::map<std::string, std::vector<const RankFacts*>> hosts;
  for (const RankFacts& rank : ranks) hosts[rank.host].push_back(&rank);
  return hosts;
}

std::string numbers_of(const std::vector<const RankFacts*>& ranks) {
  std::vector<int> numbers;
  for (const RankFacts* rank : ranks) numbers.push_back(static_cast<int>(rank->rank));
  return (numbers.size() == 1 ? "rank " : "ranks ") + ranges(numbers);
}

void add_shared_cores(const std::string& host, const std::vector<const RankFacts*>& ranks,
                      std::vector<std::string>& problems) {
  std::map<int, std::vector<const RankFacts*>> users; // by core
  std::vector<const RankFacts*> homeless;
  for (const RankFacts* rank : ranks) {
    for (const int core : rank->cores) users[core].push_back(rank);
    if (rank->cores.empty()) homeless.push_back(rank);
  }
  std::map<std::vector<const RankFacts*>, std::vector<int>> shared; // the cores that the same ranks share
  for (const auto& [core, several] : users)
    if (several.size() > 1) shared[several].push_back(core);
  for (const auto& [several, cores] : shared)
    problems.push_back(host + ": " + numbers_of(several) + " compute on the same cores (" + ranges(cores) +
                       "): bind each to its own, as by mpirun --map-by slot:PE=N --bind-to core, or none, by --bind-to "
                       "none: then they divide the cores among themselves");
  if (!homeless.empty())
    problems.push_back(host + ": " + std::to_string(ranks.size()) + " ranks for " +
                       std::to_string(homeless[0]->host_cores) + " cores leave " + numbers_of(homeless) +
                       " none of their own: start fewer ranks on it");
}

void add_few_cores(const std::string& host, const std::vector<const RankFacts*>& ranks,
                   std::vector<std::string>& problems) {
  std::map<std::pair<uint64_t, size_t>, std::vector<const RankFacts*>> short_of; // by threads and cores
  for (const RankFacts* rank : ranks)
    if (!rank->cores.empty() && rank->wanted_threads > rank->cores.size())
      short_of[{rank->wanted_threads, rank->cores.size()}].push_back(rank);
  for (const auto& [figures, those] : short_of)
    problems.push_back(host + ": run.threads = " + std::to_string(figures.first) + ", but " + numbers_of(those) +
                       (those.size() == 1 ? " has " : " have ") + std::to_string(figures.second) +
                       (figures.second == 1 ? " core" : " cores") + (those.size() == 1 ? "" : " each") +
                       ": lower run.threads, or bind ranks to as many cores");
}

// Groups that no rank touches are not known here: a bound process does not see them.
void add_uneven_memory(const std::string& host, const std::vector<const RankFacts*>& ranks,
                       std::vector<std::string>& problems) {
  std::map<int, size_t> users;
  for (const RankFacts* rank : ranks)
    for (const int group : rank->memory) ++users[group];
  std::set<size_t> counts;
  std::string text;
  for (const auto& [group, n] : users) {
    counts.insert(n);
    text += (text.empty() ? "" : ", ") + std::to_string(n) + " in memory group " + std::to_string(group);
  }
  if (counts.size() > 1)
    problems.push_back(host + ": ranks share its memory unevenly (" + text +
                       "), and the slowest sets the pace: give each memory group as many, as by mpirun --map-by numa");
}

} // namespace

std::string rank_table(const std::vector<RankFacts>& ranks) {
  size_t host_width = 4, cores_width = 5;
  for (const RankFacts& rank : ranks) {
    host_width = std::max(host_width, rank.host.size());
    cores_width = std::max(cores_width, std::max<size_t>(ranges(rank.cores).size(), 4));
  }
  const int host = static_cast<int>(host_width), cores = static_cast<int>(cores_width);
  std::string text = format("%6s  %-*s  %-*s  %s\n", "rank", host, "host", cores, "cores", "memory group");
  for (const RankFacts& rank : ranks)
    text += format("%6u  %-*s  %-*s  %s\n", rank.rank, host, rank.host.c_str(), cores,
                   rank.cores.empty() ? "none" : ranges(rank.cores).c_str(),
                   rank.memory.empty() ? "any" : ranges(rank.memory).c_str());
  for (const auto& [name, those] : by_host(ranks)) {
    const bool unbound = std::none_of(those.begin(), those.end(), [](const RankFacts* rank) { return rank->bound; });
    if (unbound && those.size() > 1)
      text += name + ": no rank is bound: its " + std::to_string(those[0]->host_cores) + " cores are divided among " +
              std::to_string(those.size()) + " ranks, as above\n";
  }
  return text;
}

std::vector<std::string> rank_problems(const std::vector<RankFacts>& ranks) {
  std::vector<std::string> problems;
  for (const auto& [host, those] : by_host(ranks)) {
    add_shared_cores(host, those, problems);
    add_few_cores(host, those, problems);
    add_uneven_memory(host, those, problems);
  }
  return problems;
}

RankFacts facts_of_rank(const Config& config, const Communicator* communicator) {
  RankFacts facts;
  uint32_t local_rank = 0, local_size = 1;
  if (communicator) {
    const km_rank_info& place = communicator->place();
    facts.rank = place.rank, local_rank = place.local_rank, local_size = place.local_size;
  }
  char name[256] = "";
  facts.host = gethostname(name, sizeof name - 1) == 0 ? name : "this host";
  const long online = sysconf(_SC_NPROCESSORS_ONLN);
  facts.host_cores = process_cores().size();
  facts.bound = online > 0 && process_cores().size() < static_cast<size_t>(online);
  facts.cores = cores_of_rank(local_rank, local_size);
  facts.wanted_threads = static_cast<uint64_t>(config.run().threads);
  if (!facts.cores.empty())
    for (const MemoryGroup& group : memory_groups("/sys", facts.cores))
      facts.memory.push_back(std::atoi(group.name.c_str() + group.name.rfind(' ')));
  return facts;
}

std::vector<RankFacts> gather_facts(const RankFacts& own, Communicator& communicator) {
  std::vector<RankFacts> all;
  for (uint32_t r = 0; r < communicator.place().size; ++r) {
    std::string text;
    if (r == own.rank)
      text = nlohmann::json::array({own.host, own.bound, own.host_cores, own.cores, own.memory, own.wanted_threads})
                 .dump();
    communicator.broadcast(text, r);
    const nlohmann::json told = nlohmann::json::parse(text);
    all.push_back({r, told[0].get<std::string>(), told[1].get<bool>(), told[2].get<uint64_t>(),
                   told[3].get<std::vector<int>>(), told[4].get<std::vector<int>>(), told[5].get<uint64_t>()});
  }
  return all;
}

} // namespace kumiki
