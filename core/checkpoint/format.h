// The text files of a checkpoint, and back: state.json, index.json (one part of it for each rank) and manifest.json. In
// and out: plain values and text; files are read and written by the callers. docs/checkpoints.md shows them. Floor:
// checkpoint.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "core/checkpoint/checkpoint.h"
#include "core/checkpoint/regions.h"

namespace kumiki {

constexpr int64_t kCheckpointVersion = 1;

// Both throw Error(where, …, exit_code 4) on text that is not what they wrote.
std::string state_to_json(const RunState& state);
RunState state_from_json(const std::string& where, const std::string& text);

// A slice as index.json has it: which region of which tensor, and where its bytes lie.
struct StoredSlice {
  std::string name;
  uint32_t dtype = KM_F32;
  Shape logical_shape;
  Region region;
  std::string file;
  std::string key; // the tensor's name in that safetensors file
};
struct FileRecord {
  std::string name;
  uint64_t bytes = 0;
  uint64_t checksum = 0; // XXH3
};

// What one rank wrote: it hands this to rank 0 as a file.
struct RankPart {
  std::vector<StoredSlice> slices;
  std::vector<FileRecord> files;
  std::string error; // not empty: this rank could not write its part
};
std::string part_to_json(const RankPart& part);
RankPart part_from_json(const std::string& where, const std::string& text);

// Throws Error where two slices of one tensor disagree in dtype or logical shape.
void check_agreement(const std::vector<StoredSlice>& slices);
std::string index_to_json(const std::vector<StoredSlice>& slices);
std::vector<StoredSlice> index_from_json(const std::string& where, const std::string& text);

// The manifest carries a checksum of itself, and is accepted only if it is, byte for byte, what would be written.
std::string manifest_to_json(const std::vector<FileRecord>& files);
std::vector<FileRecord> manifest_from_json(const std::string& where, const std::string& text);

} // namespace kumiki
