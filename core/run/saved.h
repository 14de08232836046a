// Between the store and checkpoints: which leaves are saved, under which names. Parameters by their own name, states of the
// optimizer as <parameter>/<state>. Floor: run.
#pragma once

#include <vector>

#include "core/checkpoint/checkpoint.h"
#include "core/run/store.h"

namespace kumiki {

// What this rank writes of all saved leaves; data is fetched from the device when the writer copies it.
std::vector<Slice> leaf_slices(const Store& store);
// Fills all saved leaves of the store. Throws Error (exit code 4) naming what the checkpoint lacks or has in another shape.
void load_leaves(const CheckpointReader& reader, Store& store);

} // namespace kumiki
