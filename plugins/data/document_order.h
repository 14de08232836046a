// The stream of tokens of one epoch: the documents of a split in a seeded order, one after the other.
//
// Finding a token by its number needs the sums of the lengths in that order. To open a corpus of billions of documents
// at once, they are shuffled in blocks of neighbours (at most 65536 blocks): blocks among each other, and the documents
// within each. Only the blocks' sums are made, once an epoch: 65536 jumps into the map at most. A corpus of up to 65536
// documents is shuffled in full. The order of samples (SampleOrder) is a full shuffle in any case; the order of
// documents only decides which of them are neighbours in a sample.
#pragma once

#include <cstdint>
#include <vector>

#include "megatron_index.h"
#include "permutation.h"
#include "split.h"

namespace kumiki::data {

// A document of the stream, or what is left of it: tokens [begin, end) of the .bin.
struct Stretch {
  int64_t begin;
  int64_t end;
};

class DocumentOrder {
 public:
  DocumentOrder() = default;
  // Documents part.begin … part.end-1, at least one. The index must outlive this.
  DocumentOrder(const MegatronIndex& index, Part part, int64_t seed, bool shuffle);

  // Of the part, the same in each epoch.
  int64_t tokens() const { return tokens_; }

  // Moves to token `number` of the stream of `epoch`; next() then gives the documents from there on, the first one from
  // that token. Throws Failure where the index is damaged.
  void seek(int64_t epoch, int64_t number);
  Stretch next();

 private:
  void enter_epoch(int64_t epoch);
  void enter_block(int64_t place);
  Stretch document(int64_t place) const;
  int64_t block_begin(int64_t block) const;
  int64_t block_size(int64_t block) const;

  const MegatronIndex* index_ = nullptr;
  Part part_{};
  uint64_t seed_ = 0;
  bool shuffle_ = true;
  int64_t per_block_ = 1;
  int64_t blocks_ = 0;
  int64_t tokens_ = 0;

  int64_t epoch_ = -1;
  Permutation block_order_;
  std::vector<int64_t> sums_; // the stream's tokens before each place of the block order, and in all

  int64_t block_place_ = 0; // where the cursor stands: the block's place in the order, the document's within the block
  int64_t block_ = 0;
  int64_t document_place_ = 0;
  int64_t skip_ = 0; // tokens of that document that lie before the cursor
  Permutation document_order_;
};

} // namespace kumiki::data
