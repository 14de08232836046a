/* cross_entropy and its backward on logits that are there already. */
#include "plugins/kernels/generic/kernels.h"
#include "plugins/kernels/generic/loss/loss.h"

namespace kumiki::generic {
namespace {

class CrossEntropy : public Kernel {
 public:
  CrossEntropy(const Op& op, const Pool& pool) : Kernel(op, pool) {
    op.require_counts(2, 2);
    op.require_input(0, KM_F32);
    op.require_input(1, KM_I32);
    op.require_output(0, KM_F32);
    op.require_output(1, KM_F32);
    rows_ = rows(op.input(0));
    width_ = width(op.input(0));
    support_.workspace_bytes = static_cast<uint64_t>(rows_) * sizeof(float);
  }
  void run(const Buffers& b, void* workspace) override {
    float* losses = static_cast<float*>(workspace);
    const int32_t* targets = b.in<int32_t>(1);
    pool_.ranges(rows_, 1, [&](int64_t begin, int64_t end, uint32_t) {
      for (int64_t r = begin; r < end; ++r) {
        const float* x = b.in(0) + r * width_;
        losses[r] = targets[r] < 0 ? 0.0f : row_log_sum(x, width_) - x[targets[r]];
      }
    });
    double loss = 0.0;
    int64_t tokens = 0;
    for (int64_t r = 0; r < rows_; ++r) {
      if (targets[r] < 0) continue;
      loss += static_cast<double>(losses[r]);
      ++tokens;
    }
    *b.out(0) = static_cast<float>(loss);
    *b.out(1) = static_cast<float>(tokens);
  }

 private:
  int64_t rows_, width_;
};

class CrossEntropyBackward : public Kernel {
 public:
  CrossEntropyBackward(const Op& op, const Pool& pool) : Kernel(op, pool) {
    op.require_counts(3, 1);
    op.require_input(0, KM_F32);
    op.require_input(1, KM_I32);
    op.require_input(2, KM_F32);
    op.require_output(0, KM_F32);
    rows_ = rows(op.input(0));
    width_ = width(op.input(0));
    support_.in_place[0] = 1;
  }
  void run(const Buffers& b, void*) override {
    const int32_t* targets = b.in<int32_t>(1);
    const float d_loss = *b.in(2);
    pool_.ranges(rows_, 1, [&](int64_t begin, int64_t end, uint32_t) {
      for (int64_t r = begin; r < end; ++r) {
        const float* x = b.in(0) + r * width_;
        float* y = b.out(0) + r * width_;
        if (targets[r] < 0) {
          for (int64_t j = 0; j < width_; ++j) y[j] = 0.0f;
        } else {
          row_gradient(x, width_, row_log_sum(x, width_), d_loss, y);
          y[targets[r]] -= d_loss;
        }
      }
    });
  }

 private:
  int64_t rows_, width_;
};

} // namespace

std::unique_ptr<Kernel> make_cross_entropy(const Op& op, const Pool& pool) { return make<CrossEntropy>(op, pool); }
std::unique_ptr<Kernel> make_cross_entropy_backward(const Op& op, const Pool& pool) {
  return make<CrossEntropyBackward>(op, pool);
}

} // namespace kumiki::generic
