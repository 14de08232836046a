// What the files of this folder share: the options of one rewrite, and what it asks of the model (limits.cc), what it
// does to it (layers.cc).
#pragma once

#include "plugins/parallel/graph_view.h"

namespace kumiki::parallel {

struct TensorOptions {
  const km_host* host = nullptr;
  bool sequence = false;
};

// How key heads lie over the axis: `shared` neighbouring ranks have the same ones (1: each has its own; the degree: all
// have the only one). In between the axis is split: key heads are divided over `blocks`, and replicated over `block`.
struct KeyHeads {
  uint32_t shared = 1;
  uint32_t blocks = 0, block = 0; // numbers of axes; the whole axis where it is not split
};

// Throws Failure, with the degrees that would do, where the heads of an attention, or the tokens of a divided residual
// stream, do not divide over the axis. Returns how many ranks share a key head.
uint32_t check_limits(const GraphView& graph, const km_axis& axis, bool sequence);

// Splits the axis where that is needed. Before autodiff, and after it again, with the same `shared`.
KeyHeads place_key_heads(GraphView& graph, const km_axis& axis, uint32_t shared);

// Divides weights by role and adds what communicates (layers.cc).
void divide_layers(GraphView& graph, const km_axis& axis, bool sequence, const KeyHeads& key_heads);

} // namespace kumiki::parallel
