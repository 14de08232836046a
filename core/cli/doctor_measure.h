// `kumiki doctor --measure`: all that a machine file says, measured here. Under a launcher the ranks measure at the same
// time, each on its own cores, and then the messages between them. Out: rows of text by rank 0, a machine file. Floor: cli.
#pragma once

#include <string>

#include "core/run/communicator.h"

namespace kumiki {

struct MeasureArguments {
  std::string processor;     // its name
  std::string output;        // machine file; empty: none
  bool network_only = false; // messages between ranks alone; `output` has [[network]] alone then
};

// All ranks of the communicator call it; null: one process alone. Throws Error. [main]
void measure_machine(const MeasureArguments& arguments, Communicator* communicator);

} // namespace kumiki
