#include "plugins/kernels/generic/gemm/product.h"

#include <algorithm>

#include "plugins/kernels/generic/kernels.h"

namespace kumiki::generic {
namespace {

constexpr int64_t kFewRows = 4;

int64_t vector_width() { return panel_width() / 3; }
int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

} // namespace

PanelProduct::PanelProduct(const ProductShape& shape, const Pool& pool) : pool_(pool), shape_(shape) {
  const int64_t panels = panels_of(shape.n), width = panel_width();
  few_rows_ = !shape.transpose_a && shape.transpose_b && !shape.packed_b && shape.m <= kFewRows;
  if (few_rows_) return;

  if (shape.transpose_a) left_ = LeftForm::kPacked;
  if (shape.packed_b) {
    right_ = RightForm::kPacked;
  } else if (shape.transpose_b || shape.transpose_a) {
    right_ = RightForm::kPackedHere;
  } else {
    right_ = RightForm::kPlain;
    last_apart_ = shape.n % vector_width() != 0;
  }
  Arena arena(nullptr);
  if (left_ == LeftForm::kPacked) arena.take(ceil_div(shape.m, tile_height()) * packed_left_pitch(shape.k));
  if (right_ == RightForm::kPackedHere) arena.take(panels * width * shape.k);
  if (last_apart_) arena.take(width * shape.k);
  workspace_bytes_ = arena.used();

  if (left_ == LeftForm::kPacked) {
    blocking_.k_block = 1024; // a's rows of a task stay in L2 (96 x 1024 floats), panels of b stream by
    blocking_.rows_inner = true;
    cut(96, 16);
  } else {
    blocking_.k_block = 768; // b's panels of a task stay in L2 (4 x 48 x 768 floats), rows of a stream by
    cut(512, 4);
  }
}

/* Rectangles of at most these sizes, and smaller ones while there are fewer than four for each thread. */
void PanelProduct::cut(int64_t rows_at_most, int64_t panels_at_most) {
  const int64_t height = tile_height(), panels = panels_of(shape_.n);
  rows_ = std::min(rows_at_most, ceil_div(shape_.m, height) * height);
  panels_ = std::min(panels_at_most, panels);
  const int64_t wanted = pool_.threads() > 1 ? static_cast<int64_t>(pool_.threads()) * 4 : 1;
  const auto tasks = [&] { return ceil_div(shape_.m, rows_) * ceil_div(panels, panels_); };
  while (tasks() < wanted && (panels_ > 2 || rows_ > 8 * height)) {
    if (panels_ > 2 && (panels_ * panel_width() >= rows_ || rows_ <= 8 * height)) {
      panels_ = (panels_ + 1) / 2;
    } else {
      rows_ = ceil_div(ceil_div(rows_, 2), height) * height;
    }
  }
}

uint64_t PanelProduct::packed_b_bytes() const {
  return static_cast<uint64_t>(panels_of(shape_.n) * panel_width() * shape_.k) * sizeof(float);
}

void PanelProduct::pack_b(const float* b, float* packed) const {
  const ProductShape& s = shape_;
  pool_.run(panels_of(s.n), [&](int64_t p, uint32_t) {
    pack_right(b, s.transpose_b ? s.k : s.n, s.transpose_b, s.k, s.n, p, p + 1, packed);
  });
}

void PanelProduct::run(const float* a, const float* b, const ProductOutput& output, void* workspace, bool) const {
  const ProductShape& s = shape_;
  const int64_t width = panel_width(), height = tile_height(), panels = panels_of(s.n);
  Result c{output};
  c.row = s.n;
  c.panel = width;
  if (few_rows_) {
    pool_.ranges(s.n, std::max<int64_t>(16, 65536 / s.k),
                 [&](int64_t begin, int64_t end, uint32_t) { multiply_few_rows(a, s.k, s.m, b, s.k, begin, end, c); });
    return;
  }

  Arena arena(workspace);
  const int64_t tiles = ceil_div(s.m, height);
  float* packed_a = left_ == LeftForm::kPacked ? arena.take(tiles * packed_left_pitch(s.k)) : nullptr;
  float* packed_b = right_ == RightForm::kPackedHere ? arena.take(panels * width * s.k) : nullptr;
  float* last_panel = last_apart_ ? arena.take(width * s.k) : nullptr;
  const int64_t b_row = s.transpose_b ? s.k : s.n;

  // Packing: one list of tasks for both operands.
  const int64_t tiles_at_once = 16, tasks_a = packed_a ? ceil_div(tiles, tiles_at_once) : 0;
  const int64_t tasks_b = packed_b ? panels : last_panel ? 1 : 0;
  pool_.run(tasks_a + tasks_b, [&](int64_t number, uint32_t) {
    if (number < tasks_a) {
      const int64_t begin = number * tiles_at_once;
      pack_left_transposed(a, s.m, s.k, s.m, begin, std::min(tiles, begin + tiles_at_once), packed_a);
    } else if (packed_b) {
      const int64_t p = number - tasks_a;
      pack_right(b, b_row, s.transpose_b, s.k, s.n, p, p + 1, packed_b);
    } else {
      pack_right(b + (panels - 1) * width, b_row, false, s.k, s.n - (panels - 1) * width, 0, 1, last_panel);
    }
  });

  Left left;
  if (packed_a) {
    left.data = packed_a;
    left.row = 1;
    left.column = height;
    left.group = height;
    left.group_step = packed_left_pitch(s.k);
  } else {
    left.data = a;
    left.row = s.k;
  }
  Right right;
  if (right_ == RightForm::kPlain) {
    right.data = b;
    right.row = s.n;
    right.panel = width;
    right.last = last_panel;
  } else {
    right.data = packed_b ? packed_b : b;
    right.row = width;
    right.panel = width * s.k;
  }

  const int64_t row_blocks = ceil_div(s.m, rows_), panel_blocks = ceil_div(panels, panels_);
  pool_.run(row_blocks * panel_blocks, [&](int64_t number, uint32_t) {
    const int64_t i = number % row_blocks * rows_, p = number / row_blocks * panels_;
    const Rectangle where{i, std::min(s.m, i + rows_), p, std::min(panels, p + panels_)};
    multiply(left, right, c, where, s.n, s.k, blocking_);
  });
}

/* Within a process all kernels run on the same instruction set, which fixes the width of a panel. */
const ProductFunctions kProducts = {[](const ProductShape& shape, const Pool& pool) -> std::unique_ptr<Product> {
                                      return std::make_unique<PanelProduct>(shape, pool);
                                    },
                                    "generic.panels", "generic.panels.transposed"};

} // namespace kumiki::generic
