// The synchronous half of saving: what a rank's writer thread does with the copy that the trainer's thread made.
// In: slices in memory. Out: files of a partial folder, and, by rank 0, the published checkpoint. Floor: checkpoint.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/base/clock.h"
#include "core/base/fs.h"
#include "core/checkpoint/format.h"

namespace kumiki {

struct SaveJob {
  WriterOptions options;
  int64_t attempt = 0; // counts the saves of a run's process; equal on all ranks
  RunState state;
  std::vector<StoredSlice> slices;     // file empty as yet
  std::vector<const void*> slice_data; // dense bytes of each
};

// The slice as it will be stored: region checked, key made. Throws Error.
StoredSlice describe_slice(const Slice& slice);

// Writes this rank's part; rank 0 then waits for the others' and publishes. Throws Error; what rank 0 had written of
// the checkpoint is then removed as far as that goes, and complete checkpoints are untouched.
void run_save(Fs& fs, Clock& clock, SaveJob& job);

} // namespace kumiki
