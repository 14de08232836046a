/* projection_cross_entropy and projection_cross_entropy_train (host/projection.h).
 *
 * A slice of R tokens keeps its logits transposed, in panels of tokens: [R / width][vocabulary][width], one token a
 * column. Softmax runs down the columns; the gradient of the logits is the left operand of d_x (rows = tokens) just as
 * it lies. A task owns a tile of the vocabulary's rows and packs its rows of w, block by block of k: against the R uses
 * of each number that costs under 1 %. x, which is small, is packed once a slice: turned for the logits, plain for d_w. */
#include <algorithm>

#include "plugins/kernels/host/projection.h"
#include "plugins/kernels/sve/gemm/gemm.h"
#include "plugins/kernels/sve/kernels.h"
#include "plugins/kernels/sve/loss/loss.h"

namespace kumiki::sve {
namespace {

constexpr int64_t kTile = 96;             /* rows of the vocabulary in a task */
constexpr int64_t kTogether = 24 * kTile; /* between two parts of d_x: two tasks for each core of a memory group */
constexpr int64_t kBlockTokens = 240;     /* tokens of a block of k of d_w: a multiple of every panel width */

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

class ProjectionCrossEntropy : public ProjectionLoss {
 public:
  ProjectionCrossEntropy(const Op& op, const Pool& pool) : ProjectionLoss(op, pool, panel_width()) {
    tiles_ = ceil_div(vocabulary_, kTile);
    k_block_ = block_of_k(k_);
    Arena arena(nullptr);
    lay_out(arena);
    support_.workspace_bytes = arena.used();
  }

 private:
  void begin(const float*, void* workspace) override {
    Arena arena(workspace);
    lay_out(arena);
  }

  double loss_of(const Slice& s, int64_t t) const override {
    const int64_t column = column_of(s, t);
    return static_cast<double>(log_sums_[column]) - static_cast<double>(*logit(column, s.targets[t]));
  }

  void lay_out(Arena& arena) {
    const int64_t panel = panel_width(), padded = panels_of(slice_) * panel;
    logits_ = arena.take(padded * vocabulary_);
    x_turned_ = arena.take(padded * k_);
    maxima_ = arena.take(tiles_ * padded);
    sums_ = arena.take(tiles_ * padded);
    log_sums_ = arena.take(padded);
    scales_ = arena.take(padded);
    x_plain_ = train_ ? arena.take(panels_of(k_) * panel * slice_) : nullptr;
    w_columns_ = train_ ? arena.take(panels_of(k_) * panel * kTogether) : nullptr;
    const int64_t logit_tile = train_ ? kTile * kBlockTokens : 0;
    scratch_floats_ = (std::max(kTile * k_block_, logit_tile) + 63) / 64 * 64;
    scratch_ = arena.take(scratch_floats_ * pool_.threads());
  }

  /* Tokens stand in panels; a column is a place in them, panel * panel_width() + offset. Only the last two panels may
   * hold fewer tokens than they have columns. */
  static int64_t column_of(const Slice& s, int64_t token) {
    const int64_t last = panels_of(s.n) - 1, begin = panel_begin(last, s.n);
    return token < begin ? token : last * panel_width() + token - begin;
  }
  float* logit(int64_t column, int64_t word) const {
    const int64_t panel = panel_width();
    return logits_ + column / panel * (vocabulary_ * panel) + word * panel + column % panel;
  }
  /* Columns of panel p that hold tokens, in whole vectors. */
  static int64_t columns_in_vectors(const Slice& s, int64_t p) {
    const int64_t n = panel_width() / 3;
    return ceil_div(panel_columns(p, s.n), n) * n;
  }

  /* Logits of the slice and log Σ eˣ of each token. */
  void forward(const Slice& s) override {
    const int64_t panel = panel_width(), padded = panels_of(slice_) * panel;
    pool_.run(panels_of(s.n),
              [&](int64_t p, uint32_t) { pack_right(s.x, k_, true, k_, s.n, p, x_turned_ + p * panel * k_); });
    pool_.run(tiles_, [&](int64_t tile, uint32_t worker) {
      const int64_t v0 = tile * kTile, words = std::min(vocabulary_ - v0, kTile);
      float* packed_w = scratch_ + worker * scratch_floats_;
      // Blocks of k one by one, each with its own packing; so the sums go on in c from one call to the next.
      for (int64_t k0 = 0; k0 < k_; k0 += k_block_) {
        const int64_t kb = std::min(k_block_, k_ - k0);
        pack_left(s.w + v0 * k_ + k0, k_, false, kb, words, 0, tiles_of(words), packed_w);
        Result c;
        c.c = logits_ + v0 * panel;
        c.row = panel;
        c.panel = vocabulary_ * panel;
        c.addend = k0 == 0 ? nullptr : c.c;
        const Right x{x_turned_ + k0 * panel, panel, panel * k_};
        multiply(packed_left(packed_w, words), x, c, {0, words, 0, panels_of(s.n)}, s.n, kb, kb);
      }
      for (int64_t p = 0; p < panels_of(s.n); ++p) {
        zero_past_tokens(s, p, v0, words);
        const int64_t at = tile * padded + p * panel;
        tile_statistics(logit(p * panel, v0), words, columns_in_vectors(s, p), panel, maxima_ + at, sums_ + at);
      }
    });
    pool_.ranges(panels_of(s.n) * panel, 16, [&](int64_t begin, int64_t end, uint32_t) {
      for (int64_t t = begin; t < end; ++t) {
        if (t % panel >= panel_columns(t / panel, s.n)) continue;
        log_sums_[t] = log_sum(maxima_ + t, sums_ + t, tiles_, padded);
      }
    });
  }

  /* The vector that holds a panel's last token may hold columns of none: the product does not write them. */
  void zero_past_tokens(const Slice& s, int64_t p, int64_t v0, int64_t words) const {
    const int64_t from = panel_columns(p, s.n), to = columns_in_vectors(s, p);
    if (from == to) return;
    for (int64_t v = v0; v < v0 + words; ++v)
      for (int64_t j = from; j < to; ++j) *logit(p * panel_width() + j, v) = 0.0f;
  }

  /* Turns the logits into their gradient, tile by tile, with d_w while the tile is in the L2 cache; after some tiles
   * adds their part of d_x. */
  void backward(const Slice& s) override {
    const int64_t panel = panel_width();
    std::fill(scales_, scales_ + panels_of(s.n) * panel, 0.0f);
    for (int64_t p = 0; p < panels_of(s.n); ++p)
      std::fill(log_sums_ + p * panel + panel_columns(p, s.n), log_sums_ + (p + 1) * panel, 0.0f);
    for (int64_t t = 0; t < s.n; ++t) scales_[column_of(s, t)] = s.targets[t] >= 0 ? s.d_loss : 0.0f;
    pool_.run(panels_of(k_),
              [&](int64_t p, uint32_t) { pack_right(s.x, k_, false, s.n, k_, p, x_plain_ + p * panel * s.n); });
    for (int64_t v0 = 0; v0 < vocabulary_; v0 += kTogether) {
      const int64_t words = std::min(kTogether, vocabulary_ - v0);
      pool_.run(ceil_div(words, kTile), [&](int64_t number, uint32_t worker) {
        weight_gradient(s, v0 + number * kTile, scratch_ + worker * scratch_floats_);
      });
      input_gradient(s, v0, words);
    }
  }

  /* The gradient of one tile of logits, in place, and its rows of d_w. */
  void weight_gradient(const Slice& s, int64_t v0, float* packed) {
    const int64_t panel = panel_width(), words = std::min(kTile, vocabulary_ - v0);
    for (int64_t p = 0; p < panels_of(s.n); ++p)
      tile_gradient(logit(p * panel, v0), words, columns_in_vectors(s, p), panel, log_sums_ + p * panel,
                    scales_ + p * panel);
    for (int64_t t = 0; t < s.n; ++t)
      if (s.targets[t] >= v0 && s.targets[t] < v0 + words) *logit(column_of(s, t), s.targets[t]) -= s.d_loss;

    // The words as rows, tokens as k: a few panels of tokens make a block of k, each a block of the packing.
    const int64_t together = kBlockTokens / panel, tiles = tiles_of(words);
    for (int64_t p0 = 0; p0 < panels_of(s.n); p0 += together) {
      const int64_t p1 = std::min(panels_of(s.n), p0 + together);
      const int64_t t0 = panel_begin(p0, s.n), tokens = panel_begin(p1, s.n) - t0;
      for (int64_t tile = 0; tile < tiles; ++tile)
        for (int64_t p = p0; p < p1; ++p) {
          const int64_t first = panel_begin(p, s.n) - t0, rows = std::min(kTileHeight, words - tile * kTileHeight);
          pack_left(logit(p * panel, v0 + tile * kTileHeight), panel, false, panel_columns(p, s.n), rows, 0, 1,
                    packed + (tile * tokens + first) * kTileHeight);
        }
      Result d_w;
      d_w.c = s.d_w + v0 * k_;
      d_w.row = k_;
      d_w.addend = p0 > 0 ? d_w.c : s.w_addend ? s.w_addend + v0 * k_ : nullptr;
      const Right x{x_plain_ + t0 * panel, panel, panel * s.n};
      multiply(packed_left(packed, words), x, d_w, {0, words, 0, panels_of(k_)}, k_, tokens, tokens);
    }
  }

  /* d_x = (its addend, or what stands there already) + the part of the words [v0, v0 + words). */
  void input_gradient(const Slice& s, int64_t v0, int64_t words) {
    const int64_t panel = panel_width(), k_panels = panels_of(k_);
    pool_.run(k_panels, [&](int64_t p, uint32_t) {
      pack_right(s.w + v0 * k_, k_, false, words, k_, p, w_columns_ + p * panel * words);
    });
    const Right w = packed_right(w_columns_, words);
    const int64_t block = block_of_k(words);
    // A task: one panel of d_x's columns for a few panels of tokens.
    const int64_t together = kBlockTokens / panel, groups = ceil_div(panels_of(s.n), together);
    pool_.run(groups * k_panels, [&](int64_t number, uint32_t) {
      const int64_t p = number % k_panels, first = number / k_panels * together;
      for (int64_t tp = first; tp < std::min(panels_of(s.n), first + together); ++tp) {
        const int64_t t0 = panel_begin(tp, s.n);
        Result d_x;
        d_x.c = s.d_x + t0 * k_;
        d_x.row = k_;
        d_x.addend = v0 > 0 ? d_x.c : s.x_addend ? s.x_addend + t0 * k_ : nullptr;
        multiply(plain_left(logit(tp * panel, v0), panel), w, d_x, {0, panel_columns(tp, s.n), p, p + 1}, k_, words,
                 block);
      }
    });
  }

  int64_t tiles_, k_block_;
  int64_t scratch_floats_;
  float *logits_, *x_turned_, *maxima_, *sums_, *log_sums_, *scales_, *x_plain_, *w_columns_, *scratch_;
};

} // namespace

std::unique_ptr<Kernel> make_projection_cross_entropy(const Op& op, const Pool& pool) {
  return make<ProjectionCrossEntropy>(op, pool);
}

} // namespace kumiki::sve
