// The data of a run: the [[data]] components, blended by weight, read by the number of the sample in the whole run; and a
// thread that prepares the next batch while the step runs. Floor: run.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "core/plugin/options.h"
#include "core/plugin/registry.h"
#include "kumiki/data.h"

namespace kumiki {

struct BatchRows {
  std::vector<int32_t> tokens, targets, segments; // [n, sequence]; segments is empty unless the data keeps them
};

class Feed {
 public:
  // Opens every [[data]] of the configuration for one split. Throws Error (exit code 3 for data that cannot be used).
  Feed(Host& host, Registry& registry, const Config& config, uint32_t split, int64_t vocabulary);
  ~Feed();
  Feed(const Feed&) = delete;
  Feed& operator=(const Feed&) = delete;

  int64_t vocabulary() const { return vocabulary_; } // the largest of the components'
  bool segments() const { return segments_; }
  int64_t samples() const; // of one epoch of all; 0 = endless
  // Samples first … first+n-1 of the run. With several components sample s belongs to the one that is furthest behind its
  // weight after s samples, as Megatron-LM blends; ties go to the first. Throws Error.
  void read(int64_t first, int64_t n, BatchRows& rows);
  // The tokenizer of the first component that has one; null functions if none has.
  const km_tokenizer& tokenizer() const { return tokenizer_; }
  void* tokenizer_self() const { return tokenizer_self_; }
  bool has_tokenizer() const { return tokenizer_self_ != nullptr; }

 private:
  struct Source {
    std::string title;
    km_data table{};
    void* self = nullptr;
    double weight = 1;
    int64_t samples = 0;
    int64_t given = 0; // samples of the blend before blended_
  };
  // Which source sample `blended_` has, and moves on by one.
  size_t next_source();
  std::vector<Source> sources_;
  double weight_sum_ = 0;
  int64_t sequence_ = 0;
  int64_t vocabulary_ = 0;
  bool segments_ = false;
  int64_t blended_ = 0;
  km_tokenizer tokenizer_{};
  void* tokenizer_self_ = nullptr;
};

// Which rows of a global batch a rank reads: of each `degree` micro-batches of `rows` rows the one with number `index`.
struct Share {
  int64_t rows = 1;
  int64_t degree = 1;
  int64_t index = 0;
};

// Reads one batch ahead on a thread of its own.
class Prefetch {
 public:
  // All rows come out unless a share is given; then those of each get are its micro-batches in a row.
  explicit Prefetch(Feed& feed, Share share = {});
  ~Prefetch();
  // The batch that begins at `first`: what was read ahead if it was asked for by `ahead`, else read now. Throws what reading
  // threw.
  BatchRows get(int64_t first, int64_t n);
  void ahead(int64_t first, int64_t n);

 private:
  void work();
  void read(int64_t first, int64_t n, BatchRows& rows);
  Feed& feed_;
  const Share share_;
  BatchRows part_;
  std::mutex mutex_;
  std::condition_variable changed_;
  int64_t first_ = -1, n_ = 0;
  bool wanted_ = false, ready_ = false, stop_ = false;
  BatchRows rows_;
  std::exception_ptr error_;
  std::thread thread_;
};

} // namespace kumiki
