// The Hugging Face form of a model: a folder with config.json and safetensors, as transformers' from_pretrained reads
// it. In: a checkpoint and the model component's table of names (km_model_row). Out: that folder; and back. Knows no
// model: all of a model's knowledge is in the rows. Files: huggingface.cc (the table), huggingface_export.cc,
// huggingface_import.cc. Floor: checkpoint.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/checkpoint/checkpoint.h"
#include "core/checkpoint/safetensors.h"

namespace kumiki {

// km_model_row, owned. `theirs` is `parts` tensors of ours side by side along their dimension `dim`; ours is number
// `part`.
struct ModelRow {
  std::string ours;
  std::string theirs;
  bool transpose = false; // theirs is [in, out]; of matrices only
  int32_t part = 0;
  int32_t parts = 1;
  int32_t dim = 0;
};

// All rows of one of their tensors, parts in order. Throws Error where a table is wrong: a part missing or given twice,
// parts that disagree in number or dimension, an own name in two rows.
struct MappedTensor {
  std::string theirs;
  std::vector<ModelRow> rows;
};
std::vector<MappedTensor> group_rows(const std::vector<ModelRow>& rows);

// Shape of their tensor, made of parts of these shapes (ours, one a row). Throws Error where they do not fit side by
// side.
Shape their_shape(const MappedTensor& tensor, const std::vector<Shape>& ours);

// Between their whole tensor and our parts (float32, dense; one pointer a row).
void join_parts(const MappedTensor& tensor, const std::vector<Shape>& shapes, const std::vector<const float*>& ours,
                float* theirs);
// Row `row` alone out of theirs.
void take_part(const MappedTensor& tensor, const std::vector<Shape>& shapes, size_t row, const float* theirs,
               float* ours);

// Elements of KM_F32, KM_BF16, KM_F16 or KM_F64 (little-endian, any alignment) as float32; exact but for f64, which is
// rounded.
void to_floats(uint32_t dtype, const void* from, int64_t elements, float* to);
// The other way, to KM_F32 or KM_BF16 (round to nearest, ties to even; NaN stays NaN).
void from_floats(uint32_t dtype, const float* from, int64_t elements, void* to);

struct ExportOptions {
  std::string out;                                // a folder that is not there yet, or is empty
  std::string config_json;                        // of the model component; torch_dtype is set here
  uint32_t dtype = KM_F32;                        // or KM_BF16
  std::vector<std::string> tokenizer_files;       // paths; copied under their own names
  uint64_t shard_bytes = uint64_t{5'000'000'000}; // above: several files and model.safetensors.index.json
};
// Writes the folder beside and renames it when it is complete. Optimizer state is left out. Throws Error where a
// parameter of the checkpoint has no row, or a row no parameter. Returns the number of their tensors.
size_t export_hugging_face(Fs& fs, const CheckpointReader& reader, const std::vector<ModelRow>& rows,
                           const ExportOptions& options);

// Text of FOLDER/config.json. Throws Error (exit_code 4) where there is none.
std::string read_hugging_face_config(Fs& fs, const std::string& folder);

// Their folder, opened by memory map. Names without the first component ("h.0…" for "transformer.h.0…") are found too.
// Buffers of old versions (attention masks, rotary frequencies) are passed over, and so is a head that the model ties.
class HuggingFaceReader {
 public:
  // expected: our parameters, as the model builds them (float32). Throws one Error (exit_code 4) that names every
  // tensor that is missing, unknown, or of another shape or type than expected.
  HuggingFaceReader(Fs& fs, const std::string& folder, const std::vector<ModelRow>& rows,
                    const std::vector<StoredTensor>& expected);
  ~HuggingFaceReader();
  // One whole slice for each of ours, to give to CheckpointWriter::save: they fetch from here, which must live until
  // then.
  std::vector<Slice> slices() const;
  const std::vector<std::string>& passed_over() const { return passed_over_; } // their tensors that are not used

 private:
  struct Source;
  struct File;
  void open_files(Fs& fs, const std::string& folder);
  const Source* find(const std::string& theirs) const;
  void fetch(const MappedTensor& tensor, const std::vector<Shape>& shapes, size_t row, float* out) const;
  std::vector<std::unique_ptr<File>> files_;
  std::map<std::string, Source> sources_;
  std::vector<MappedTensor> tensors_;
  std::map<std::string, Shape> shapes_; // of ours
  std::vector<std::string> passed_over_;
};

} // namespace kumiki
