// The .bin/.idx pair of Megatron-LM (megatron/core/datasets/indexed_dataset.py), mapped. The index is
//
//   "MMIDIDX\0\0" · u64 version 1 · u8 type of the tokens · u64 sequences · u64 document entries (documents + 1)
//   i32 lengths[sequences], in tokens · i64 pointers[sequences], in bytes of the .bin ·
//   i64 documents[entries], the first sequence of each and the end · (i8 modes[sequences] of multimodal sets: not read)
//
// Opening touches the header and a few entries of each list, whatever their length. What it cannot know without reading
// the whole index is checked where it is used: each document's pointers must be ascending and lie within the .bin.
#pragma once

#include <cstdint>
#include <string>

#include "mapped_file.h"
#include "token_store.h"

namespace kumiki::data {

class MegatronIndex {
 public:
  // path: with or without .bin or .idx. Throws Failure: not a pair, wrong magic or version, tokens that are not
  // integers, cut off, pointers out of range.
  explicit MegatronIndex(const std::string& path);

  int64_t documents() const { return documents_; }
  TokenType type() const { return type_; }
  const std::string& bin_path() const { return bin_.path(); }
  // Where a document begins, in tokens of the .bin; of documents() it is the end. O(1): three loads from the map.
  // Throws Failure where the entry points outside.
  int64_t document_begin(int64_t document) const;
  const std::byte* token(int64_t number) const { return bin_.data() + number * token_width(type_); }

 private:
  int64_t load_i64(int64_t offset) const;
  void check_header();
  void check_sizes();

  MappedFile idx_, bin_;
  TokenType type_ = TokenType::kU16;
  int64_t sequences_ = 0;
  int64_t documents_ = 0;
  int64_t lengths_at_ = 0, pointers_at_ = 0, documents_at_ = 0; // offsets in the index
  int64_t tokens_ = 0;
};

} // namespace kumiki::data
