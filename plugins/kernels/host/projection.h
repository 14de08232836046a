/* The head of a language model and its loss (projection_cross_entropy and its training form) in slices of tokens, so
 * that the logits of a large batch never stand in memory at once. Here: what the op asks, the slices and the loss. The
 * component computes a slice's logits and their gradients in a layout of its own. */
#ifndef KUMIKI_PLUGINS_KERNELS_HOST_PROJECTION_H
#define KUMIKI_PLUGINS_KERNELS_HOST_PROJECTION_H

#include "plugins/kernels/host/kernel.h"

namespace kumiki::kernels {

class ProjectionLoss : public Kernel {
 public:
  /* Slices are of at most 1024 tokens and 256 MiB of logits, multiples of `panel` tokens (but for the last). */
  ProjectionLoss(const Op& op, const Pool& pool, int64_t panel);

  void run(const Buffers& buffers, void* workspace) final;

 protected:
  struct Slice {
    int64_t n = 0;                        /* tokens */
    const float* x = nullptr;             /* [n, k_] */
    const float* w = nullptr;             /* [vocabulary_, k_] */
    const int32_t* targets = nullptr;     /* [n]; below 0: does not count */
    float d_loss = 0.0f;                  /* the rest in training only */
    float *d_x = nullptr, *d_w = nullptr; /* like x and w, with what is added to them, or null */
    const float *x_addend = nullptr, *w_addend = nullptr;
  };

  /* Before the first slice of a run. */
  virtual void begin(const float* w, void* workspace) = 0;
  /* Logits of the slice and log Σ eˣ of each token. */
  virtual void forward(const Slice& slice) = 0;
  /* log Σ eˣ less the logit of the target, of token t of the slice that forward was called for. */
  virtual double loss_of(const Slice& slice, int64_t t) const = 0;
  /* d_x and d_w. Sums over tokens, over the vocabulary and over slices are taken in a fixed order: the same bits for
   * any number of threads. */
  virtual void backward(const Slice& slice) = 0;

  /* log Σ eˣ of a column whose words lie in `tiles` tiles, from the tiles' maxima and Σ e^(x − maximum) at [tile *
   * pitch]. */
  static float log_sum(const float* maxima, const float* sums, int64_t tiles, int64_t pitch);

  bool train_;
  int64_t tokens_, k_, vocabulary_;
  int64_t slice_; /* tokens of a slice, at most */

 private:
  int x_addend_ = -1, w_addend_ = -1;
};

} // namespace kumiki::kernels

#endif
