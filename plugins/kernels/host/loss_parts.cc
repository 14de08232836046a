/* Cross entropy over a part of the vocabulary: row_max, row_exp_pick, cross_entropy_parts and its backward. Each reads
 * the logits of this rank once, row by row; the rows are spread over the pool. */
#include <cmath>

#include "plugins/kernels/host/makers.h"

namespace kumiki::kernels {
namespace {

/* Logits [..., V] at input 0, targets at 1, then numbers of rows up to input `end`. */
class Rows : public Kernel {
 public:
  Rows(const Op& op, const Pool& pool, uint32_t end) : Kernel(op, pool) {
    for (uint32_t i = 0; i < op.inputs(); ++i) op.require_input(i, i == 1 ? KM_I32 : KM_F32);
    for (uint32_t o = 0; o < op.outputs(); ++o) op.require_output(o, KM_F32);
    rows_ = rows(op.input(0));
    width_ = width(op.input(0));
    offset_ = op.i64("offset", 0);
    for (uint32_t i = 1; i < end; ++i)
      if (km_elements(&op.input(i)) != rows_)
        throw Unsupported(op.name() + ": input " + std::to_string(i) + " has not one number for each row of logits");
  }

 protected:
  /* Calls task(row) for all rows. */
  template <class Task>
  void each_row(const Task& task) const {
    pool_.ranges(rows_, 1, [&](int64_t begin, int64_t end, uint32_t) {
      for (int64_t r = begin; r < end; ++r) task(r);
    });
  }

  int64_t rows_, width_, offset_;
};

class RowMax : public Rows {
 public:
  RowMax(const Op& op, const Pool& pool) : Rows(op, pool, 1) { op.require_counts(1, 1); }
  void run(const Buffers& b, void*) override {
    each_row([&](int64_t r) { b.out(0)[r] = functions_.loss->row_maximum(b.in(0) + r * width_, width_); });
  }
};

class RowExpPick : public Rows {
 public:
  RowExpPick(const Op& op, const Pool& pool) : Rows(op, pool, 3) { op.require_counts(3, 2); }
  void run(const Buffers& b, void*) override {
    each_row([&](int64_t r) {
      const float* x = b.in(0) + r * width_;
      const int64_t target = b.in<int32_t>(1)[r] - offset_;
      b.out(0)[r] = functions_.loss->row_sum_exp(x, width_, b.in(2)[r]);
      b.out(1)[r] = target >= 0 && target < width_ ? x[target] : 0.0f;
    });
  }
};

/* The loss is made of one number a row, in their order; it does not read the logits. */
class CrossEntropyParts : public Rows {
 public:
  CrossEntropyParts(const Op& op, const Pool& pool) : Rows(op, pool, 5) { op.require_counts(5, 2); }
  void run(const Buffers& b, void*) override {
    const int32_t* targets = b.in<int32_t>(1);
    double loss = 0.0;
    int64_t tokens = 0;
    for (int64_t r = 0; r < rows_; ++r) {
      if (targets[r] < 0) continue;
      const float log_sum = b.in(2)[r] + std::log(b.in(3)[r]);
      loss += static_cast<double>(log_sum) - static_cast<double>(b.in(4)[r]);
      ++tokens;
    }
    *b.out(0) = static_cast<float>(loss);
    *b.out(1) = static_cast<float>(tokens);
  }
};

class CrossEntropyPartsBackward : public Rows {
 public:
  CrossEntropyPartsBackward(const Op& op, const Pool& pool) : Rows(op, pool, 4) {
    op.require_counts(5, 1);
    support_.in_place[0] = 1;
  }
  void run(const Buffers& b, void*) override {
    const int32_t* targets = b.in<int32_t>(1);
    const float d_loss = *b.in(4);
    each_row([&](int64_t r) {
      float* y = b.out(0) + r * width_;
      if (targets[r] < 0) {
        for (int64_t j = 0; j < width_; ++j) y[j] = 0.0f;
        return;
      }
      functions_.loss->row_gradient(b.in(0) + r * width_, width_, b.in(2)[r] + std::log(b.in(3)[r]), d_loss, y);
      const int64_t target = targets[r] - offset_;
      if (target >= 0 && target < width_) y[target] -= d_loss;
    });
  }
};

} // namespace

std::unique_ptr<Kernel> make_row_max(const Op& op, const Pool& pool) { return make<RowMax>(op, pool); }
std::unique_ptr<Kernel> make_row_exp_pick(const Op& op, const Pool& pool) { return make<RowExpPick>(op, pool); }
std::unique_ptr<Kernel> make_cross_entropy_parts(const Op& op, const Pool& pool) {
  return make<CrossEntropyParts>(op, pool);
}
std::unique_ptr<Kernel> make_cross_entropy_parts_backward(const Op& op, const Pool& pool) {
  return make<CrossEntropyPartsBackward>(op, pool);
}

} // namespace kumiki::kernels
