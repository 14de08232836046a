// What a step of a run takes on a machine: time, what it is made of, traffic, memory. In: the plans of one rank of each
// coordinate of the pipeline. Out: a Prediction, which report.h and trace.h show. Floor: plan.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "core/plan/build.h"
#include "core/plan/scale/machine.h"
#include "core/plan/scale/simulate.h"

namespace kumiki {

// One rank, which stands for all of its pipeline coordinate.
struct RankPlan {
  Plan plan;
  std::vector<ScheduleEntry> schedule;
  const Strategies* strategies = nullptr;
};

// What a run works on, beside its plans.
struct RunFacts {
  std::string config, layout; // for people: the file, "tensor 6 x pipeline 8 x data 288"
  int64_t ranks = 1;
  int64_t parameters = 0;    // of the whole model
  ModelFlops flops;          // of one micro-batch
  int64_t micro_batches = 1; // of a rank and step
  int64_t micro_batch = 1;   // sequences
  int64_t batch_degree = 1;  // ranks that read samples of their own
  int64_t sequence = 1;      // tokens
  bool bf16 = false;
  double tokens = 0; // of the whole run; 0: not asked for
};

// Traffic of one kind, in a step, on a rank: the mean of the coordinates.
struct Traffic {
  std::string op, axes;
  double calls = 0, bytes = 0, seconds = 0;
};

struct AxisTime {
  std::string axes;
  double seconds = 0; // of messages
  double exposed = 0; // of those: nothing was computed meanwhile
};

struct CoordinateMemory {
  int64_t rank = 0;
  std::vector<int32_t> stages;
  std::vector<MemoryRow> rows;
  uint64_t total = 0;
};

struct Prediction {
  RunFacts run;
  std::string machine;
  int64_t ranks_per_node = 1;
  double memory_bytes = 0; // of a rank; 0: not known
  double peak = 0;         // FLOP/s of a rank

  double seconds = 0;            // of a step
  double computed = 0, idle = 0; // mean of the coordinates; idle: waited for others, the bubble
  double update = 0;             // of what is computed: after the micro-batches, once a step, mean
  // Share that the schedule alone leaves idle: all stages alike, no messages, neither head nor tail.
  double schedule_bubble = 0;
  std::map<std::string, double> classes; // seconds of what is computed by class of op, mean
  std::vector<AxisTime> axes;            // mean
  std::vector<Traffic> traffic;
  std::vector<CoordinateMemory> memory; // by coordinate
  uint64_t largest_memory() const;
  bool fits() const { return memory_bytes == 0 || static_cast<double>(largest_memory()) <= memory_bytes; }
  double flops_per_second() const; // of the model, a rank
  double share_of_peak() const { return flops_per_second() / peak; }
  // Where attention is counted as its mask leaves it, as rates of kernels are.
  double share_of_peak_causal() const { return share_of_peak() * run.flops.causal / run.flops.full; }
  double tokens_per_step() const;
  double days() const; // for run.tokens
  double bubble() const { return idle / seconds; }
  double exposed() const; // seconds of all axes
  double hidden_share(const AxisTime& axis) const {
    return axis.seconds > 0 ? std::max(0.0, 1 - axis.exposed / axis.seconds) : 1;
  }

  std::vector<SimProgram> programs; // what the timeline's spans point into
  SimResult timeline;
};

// `graph`: that the plans were made from. With `spans` the timeline can be shown.
Prediction predict(const Machine& machine, const Graph& graph, const std::vector<RankPlan>& plans, const RunFacts& run,
                   bool spans);

} // namespace kumiki
