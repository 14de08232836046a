// What the files of this folder share: the options, the cut into stages (stages.cc), the order of a rank's work
// (schedules.cc).
#pragma once

#include "plugins/parallel/graph_view.h"

namespace kumiki::parallel {

struct PipelineOptions {
  const km_host* host = nullptr;
  std::string schedule; // "gpipe", "1f1b", "interleaved", "zero_bubble"
  int64_t chunks = 1;   // stages of one rank
};

// Gives each node and leaf a stage, and each value that crosses a cut a transfer. Throws Failure where there are fewer
// layers than stages.
void cut_into_stages(GraphView& graph, int64_t stages);

// The stages that cost about the same: for each unit (in order) its stage, so that the dearest stage is as cheap as it
// can be, and among such cuts the most even one. Each stage gets at least one unit; costs.size() ≥ stages.
std::vector<int32_t> balanced_stages(const std::vector<double>& costs, int64_t stages);

// Emits one rank's list. Throws Failure where the number of micro-batches does not fit the schedule.
void emit_schedule(const PipelineOptions& options, const km_schedule& schedule);

} // namespace kumiki::parallel
