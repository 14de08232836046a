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
#include "core/plan/strategies.h"
#include "kumiki/comm.h"

namespace kumiki {

// Where a buffer lies: in the arena, there at one place or once in each slot of its stage; or in a leaf (parameter, state,
// input, constant, the block of step scalars).
struct Location {
  static constexpr uint32_t kArena = 0xffffffffu;
  uint32_t leaf = kArena; // index into Plan::leaves
  uint64_t offset = 0;    // of slot 0, if slot_stride is not 0
  uint64_t slot_stride = 0;
};

struct Leaf {
  std::string
      name; // unique over all plans of a run: parameters, states, "input:tokens@1x64", "constant:0.9", "scalars"
  ValueKind kind = ValueKind::kParameter;
  Type type;
  ValueId value = 0;
  bool saved = false;  // parameters, and states that a parameter owns
  double constant = 0; // of constants
  std::string stored;  // its name in checkpoints: of a tied copy that of the original
  bool writes = true;  // of those saved: this rank writes its part; others hold the same
  // How it is divided (as in Value): empty shapes where the leaf is whole.
  Shape logical_shape, box_offset, box_shape;
  int64_t flat_begin = 0, flat_end = -1;
};

// The block of step scalars: one value every 16 bytes, in this order.
inline constexpr const char* kStepScalars[] = {"step",   "learning_rate", "loss_scale", "seed",
                                               "sample", "micro",         "past"};
inline constexpr uint64_t kScalarStride = 16;
inline constexpr uint64_t kScalarBytes = kScalarStride * 7;
uint64_t scalar_offset(const std::string& name);

enum class StepKind : uint8_t { kRun, kPack, kCopy, kZero, kComm, kNothing };

// What a communication step starts: a km_message, but for addresses and group.
struct Message {
  uint32_t op = 0; // KM_COMM_*
  uint32_t dtype = KM_F32;
  uint32_t reduce = KM_REDUCE_SUM;
  uint32_t group = 0; // index into Plan::groups
  int32_t peer = 0;
  int32_t tag = 0;
  uint64_t count = 0;
  std::vector<uint64_t> counts; // empty: `count` each
  uint64_t outer = 1;
};

// What one step does in one variant.
struct Action {
  StepKind kind = StepKind::kNothing;
  uint32_t member = 0; // of the chain
  km_kernel* kernel = nullptr;
  uint32_t pack_input = 0;
  // kRun: inputs, outputs. kPack: plain, packed. kCopy: source, destination. kZero: destination. kComm: input, output
  std::vector<Location> buffers;
  Location workspace;
  uint64_t bytes = 0; // kCopy, kZero
  Message message;    // kComm
};

struct Step {
  NodeId node = 0;
  std::string op;    // for profiles
  std::string shape; // for people: "1024x768 768x768"
  Cost cost;
  Action first; // in the first micro-batch (and in head and tail)
  Action next;  // in later ones: gradients are added; same as first where `varies` is false
  bool varies = false;
  bool last_only = false;       // runs with the last micro-batch alone: a sum over ranks, as soon as it can begin
  uint32_t comm = kNoComm;      // of a communication step: its number in the plan
  std::vector<uint32_t> awaits; // communication steps that must be complete before this one begins
  static constexpr uint32_t kNoComm = 0xffffffffu;
};

// Steps that run one after another: the head, the tail, or what one stage does with one micro-batch.
struct Segment {
  std::vector<Step> steps;
  int32_t stage = 0;
  Part part = Part::kForward;
};

// An entry of a schedule: which segment, with which micro-batch. `first`: gradients are stored, not added. `last`: no
// micro-batch comes after it. `slot`: which copy of the stage's activations; `opens`: nobody used it since another
// micro-batch, whose sends must have left it.
struct ScheduleEntry {
  Phase phase = Phase::kBody;
  int32_t segment = 0; // of Plan::body
  int32_t micro = 0;
  int32_t slot = 0;
  bool first = true;
  bool last = true;
  bool opens = false;
};

struct MemoryRow {
  std::string what; // "parameters", "optimizer states", "gathered parameters", "activations", "communication", …
  uint64_t bytes = 0;
};

struct Plan {
  std::vector<Leaf> leaves;
  Segment head, tail;
  std::vector<Segment> body;       // one, unless a pipeline divides it: then parts of stages
  std::vector<std::string> groups; // of messages: axes, as Strategies::group takes them
  uint32_t comm_steps = 0;
  int32_t stages = 1;               // of the graph, on all ranks
  std::map<int32_t, int32_t> slots; // by stage of this rank: copies of its activations
  int32_t slots_of(int32_t stage) const { return slots.count(stage) ? slots.at(stage) : 1; }
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
  int32_t micro_batches = 1;   // the most of one step: how many of them are under way at once follows from it
  bool overlap = true;         // computing beside messages (overlap.h); false: steps in the order of the graph
};

// `strategies`: whose stages this rank owns, and in which order it runs them; null: one rank.
Plan make_plan(const Graph& graph, KernelChain& chain, const PlanOptions& options,
               const Strategies* strategies = nullptr);

// The entries of one step: head, the micro-batches in the strategies' order, tail. Without a tail step (evaluation of one
// batch after another) it has none to run. Throws Error where a strategy's list is wrong.
std::vector<ScheduleEntry> make_schedule(const Plan& plan, int32_t micro_batches,
                                         const Strategies* strategies = nullptr);
// Throws Error naming rank and entry where the lists of all coordinates of the pipeline wait for each other.
void check_schedules(const Strategies& strategies, int32_t stages, int32_t micro_batches, bool training);

std::string memory_table(const Plan& plan);
std::string step_table(const Plan& plan, const KernelChain& chain);

} // namespace kumiki
