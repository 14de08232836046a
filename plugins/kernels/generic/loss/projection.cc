/* projection_cross_entropy and projection_cross_entropy_train: the head of a language model and its loss in slices
 * of tokens, so that the logits of a large batch never stand in memory at once.
 *
 * A slice of R tokens keeps its logits transposed, in panels: [R / width][vocabulary][width], one token a column. So
 * w [vocabulary, K] is the left operand of the logits just as it lies, softmax runs down the columns, the logits'
 * gradient is the left operand of d_w (rows = vocabulary) and of d_x (rows = tokens) without being moved, and w the
 * right operand of d_x. Only x, which is small, is packed: once transposed for the logits, once plain for d_w.
 *
 * Sums over tokens, over the vocabulary and over slices are taken in a fixed order: the same bits for any number of
 * threads. */
#include <algorithm>
#include <cmath>

#include "plugins/kernels/generic/gemm/gemm.h"
#include "plugins/kernels/generic/kernels.h"
#include "plugins/kernels/generic/loss/loss.h"

namespace kumiki::generic {
namespace {

constexpr int64_t kTile = 192;             /* rows of the vocabulary in a task */
constexpr int64_t kTilesTogether = 12;     /* tiles between two parts of d_x, at least: some 10 MB of logits */
constexpr int64_t kSliceRows = 1024;       /* tokens of a slice, at most … */
constexpr int64_t kSliceBytes = 256 << 20; /* … and bytes of its logits */

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

class ProjectionCrossEntropy : public Kernel {
 public:
  ProjectionCrossEntropy(const Op& op, const Pool& pool) : Kernel(op, pool) {
    train_ = op.name() == "projection_cross_entropy_train";
    op.require_counts(train_ ? 4 : 3, train_ ? 4 : 2);
    op.require_input(0, KM_F32);
    op.require_input(1, KM_F32);
    op.require_input(2, KM_I32);
    for (uint32_t o = 0; o < op.outputs(); ++o) op.require_output(o, KM_F32);
    if (train_) {
      op.require_input(3, KM_F32);
      x_addend_ = op.addend(2);
      w_addend_ = op.addend(3);
      if (x_addend_ >= 0) op.require_input(static_cast<uint32_t>(x_addend_), KM_F32);
      if (w_addend_ >= 0) op.require_input(static_cast<uint32_t>(w_addend_), KM_F32);
    }
    tokens_ = rows(op.input(0));
    k_ = width(op.input(0));
    vocabulary_ = rows(op.input(1));
    if (width(op.input(1)) != k_ || km_elements(&op.input(2)) != tokens_)
      throw Unsupported(op.name() + ": the sizes of x, w and targets do not agree");

    const int64_t panel = panel_width();
    const int64_t fits = std::max(panel, kSliceBytes / (vocabulary_ * 4) / panel * panel);
    const int64_t slices = ceil_div(tokens_, std::min(fits, kSliceRows));
    slice_ = std::min(tokens_, ceil_div(ceil_div(tokens_, slices), panel) * panel);
    tiles_ = ceil_div(vocabulary_, kTile);
    last_apart_ = train_ && k_ % (panel / 3) != 0;
    Arena arena(nullptr);
    lay_out(arena);
    support_.workspace_bytes = arena.used();
    support_.flags = KM_SUPPORT_ADDEND_APART;
  }

  void run(const Buffers& b, void* workspace) override {
    Arena arena(workspace);
    lay_out(arena);
    const int64_t panel = panel_width();
    if (last_apart_) { // the last columns of w, in whole vectors
      const int64_t last = (panels_of(k_) - 1) * panel;
      pack_right(b.in(1) + last, k_, false, vocabulary_, k_ - last, 0, 1, last_panel_);
    }
    double loss = 0.0;
    int64_t counted = 0;
    for (int64_t begin = 0; begin < tokens_; begin += slice_) {
      Slice s;
      s.n = std::min(slice_, tokens_ - begin);
      s.x = b.in(0) + begin * k_;
      s.w = b.in(1);
      s.targets = b.in<int32_t>(2) + begin;
      forward(s);
      for (int64_t t = 0; t < s.n; ++t) {
        if (s.targets[t] < 0) continue;
        loss += static_cast<double>(log_sums_[t]) - static_cast<double>(*logit(t, s.targets[t]));
        ++counted;
      }
      if (!train_) continue;
      s.d_loss = *b.in(3);
      s.d_x = b.out(2) + begin * k_;
      s.x_addend = x_addend_ < 0 ? nullptr : b.in(x_addend_) + begin * k_;
      s.d_w = b.out(3);
      s.w_addend = begin > 0 ? s.d_w : b.in(w_addend_);
      backward(s);
    }
    *b.out(0) = static_cast<float>(loss);
    *b.out(1) = static_cast<float>(counted);
  }

 private:
  struct Slice {
    int64_t n = 0;
    const float *x = nullptr, *w = nullptr;
    const int32_t* targets = nullptr;
    float d_loss = 0.0f;
    float *d_x = nullptr, *d_w = nullptr;
    const float *x_addend = nullptr, *w_addend = nullptr;
  };

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
  void forward(const Slice& s) {
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
        float top = maxima_[t];
        for (int64_t i = 1; i < tiles_; ++i) top = std::max(top, maxima_[i * padded + t]);
        double sum = 0.0;
        for (int64_t i = 0; i < tiles_; ++i)
          sum +=
              static_cast<double>(sums_[i * padded + t]) * std::exp(static_cast<double>(maxima_[i * padded + t] - top));
        log_sums_[t] = top + static_cast<float>(std::log(sum));
      }
    });
  }

  /* Turns the logits into their gradient, tile by tile, with d_w while the tile is in the L2 cache; after some
   * tiles, while those are in the L3 cache, adds their part of d_x. */
  void backward(const Slice& s) {
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

  bool train_;
  int64_t tokens_, k_, vocabulary_, slice_, tiles_;
  bool last_apart_;
  int x_addend_ = -1, w_addend_ = -1;
  float *logits_, *x_transposed_, *maxima_, *sums_, *log_sums_, *scales_, *x_plain_, *last_panel_;
};

} // namespace

std::unique_ptr<Kernel> make_projection_cross_entropy(const Op& op, const Pool& pool) {
  return make<ProjectionCrossEntropy>(op, pool);
}

} // namespace kumiki::generic
