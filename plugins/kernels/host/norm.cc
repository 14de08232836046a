/* The ops of "Norms" in docs/ops.md and sum_rows. */
#include <algorithm>

#include "plugins/kernels/host/makers.h"

namespace kumiki::kernels {
namespace {

constexpr int64_t kColumns =
    64; /* of a task that sums over rows: whole cache lines, a multiple of every vector width */

/* layernorm, rmsnorm, add_layernorm, add_rmsnorm. */
class Norm : public Kernel {
 public:
  Norm(const Op& op, const Pool& pool) : Kernel(op, pool) {
    op.require_f32();
    add_ = op.name().rfind("add_", 0) == 0;
    layer_ = op.name().find("layernorm") != std::string::npos;
    op.require_counts((add_ ? 2u : 1u) + (layer_ ? 2u : 1u), (add_ ? 1u : 0u) + (layer_ ? 3u : 2u));
    rows_ = rows(op.input(0));
    width_ = width(op.input(0));
    epsilon_ = static_cast<float>(op.f64("epsilon", 1e-5));
    if (add_) {
      support_.in_place[0] = 3; // s
      support_.in_place[1] = 0;
    } else {
      support_.in_place[0] = 1; // y
    }
  }

  void run(const Buffers& b, void*) override {
    NormForward p{};
    const int first_weight = add_ ? 2 : 1, y = add_ ? 1 : 0;
    p.x = b.in(0);
    p.added = add_ ? b.in(1) : nullptr;
    p.sum = add_ ? b.out(0) : nullptr;
    p.weight = b.in(first_weight);
    p.bias = layer_ ? b.in(first_weight + 1) : nullptr;
    p.y = b.out(y);
    p.mean = layer_ ? b.out(y + 1) : nullptr;
    p.rstd = b.out(layer_ ? y + 2 : y + 1);
    p.width = width_;
    p.epsilon = epsilon_;
    pool_.ranges(rows_, std::max<int64_t>(1, 8192 / width_),
                 [&](int64_t begin, int64_t end, uint32_t) { functions_.norm->forward(p, begin, end); });
  }

 private:
  bool add_, layer_;
  int64_t rows_, width_;
  float epsilon_;
};

/* layernorm_backward, rmsnorm_backward. */
class NormBackwardKernel : public Kernel {
 public:
  NormBackwardKernel(const Op& op, const Pool& pool) : Kernel(op, pool) {
    op.require_f32();
    layer_ = op.name() == "layernorm_backward";
    op.require_counts(layer_ ? 5 : 4, 1);
    rows_ = rows(op.input(0));
    width_ = width(op.input(0));
    addend_ = op.addend(0);
    support_.in_place[0] = 3;
    support_.flags = KM_SUPPORT_ADDEND_APART;
  }

  void run(const Buffers& b, void*) override {
    NormBackward p{};
    p.dy = b.in(0);
    p.x = b.in(1);
    p.weight = b.in(2);
    p.mean = layer_ ? b.in(3) : nullptr;
    p.rstd = b.in(layer_ ? 4 : 3);
    p.addend = b.in(addend_);
    p.dx = b.out(0);
    p.width = width_;
    pool_.ranges(rows_, std::max<int64_t>(1, 8192 / width_),
                 [&](int64_t begin, int64_t end, uint32_t) { functions_.norm->backward(p, begin, end); });
  }

 private:
  bool layer_;
  int64_t rows_, width_;
  int addend_;
};

/* layernorm_backward_weight, rmsnorm_backward_weight: tasks own columns, so that no partial sums meet. */
class NormBackwardWeight : public Kernel {
 public:
  NormBackwardWeight(const Op& op, const Pool& pool) : Kernel(op, pool) {
    op.require_f32();
    layer_ = op.name() == "layernorm_backward_weight";
    op.require_counts(layer_ ? 4 : 3, layer_ ? 2 : 1);
    rows_ = rows(op.input(0));
    width_ = width(op.input(0));
    weight_addend_ = op.addend(0);
    bias_addend_ = layer_ ? op.addend(1) : -1;
    support_.flags = KM_SUPPORT_ADDEND_APART;
  }

  void run(const Buffers& b, void*) override {
    NormBackward p{};
    p.dy = b.in(0);
    p.x = b.in(1);
    p.mean = layer_ ? b.in(2) : nullptr;
    p.rstd = b.in(layer_ ? 3 : 2);
    p.width = width_;
    pool_.run((width_ + kColumns - 1) / kColumns, [&](int64_t number, uint32_t) {
      const int64_t begin = number * kColumns, end = std::min(width_, begin + kColumns);
      functions_.norm->backward_weight(p, rows_, begin, end, b.in(weight_addend_), b.in(bias_addend_), b.out(0),
                                       layer_ ? b.out(1) : nullptr);
    });
  }

 private:
  bool layer_;
  int64_t rows_, width_;
  int weight_addend_, bias_addend_;
};

class SumRowsKernel : public Kernel {
 public:
  SumRowsKernel(const Op& op, const Pool& pool) : Kernel(op, pool) {
    op.require_f32();
    op.require_counts(1, 1);
    rows_ = rows(op.input(0));
    width_ = width(op.input(0));
    if (km_elements(&op.output(0)) != width_)
      throw Unsupported("sum_rows: the output does not have the last dimension's size");
    addend_ = op.addend(0);
    support_.flags = KM_SUPPORT_ADDEND_APART;
  }

  void run(const Buffers& b, void*) override {
    pool_.run((width_ + kColumns - 1) / kColumns, [&](int64_t number, uint32_t) {
      const int64_t begin = number * kColumns, end = std::min(width_, begin + kColumns);
      functions_.norm->sum_rows(b.in(0), rows_, width_, begin, end, b.in(addend_), b.out(0));
    });
  }

 private:
  int64_t rows_, width_;
  int addend_;
};

} // namespace

std::unique_ptr<Kernel> make_norm(const Op& op, const Pool& pool) { return make<Norm>(op, pool); }
std::unique_ptr<Kernel> make_norm_backward(const Op& op, const Pool& pool) {
  return make<NormBackwardKernel>(op, pool);
}
std::unique_ptr<Kernel> make_norm_backward_weight(const Op& op, const Pool& pool) {
  return make<NormBackwardWeight>(op, pool);
}
std::unique_ptr<Kernel> make_sum_rows(const Op& op, const Pool& pool) { return make<SumRowsKernel>(op, pool); }

} // namespace kumiki::kernels
