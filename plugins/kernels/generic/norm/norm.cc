#include "plugins/kernels/generic/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "plugins/kernels/generic/norm/norm.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

#include <algorithm>
#include <cmath>

#include "plugins/kernels/generic/kernels.h"
#include "plugins/kernels/generic/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace kumiki::generic {
namespace HWY_NAMESPACE {
namespace {

constexpr int64_t kGroup = 256; /* rows summed before they go to the total: keeps rounding small over long batches */

void Forward(const NormForward& p, int64_t row_begin, int64_t row_end) {
  const F d;
  const int64_t n = lanes(), w = p.width, whole = w / n * n;
  const float inverse = 1.0f / static_cast<float>(w);
  for (int64_t r = row_begin; r < row_end; ++r) {
    const float* x = p.x + r * w;
    V s0 = hn::Zero(d), s1 = s0;
    const bool is_layernorm = p.mean != nullptr;
    if (p.added) {
      const float* b = p.added + r * w;
      float* sum = p.sum + r * w;
      for (int64_t j = 0; j < w; j += n) {
        const V v = hn::Add(load_upto(x + j, w - j), load_upto(b + j, w - j));
        store_upto(v, sum + j, w - j);
        s0 = hn::Add(s0, v);
      }
      x = sum;
    } else if (is_layernorm) {
      int64_t j = 0;
      for (; j + 2 * n <= w; j += 2 * n) {
        s0 = hn::Add(s0, hn::LoadU(d, x + j));
        s1 = hn::Add(s1, hn::LoadU(d, x + j + n));
      }
      for (; j < w; j += n) s0 = hn::Add(s0, load_upto(x + j, w - j));
    }
    const float mean = is_layernorm ? sum_lanes(hn::Add(s0, s1)) * inverse : 0.0f;
    const V m = hn::Set(d, mean);
    V q0 = hn::Zero(d), q1 = q0;
    int64_t j = 0;
    for (; j + 2 * n <= w; j += 2 * n) {
      const V a = hn::Sub(hn::LoadU(d, x + j), m), b = hn::Sub(hn::LoadU(d, x + j + n), m);
      q0 = hn::MulAdd(a, a, q0);
      q1 = hn::MulAdd(b, b, q1);
    }
    for (; j < whole; j += n) {
      const V a = hn::Sub(hn::LoadU(d, x + j), m);
      q0 = hn::MulAdd(a, a, q0);
    }
    if (whole < w) { // lanes past the end would count as (0 - mean)^2
      const V a =
          hn::IfThenElseZero(hn::FirstN(d, static_cast<size_t>(w - whole)), hn::Sub(load_n(x + whole, w - whole), m));
      q1 = hn::MulAdd(a, a, q1);
    }
    const float rstd = 1.0f / std::sqrt(sum_lanes(hn::Add(q0, q1)) * inverse + p.epsilon);
    if (is_layernorm) p.mean[r] = mean;
    p.rstd[r] = rstd;
    const V s = hn::Set(d, rstd);
    float* y = p.y + r * w;
    for (j = 0; j < w; j += n) {
      const V hat = hn::Mul(hn::Sub(load_upto(x + j, w - j), m), s);
      const V g = load_upto(p.weight + j, w - j);
      store_upto(p.bias ? hn::MulAdd(hat, g, load_upto(p.bias + j, w - j)) : hn::Mul(hat, g), y + j, w - j);
    }
  }
}

/* dx = rstd (g - mean(g) - x̂ mean(g x̂)), g = dy weight; RMSNorm has no mean(g). */
void Backward(const NormBackward& p, int64_t row_begin, int64_t row_end) {
  const F d;
  const int64_t n = lanes(), w = p.width;
  const float inverse = 1.0f / static_cast<float>(w);
  for (int64_t r = row_begin; r < row_end; ++r) {
    const float *dy = p.dy + r * w, *x = p.x + r * w;
    const V m = hn::Set(d, p.mean ? p.mean[r] : 0.0f), s = hn::Set(d, p.rstd[r]);
    V s0 = hn::Zero(d), s1 = s0, q0 = s0, q1 = s0;
    int64_t j = 0;
    for (; j + 2 * n <= w; j += 2 * n) {
      const V g0 = hn::Mul(hn::LoadU(d, dy + j), hn::LoadU(d, p.weight + j));
      const V g1 = hn::Mul(hn::LoadU(d, dy + j + n), hn::LoadU(d, p.weight + j + n));
      s0 = hn::Add(s0, g0);
      s1 = hn::Add(s1, g1);
      q0 = hn::MulAdd(g0, hn::Mul(hn::Sub(hn::LoadU(d, x + j), m), s), q0);
      q1 = hn::MulAdd(g1, hn::Mul(hn::Sub(hn::LoadU(d, x + j + n), m), s), q1);
    }
    for (; j < w; j += n) {
      const V g = hn::Mul(load_upto(dy + j, w - j), load_upto(p.weight + j, w - j)); // zero past the end
      s0 = hn::Add(s0, g);
      q0 = hn::MulAdd(g, hn::Mul(hn::Sub(load_upto(x + j, w - j), m), s), q0);
    }
    const V mean_g = hn::Set(d, p.mean ? sum_lanes(hn::Add(s0, s1)) * inverse : 0.0f);
    const V mean_gx = hn::Set(d, sum_lanes(hn::Add(q0, q1)) * inverse);
    const float* addend = p.addend ? p.addend + r * w : nullptr;
    float* dx = p.dx + r * w;
    for (j = 0; j < w; j += n) {
      const int64_t left = w - j;
      const V hat = hn::Mul(hn::Sub(load_upto(x + j, left), m), s);
      const V g = hn::Mul(load_upto(dy + j, left), load_upto(p.weight + j, left));
      V v = hn::Mul(s, hn::Sub(g, hn::MulAdd(hat, mean_gx, mean_g)));
      if (addend) v = hn::Add(v, load_upto(addend + j, left));
      store_upto(v, dx + j, left);
    }
  }
}

void BackwardWeight(const NormBackward& p, int64_t rows, int64_t begin, int64_t end, const float* weight_addend,
                    const float* bias_addend, float* d_weight, float* d_bias) {
  const F d;
  const int64_t n = lanes(), w = p.width;
  for (int64_t j = begin; j < end; j += 2 * n) {
    const int64_t left0 = std::min(end - j, n), left1 = std::min(std::max<int64_t>(0, end - j - n), n);
    const int64_t second = left1 > 0 ? n : 0;
    V w0 = hn::Zero(d), w1 = w0, b0 = w0, b1 = w0;
    for (int64_t r0 = 0; r0 < rows; r0 += kGroup) {
      V gw0 = hn::Zero(d), gw1 = gw0, gb0 = gw0, gb1 = gw0;
      for (int64_t r = r0; r < std::min(rows, r0 + kGroup); ++r) {
        const float *dy = p.dy + r * w + j, *x = p.x + r * w + j;
        const V m = hn::Set(d, p.mean ? p.mean[r] : 0.0f), s = hn::Set(d, p.rstd[r]);
        const V y0 = load_upto(dy, left0), y1 = load_upto(dy + second, left1);
        gw0 = hn::MulAdd(y0, hn::Mul(hn::Sub(load_upto(x, left0), m), s), gw0);
        gw1 = hn::MulAdd(y1, hn::Mul(hn::Sub(load_upto(x + second, left1), m), s), gw1);
        gb0 = hn::Add(gb0, y0);
        gb1 = hn::Add(gb1, y1);
      }
      w0 = hn::Add(w0, gw0);
      w1 = hn::Add(w1, gw1);
      b0 = hn::Add(b0, gb0);
      b1 = hn::Add(b1, gb1);
    }
    const auto put = [&](V v, const float* addend, float* to, int64_t at, int64_t left) HWY_ATTR {
      if (left <= 0) return;
      store_upto(addend ? hn::Add(v, load_upto(addend + at, left)) : v, to + at, left);
    };
    put(w0, weight_addend, d_weight, j, left0);
    put(w1, weight_addend, d_weight, j + n, left1);
    if (d_bias) {
      put(b0, bias_addend, d_bias, j, left0);
      put(b1, bias_addend, d_bias, j + n, left1);
    }
  }
}

void SumRows(const float* x, int64_t rows, int64_t width, int64_t begin, int64_t end, const float* addend, float* y) {
  const F d;
  const int64_t n = lanes();
  for (int64_t j = begin; j < end; j += 4 * n) {
    const int64_t left = end - j;
    const auto piece = [&](int64_t q) { return std::min(n, std::max<int64_t>(0, left - q * n)); };
    const int64_t l0 = piece(0), l1 = piece(1), l2 = piece(2), l3 = piece(3);
    const int64_t o1 = l1 ? n : 0, o2 = l2 ? 2 * n : 0, o3 = l3 ? 3 * n : 0;
    V t0 = hn::Zero(d), t1 = t0, t2 = t0, t3 = t0;
    for (int64_t r0 = 0; r0 < rows; r0 += kGroup) {
      V s0 = hn::Zero(d), s1 = s0, s2 = s0, s3 = s0;
      for (int64_t r = r0; r < std::min(rows, r0 + kGroup); ++r) {
        const float* p = x + r * width + j;
        s0 = hn::Add(s0, load_upto(p, l0));
        s1 = hn::Add(s1, load_upto(p + o1, l1));
        s2 = hn::Add(s2, load_upto(p + o2, l2));
        s3 = hn::Add(s3, load_upto(p + o3, l3));
      }
      t0 = hn::Add(t0, s0);
      t1 = hn::Add(t1, s1);
      t2 = hn::Add(t2, s2);
      t3 = hn::Add(t3, s3);
    }
    const auto put = [&](V v, int64_t at, int64_t count) HWY_ATTR {
      if (count > 0) store_upto(addend ? hn::Add(v, load_upto(addend + at, count)) : v, y + at, count);
    };
    put(t0, j, l0);
    put(t1, j + n, l1);
    put(t2, j + 2 * n, l2);
    put(t3, j + 3 * n, l3);
  }
}

} // namespace
} // namespace HWY_NAMESPACE
} // namespace kumiki::generic
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace kumiki::generic {
HWY_EXPORT(Forward);
HWY_EXPORT(Backward);
HWY_EXPORT(BackwardWeight);
HWY_EXPORT(SumRows);

namespace {

void norm_forward(const NormForward& norm, int64_t row_begin, int64_t row_end) {
  HWY_DYNAMIC_DISPATCH(Forward)(norm, row_begin, row_end);
}
void norm_backward(const NormBackward& norm, int64_t row_begin, int64_t row_end) {
  HWY_DYNAMIC_DISPATCH(Backward)(norm, row_begin, row_end);
}
void norm_backward_weight(const NormBackward& norm, int64_t rows, int64_t begin, int64_t end,
                          const float* weight_addend, const float* bias_addend, float* d_weight, float* d_bias) {
  HWY_DYNAMIC_DISPATCH(BackwardWeight)(norm, rows, begin, end, weight_addend, bias_addend, d_weight, d_bias);
}
void sum_rows(const float* x, int64_t rows, int64_t width, int64_t begin, int64_t end, const float* addend, float* y) {
  HWY_DYNAMIC_DISPATCH(SumRows)(x, rows, width, begin, end, addend, y);
}

} // namespace

const NormFunctions kNorms = {
    .forward = norm_forward, .backward = norm_backward, .backward_weight = norm_backward_weight, .sum_rows = sum_rows};
} // namespace kumiki::generic
#endif
