// The order of the nodes of one segment, changed so that messages go on beside what is computed. In: nodes of the body in an
// order that may run, out: the same nodes in another such order. No value changes, and what is decided follows from the
// graph alone, never from the sizes of this rank's parts: all ranks of a group start their messages in one order.
// Floor: plan.
#pragma once

#include <vector>

#include "core/graph/graph.h"

namespace kumiki {

// Products of part W (gradients of weights) that nobody waits for are held back until a step of backward is about to await
// a sum or gather of activations: they are computed between its start and that step. No product is held back past the end
// of the next layer, so that what it reads lives little longer. A gather that only W reads starts one step earlier.
std::vector<NodeId> weights_beside_messages(const Graph& graph, const std::vector<NodeId>& order);

// A flat_gather with the attribute `ahead` = n starts before the first step of the layer n layers before its reader's, or
// of the segment; and together with those of its layer.
std::vector<NodeId> gathers_ahead(const Graph& graph, const std::vector<NodeId>& order);

} // namespace kumiki
