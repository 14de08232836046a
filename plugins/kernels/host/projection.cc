#include "plugins/kernels/host/projection.h"

#include <algorithm>
#include <cmath>

namespace kumiki::kernels {
namespace {

constexpr int64_t kSliceRows = 1024;       /* tokens of a slice, at most … */
constexpr int64_t kSliceBytes = 256 << 20; /* … and bytes of its logits */

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

} // namespace

ProjectionLoss::ProjectionLoss(const Op& op, const Pool& pool, int64_t panel) : Kernel(op, pool) {
  train_ = op.name() == "projection_cross_entropy_train";
  op.require_counts(train_ ? 4 : 3, train_ ? 4 : 2);
  op.require_input(0, KM_F32);
  op.require_input(1, KM_F32);
  op.require_input(2, KM_I32);
  for (uint32_t o = 0; o < op.outputs(); ++o) op.require_output(o, KM_F32);
  if (train_) {
    op.require_input(3, KM_F32);
    x_addend_ = op.addend(2);
    w_addend_ = op.addend(3);
    if (x_addend_ >= 0) op.require_input(static_cast<uint32_t>(x_addend_), KM_F32);
    if (w_addend_ >= 0) op.require_input(static_cast<uint32_t>(w_addend_), KM_F32);
  }
  tokens_ = rows(op.input(0));
  k_ = width(op.input(0));
  vocabulary_ = rows(op.input(1));
  if (width(op.input(1)) != k_ || km_elements(&op.input(2)) != tokens_)
    throw Unsupported(op.name() + ": the sizes of x, w and targets do not agree");

  const int64_t fits = std::max(panel, kSliceBytes / (vocabulary_ * 4) / panel * panel);
  const int64_t slices = ceil_div(tokens_, std::min(fits, kSliceRows));
  slice_ = std::min(tokens_, ceil_div(ceil_div(tokens_, slices), panel) * panel);
  support_.flags = KM_SUPPORT_ADDEND_APART;
}

void ProjectionLoss::run(const Buffers& b, void* workspace) {
  begin(b.in(1), workspace);
  double loss = 0.0;
  int64_t counted = 0;
  for (int64_t begin = 0; begin < tokens_; begin += slice_) {
    Slice s;
    s.n = std::min(slice_, tokens_ - begin);
    s.x = b.in(0) + begin * k_;
    s.w = b.in(1);
    s.targets = b.in<int32_t>(2) + begin;
    forward(s);
    for (int64_t t = 0; t < s.n; ++t) {
      if (s.targets[t] < 0) continue;
      loss += loss_of(s, t);
      ++counted;
    }
    if (!train_) continue;
    s.d_loss = *b.in(3);
    s.d_x = b.out(2) + begin * k_;
    s.x_addend = x_addend_ < 0 ? nullptr : b.in(x_addend_) + begin * k_;
    s.d_w = b.out(3);
    s.w_addend = begin > 0 ? s.d_w : b.in(w_addend_);
    backward(s);
  }
  *b.out(0) = static_cast<float>(loss);
  *b.out(1) = static_cast<float>(counted);
}

float ProjectionLoss::log_sum(const float* maxima, const float* sums, int64_t tiles, int64_t pitch) {
  float top = maxima[0];
  for (int64_t i = 1; i < tiles; ++i) top = std::max(top, maxima[i * pitch]);
  double sum = 0.0;
  for (int64_t i = 0; i < tiles; ++i)
    sum += static_cast<double>(sums[i * pitch]) * std::exp(static_cast<double>(maxima[i * pitch] - top));
  return top + static_cast<float>(std::log(sum));
}

} // namespace kumiki::kernels
