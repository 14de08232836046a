// Machine: what one rank of a machine reaches, and the network between ranks, from a machine file (docs/machines.md).
// In: a TOML file. Out: rates, efficiencies, levels of the network, each checked with file:line:column. Floor: plan.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "core/config/table.h"

namespace kumiki {

// A level of the network: the ranks of a node among each other, the nodes of the machine.
struct NetworkLevel {
  std::string name;
  int64_t ranks = 0;           // how many ranks reach each other by it, from rank 0 on in blocks; 0: all
  double latency = 0;          // seconds from one rank to another, the software's part included
  double bytes_per_second = 0; // of one rank to one other, in each direction
  double overlap = 1;          // speed of what is computed beside its messages, as a share of its own
  double shared = 0;           // bytes a second of all ranks of a block of the level below together; 0: not less
};

struct Machine {
  enum class Algorithm : uint8_t { kFastest, kRing, kTree };

  std::string file, name;
  int64_t nodes = 0; // that there are; 0: as many as are asked for
  int64_t ranks_per_node = 1;
  int64_t cores = 1;           // of a rank
  double ranks_of_core = 1;    // that share it where a node has fewer cores than ranks: rates are of the whole core
  double f32_flops = 0;        // of a rank, as all below
  double bf16_flops = 0;       // of products in bf16; as f32_flops where the file has none
  double bytes_per_second = 0; // from and to memory
  double memory_bytes = 0;     // that a rank can use; 0: not known
  double step_overhead = 0;    // seconds that each step takes on top
  uint64_t workspace = 0;      // bytes of scratch memory that a product or attention takes
  Algorithm collectives = Algorithm::kFastest;
  int64_t skinny_below = 0;                 // products whose smallest dimension is less are "skinny"
  std::map<std::string, double> efficiency; // share of the peak, by class of op: kClasses
  std::map<int64_t, double> matmul_below;   // of products whose smallest dimension is below the key, not skinny ones
  std::vector<NetworkLevel> network;        // inner first

  static constexpr const char* kClasses[] = {"matmul",     "matmul_skinny",      "attention",
                                             "projection", "attention_backward", "elementwise"};

  // The same machine with another number of ranks on a node, which share its cores, memory and rates. Throws Error.
  Machine with_ranks_per_node(int64_t ranks) const;
  // As many to a node as it takes for so many ranks on the nodes that there are; the same machine where `nodes` is 0.
  Machine for_ranks(int64_t ranks) const;
  double flops(bool bf16) const { return bf16 ? bf16_flops : f32_flops; }
  // Share of the peak that a product reaches whose smallest dimension is this one.
  double product_share(double smallest) const;
};

// Throws Error at file:line:column: unknown keys, wrong types, figures that cannot be.
Machine parse_machine(const std::string& text, const std::string& file);
Machine load_machine(const std::string& file);
// `name` is a path, or the name of a file in one of `folders` without ".toml". Throws Error that lists what there is.
std::string find_machine(const std::string& name, const std::vector<std::string>& folders);

} // namespace kumiki
