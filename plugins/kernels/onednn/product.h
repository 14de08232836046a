/* product.h: c[m, n] = a[m, k] b[k, n] (+ bias) (+ c) by oneDNN's matmul, cut into a fixed grid of blocks of rows and
 * columns.
 *
 * One block is one single-threaded primitive and one task of the pool; the grid depends on the sizes alone, so that the
 * bits do not depend on the number of threads. b may be packed into the layout that the primitive likes best. */
#ifndef KUMIKI_PLUGINS_KERNELS_ONEDNN_PRODUCT_H
#define KUMIKI_PLUGINS_KERNELS_ONEDNN_PRODUCT_H

#include <array>
#include <optional>
#include <vector>

#include "instance.h"

namespace kumiki::onednn {

struct ProductSizes {
  int64_t m = 0, n = 0, k = 0;
  bool transpose_a = false, transpose_b = false; /* a is stored [k, m]; b is stored [n, k] */
  int64_t lda = 0, ldb = 0, ldc = 0;             /* elements from one stored row to the next */
  dnnl::memory::data_type in{}, out{};
  bool bias = false; /* f32 [n] */
  bool sum = false;  /* adds to what c holds */
  int64_t row_block = 0, column_block = 0;
};

/* Blocks of rows that keep a few threads busy and a primitive efficient. */
int64_t good_row_block(int64_t m, bool transpose_a);
/* All columns, but for few rows: then the columns are what is divided. */
int64_t good_column_block(int64_t m, int64_t n);

class Product {
 public:
  /* Throws Unsupported where oneDNN has no fast primitive. pack: choose the layout of b freely. */
  Product(const Instance& instance, const ProductSizes& sizes, bool pack);

  /* Compiles the primitives, and makes all that pack_task and run_task need, so that these allocate nothing of ours. */
  void prepare();

  /* True if a layout other than the plain one was chosen: b must then be packed. */
  bool packs() const { return packs_; }
  uint64_t packed_bytes() const;
  std::string packed_format() const;
  uint32_t pack_tasks() const { return column_blocks() * pack_pieces(); }
  void pack_task(uint32_t task, uint32_t worker, const void* plain, void* packed) const;

  /* Scratch memory of one running task. */
  uint64_t scratch_bytes() const { return scratch_bytes_; }

  uint32_t row_blocks() const { return static_cast<uint32_t>((sizes_.m + sizes_.row_block - 1) / sizes_.row_block); }
  uint32_t column_blocks() const {
    return static_cast<uint32_t>((sizes_.n + sizes_.column_block - 1) / sizes_.column_block);
  }
  uint32_t tasks() const { return row_blocks() * column_blocks(); }
  /* Task row_blocks() · column + row, by the worker of the pool that calls. b is packed if packs(). bias may be NULL
   * where sizes.bias is not set. */
  void run_task(uint32_t task, uint32_t worker, const void* a, const void* b, const float* bias, void* c,
                void* scratch) const;

  const ProductSizes& sizes() const { return sizes_; }

 private:
  /* A primitive's operands, each with the number by which it asks for it; their addresses are set at each call. */
  struct Operand {
    int argument = 0;
    dnnl::memory memory;
  };
  enum { kA, kB, kC, kScratch, kBias, kOperands };
  using Operands = std::array<Operand, kOperands>;
  struct Block {
    std::optional<dnnl::matmul::primitive_desc> description;
    dnnl::matmul primitive;
    std::vector<Operands> operands; /* of each worker */
  };
  /* Packing of some columns of b: bytes from the start of plain and packed b to them. */
  struct Packing {
    dnnl::reorder primitive;
    dnnl::memory from, to;
    uint64_t from_offset = 0, to_offset = 0;
  };
  dnnl::memory operand(const dnnl::memory::desc& desc) const;
  Packing make_packing(uint32_t task) const;
  void describe_block(bool last_row, bool last_column, bool pack);
  int64_t rows_of(bool last) const {
    return last ? sizes_.m - (row_blocks() - 1) * sizes_.row_block : sizes_.row_block;
  }
  int64_t columns_of(bool last) const {
    return last ? sizes_.n - (column_blocks() - 1) * sizes_.column_block : sizes_.column_block;
  }
  dnnl::memory::desc plain_b(int64_t columns) const;
  uint64_t packed_stride() const;
  uint32_t pack_pieces() const;

  const Instance& instance_;
  ProductSizes sizes_;
  bool packs_ = false;
  uint64_t scratch_bytes_ = 0;
  std::vector<Packing> packings_;              /* of each pack task; no primitive where it has no column */
  std::array<std::array<Block, 2>, 2> blocks_; /* [last row block][last column block] */
  std::array<std::optional<dnnl::memory::desc>, 2> packed_b_; /* [last column block] */
};

} // namespace kumiki::onednn

#endif
