/* sum_squares, tensor_norm, gradient_scale, adamw_update. */
#include <algorithm>
#include <cmath>
#include <cstring>

#include "plugins/kernels/host/makers.h"

namespace kumiki::kernels {
namespace {

/* Pieces of a fixed size, their sums added in order: the same bits for any number of threads. */
class SumSquares : public Kernel {
 public:
  SumSquares(const Op& op, const Pool& pool) : Kernel(op, pool), root_(op.name() == "tensor_norm") {
    op.require_f32();
    op.require_counts(1, 1);
    elements_ = km_elements(&op.input(0));
    pieces_ = (elements_ + kPiece - 1) / kPiece;
    support_.workspace_bytes = static_cast<uint64_t>(pieces_) * sizeof(double);
  }
  void run(const Buffers& b, void* workspace) override {
    double* sums = static_cast<double*>(workspace);
    pool_.run(pieces_, [&](int64_t i, uint32_t) {
      sums[i] = functions_.update->sum_squares(b.in(0) + i * kPiece, std::min(kPiece, elements_ - i * kPiece));
    });
    double total = 0.0;
    for (int64_t i = 0; i < pieces_; ++i) total += sums[i];
    *b.out(0) = static_cast<float>(root_ ? std::sqrt(total) : total);
  }

 private:
  static constexpr int64_t kPiece = 65536;
  bool root_;
  int64_t elements_, pieces_;
};

class GradientScale : public Kernel {
 public:
  GradientScale(const Op& op, const Pool& pool) : Kernel(op, pool), clip_(op.f64("clip", 0.0)) {
    op.require_f32();
    op.require_counts(3, 3);
  }
  void run(const Buffers& b, void*) override {
    const double squares = static_cast<double>(*b.in(0));
    const double unit = 1.0 / (static_cast<double>(*b.in(1)) * static_cast<double>(*b.in(2)));
    const double norm = unit * std::sqrt(squares);
    const bool finite = std::isfinite(norm);
    const double scale = clip_ > 0.0 ? unit * std::min(1.0, clip_ / (norm + 1e-6)) : unit;
    *b.out(0) = finite ? static_cast<float>(scale) : 0.0f;
    *b.out(1) = static_cast<float>(norm);
    *b.out(2) = finite ? 1.0f : 0.0f;
  }

 private:
  double clip_;
};

class AdamWUpdate : public Kernel {
 public:
  AdamWUpdate(const Op& op, const Pool& pool) : Kernel(op, pool) {
    op.require_counts(8, 3);
    elements_ = km_elements(&op.output(0));
    for (uint32_t i = 0; i < 4; ++i) {
      op.require_input(i, KM_F32);
      if (km_elements(&op.input(i)) != elements_) throw Unsupported("adamw_update: p, g, m and v differ in size");
    }
    for (uint32_t o = 0; o < 3; ++o) op.require_output(o, KM_F32);
    for (uint32_t i = 0; i < 4; ++i) scalars_[i] = op.input(4 + i);
    beta1_ = op.f64("beta1", 0.9);
    beta2_ = op.f64("beta2", 0.95);
    epsilon_ = op.f64("epsilon", 1e-8);
    weight_decay_ = op.f64("weight_decay", 0.0);
    support_.in_place[0] = 1u << 0;
    support_.in_place[1] = 1u << 2;
    support_.in_place[2] = 1u << 3;
  }

  void run(const Buffers& b, void*) override {
    const AdamWArrays arrays{b.in(0), b.in(1), b.in(2), b.in(3), b.out(0), b.out(1), b.out(2)};
    const double learning_rate = read(b, 0), step = read(b, 1), scale = read(b, 2);
    if (read(b, 3) == 0.0) {
      const float* from[] = {arrays.p, arrays.m, arrays.v};
      float* to[] = {arrays.p_out, arrays.m_out, arrays.v_out};
      for (int i = 0; i < 3; ++i)
        if (from[i] != to[i]) std::memcpy(to[i], from[i], static_cast<size_t>(elements_) * sizeof(float));
      return;
    }
    AdamW a{};
    a.beta1 = static_cast<float>(beta1_);
    a.beta2 = static_cast<float>(beta2_);
    a.rest1 = static_cast<float>(1.0 - beta1_);
    a.rest2 = static_cast<float>(1.0 - beta2_);
    a.epsilon = static_cast<float>(epsilon_);
    a.gradient_scale = static_cast<float>(scale);
    a.step1 = static_cast<float>(learning_rate / (1.0 - std::pow(beta1_, step)));
    a.inverse2 = static_cast<float>(1.0 / (1.0 - std::pow(beta2_, step)));
    a.decay = static_cast<float>(learning_rate * weight_decay_);
    pool_.ranges(elements_, 16384,
                 [&](int64_t begin, int64_t end, uint32_t) { functions_.update->adamw(a, arrays, begin, end); });
  }

 private:
  double read(const Buffers& b, int i) const { return scalar(scalars_[i], b.in<char>(4 + i)); }

  int64_t elements_;
  km_tensor scalars_[4];
  double beta1_, beta2_, epsilon_, weight_decay_;
};

} // namespace

std::unique_ptr<Kernel> make_sum_squares(const Op& op, const Pool& pool) { return make<SumSquares>(op, pool); }
std::unique_ptr<Kernel> make_gradient_scale(const Op& op, const Pool& pool) { return make<GradientScale>(op, pool); }
std::unique_ptr<Kernel> make_adamw_update(const Op& op, const Pool& pool) { return make<AdamWUpdate>(op, pool); }

} // namespace kumiki::kernels
