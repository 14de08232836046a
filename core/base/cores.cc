#include "core/base/cores.h"

#include <pthread.h>
#include <sched.h>
#include <unistd.h>

namespace kumiki {
namespace {

void set_cores(const std::vector<int>& cores) {
  cpu_set_t set;
  CPU_ZERO(&set);
  for (int core : cores) CPU_SET(core, &set);
  pthread_setaffinity_np(pthread_self(), sizeof set, &set);
}

std::vector<int> allowed_now() {
  std::vector<int> cores;
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) == 0)
    for (int i = 0; i < CPU_SETSIZE; ++i)
      if (CPU_ISSET(i, &set)) cores.push_back(i);
  if (cores.empty()) cores.push_back(0);
  return cores;
}

} // namespace

const std::vector<int>& process_cores() {
  static const std::vector<int> cores = allowed_now();
  return cores;
}

std::vector<int> cores_of_rank(unsigned local, unsigned ranks) {
  const std::vector<int>& cores = process_cores();
  const long online = sysconf(_SC_NPROCESSORS_ONLN);
  if (ranks <= 1 || (online > 0 && cores.size() < static_cast<size_t>(online))) return cores; // bound by the launcher
  const size_t n = cores.size();
  if (n < ranks) return {};
  return {cores.begin() + static_cast<std::ptrdiff_t>(n * local / ranks),
          cores.begin() + static_cast<std::ptrdiff_t>(n * (local + 1) / ranks)};
}

void run_on_any_core() { set_cores(process_cores()); }

void run_on_core(int core) { set_cores({core}); }

} // namespace kumiki
