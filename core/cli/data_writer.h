// MegatronWriter: a .bin/.idx pair as Megatron-core reads it (megatron/core/datasets/indexed_dataset.py), written
// beside and put in place at the end. Tokens stream to the disk; of each document four bytes stay in memory. Floor:
// cli.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/base/fs.h"

namespace kumiki {

class MegatronWriter {
 public:
  // prefix: without .bin and .idx. Tokens are stored as u16 where `vocabulary` < 65500, else as i32, as Megatron-core
  // chooses. Throws Error; refuses where one of the two files is there already.
  MegatronWriter(Fs& fs, const std::string& prefix, int64_t vocabulary);
  // Removes what was written unless finish() was called.
  ~MegatronWriter();
  MegatronWriter(const MegatronWriter&) = delete;
  MegatronWriter& operator=(const MegatronWriter&) = delete;

  // Tokens of the current document, which may come in parts. Each is within the vocabulary.
  void add(const int32_t* tokens, size_t count);
  // A document without tokens is left out.
  void end_document();
  // Writes the index and puts both files in place, the index last.
  void finish();

  int64_t documents() const { return static_cast<int64_t>(document_ends_.size()); }
  int64_t tokens() const { return tokens_; }
  uint64_t bytes() const { return static_cast<uint64_t>(tokens_) * width_; }

 private:
  void flush();

  Fs& fs_;
  std::string bin_, idx_; // final paths
  std::string beside_;    // what is appended while they are written
  std::unique_ptr<FileWriter> file_;
  std::vector<char> buffer_;
  uint64_t width_;
  int64_t tokens_ = 0;
  int64_t length_ = 0;                 // of the current document's last sequence
  std::vector<int32_t> lengths_;       // of sequences; a document has several only where it is longer than i32 counts
  std::vector<int64_t> document_ends_; // in sequences
};

} // namespace kumiki
