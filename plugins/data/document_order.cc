#include "document_order.h"

#include <algorithm>

#include "boundary.h"
#include "mix.h"

namespace kumiki::data {
namespace {

constexpr int64_t kMostBlocks = 65536;
constexpr uint64_t kBlockSalt = 0x626c6f636b73;      // "blocks"
constexpr uint64_t kDocumentSalt = 0x646f63756d656e; // "documen"

} // namespace

DocumentOrder::DocumentOrder(const MegatronIndex& index, Part part, int64_t seed, bool shuffle)
    : index_(&index), part_(part), seed_(static_cast<uint64_t>(seed)), shuffle_(shuffle) {
  const int64_t documents = part.end - part.begin;
  per_block_ = (documents + kMostBlocks - 1) / kMostBlocks;
  blocks_ = (documents + per_block_ - 1) / per_block_;
  tokens_ = index.document_begin(part.end) - index.document_begin(part.begin);
}

int64_t DocumentOrder::block_begin(int64_t block) const {
  return std::min(part_.begin + block * per_block_, part_.end);
}

int64_t DocumentOrder::block_size(int64_t block) const { return block_begin(block + 1) - block_begin(block); }

void DocumentOrder::enter_epoch(int64_t epoch) {
  if (epoch == epoch_) return;
  epoch_ = -1; // stays so if a damaged index throws below
  block_order_ = Permutation(blocks_, mix(seed_, static_cast<uint64_t>(epoch), kBlockSalt));
  sums_.assign(1, 0);
  for (int64_t place = 0; place < blocks_; ++place) {
    const int64_t block = shuffle_ ? block_order_(place) : place;
    const int64_t tokens = index_->document_begin(block_begin(block + 1)) - index_->document_begin(block_begin(block));
    if (tokens < 0)
      fail_user("%s: documents %lld to %lld have %lld tokens by the pointers of the index, which is damaged",
                index_->bin_path().c_str(), static_cast<long long>(block_begin(block)),
                static_cast<long long>(block_begin(block + 1)), static_cast<long long>(tokens));
    sums_.push_back(sums_.back() + tokens);
  }
  epoch_ = epoch;
}

void DocumentOrder::enter_block(int64_t place) {
  block_place_ = place;
  block_ = shuffle_ ? block_order_(place) : place;
  document_place_ = 0;
  skip_ = 0;
  document_order_ = Permutation(
      block_size(block_), mix(seed_, static_cast<uint64_t>(epoch_), kDocumentSalt, static_cast<uint64_t>(block_)));
}

Stretch DocumentOrder::document(int64_t place) const {
  const int64_t number = block_begin(block_) + (shuffle_ ? document_order_(place) : place);
  const Stretch stretch{index_->document_begin(number), index_->document_begin(number + 1)};
  if (stretch.end < stretch.begin)
    fail_user("%s: document %lld ends before it begins by the pointers of the index, which is damaged",
              index_->bin_path().c_str(), static_cast<long long>(number));
  return stretch;
}

void DocumentOrder::seek(int64_t epoch, int64_t number) {
  enter_epoch(epoch);
  const auto after = std::upper_bound(sums_.begin(), sums_.end(), number);
  if (after == sums_.end()) fail_user("%s: the index is damaged", index_->bin_path().c_str());
  enter_block(after - sums_.begin() - 1);
  int64_t left = number - sums_[static_cast<size_t>(block_place_)];
  for (;; ++document_place_) {
    if (document_place_ == block_size(block_)) fail_user("%s: the index is damaged", index_->bin_path().c_str());
    const Stretch stretch = document(document_place_);
    if (left < stretch.end - stretch.begin) break;
    left -= stretch.end - stretch.begin;
  }
  skip_ = left;
}

Stretch DocumentOrder::next() {
  while (document_place_ == block_size(block_)) {
    if (block_place_ + 1 == blocks_) fail_user("%s: the index is damaged", index_->bin_path().c_str());
    enter_block(block_place_ + 1);
  }
  Stretch stretch = document(document_place_++);
  stretch.begin += skip_;
  skip_ = 0;
  return stretch;
}

} // namespace kumiki::data
