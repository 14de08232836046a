// Recomputation: forward nodes marked `again` are computed a second time where backward needs what they make, so that
// their outputs need not be kept. In: a graph after autodiff, with marks. Out: the same graph, in which backward reads
// clones. Floor: graph.
#pragma once

#include "core/graph/graph.h"

namespace kumiki {

// Each marked forward node of the body that backward (parts B and W) reads is cloned right before the first such
// reader, once: what reads it in backward reads the clone. A clone reads the clones of marked nodes, else what is
// stored. Clones are part B and keep all attributes (dropout draws the same); their derived_from is the node. Transfers
// and nodes of the head are never cloned, marked or not.
void recompute(Graph& graph);

} // namespace kumiki
