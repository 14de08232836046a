/* One product of matrices over the threads of the pool: chooses how each operand is read (as it lies, packed once
 * per call into the workspace, or packed before by the core), cuts c in rectangles, one task each. Above gemm.h. */
#ifndef KUMIKI_PLUGINS_KERNELS_GENERIC_GEMM_PRODUCT_H
#define KUMIKI_PLUGINS_KERNELS_GENERIC_GEMM_PRODUCT_H

#include <cstdint>

#include "plugins/kernels/generic/gemm/gemm.h"
#include "plugins/kernels/host/pool.h"

namespace kumiki::generic {

using namespace kernels;

class PanelProduct final : public Product {
 public:
  PanelProduct(const ProductShape& shape, const Pool& pool);

  uint64_t workspace_bytes() const override { return workspace_bytes_; }

  uint64_t packed_b_bytes() const override;
  void pack_b(const float* b, float* packed) const override;
  void run(const float* a, const float* b, const ProductOutput& output, void* workspace, bool a_stands) const override;

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
