/* embedding and embedding_backward. */
#include <algorithm>
#include <cstring>

#include "plugins/kernels/sve/kernels.h"
#include "plugins/kernels/sve/simd.h"

namespace kumiki::sve {
namespace {

/* Which row of the table is a token's: with attribute offset the table is a part of the whole, and has not all. */
class Part {
 public:
  Part() = default;
  Part(const Op& op, int64_t rows) : part_(op.has("offset")), offset_(op.i64("offset", 0)), rows_(rows) {}
  /* -1: the token's row is not in this part. */
  int64_t row(int64_t token) const {
    const int64_t row = token - offset_;
    return part_ && (row < 0 || row >= rows_) ? -1 : row;
  }

 private:
  bool part_ = false;
  int64_t offset_ = 0, rows_ = 0;
};

class Embedding : public Kernel {
 public:
  Embedding(const Op& op, const Pool& pool) : Kernel(op, pool) {
    op.require_counts(2, 1);
    op.require_input(0, KM_I32);
    op.require_input(1, KM_F32);
    op.require_output(0, KM_F32);
    tokens_ = km_elements(&op.input(0));
    width_ = width(op.input(1));
    part_ = Part(op, rows(op.input(1)));
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
  Part part_;
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
    part_ = Part(op, rows_);
    addend_ = op.addend(0);
    if (addend_ >= 0) op.require_input(static_cast<uint32_t>(addend_), KM_F32);
    support_.flags = KM_SUPPORT_ADDEND_APART;
  }
  void run(const Buffers& b, void*) override {
    const int32_t* tokens = b.in<int32_t>(0);
    const float *dy = b.in(1), *addend = b.in(addend_);
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
    pool_.run((width_ + kColumns - 1) / kColumns, [&](int64_t number, uint32_t) {
      const int64_t begin = number * kColumns, n = std::min(kColumns, width_ - begin);
      for (int64_t t = 0; t < tokens_; ++t) {
        const int64_t at = part_.row(tokens[t]);
        if (at < 0) continue;
        float* row = y + at * width_ + begin;
        const float* from = dy + t * width_ + begin;
        for_vectors(0, n,
                    [=](int64_t i, svbool_t p) { svst1(p, row + i, add(svld1(p, row + i), svld1(p, from + i))); });
      }
    });
  }

 private:
  int64_t tokens_, rows_, width_;
  Part part_;
  int addend_;
};

} // namespace

std::unique_ptr<Kernel> make_embedding(const Op& op, const Pool& pool) { return make<Embedding>(op, pool); }
std::unique_ptr<Kernel> make_embedding_backward(const Op& op, const Pool& pool) {
  return make<EmbeddingBackward>(op, pool);
}

} // namespace kumiki::sve
