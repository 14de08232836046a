// `kumiki plan --machine`: a run on a machine that is not at hand, with neither its kernels nor its ranks. Floor: cli.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace kumiki {

struct PlanMachineArguments {
  std::string config;
  std::vector<std::string> sets;
  std::string machine;          // name or path
  int64_t nodes = 0, ranks = 0; // one of them; both 0: one rank
  int64_t ranks_per_node = 0;   // 0: as the machine file has it
  double tokens = 0;            // of the whole run
  std::string show;             // "report", "memory", "timeline"
  std::string trace;            // file for the Chrome trace; empty: none
  bool json = false;
  bool suggest = false;
};

// Prints what was asked for. Throws Error.
void plan_on_machine(const PlanMachineArguments& arguments);

} // namespace kumiki
