/* What the adapters of positions and embeddings (position.cc, embedding.cc) ask of a component, on one thread. */
#ifndef KUMIKI_PLUGINS_KERNELS_HOST_POSITION_H
#define KUMIKI_PLUGINS_KERNELS_HOST_POSITION_H

#include <cstdint>

namespace kumiki::kernels {

/* Where the `count` tokens of x (of dropout: elements of a sample) stand in the whole: by the attributes offset, fold,
 * fold_offset in two runs. */
struct Positions {
  int64_t offset = 0, fold = 0, fold_offset = 0, count = 0;

  int64_t of(int64_t i) const { return i < fold ? offset + i : fold_offset + i - fold; }
  int64_t end() const {
    const int64_t first = offset + fold, second = fold < count ? fold_offset + count - fold : 0;
    return first > second ? first : second;
  }
};

/* Tokens' rows of a table [rows, width]: with attribute offset the table is a part of the whole, and has not all. */
class TablePart {
 public:
  TablePart() = default;
  TablePart(bool is_part, int64_t offset, int64_t rows) : part_(is_part), offset_(offset), rows_(rows) {}
  /* -1: the token's row is not in this part. */
  int64_t row(int64_t token) const {
    const int64_t row = token - offset_;
    return part_ && (row < 0 || row >= rows_) ? -1 : row;
  }

 private:
  bool part_ = false;
  int64_t offset_ = 0, rows_ = 0;
};

/* The gradients of tokens, dy [count, width], on their way to the rows of a table y. */
struct TokenRows {
  TablePart part;
  const int32_t* tokens;
  int64_t count, width;
  const float* dy;
  float* y;
};

struct PositionFunctions {
  /* Turns one token's heads x [heads, width], half-split order: pair (i, i + width/2) by the angle whose cosine and
   * sine stand at [i]. y may be x. */
  void (*rope_token)(const float* x, const float* cosine, const float* sine, int64_t heads, int64_t width, float* y);
  /* y = a + b; y may be either. */
  void (*add)(const float* a, const float* b, float* y, int64_t n);
  /* Adds the columns [begin, end) of each token's dy to its row of y, token by token in order. */
  void (*add_token_rows)(const TokenRows& rows, int64_t begin, int64_t end);
};

} // namespace kumiki::kernels

#endif
