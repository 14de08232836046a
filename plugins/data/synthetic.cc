// The component `synthetic`: an endless text of a seeded Markov chain that a model can learn, for tests and
// measurements without a corpus. After token s comes one of four tokens that only the seed decides, with probabilities
// 1/2, 1/4, 1/8, 1/8; with probability `noise` any token. The four successors are four permutations of the vocabulary,
// so each token is equally frequent and the best loss that any model can reach is known.
#include <algorithm>
#include <array>
#include <cmath>

#include "dataset.h"
#include "mix.h"
#include "permutation.h"

namespace kumiki::data {
namespace {

constexpr std::array<double, 4> kWeights = {0.5, 0.25, 0.125, 0.125};

class SyntheticDataset : public Dataset {
 public:
  explicit SyntheticDataset(const OpenRequest& request)
      : sequence_(request.context->sequence),
        seed_(static_cast<uint64_t>(request.context->seed)),
        split_(request.context->split),
        noise_(km_option_f64(request.options, "noise")) {
    const km_option_value* const option = km_find_option(request.options, "vocabulary");
    vocabulary_ = option ? option->i64 : 256;
    const int64_t models = request.context->vocabulary;
    if (models > 0 && !(option && option->given)) vocabulary_ = std::min(vocabulary_, models);
    for (size_t i = 0; i < successors_.size(); ++i) successors_[i] = Permutation(vocabulary_, mix(seed_, i + 1));
    char text[128];
    std::snprintf(text, sizeof text, "synthetic: no model can have a loss below %.4f nats a token", entropy());
    request.host->log(request.host, KM_LOG_INFO, text);
  }

  DatasetInfo info() const override { return {vocabulary_, 0, 0, false}; }

  void read(int64_t number, int32_t* tokens, int32_t*) override {
    if (number < 0) throw Failure(KM_ERROR_HOST, "data: sample " + std::to_string(number) + " does not exist");
    uint64_t draw = mix(seed_, split_, static_cast<uint64_t>(number));
    int64_t token = below(draw = mix(draw));
    tokens[0] = static_cast<int32_t>(token);
    for (int64_t t = 1; t <= sequence_; ++t) {
      draw = mix(draw);
      const double uniform = static_cast<double>(draw >> 11) * 0x1p-53;
      token = uniform < noise_ ? below(draw = mix(draw)) : successor(token, draw = mix(draw));
      tokens[t] = static_cast<int32_t>(token);
    }
  }

 private:
  int64_t below(uint64_t draw) const {
    return static_cast<int64_t>(static_cast<unsigned __int128>(draw) * static_cast<uint64_t>(vocabulary_) >> 64);
  }

  int64_t successor(int64_t token, uint64_t draw) const {
    const uint64_t eighth = draw >> 61;
    return successors_[eighth < 4 ? 0 : eighth < 6 ? 1 : eighth == 6 ? 2 : 3](token);
  }

  // Mean over all tokens (each equally frequent) of the entropy of what follows, in nats. Over the first 4096 tokens of
  // a large vocabulary, which differ only by chance meetings of their successors.
  double entropy() const {
    const int64_t count = std::min<int64_t>(vocabulary_, 4096);
    const double floor = noise_ / static_cast<double>(vocabulary_);
    double sum = 0;
    for (int64_t token = 0; token < count; ++token) {
      std::array<int64_t, 4> next{};
      std::array<double, 4> chance{};
      size_t distinct = 0;
      for (size_t i = 0; i < successors_.size(); ++i) {
        const int64_t following = successors_[i](token);
        const auto known = std::find(next.begin(), next.begin() + distinct, following);
        const auto slot = static_cast<size_t>(known - next.begin());
        if (slot == distinct) next[distinct++] = following;
        chance[slot] += (1 - noise_) * kWeights[i];
      }
      for (size_t i = 0; i < distinct; ++i) sum -= plogp(chance[i] + floor);
      sum -= static_cast<double>(vocabulary_ - static_cast<int64_t>(distinct)) * plogp(floor);
    }
    return sum / static_cast<double>(count);
  }

  static double plogp(double p) { return p > 0 ? p * std::log(p) : 0; }

  int64_t sequence_;
  uint64_t seed_;
  uint64_t split_;
  double noise_;
  int64_t vocabulary_;
  std::array<Permutation, 4> successors_;
};

} // namespace

std::unique_ptr<Dataset> make_synthetic(const OpenRequest& request) {
  return std::make_unique<SyntheticDataset>(request);
}

} // namespace kumiki::data
