/* The ops of "Element by element" in docs/ops.md, but for dropout (dropout.cc): each cuts its arrays in
 * ranges for the pool. */
#include <algorithm>
#include <cstring>

#include "plugins/kernels/host/makers.h"

namespace kumiki::kernels {
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
  int64_t elements_;
};

class UnaryKernel : public SameSize {
 public:
  UnaryKernel(const Op& op, const Pool& pool) : SameSize(op, pool, 1, 1, 1), function_(function_of(op.name())) {}
  void run(const Buffers& b, void*) override {
    pool_.ranges(elements_, kLeast, [&](int64_t begin, int64_t end, uint32_t) {
      functions_.elementwise->unary(function_, b.in(0) + begin, b.out(0) + begin, end - begin);
    });
  }

 private:
  static Unary function_of(const std::string& name) {
    static constexpr struct {
      const char* name;
      Unary function;
    } kFunctions[] = {{"negate", Unary::kNegate}, {"square", Unary::kSquare},
                      {"sqrt", Unary::kSqrt},     {"reciprocal", Unary::kReciprocal},
                      {"exp", Unary::kExp},       {"log", Unary::kLog},
                      {"abs", Unary::kAbs},       {"sign", Unary::kSign},
                      {"tanh", Unary::kTanh},     {"gelu", Unary::kGelu},
                      {"silu", Unary::kSilu}};
    for (const auto& f : kFunctions)
      if (name == f.name) return f.function;
    throw Unsupported(name + ": not a function of one input");
  }
  Unary function_;
};

class BinaryKernel : public Kernel {
 public:
  BinaryKernel(const Op& op, const Pool& pool) : Kernel(op, pool), function_(function_of(op.name())) {
    op.require_f32();
    op.require_counts(2, 1);
    elements_ = km_elements(&op.output(0));
    for (uint32_t i = 0; i < 2; ++i) {
      const bool one = op.input(i).rank == 0;
      if (!one) require_same_size(op, op.input(i), op.output(0));
      step_[i] = one ? 0 : 1;
      if (!one || elements_ == 1) support_.in_place[0] |= 1u << i;
    }
  }
  void run(const Buffers& b, void*) override {
    pool_.ranges(elements_, kLeast, [&](int64_t begin, int64_t end, uint32_t) {
      functions_.elementwise->binary(function_, b.in(0) + begin * step_[0], step_[0], b.in(1) + begin * step_[1],
                                     step_[1], b.out(0) + begin, end - begin);
    });
  }

 private:
  static Binary function_of(const std::string& name) {
    static constexpr struct {
      const char* name;
      Binary function;
    } kFunctions[] = {{"add", Binary::kAdd},       {"subtract", Binary::kSubtract}, {"multiply", Binary::kMultiply},
                      {"divide", Binary::kDivide}, {"maximum", Binary::kMaximum},   {"minimum", Binary::kMinimum},
                      {"power", Binary::kPower}};
    for (const auto& f : kFunctions)
      if (name == f.name) return f.function;
    throw Unsupported(name + ": not a function of two inputs");
  }
  Binary function_;
  int step_[2];
  int64_t elements_;
};

class ActivationBackward : public SameSize {
 public:
  ActivationBackward(const Op& op, const Pool& pool)
      : SameSize(op, pool, 2, 1, 3), is_gelu_(op.name() == "gelu_backward"), addend_(op.addend(0)) {
    support_.flags = KM_SUPPORT_ADDEND_APART;
  }
  void run(const Buffers& b, void*) override {
    pool_.ranges(elements_, kLeast, [&](int64_t begin, int64_t end, uint32_t) {
      const float* addend = addend_ < 0 ? nullptr : b.in(addend_) + begin;
      (is_gelu_ ? functions_.elementwise->gelu_backward : functions_.elementwise->silu_backward)(
          b.in(0) + begin, b.in(1) + begin, addend, b.out(0) + begin, end - begin);
    });
  }

 private:
  bool is_gelu_;
  int addend_;
};

class SwigluKernel : public SameSize {
 public:
  SwigluKernel(const Op& op, const Pool& pool) : SameSize(op, pool, 2, 1, 3) {}
  void run(const Buffers& b, void*) override {
    pool_.ranges(elements_, kLeast, [&](int64_t begin, int64_t end, uint32_t) {
      functions_.elementwise->swiglu(b.in(0) + begin, b.in(1) + begin, b.out(0) + begin, end - begin);
    });
  }
};

class SwigluBackwardKernel : public SameSize {
 public:
  SwigluBackwardKernel(const Op& op, const Pool& pool) : SameSize(op, pool, 3, 2, 7) {}
  void run(const Buffers& b, void*) override {
    pool_.ranges(elements_, kLeast, [&](int64_t begin, int64_t end, uint32_t) {
      functions_.elementwise->swiglu_backward(b.in(0) + begin, b.in(1) + begin, b.in(2) + begin, b.out(0) + begin,
                                              b.out(1) + begin, end - begin);
    });
  }
};

class ScaleKernel : public SameSize {
 public:
  ScaleKernel(const Op& op, const Pool& pool)
      : SameSize(op, pool, 1, 1, 1), factor_(static_cast<float>(op.f64("factor", 1.0))) {}
  void run(const Buffers& b, void*) override {
    pool_.ranges(elements_, kLeast, [&](int64_t begin, int64_t end, uint32_t) {
      functions_.elementwise->scale(factor_, b.in(0) + begin, b.out(0) + begin, end - begin);
    });
  }

 private:
  float factor_;
};

class SelectKernel : public Kernel {
 public:
  SelectKernel(const Op& op, const Pool& pool) : Kernel(op, pool) {
    op.require_f32();
    op.require_counts(3, 1);
    elements_ = km_elements(&op.output(0));
    one_ = op.input(0).rank == 0;
    if (!one_) require_same_size(op, op.input(0), op.output(0));
    require_same_size(op, op.input(1), op.output(0));
    require_same_size(op, op.input(2), op.output(0));
    support_.in_place[0] = one_ ? 6 : 7;
  }
  void run(const Buffers& b, void*) override {
    const float* chosen = one_ ? (*b.in(0) != 0.0f ? b.in(1) : b.in(2)) : nullptr;
    pool_.ranges(elements_, kLeast, [&](int64_t begin, int64_t end, uint32_t) {
      const size_t bytes = static_cast<size_t>(end - begin) * sizeof(float);
      if (!one_) {
        functions_.elementwise->select(b.in(0) + begin, b.in(1) + begin, b.in(2) + begin, b.out(0) + begin,
                                       end - begin);
      } else if (chosen != b.out(0)) {
        std::memcpy(b.out(0) + begin, chosen + begin, bytes);
      }
    });
  }

 private:
  int64_t elements_;
  bool one_;
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

class CastKernel : public Kernel {
 public:
  CastKernel(const Op& op, const Pool& pool) : Kernel(op, pool) {
    op.require_counts(1, 1);
    require_same_size(op, op.input(0), op.output(0));
    elements_ = km_elements(&op.output(0));
    narrow_ = op.input(0).dtype == KM_F32;
    op.require_input(0, narrow_ ? KM_F32 : KM_BF16);
    op.require_output(0, narrow_ ? KM_BF16 : KM_F32);
  }
  void run(const Buffers& b, void*) override {
    pool_.ranges(elements_, kLeast, [&](int64_t begin, int64_t end, uint32_t) {
      if (narrow_) {
        functions_.elementwise->f32_to_bf16(b.in(0) + begin, b.out<uint16_t>(0) + begin, end - begin);
      } else {
        functions_.elementwise->bf16_to_f32(b.in<uint16_t>(0) + begin, b.out(0) + begin, end - begin);
      }
    });
  }

 private:
  int64_t elements_;
  bool narrow_;
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
    pool_.ranges(rows_, std::max<int64_t>(1, kLeast / width_), [&](int64_t begin, int64_t end, uint32_t) {
      functions_.elementwise->bias_add(b.in(0) + begin * width_, b.in(1), b.out(0) + begin * width_, end - begin,
                                       width_);
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
std::unique_ptr<Kernel> make_select(const Op& op, const Pool& pool) { return make<SelectKernel>(op, pool); }
std::unique_ptr<Kernel> make_copy(const Op& op, const Pool& pool) { return make<CopyKernel>(op, pool); }
std::unique_ptr<Kernel> make_bias_add(const Op& op, const Pool& pool) { return make<BiasAddKernel>(op, pool); }

std::unique_ptr<Kernel> make_cast(const Op& op, const Pool& pool) {
  const bool same = op.input(0).dtype == op.output(0).dtype;
  return same ? make_copy(op, pool) : make<CastKernel>(op, pool);
}

} // namespace kumiki::kernels
