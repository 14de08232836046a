/* Attention of one head on one thread, in blocks of 64 queries x 64 keys with an online softmax (Dao et al. 2022); T
 * x S is never stored. attention.cc holds the code of each instruction set, ops.cc spreads heads over threads. */
#ifndef KUMIKI_PLUGINS_KERNELS_GENERIC_ATTENTION_ATTENTION_H
#define KUMIKI_PLUGINS_KERNELS_GENERIC_ATTENTION_ATTENTION_H

#include <cstdint>

namespace kumiki::generic {

constexpr int64_t kAttentionBlock = 64; /* queries and keys of a block */

/* Floats of a head's row in scratch memory: width rounded up to whole vectors. */
int64_t padded_head_width(int64_t width);

/* One head of one sequence. Rows are tokens; the pitches are those of the tensors [tokens, heads x width]. Query t
 * sees the keys 0 … past + t (past = keys: all), with segments only those of its own segment. */
struct AttentionHead {
  const float *q, *k, *v;
  int64_t q_pitch, k_pitch; /* k's and v's; o has q's */
  int64_t width;
  int64_t queries, keys; /* keys: rows that k and v hold */
  int64_t past;
  const int32_t *query_segments, *key_segments; /* [queries], [keys], or null */
  float scale;
  float* o;
  float* lse; /* [queries] */
};

/* Scratch floats of attention_forward and attention_backward, for sequences of `keys` keys. */
int64_t attention_forward_scratch(int64_t width, int64_t keys);
int64_t attention_backward_scratch(int64_t width, int64_t keys);

/* o and lse of the queries [begin, end): 0 and -infinity of one that sees no key. The result does not depend on how a sequence is cut if begin is a multiple
 * of the block. */
void attention_forward(const AttentionHead& head, int64_t begin, int64_t end, float* scratch);

/* What backward needs besides: gradients of a group of query heads that read one key head. Query head i of the group
 * lies i · width behind the head's pointers in q, o, d_o and dq, and i · lse_pitch behind in lse. past is 0 (as many keys
 * as queries) or keys. */
struct AttentionGradients {
  int64_t group, lse_pitch;
  const float *o, *d_o;
  const float* lse;
  float *dq, *dk, *dv;
};
void attention_backward(const AttentionHead& head, const AttentionGradients& gradients, float* scratch);

} // namespace kumiki::generic

#endif
