/* attention_merge: the parts of attention over the keys of several ranks become that over all of them. */
#include <algorithm>
#include <cmath>

#include "plugins/kernels/host/makers.h"

namespace kumiki::kernels {
namespace {

class AttentionMerge : public Kernel {
 public:
  AttentionMerge(const Op& op, const Pool& pool) : Kernel(op, pool), parts_(op.inputs() / 2) {
    op.require_f32();
    if (parts_ < 1 || op.inputs() % 2 || op.outputs() != 2)
      throw Unsupported("attention_merge: pairs of o and lse are expected");
    const km_tensor &o = op.output(0), &lse = op.output(1);
    width_ = op.i64("head_width", 0);
    if (o.rank != 3 || lse.rank != 3 || width_ < 1 || o.dims[2] % width_)
      throw Unsupported("attention_merge: expected o [batch, tokens, heads x head_width] and lse of its heads");
    batch_ = o.dims[0], tokens_ = o.dims[1], heads_ = o.dims[2] / width_;
    for (uint32_t i = 0; i < op.inputs(); ++i)
      if (km_elements(&op.input(i)) != km_elements(&op.output(i % 2)))
        throw Unsupported("attention_merge: parts of different sizes");
    for (uint32_t o_or_lse = 0; o_or_lse < 2; ++o_or_lse)
      for (uint32_t i = o_or_lse; i < op.inputs(); i += 2) support_.in_place[o_or_lse] |= 1u << i;
  }

  void run(const Buffers& b, void*) override {
    pool_.ranges(batch_ * tokens_, std::max<int64_t>(1, 4096 / (heads_ * width_)),
                 [&](int64_t begin, int64_t end, uint32_t) {
                   for (int64_t row = begin; row < end; ++row)
                     for (int64_t head = 0; head < heads_; ++head) merge(b, row / tokens_, row % tokens_, head);
                 });
  }

 private:
  void merge(const Buffers& b, int64_t sample, int64_t token, int64_t head) const {
    const int64_t at = (sample * heads_ + head) * tokens_ + token;
    const int64_t row = (sample * tokens_ + token) * heads_ * width_ + head * width_;
    const float* x[KM_MAX_INPUTS / 2];
    float weights[KM_MAX_INPUTS / 2];
    float largest = -INFINITY, sum = 0.0f;
    for (int64_t i = 0; i < parts_; ++i) {
      x[i] = b.in(static_cast<int>(2 * i)) + row;
      weights[i] = b.in(static_cast<int>(2 * i + 1))[at];
      largest = std::max(largest, weights[i]);
    }
    for (int64_t i = 0; i < parts_; ++i) { // a part without a key has lse = -infinity, and weighs nothing
      weights[i] = weights[i] == largest && largest > -INFINITY ? 1.0f
                   : weights[i] > -INFINITY                     ? std::exp(weights[i] - largest)
                                                                : 0.0f;
      sum += weights[i];
    }
    for (int64_t i = 0; i < parts_ && sum > 0.0f; ++i) weights[i] /= sum;
    b.out(1)[at] = sum > 0.0f ? largest + std::log(sum) : -INFINITY;
    functions_.attention->weigh(x, weights, parts_, b.out(0) + row, width_);
  }

  int64_t parts_, batch_, tokens_, heads_, width_;
};

} // namespace

std::unique_ptr<Kernel> make_attention_merge(const Op& op, const Pool& pool) { return make<AttentionMerge>(op, pool); }

} // namespace kumiki::kernels
