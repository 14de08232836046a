// The ranks of this process: one that a launcher started (or the only one), or all of a run as threads (comm `threads`).
// Floor: run.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "core/run/communicator.h"

namespace kumiki {

// Each rank has a configuration and a registry of its own; communicator is null where there is one rank.
using RankBody = std::function<int(const Config&, Registry&, Communicator*)>;

// Runs `body` for each rank of this process, and gives its exit code. An error in a rank of several ends the whole job, with
// the rank's name; on a single rank it is thrown.
int run_ranks(const std::string& config_path, const std::vector<std::string>& sets, const RankBody& body);

} // namespace kumiki
