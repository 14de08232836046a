/* One product of matrices over the threads of the pool. c is cut in parts, one task each; each operand is packed either
 * once, for all, into the workspace (the right one may have been packed before by the core), or by each task for
 * itself, a block of k at a time: that goes not through memory, but is done again by each task. Above gemm.h. */
#ifndef KUMIKI_PLUGINS_KERNELS_SVE_GEMM_PRODUCT_H
#define KUMIKI_PLUGINS_KERNELS_SVE_GEMM_PRODUCT_H

#include <cstdint>

#include "plugins/kernels/host/kernel.h"
#include "plugins/kernels/host/pool.h"
#include "plugins/kernels/sve/gemm/gemm.h"

namespace kumiki::sve {

using namespace kernels;

/* Tiles of rows and panels of columns that a task does. */
struct Part {
  int64_t tile_begin, tile_end, panel_begin, panel_end;
};

/* How c is cut: into row_blocks x groups parts, as even as they get; and whether a task packs its operands. */
struct Cut {
  int64_t row_blocks = 1, groups = 1;
  bool own_a = false, own_b = false;

  int64_t tasks() const { return row_blocks * groups; }
  Part part(int64_t number, int64_t tiles, int64_t panels) const;
};

class PanelProduct final : public Product {
 public:
  PanelProduct(const ProductShape& shape, const Pool& pool);

  uint64_t workspace_bytes() const override { return workspace_bytes_; }

  uint64_t packed_b_bytes() const override { return static_cast<uint64_t>(packed_b_floats()) * sizeof(float); }
  void pack_b(const float* b, float* packed) const override;
  bool keeps_a() const override { return !cut_.own_a; }
  void run(const float* a, const float* b, const ProductOutput& output, void* workspace, bool a_stands) const override;

 private:
  int64_t packed_b_floats() const { return panels_of(shape_.n) * panel_width() * shape_.k; }
  /* What is packed: a and b for all, or the scratch of the first thread, the others' behind it. */
  struct Workspace {
    float *a = nullptr, *b = nullptr;
    int64_t a_step = 0, b_step = 0;
  };
  Workspace lay_out(Arena& arena) const;
  Left rows_of(const float* a, const Part& part, int64_t k0, int64_t kb, const Workspace& w, uint32_t worker) const;
  void run_part(const float* a, const float* b, const Result& c, const Part& part, const Workspace& w,
                uint32_t worker) const;

  Pool pool_;
  ProductShape shape_;
  Cut cut_;
  int64_t k_block_ = 0;
  uint64_t workspace_bytes_ = 0;
};

} // namespace kumiki::sve

#endif
