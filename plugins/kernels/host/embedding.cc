/* embedding and embedding_backward. */
#include <algorithm>
#include <cstring>

#include "plugins/kernels/host/makers.h"

namespace kumiki::kernels {
namespace {

TablePart part_of(const Op& op, int64_t rows) { return {op.has("offset"), op.i64("offset", 0), rows}; }

class Embedding : public Kernel {
 public:
  Embedding(const Op& op, const Pool& pool) : Kernel(op, pool) {
    op.require_counts(2, 1);
    op.require_input(0, KM_I32);
    op.require_input(1, KM_F32);
    op.require_output(0, KM_F32);
    tokens_ = km_elements(&op.input(0));
    width_ = width(op.input(1));
    part_ = part_of(op, rows(op.input(1)));
  }
  void run(const Buffers& b, void*) override {
    pool_.ranges(tokens_, std::max<int64_t>(1, 8192 / width_), [&](int64_t begin, int64_t end, uint32_t) {
      const size_t bytes = static_cast<size_t>(width_) * sizeof(float);
      for (int64_t t = begin; t < end; ++t) {
        const int64_t row = part_.row(b.in<int32_t>(0)[t]);
        if (row < 0)
          std::memset(b.out(0) + t * width_, 0, bytes);
        else
          std::memcpy(b.out(0) + t * width_, b.in(1) + row * width_, bytes);
      }
    });
  }

 private:
  int64_t tokens_, width_;
  TablePart part_;
};

/* Tasks own columns: each adds the tokens' rows in their order, so the sums do not depend on the threads. */
class EmbeddingBackward : public Kernel {
 public:
  EmbeddingBackward(const Op& op, const Pool& pool) : Kernel(op, pool) {
    op.require_input(0, KM_I32);
    op.require_input(1, KM_F32);
    op.require_output(0, KM_F32);
    op.require_counts(2, 1);
    tokens_ = km_elements(&op.input(0));
    rows_ = rows(op.output(0));
    width_ = width(op.output(0));
    part_ = part_of(op, rows_);
    addend_ = op.addend(0);
    if (addend_ >= 0) op.require_input(static_cast<uint32_t>(addend_), KM_F32);
    support_.flags = KM_SUPPORT_ADDEND_APART;
  }
  void run(const Buffers& b, void*) override {
    const float* addend = b.in(addend_);
    float* y = b.out(0);
    if (addend != y)
      pool_.ranges(rows_ * width_, 65536, [&](int64_t begin, int64_t end, uint32_t) {
        const size_t bytes = static_cast<size_t>(end - begin) * sizeof(float);
        if (addend) {
          std::memcpy(y + begin, addend + begin, bytes);
        } else {
          std::memset(y + begin, 0, bytes);
        }
      });
    constexpr int64_t kColumns = 64;
    const TokenRows token_rows{part_, b.in<int32_t>(0), tokens_, width_, b.in(1), y};
    pool_.run((width_ + kColumns - 1) / kColumns, [&](int64_t number, uint32_t) {
      const int64_t begin = number * kColumns;
      functions_.position->add_token_rows(token_rows, begin, std::min(width_, begin + kColumns));
    });
  }

 private:
  int64_t tokens_, rows_, width_;
  TablePart part_;
  int addend_;
};

} // namespace

std::unique_ptr<Kernel> make_embedding(const Op& op, const Pool& pool) { return make<Embedding>(op, pool); }
std::unique_ptr<Kernel> make_embedding_backward(const Op& op, const Pool& pool) {
  return make<EmbeddingBackward>(op, pool);
}

} // namespace kumiki::kernels
