/* The ops of "Element by element" in docs/ops.md that training uses: each cuts its arrays in ranges for the pool. */
#include <algorithm>
#include <cstring>

#include "plugins/kernels/sve/kernels.h"
#include "plugins/kernels/sve/simd.h"

namespace kumiki::sve {
namespace {

constexpr int64_t kLeast = 8192; /* elements of a task: below that, waking a thread costs more */

void require_same_size(const Op& op, const km_tensor& a, const km_tensor& b) {
  if (km_elements(&a) != km_elements(&b)) throw Unsupported(op.name() + ": tensors of different sizes");
}

/* All inputs (but the addends) and outputs are f32 tensors of one size; output o may lie in any input of `in_place`. */
class SameSize : public Kernel {
 public:
  SameSize(const Op& op, const Pool& pool, uint32_t inputs, uint32_t outputs, uint32_t in_place) : Kernel(op, pool) {
    op.require_f32();
    op.require_counts(inputs, outputs);
    for (uint32_t i = 0; i < op.inputs(); ++i) require_same_size(op, op.input(i), op.output(0));
    elements_ = km_elements(&op.output(0));
    for (uint32_t o = 0; o < outputs; ++o) support_.in_place[o] = in_place;
  }

 protected:
  /* Calls f(begin, end) for ranges of elements, over the pool. */
  template <class F>
  void for_ranges(const F& f) const {
    pool_.ranges(elements_, kLeast, [&](int64_t begin, int64_t end, uint32_t) { f(begin, end); });
  }

  int64_t elements_;
};

enum class Unary { kSquare, kGelu, kSilu };

class UnaryKernel : public SameSize {
 public:
  UnaryKernel(const Op& op, const Pool& pool)
      : SameSize(op, pool, 1, 1, 1),
        function_(op.name() == "square" ? Unary::kSquare
                  : op.name() == "gelu" ? Unary::kGelu
                                        : Unary::kSilu) {}
  void run(const Buffers& b, void*) override {
    const float* x = b.in(0);
    float* y = b.out(0);
    for_ranges([&](int64_t begin, int64_t end) {
      switch (function_) {
        case Unary::kSquare: return map(x, y, begin, end, [](V v) { return mul(v, v); });
        case Unary::kGelu: return map(x, y, begin, end, [](V v) { return gelu(v); });
        case Unary::kSilu: return map(x, y, begin, end, [](V v) { return silu(v); });
      }
    });
  }

 private:
  Unary function_;
};

/* add, subtract, multiply: either input may be one number. */
class BinaryKernel : public Kernel {
 public:
  BinaryKernel(const Op& op, const Pool& pool) : Kernel(op, pool), name_(op.name()) {
    op.require_f32();
    op.require_counts(2, 1);
    elements_ = km_elements(&op.output(0));
    for (uint32_t i = 0; i < 2; ++i) {
      one_[i] = op.input(i).rank == 0;
      if (!one_[i]) require_same_size(op, op.input(i), op.output(0));
      if (!one_[i] || elements_ == 1) support_.in_place[0] |= 1u << i;
    }
  }
  void run(const Buffers& b, void*) override {
    if (name_ == "add") return over(b, [](V p, V q) { return add(p, q); });
    if (name_ == "subtract") return over(b, [](V p, V q) { return sub(p, q); });
    over(b, [](V p, V q) { return mul(p, q); });
  }

 private:
  template <class F>
  void over(const Buffers& b, const F& f) const {
    const float *x = b.in(0), *y = b.in(1);
    float* z = b.out(0);
    // Read before anything is written: the one number may lie in the output, if that has one element too.
    const float left = *x, right = *y;
    const bool one_left = one_[0], one_right = one_[1];
    pool_.ranges(elements_, kLeast, [&](int64_t begin, int64_t end, uint32_t) {
      if (!one_left && !one_right) return map(x, y, z, begin, end, f);
      if (one_left && one_right) return map(x, z, 0, 1, [&](V) { return f(set(left), set(right)); });
      if (one_left) return map(y, z, begin, end, [&](V v) { return f(set(left), v); });
      map(x, z, begin, end, [&](V v) { return f(v, set(right)); });
    });
  }

  std::string name_;
  bool one_[2];
  int64_t elements_;
};

class ActivationBackward : public SameSize {
 public:
  ActivationBackward(const Op& op, const Pool& pool)
      : SameSize(op, pool, 2, 1, 3), is_gelu_(op.name() == "gelu_backward"), addend_(op.addend(0)) {
    support_.flags = KM_SUPPORT_ADDEND_APART;
  }
  void run(const Buffers& b, void*) override {
    if (is_gelu_) return over(b, [](V x) { return gelu_slope(x); });
    over(b, [](V x) { return silu_slope(x, sigmoid(x)); });
  }

 private:
  template <class F>
  void over(const Buffers& b, const F& slope) const {
    const float *dy = b.in(0), *x = b.in(1), *addend = b.in(addend_);
    float* dx = b.out(0);
    for_ranges([&](int64_t begin, int64_t end) {
      if (addend) return map(dy, x, addend, dx, begin, end, [&](V d, V v, V more) { return mla(more, d, slope(v)); });
      map(dy, x, dx, begin, end, [&](V d, V v) { return mul(d, slope(v)); });
    });
  }
  bool is_gelu_;
  int addend_;
};

class SwigluKernel : public SameSize {
 public:
  SwigluKernel(const Op& op, const Pool& pool) : SameSize(op, pool, 2, 1, 3) {}
  void run(const Buffers& b, void*) override {
    const float *gate = b.in(0), *up = b.in(1);
    float* y = b.out(0);
    for_ranges(
        [&](int64_t begin, int64_t end) { map(gate, up, y, begin, end, [](V g, V u) { return mul(silu(g), u); }); });
  }
};

class SwigluBackwardKernel : public SameSize {
 public:
  SwigluBackwardKernel(const Op& op, const Pool& pool) : SameSize(op, pool, 3, 2, 7) {}
  void run(const Buffers& b, void*) override {
    const float *dy = b.in(0), *gate = b.in(1), *up = b.in(2);
    float *d_gate = b.out(0), *d_up = b.out(1);
    for_ranges([&](int64_t begin, int64_t end) {
      const int64_t n = lanes();
      int64_t i = begin;
      for (; i + 2 * n <= end; i += 2 * n) {
        const V d0 = svld1(all(), dy + i), g0 = svld1(all(), gate + i), u0 = svld1(all(), up + i);
        const V d1 = svld1_vnum(all(), dy + i, 1), g1 = svld1_vnum(all(), gate + i, 1),
                u1 = svld1_vnum(all(), up + i, 1);
        const V s0 = sigmoid(g0), s1 = sigmoid(g1);
        const V gate0 = mul(mul(d0, u0), silu_slope(g0, s0)), gate1 = mul(mul(d1, u1), silu_slope(g1, s1));
        const V up0 = mul(d0, mul(g0, s0)), up1 = mul(d1, mul(g1, s1));
        svst1(all(), d_gate + i, gate0);
        svst1_vnum(all(), d_gate + i, 1, gate1);
        svst1(all(), d_up + i, up0);
        svst1_vnum(all(), d_up + i, 1, up1);
      }
      for (; i < end; i += n) {
        const svbool_t p = first(end - i);
        const V d = svld1(p, dy + i), g = svld1(p, gate + i), u = svld1(p, up + i);
        const V s = sigmoid(g);
        svst1(p, d_gate + i, mul(mul(d, u), silu_slope(g, s)));
        svst1(p, d_up + i, mul(d, mul(g, s)));
      }
    });
  }
};

class ScaleKernel : public SameSize {
 public:
  ScaleKernel(const Op& op, const Pool& pool)
      : SameSize(op, pool, 1, 1, 1), factor_(static_cast<float>(op.f64("factor", 1.0))) {}
  void run(const Buffers& b, void*) override {
    const float *x = b.in(0), factor = factor_;
    float* y = b.out(0);
    for_ranges([&](int64_t begin, int64_t end) { map(x, y, begin, end, [&](V v) { return mul(v, set(factor)); }); });
  }

 private:
  float factor_;
};

class CopyKernel : public Kernel {
 public:
  CopyKernel(const Op& op, const Pool& pool) : Kernel(op, pool) {
    op.require_counts(1, 1);
    if (op.input(0).dtype != op.output(0).dtype || op.input(0).layout != 0 || op.output(0).layout != 0)
      throw Unsupported(op.name() + ": input and output are of different types");
    require_same_size(op, op.input(0), op.output(0));
    bytes_ = static_cast<int64_t>(km_bytes(&op.output(0)));
    support_.in_place[0] = 1;
  }
  void run(const Buffers& b, void*) override {
    if (b.in<char>(0) == b.out<char>(0)) return;
    pool_.ranges(bytes_, kLeast * 4, [&](int64_t begin, int64_t end, uint32_t) {
      std::memcpy(b.out<char>(0) + begin, b.in<char>(0) + begin, static_cast<size_t>(end - begin));
    });
  }

 private:
  int64_t bytes_;
};

class BiasAddKernel : public Kernel {
 public:
  BiasAddKernel(const Op& op, const Pool& pool) : Kernel(op, pool) {
    op.require_f32();
    op.require_counts(2, 1);
    rows_ = rows(op.input(0));
    width_ = width(op.input(0));
    if (km_elements(&op.input(1)) != width_)
      throw Unsupported("bias_add: the bias does not have the last dimension's size");
    support_.in_place[0] = 1;
  }
  void run(const Buffers& b, void*) override {
    const float* bias = b.in(1);
    pool_.ranges(rows_, std::max<int64_t>(1, kLeast / width_), [&](int64_t begin, int64_t end, uint32_t) {
      for (int64_t r = begin; r < end; ++r) {
        const float* x = b.in(0) + r * width_;
        float* y = b.out(0) + r * width_;
        map(x, bias, y, 0, width_, [](V p, V q) { return add(p, q); });
      }
    });
  }

 private:
  int64_t rows_, width_;
};

} // namespace

std::unique_ptr<Kernel> make_unary(const Op& op, const Pool& pool) { return make<UnaryKernel>(op, pool); }
std::unique_ptr<Kernel> make_binary(const Op& op, const Pool& pool) { return make<BinaryKernel>(op, pool); }
std::unique_ptr<Kernel> make_activation_backward(const Op& op, const Pool& pool) {
  return make<ActivationBackward>(op, pool);
}
std::unique_ptr<Kernel> make_swiglu(const Op& op, const Pool& pool) { return make<SwigluKernel>(op, pool); }
std::unique_ptr<Kernel> make_swiglu_backward(const Op& op, const Pool& pool) {
  return make<SwigluBackwardKernel>(op, pool);
}
std::unique_ptr<Kernel> make_scale(const Op& op, const Pool& pool) { return make<ScaleKernel>(op, pool); }
std::unique_ptr<Kernel> make_copy(const Op& op, const Pool& pool) { return make<CopyKernel>(op, pool); }
std::unique_ptr<Kernel> make_bias_add(const Op& op, const Pool& pool) { return make<BiasAddKernel>(op, pool); }

} // namespace kumiki::sve
