/* projection_cross_entropy and projection_cross_entropy_train (host/projection.h).
 *
 * A slice of R tokens keeps its logits transposed, in panels: [R / width][vocabulary][width], one token a column. So
 * w [vocabulary, K] is the left operand of the logits just as it lies, softmax runs down the columns, the logits'
 * gradient is the left operand of d_w (rows = vocabulary) and of d_x (rows = tokens) without being moved, and w the
 * right operand of d_x. Only x, which is small, is packed: once transposed for the logits, once plain for d_w. */
#include <algorithm>

#include "plugins/kernels/generic/gemm/gemm.h"
#include "plugins/kernels/generic/kernels.h"
#include "plugins/kernels/generic/loss/loss.h"
#include "plugins/kernels/host/projection.h"

namespace kumiki::generic {
namespace {

constexpr int64_t kTile = 192;         /* rows of the vocabulary in a task */
constexpr int64_t kTilesTogether = 12; /* tiles between two parts of d_x, at least: some 10 MB of logits */

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

class ProjectionCrossEntropy : public ProjectionLoss {
 public:
  ProjectionCrossEntropy(const Op& op, const Pool& pool) : ProjectionLoss(op, pool, panel_width()) {
    tiles_ = ceil_div(vocabulary_, kTile);
    last_apart_ = train_ && k_ % (panel_width() / 3) != 0;
    Arena arena(nullptr);
    lay_out(arena);
    support_.workspace_bytes = arena.used();
  }

 private:
  void begin(const float* w, void* workspace) override {
    Arena arena(workspace);
    lay_out(arena);
    if (last_apart_) { // the last columns of w, in whole vectors
      const int64_t last = (panels_of(k_) - 1) * panel_width();
      pack_right(w + last, k_, false, vocabulary_, k_ - last, 0, 1, last_panel_);
    }
  }

  double loss_of(const Slice& s, int64_t t) const override {
    return static_cast<double>(log_sums_[t]) - static_cast<double>(*logit(t, s.targets[t]));
  }

  void lay_out(Arena& arena) {
    const int64_t panel = panel_width(), padded = panels_of(slice_) * panel;
    logits_ = arena.take(padded * vocabulary_);
    x_transposed_ = arena.take(padded * k_);
    maxima_ = arena.take(tiles_ * padded);
    sums_ = arena.take(tiles_ * padded);
    log_sums_ = arena.take(padded);
    scales_ = arena.take(padded);
    x_plain_ = train_ ? arena.take(panels_of(k_) * panel * slice_) : nullptr;
    last_panel_ = last_apart_ ? arena.take(panel * vocabulary_) : nullptr;
  }

  float* logit(int64_t token, int64_t word) const {
    const int64_t panel = panel_width();
    return logits_ + token / panel * (vocabulary_ * panel) + word * panel + token % panel;
  }

  /* Logits of the slice and log Σ eˣ of each token. */
  void forward(const Slice& s) override {
    const int64_t panel = panel_width(), panels = panels_of(s.n), padded = panels_of(slice_) * panel;
    pool_.run(panels, [&](int64_t p, uint32_t) { pack_right(s.x, k_, true, k_, s.n, p, p + 1, x_transposed_); });

    Left w;
    w.data = s.w;
    w.row = k_;
    const Right x{x_transposed_, panel, panel * k_, nullptr};
    Result c;
    c.c = logits_;
    c.row = panel;
    c.panel = vocabulary_ * panel;
    c.padded = true;
    pool_.run(tiles_, [&](int64_t tile, uint32_t) {
      const int64_t v0 = tile * kTile, v1 = std::min(vocabulary_, v0 + kTile);
      for (int64_t p = 0; p < panels; ++p) {
        multiply(w, x, c, {v0, v1, p, p + 1}, s.n, k_, {kForwardK, true});
        const int64_t at = tile * padded + p * panel;
        tile_statistics(logit(p * panel, v0), v1 - v0, std::min(panel, s.n - p * panel), panel, maxima_ + at,
                        sums_ + at);
      }
    });

    pool_.ranges(s.n, 16, [&](int64_t begin, int64_t end, uint32_t) {
      for (int64_t t = begin; t < end; ++t) {
        log_sums_[t] = log_sum(maxima_ + t, sums_ + t, tiles_, padded);
      }
    });
  }

  /* Turns the logits into their gradient, tile by tile, with d_w while the tile is in the L2 cache; after some
   * tiles, while those are in the L3 cache, adds their part of d_x. */
  void backward(const Slice& s) override {
    const int64_t panel = panel_width(), panels = panels_of(s.n);
    for (int64_t t = 0; t < panels * panel; ++t) {
      const bool counts = t < s.n && s.targets[t] >= 0;
      scales_[t] = counts ? s.d_loss : 0.0f;
      if (t >= s.n) log_sums_[t] = 0.0f;
    }
    pool_.run(panels_of(k_), [&](int64_t p, uint32_t) { pack_right(s.x, k_, false, s.n, k_, p, p + 1, x_plain_); });
    const int64_t together = std::max<int64_t>(kTilesTogether, 3 * static_cast<int64_t>(pool_.threads()));
    for (int64_t begin = 0; begin < tiles_; begin += together) {
      const int64_t end = std::min(tiles_, begin + together);
      pool_.run(end - begin, [&](int64_t number, uint32_t) { weight_gradient(s, begin + number); });
      input_gradient(s, begin * kTile, std::min(vocabulary_, end * kTile));
    }
  }

  /* The gradient of one tile of logits, in place, and its rows of d_w. */
  void weight_gradient(const Slice& s, int64_t tile) {
    const int64_t panel = panel_width(), panels = panels_of(s.n);
    const int64_t v0 = tile * kTile, v1 = std::min(vocabulary_, v0 + kTile);
    for (int64_t p = 0; p < panels; ++p)
      tile_gradient(logit(p * panel, v0), v1 - v0, std::min(panel, s.n - p * panel), panel, log_sums_ + p * panel,
                    scales_ + p * panel);
    for (int64_t t = 0; t < s.n; ++t)
      if (s.targets[t] >= v0 && s.targets[t] < v1) *logit(t, s.targets[t]) -= s.d_loss;

    Left by_word; // rows = words, k = tokens
    by_word.data = logits_;
    by_word.row = panel;
    by_word.column = 1;
    by_word.chunk = panel;
    by_word.chunk_step = vocabulary_ * panel;
    Result d_w;
    d_w.c = s.d_w;
    d_w.row = k_;
    d_w.panel = panel;
    d_w.addend = s.w_addend;
    multiply(by_word, {x_plain_, panel, panel * s.n, nullptr}, d_w, {v0, v1, 0, panels_of(k_)}, k_, s.n,
             {panels * panel, true});
  }

  /* d_x = (its addend, or what stands there already) + the part of the words [v0, v1). */
  void input_gradient(const Slice& s, int64_t v0, int64_t v1) {
    const int64_t panel = panel_width(), panels = panels_of(s.n);
    Left by_token; // rows = tokens, k = words
    by_token.data = logits_ + v0 * panel;
    by_token.row = 1;
    by_token.column = panel;
    by_token.group = panel;
    by_token.group_step = vocabulary_ * panel;
    const Right w{s.w + v0 * k_, k_, panel, last_apart_ ? last_panel_ + v0 * panel : nullptr};
    Result d_x;
    d_x.c = s.d_x;
    d_x.row = k_;
    d_x.panel = panel;
    d_x.addend = v0 == 0 ? s.x_addend : s.d_x;
    const int64_t row_blocks = std::min(ceil_div(panels, 4), std::max<int64_t>(2, pool_.threads()));
    const int64_t block_rows = ceil_div(panels, row_blocks) * panel;
    const int64_t block_panels = 8, panel_blocks = ceil_div(panels_of(k_), block_panels);
    pool_.run(row_blocks * panel_blocks, [&](int64_t number, uint32_t) {
      const int64_t i = number % row_blocks * block_rows, p = number / row_blocks * block_panels;
      if (i >= s.n) return;
      multiply(by_token, w, d_x, {i, std::min(s.n, i + block_rows), p, std::min(panels_of(k_), p + block_panels)}, k_,
               v1 - v0, {kInputK, false});
    });
  }

  static constexpr int64_t kForwardK = 768; /* k blocks: of the logits … */
  static constexpr int64_t kInputK = 192;   /* … and of d_x */

  int64_t tiles_;
  bool last_apart_;
  float *logits_, *x_transposed_, *maxima_, *sums_, *log_sums_, *scales_, *x_plain_, *last_panel_;
};

} // namespace

std::unique_ptr<Kernel> make_projection_cross_entropy(const Op& op, const Pool& pool) {
  return make<ProjectionCrossEntropy>(op, pool);
}

} // namespace kumiki::generic
