// The cores of this process, and a way back to all of them: a pinned thread hands its core on to the threads that it
// starts, which is wrong for those that only wait for files. Floor: base.
#pragma once

#include <vector>

namespace kumiki {

// Cores that the process might run on when this was first asked, in order; at least one. [any]
const std::vector<int>& process_cores();

// Those of them that rank `local` of `ranks` ranks on this host computes on: a share of its own where the launcher did not
// bind the process; empty where there are fewer cores than ranks. [any]
std::vector<int> cores_of_rank(unsigned local, unsigned ranks);

// Lets the calling thread run on any of them again. [any]
void run_on_any_core();

// Keeps the calling thread on one core. [any]
void run_on_core(int core);

} // namespace kumiki
