/* One product of matrices over the threads of the pool: packs the operands into the workspace (the right one may have
 * been packed before by the core), cuts c in rectangles of one panel, one task each; where there are few panels, a task
 * does some rows whole and packs them itself. Above gemm.h. */
#ifndef KUMIKI_PLUGINS_KERNELS_SVE_GEMM_PRODUCT_H
#define KUMIKI_PLUGINS_KERNELS_SVE_GEMM_PRODUCT_H

#include <cstdint>

#include "plugins/kernels/host/pool.h"
#include "plugins/kernels/sve/gemm/gemm.h"

namespace kumiki::sve {

using namespace kernels;

class PanelProduct final : public Product {
 public:
  PanelProduct(const ProductShape& shape, const Pool& pool);

  uint64_t workspace_bytes() const override { return workspace_bytes_; }

  uint64_t packed_b_bytes() const override { return static_cast<uint64_t>(packed_b_floats()) * sizeof(float); }
  void pack_b(const float* b, float* packed) const override;
  bool keeps_a() const override { return !narrow_; }
  void run(const float* a, const float* b, const ProductOutput& output, void* workspace, bool a_stands) const override;

 private:
  int64_t packed_b_floats() const { return panels_of(shape_.n) * panel_width() * shape_.k; }
  int64_t scratch_floats() const { return (rows_ * k_block_ + 63) / 64 * 64; }
  int64_t packed_a_floats() const;
  void run_rows(const float* a, Right b, const Result& c, int64_t i, int64_t rows, float* packed) const;

  Pool pool_;
  ProductShape shape_;
  bool narrow_ = false;
  int64_t k_block_ = 0, rows_ = 0; /* rows of a task */
  uint64_t workspace_bytes_ = 0;
};

} // namespace kumiki::sve

#endif
