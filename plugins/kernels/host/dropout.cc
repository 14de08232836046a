#include <algorithm>
#include <cmath>

#include "plugins/kernels/host/makers.h"

namespace kumiki::kernels {
namespace {

/* x [batch, ...], seed, sample: the pieces of a sample begin at multiples of four of its elements, so that each draw of
 * Philox belongs to one task. Where x, or its second range (attribute fold), begins between two of those, the first piece
 * begins with what is left of a draw. */
class DropoutKernel : public Kernel {
 public:
  DropoutKernel(const Op& op, const Pool& pool) : Kernel(op, pool) {
    op.require_counts(3, 1);
    op.require_input(0, KM_F32);
    op.require_output(0, KM_F32);
    op.require_input(1, KM_I64);
    op.require_input(2, KM_I64);
    const km_tensor& x = op.input(0);
    batch_ = x.rank == 0 ? 1 : x.dims[0];
    elements_ = batch_ == 0 ? 0 : km_elements(&x) / batch_;
    const double probability = op.f64("probability", 0.0);
    if (!(probability >= 0.0 && probability < 1.0))
      throw Unsupported("dropout: attribute probability is not in [0, 1)");
    parameters_.stream = static_cast<uint32_t>(op.i64("stream", 0));
    parameters_.threshold = static_cast<uint64_t>(std::ceil(probability * 4294967296.0));
    parameters_.factor = static_cast<float>(1.0 / (1.0 - probability));
    positions_ = positions_of(op, elements_);
    support_.in_place[0] = 1;
  }

  void run(const Buffers& b, void*) override {
    Dropout common = parameters_;
    common.seed = static_cast<uint64_t>(*b.in<int64_t>(1));
    const uint64_t first = static_cast<uint64_t>(*b.in<int64_t>(2));
    run_range(common, first, b, 0, positions_.fold, positions_.offset);
    run_range(common, first, b, positions_.fold, elements_, positions_.fold_offset);
  }

 private:
  /* The elements [begin, end) of each sample, which stand at `offset` of the whole sample and behind. */
  void run_range(const Dropout& common, uint64_t first_sample, const Buffers& b, int64_t range_begin, int64_t range_end,
                 int64_t offset) const {
    /* Counted from the draw that the range begins in. */
    const int64_t lead = offset % 4, end = lead + range_end - range_begin;
    const int64_t piece = 16384, pieces = (end + piece - 1) / piece;
    if (range_begin == range_end) return;
    pool_.run(batch_ * pieces, [&](int64_t number, uint32_t) {
      const int64_t sample = number / pieces, begin = number % pieces * piece;
      Dropout p = common;
      p.sample = first_sample + static_cast<uint64_t>(sample);
      const float* x = b.in(0) + sample * elements_ + range_begin - lead;
      float* y = b.out(0) + sample * elements_ + range_begin - lead;
      const int64_t from =
          begin == 0 && lead > 0 ? first_draw(p, offset - lead, x, y, lead, std::min<int64_t>(4, end)) : begin;
      functions_.elementwise->dropout(p, offset - lead + from, x + from, y + from, std::min(begin + piece, end) - from);
    });
  }

  /* The elements [lead, end) of the draw `at` that a range begins in; gives where the next draw begins, or the end. */
  int64_t first_draw(const Dropout& p, int64_t at, const float* x, float* y, int64_t lead, int64_t end) const {
    float draw[4] = {};
    std::copy(x + lead, x + end, draw + lead);
    functions_.elementwise->dropout(p, at, draw, draw, 4);
    std::copy(draw + lead, draw + end, y + lead);
    return end;
  }

  int64_t batch_, elements_;
  Positions positions_;
  Dropout parameters_{};
};

} // namespace

std::unique_ptr<Kernel> make_dropout(const Op& op, const Pool& pool) { return make<DropoutKernel>(op, pool); }

} // namespace kumiki::kernels
