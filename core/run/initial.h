// Initial values of parameters: zero, one, or normal draws addressed by (seed, hash of the name, logical element), so that
// they are the same in any layout. Floor: run.
#pragma once

#include "core/graph/graph.h"
#include "core/run/pool.h"
#include "core/run/store.h"

namespace kumiki {

// Fills every parameter of the graph in the store.
void initialize_parameters(const Graph& graph, uint64_t seed, Store& store, Pool& pool);

} // namespace kumiki
