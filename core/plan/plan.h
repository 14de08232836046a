// The plan: for each phase a list of steps (kernel, buffers, workspace), and where everything lies in memory. Nothing after
// it makes decisions. A graph and a kernel chain go in; the executor, the memory table and `kumiki plan` read it.
// Floor: plan.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/graph/graph.h"
#include "core/plan/chain.h"
#include "core/plan/memory.h"

namespace kumiki {

// Where a buffer lies: in the arena, or in a leaf (parameter, state, input, constant, the block of step scalars).
struct Location {
  static constexpr uint32_t kArena = 0xffffffffu;
  uint32_t leaf = kArena; // index into Plan::leaves
  uint64_t offset = 0;
};

struct Leaf {
  std::string
      name; // unique over all plans of a run: parameters, states, "input:tokens@1x64", "constant:0.9", "scalars"
  ValueKind kind = ValueKind::kParameter;
  Type type;
  ValueId value = 0;
  bool saved = false;  // parameters, and states that a parameter owns
  double constant = 0; // of constants
};

// The block of step scalars: one value every 16 bytes, in this order.
inline constexpr const char* kStepScalars[] = {"step",   "learning_rate", "loss_scale", "seed",
                                               "sample", "micro",         "past"};
inline constexpr uint64_t kScalarStride = 16;
inline constexpr uint64_t kScalarBytes = kScalarStride * 7;
uint64_t scalar_offset(const std::string& name);

enum class StepKind : uint8_t { kRun, kPack, kCopy, kNothing };

// What one step does in one variant.
struct Action {
  StepKind kind = StepKind::kNothing;
  uint32_t member = 0; // of the chain
  km_kernel* kernel = nullptr;
  uint32_t pack_input = 0;
  std::vector<Location> buffers; // kRun: inputs, outputs. kPack: plain, packed. kCopy: source, destination
  Location workspace;
  uint64_t bytes = 0; // kCopy
};

struct Step {
  NodeId node = 0;
  std::string op;    // for profiles
  std::string shape; // for people: "1024x768 768x768"
  Cost cost;
  Action first; // in the first micro-batch (and in head and tail)
  Action next;  // in later ones: gradients are added; same as first where `varies` is false
  bool varies = false;
};

struct Segment {
  std::vector<Step> steps;
};

// An entry of a schedule: which segment, with which micro-batch. `first`: gradients are stored, not added.
struct ScheduleEntry {
  Phase phase = Phase::kBody;
  int32_t stage = 0;
  int32_t micro = 0;
  bool first = true;
  bool last = true;
};
std::vector<ScheduleEntry> one_rank_schedule(int32_t micro_batches);

struct MemoryRow {
  std::string what; // "parameters", "optimizer states", "gradients", "activations", "packed weights", "workspace"
  uint64_t bytes = 0;
};

struct Plan {
  std::vector<Leaf> leaves;
  Segment head, body, tail;
  Arena arena;
  std::map<std::string, Location> outputs; // "loss", "tokens", "gradient_norm", "logits"
  std::map<std::string, Type> output_types;
  std::map<ValueId, Location> gradients; // of each parameter, valid until the tail has run (tests read them)
  std::vector<MemoryRow> memory;         // leaves and arena by what they are for; arena rows at the moment of the peak
  uint64_t leaf_bytes() const;
};

struct PlanOptions {
  bool prepack = true;         // pack parameters once a step where kernels want it
  bool keep_gradients = false; // gradients stay readable after the step (no tail step may reuse their memory)
};

Plan make_plan(const Graph& graph, KernelChain& chain, const PlanOptions& options);

std::string memory_table(const Plan& plan);
std::string step_table(const Plan& plan, const KernelChain& chain);

} // namespace kumiki
