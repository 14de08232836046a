/* One product of matrices over the threads of the pool: packs the operands into the workspace (the right one may have
 * been packed before by the core), cuts c in rectangles of one panel, one task each; where there are few panels, a task
 * does some rows whole and packs them itself. Above gemm.h. */
#ifndef KUMIKI_PLUGINS_KERNELS_SVE_GEMM_PRODUCT_H
#define KUMIKI_PLUGINS_KERNELS_SVE_GEMM_PRODUCT_H

#include <cstdint>

#include "plugins/kernels/sve/gemm/gemm.h"
#include "plugins/kernels/sve/pool.h"

namespace kumiki::sve {

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

  /* The size in floats of b in panels, and its packing, over the pool. */
  int64_t packed_b_floats() const { return panels_of(shape_.n) * panel_width() * shape_.k; }
  void pack_b(const float* b, float* packed) const;

  /* Whether the workspace holds all of a, packed, after run. */
  bool keeps_a() const { return !narrow_; }

  /* c's row and panel pitches are set here from n; the caller gives pointers, bias and activation. a_stands: the
   * workspace still holds a as the run before packed it (of a product with the same a). */
  void run(const float* a, const float* b, Result c, void* workspace, bool a_stands = false) const;

 private:
  int64_t scratch_floats() const { return (rows_ * k_block_ + 63) / 64 * 64; }
  int64_t packed_a_floats() const;
  void run_rows(const float* a, Right b, const Result& c, int64_t i, int64_t rows, float* packed) const;

  Pool pool_;
  ProductShape shape_;
  bool narrow_ = false;
  int64_t k_block_ = 0, rows_ = 0; /* rows of a task */
  uint64_t workspace_bytes_ = 0;
};

/* Packs all of a [m, k] (or a [k, m] if transposed) for packed_left, over the pool. */
void pack_whole_left(const Pool& pool, const float* a, int64_t row, bool transposed, int64_t m, int64_t k,
                     int64_t k_block, float* packed);

} // namespace kumiki::sve

#endif
