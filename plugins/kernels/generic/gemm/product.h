/* One product of matrices over the threads of the pool: chooses how each operand is read (as it lies, packed once
 * per call into the workspace, or packed before by the core), cuts c in rectangles, one task each. Above gemm.h. */
#ifndef KUMIKI_PLUGINS_KERNELS_GENERIC_GEMM_PRODUCT_H
#define KUMIKI_PLUGINS_KERNELS_GENERIC_GEMM_PRODUCT_H

#include <cstdint>

#include "plugins/kernels/generic/gemm/gemm.h"
#include "plugins/kernels/generic/pool.h"

namespace kumiki::generic {

/* Sizes of c [m, n] = a b, and how the operands lie: a [m, k], or [k, m] if transposed; b [k, n], or [n, k] if
 * transposed, or panels as pack_right makes them. */
struct ProductShape {
  int64_t m = 0, n = 0, k = 0;
  bool transpose_a = false;
  bool transpose_b = false;
  bool packed_b = false;
};

class Product {
 public:
  Product() = default;
  Product(const ProductShape& shape, const Pool& pool);

  /* Scratch memory of run, 256-byte aligned. */
  uint64_t workspace_bytes() const { return workspace_bytes_; }

  /* c's row and panel pitches are set here from n; the caller gives pointers, bias and activation. */
  void run(const float* a, const float* b, Result c, void* workspace) const;

 private:
  enum class LeftForm { kPlain, kPacked };
  enum class RightForm { kPacked, kPlain, kPackedHere };

  void cut(int64_t rows_at_most, int64_t panels_at_most);

  Pool pool_;
  ProductShape shape_;
  bool few_rows_ = false;
  LeftForm left_ = LeftForm::kPlain;
  RightForm right_ = RightForm::kPlain;
  bool last_apart_ = false;       /* the last panel of a plain b is not made of whole vectors: packed here */
  int64_t rows_ = 0, panels_ = 0; /* of a task */
  Blocking blocking_;
  uint64_t workspace_bytes_ = 0;
};

} // namespace kumiki::generic

#endif
