// From the number of a sample to its epoch and its window, for corpora of known length. Windows are `sequence` + 1
// tokens long and step by `sequence`, so each token but the first is a target once an epoch; what is left at the end of
// an epoch, fewer than `sequence` tokens, is not read.
#pragma once

#include <cstdint>

#include "boundary.h"
#include "mix.h"
#include "permutation.h"

namespace kumiki::data {

struct Place {
  int64_t epoch;
  int64_t first_token; // of the window, in the epoch's stream of tokens
};

class SampleOrder {
 public:
  SampleOrder() = default;
  // samples ≥ 1.
  SampleOrder(int64_t samples, int64_t sequence, int64_t seed, bool shuffle)
      : samples_(samples), sequence_(sequence), seed_(seed), shuffle_(shuffle) {}

  int64_t samples() const { return samples_; }

  // Thread-safe. number < 0 is the caller's fault.
  Place place(int64_t number) const {
    if (number < 0) throw Failure(KM_ERROR_HOST, "data: sample " + std::to_string(number) + " does not exist");
    const int64_t epoch = number / samples_;
    int64_t window = number % samples_;
    if (shuffle_)
      window = Permutation(samples_, mix(static_cast<uint64_t>(seed_), static_cast<uint64_t>(epoch), kSalt))(window);
    return {epoch, window * sequence_};
  }

 private:
  static constexpr uint64_t kSalt = 0x73616d706c6573; // "samples": keeps this order apart from that of documents

  int64_t samples_ = 1;
  int64_t sequence_ = 1;
  int64_t seed_ = 0;
  bool shuffle_ = true;
};

} // namespace kumiki::data
