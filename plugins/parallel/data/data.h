// What the files of this folder share: the options, and how ZeRO sums gradients over the axis (gradients.cc).
#pragma once

#include "plugins/parallel/graph_view.h"

namespace kumiki::parallel {

struct DataOptions {
  const km_host* host = nullptr;
  int64_t zero = 0;
  int64_t bucket = 0;   // bytes
  int64_t prefetch = 0; // layers
};

// Both after autodiff, for the axis of this strategy. The reduce-scatters that autodiff put into the tail become fewer, of several tensors each.
void merge_scatters(GraphView& graph, const DataOptions& options, const km_axis& axis);
// They move in front of the sums over micro-batches, so that each rank adds up its own range only.
void scatter_each_micro_batch(GraphView& graph, const km_axis& axis);

} // namespace kumiki::parallel
