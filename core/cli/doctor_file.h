// The machine file (docs/machines.md) that `kumiki doctor --measure --output` writes. In: what was measured. Out: TOML in
// which each figure says how it came about; `kumiki plan --machine` reads it. Floor: cli.
#pragma once

#include <cstdint>
#include <string>

#include "core/cli/doctor_network.h"
#include "core/cli/doctor_rates.h"

namespace kumiki {

struct MachineFacts {
  std::string processor, instructions;
  int64_t ranks = 1;                                          // measured at the same time, alike
  int64_t cores = 1;                                          // of each
  double f32_flops = 0, bf16_flops = 0, bytes_per_second = 0; // of each; bf16 0: none
  double memory_bytes = 0;                                    // of each
  Rates rates;
  NetworkFacts network; // no samples: one rank alone
};

// Throws Error where the figures give no machine: messages that take no time.
std::string machine_text(const MachineFacts& facts);

// [[network]] alone, and what else of a machine file messages decide: for a file whose ranks are joined in another way.
std::string network_text(const NetworkFacts& facts);

} // namespace kumiki
