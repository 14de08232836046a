// Checkpoints: what a run needs to go on, in one folder a step. In: slices of logical tensors (the local parts of a
// rank, of any layout) and the state of the run. Out: the same tensors, cut as any other layout wants them.
// docs/checkpoints.md has the format. Writer: writer.cc. Reader: reader.cc. Floor: checkpoint.
//
//   runs/NAME/checkpoints/step-000001000/
//     manifest.json                        size and checksum (XXH3) of each file below, and of itself
//     state.json                           RunState
//     index.json                           logical tensors, and where each stored slice lies
//     model-00001-of-00002.safetensors     slices of parameters, by rank: model-r00003-00001-of-00002 where ranks > 1
//     optimizer-00001-of-00001.safetensors slices of <parameter>/<state>
//
// It is written as .step-000001000.partial, each file and the folder are synced, then it is renamed: a folder with a
// step's name is complete. Replaced and deleted checkpoints are renamed away before they are removed, for the same
// reason.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "kumiki/base.h"

namespace kumiki {

class Fs;
class Clock;
using Shape = std::vector<int64_t>;

// A part of a logical tensor: the elements [flat_begin, flat_end) of a box of it, both counted row-major.
struct Slice {
  std::string name; // "layers.0.attention.query.weight"; optimizer state: "<parameter>/<state>"
  uint32_t dtype = KM_F32;
  Shape logical_shape; // of the whole tensor
  Shape box_offset;    // empty: zeros
  Shape box_shape;     // empty: the logical shape
  int64_t flat_begin = 0;
  int64_t flat_end = -1;      // -1: to the end of the box
  const void* data = nullptr; // dense; host memory, read during save only
  uint64_t bytes = 0;         // of data: (flat_end - flat_begin) elements
  // Used in place of data where that is not host memory: writes `bytes` bytes to out. Called in save, on its thread.
  std::function<void(void* out)> fetch;
};

// What a run is besides tensors. Keys that a later version added are kept apart and ignored.
struct RunState {
  int64_t step = 0;   // updates done
  int64_t sample = 0; // number of the next sample
  int64_t tokens = 0; // seen so far
  uint64_t seed = 0;
  std::string config_toml;                           // the whole configuration, as resolved
  std::map<std::string, std::string> kernel_choices; // with kernels.select = "fastest"
  std::map<std::string, double> numbers;             // loss_scale and the like; NaN and infinities survive
  std::map<std::string, std::string> texts;          // any bytes: saved states of streams
};

struct WriterOptions {
  std::string folder;                       // runs/NAME/checkpoints; made if it is not there
  int64_t keep = 0;                         // newest complete ones that stay; 0: all
  uint64_t shard_bytes = uint64_t{4} << 30; // a file is closed before it would grow beyond (one slice may be larger)
  int64_t rank = 0;
  int64_t ranks = 1;
  double patience_seconds = 1800; // rank 0 waits this long for the other ranks' parts of a checkpoint
};

struct SaveReport {
  int64_t step = -1;        // -1: none yet
  uint64_t bytes = 0;       // of tensors, of this rank
  double copy_seconds = 0;  // training stood still
  double write_seconds = 0; // in the writer's thread
  std::string folder;       // the complete checkpoint; of ranks > 0: where it will be
};

// Writes checkpoints while training goes on. All functions are called on one thread (the rank's main thread).
// Ranks of one run give the same folder on a shared file system; rank 0's writer is made before any rank saves.
// An error of a write (Error, exit_code 6) comes out of the next save (which then saves nothing) or
// wait; checkpoints that were complete stay as they were, and a later save may succeed.
class CheckpointWriter {
 public:
  // Rank 0 makes the folder and removes what killed writers left in it. fs and clock must outlive the writer; they are
  // used on the writer's thread too. Throws Error.
  CheckpointWriter(Fs& fs, Clock& clock, WriterOptions options);
  ~CheckpointWriter(); // waits; an error that nobody asked for is lost: call wait() before

  // Copies state and slices, starts to write, returns. Waits first for the save before it. All slices of one name must
  // agree in dtype and logical shape. A checkpoint of the same step is replaced.
  void save(const RunState& state, const std::vector<Slice>& slices);
  // Until nothing is being written. Throws what went wrong, once.
  void wait();
  bool busy() const;         // a write is under way
  SaveReport report() const; // of the last save that was completed
 private:
  struct Work;
  std::unique_ptr<Work> work_;
};

// Folder names.
std::string checkpoint_name(int64_t step);               // "step-000001000"
int64_t checkpoint_step(const std::string& folder_name); // -1: no such name

// Complete checkpoints under `checkpoints`, oldest first, as paths. A folder that is not there holds none.
std::vector<std::string> list_checkpoints(Fs& fs, const std::string& checkpoints);
// The newest of them; empty: none.
std::string latest_checkpoint(Fs& fs, const std::string& checkpoints);
// The checkpoint that a user means: the folder of one, or the newest of a run's folder or of its checkpoints folder.
// Throws Error (exit_code 4) where there is none.
std::string find_checkpoint(Fs& fs, const std::string& path);
// The newest one that passes verification with a step below `below`; empty: none. Reads whole checkpoints.
std::string newest_good_checkpoint(Fs& fs, const std::string& checkpoints, int64_t below);

struct StoredTensor {
  std::string name;
  uint32_t dtype = KM_F32;
  Shape shape;
};

// Reads one checkpoint, by memory map. After the constructor all functions are const and may be called on several
// threads.
class CheckpointReader {
 public:
  // Throws Error (exit_code 4) naming the file that is missing, cut or changed, and an earlier checkpoint that is good.
  // verify = false checks manifest, index and state and the files' sizes, but not the tensors' checksums.
  CheckpointReader(Fs& fs, const std::string& folder, bool verify = true);
  ~CheckpointReader();

  const std::string& folder() const { return folder_; }
  const RunState& state() const { return state_; }
  const std::vector<StoredTensor>& tensors() const { return tensors_; } // sorted by name
  const StoredTensor* find(const std::string& name) const;              // nullptr: not stored
  uint64_t bytes() const;                                               // of all files

  // Elements [flat_begin, flat_end) of a box of a logical tensor to `out`, dense, in the stored dtype; empty offset and
  // shape mean the whole, flat_end -1 the end of the box. Composes the stored slices, however they were cut. Throws
  // Error where the tensor or a part of it is not stored, or the box lies outside.
  void read(const std::string& name, const Shape& box_offset, const Shape& box_shape, int64_t flat_begin,
            int64_t flat_end, void* out) const;
  // Fills a slice: name, box and flat range as given, `bytes` checked, dtype and logical_shape compared with what is
  // stored.
  void read(const Slice& wanted, void* out) const;
  // Reads all files and compares checksums. Throws as the constructor.
  void verify() const;

 private:
  struct Piece;
  struct File;
  friend std::string newest_good_checkpoint(Fs& fs, const std::string& checkpoints, int64_t below);
  CheckpointReader(Fs& fs, const std::string& folder, bool verify, bool advise);
  [[noreturn]] void broken(const std::string& file, const std::string& what) const;
  std::string read_checked(const std::string& name) const;
  const File* find_file(const std::string& name) const;
  void read_manifest();
  void read_index();
  Fs& fs_;
  std::string folder_;
  bool advise_; // errors look for an earlier good checkpoint
  RunState state_;
  std::vector<StoredTensor> tensors_;
  std::map<std::string, std::vector<Piece>> pieces_;
  std::vector<std::unique_ptr<File>> files_; // of the manifest
};

} // namespace kumiki
