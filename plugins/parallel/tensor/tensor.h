// What the files of this folder share: the options of one rewrite, and what it asks of the model (limits.cc), what it
// does to it (layers.cc).
#pragma once

#include "plugins/parallel/graph_view.h"

namespace kumiki::parallel {

struct TensorOptions {
  const km_host* host = nullptr;
  bool sequence = false;
};

// Throws Failure, with the degrees that would do, where the heads of an attention, or the tokens of a divided residual
// stream, do not divide over the axis.
void check_limits(const GraphView& graph, const km_axis& axis, bool sequence);

// Divides weights by role and adds what communicates (layers.cc).
void divide_layers(GraphView& graph, const km_axis& axis, bool sequence);

} // namespace kumiki::parallel
