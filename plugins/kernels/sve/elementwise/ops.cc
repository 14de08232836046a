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
  /* Calls f(i, p) for all vectors of elements, over the pool. */
  template <class F>
  void for_all(const F& f) const {
    pool_.ranges(elements_, kLeast, [&](int64_t begin, int64_t end, uint32_t) { for_vectors(begin, end, f); });
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
    switch (function_) {
      case Unary::kSquare:
        return for_all([=](int64_t i, svbool_t p) {
          const V v = svld1(p, x + i);
          svst1(p, y + i, mul(v, v));
        });
      case Unary::kGelu: return for_all([=](int64_t i, svbool_t p) { svst1(p, y + i, gelu(svld1(p, x + i))); });
      case Unary::kSilu: return for_all([=](int64_t i, svbool_t p) { svst1(p, y + i, silu(svld1(p, x + i))); });
    }
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
      for_vectors(begin, end, [&](int64_t i, svbool_t p) {
        const V u = one_left ? set(left) : svld1(p, x + i), v = one_right ? set(right) : svld1(p, y + i);
        svst1(p, z + i, f(u, v));
      });
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
    for_all([=](int64_t i, svbool_t p) {
      V d = mul(svld1(p, dy + i), slope(svld1(p, x + i)));
      if (addend) d = add(d, svld1(p, addend + i));
      svst1(p, dx + i, d);
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
    for_all([=](int64_t i, svbool_t p) { svst1(p, y + i, mul(silu(svld1(p, gate + i)), svld1(p, up + i))); });
  }
};

class SwigluBackwardKernel : public SameSize {
 public:
  SwigluBackwardKernel(const Op& op, const Pool& pool) : SameSize(op, pool, 3, 2, 7) {}
  void run(const Buffers& b, void*) override {
    const float *dy = b.in(0), *gate = b.in(1), *up = b.in(2);
    float *d_gate = b.out(0), *d_up = b.out(1);
    for_all([=](int64_t i, svbool_t p) {
      const V d = svld1(p, dy + i), g = svld1(p, gate + i), u = svld1(p, up + i);
      const V s = sigmoid(g);
      svst1(p, d_gate + i, mul(mul(d, u), silu_slope(g, s)));
      svst1(p, d_up + i, mul(d, mul(g, s)));
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
    for_all([=](int64_t i, svbool_t p) { svst1(p, y + i, mul(svld1(p, x + i), set(factor))); });
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
        for_vectors(0, width_,
                    [=](int64_t i, svbool_t p) { svst1(p, y + i, add(svld1(p, x + i), svld1(p, bias + i))); });
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
