// The folders under runs/NAME/checkpoints and their life: .step-N.partial becomes step-N by one rename; a step-N that
// is replaced or deleted is renamed to .step-N.replaced or .step-N.removed first. So a folder called step-N is complete
// at every moment, and so is .step-N.replaced while there is no step-N. Floor: checkpoint.
//
//   .step-N.partial ──rename──► step-N ──rename──► .step-N.removed ──► gone
//                                  └──rename──► .step-N.replaced ──► gone (or back to step-N, if the writer died between)
#pragma once

#include <cstdint>
#include <string>

#include "core/base/fs.h"

namespace kumiki {

std::string path_in(const std::string& folder, const std::string& name);
std::string partial_folder(const std::string& checkpoints, int64_t step);

// What killed writers left is removed or put back. Only one writer may be alive on the folder.
void remove_leftovers(Fs& fs, const std::string& checkpoints);
// The partial folder of this step, synced with all its files, becomes the checkpoint, durably.
void publish_checkpoint(Fs& fs, const std::string& checkpoints, int64_t step);
// Deletes the oldest complete checkpoints but `keep`, never that of `step`. keep 0: none is deleted.
void keep_newest(Fs& fs, const std::string& checkpoints, int64_t keep, int64_t step);

} // namespace kumiki
