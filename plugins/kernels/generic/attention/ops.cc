/* attention and attention_backward: heads over threads. */
#include <algorithm>
#include <cmath>

#include "plugins/kernels/generic/attention/attention.h"
#include "plugins/kernels/generic/kernels.h"

namespace kumiki::generic {
namespace {

enum class Mask { kCausal, kCached, kSegments };

/* What both directions read from the op. */
struct Shape {
  int64_t batch, queries, keys, query_heads, key_heads, width;
  float scale;
  Mask mask;
};

Shape shape_of(const Op& op) {
  for (uint32_t i = 0; i < 3; ++i) op.require_input(i, KM_F32);
  const km_tensor &q = op.input(0), &k = op.input(1), &v = op.input(2);
  if (q.rank != 3 || k.rank != 3 || v.rank != 3)
    throw Unsupported(op.name() + ": expected tensors [batch, tokens, width]");
  Shape s{};
  s.width = op.i64("head_width", 0);
  if (s.width < 1 || s.width > 256) throw Unsupported(op.name() + ": generic takes a head_width of 1 to 256");
  s.batch = q.dims[0];
  s.queries = q.dims[1];
  s.keys = k.dims[1];
  s.query_heads = q.dims[2] / s.width;
  s.key_heads = k.dims[2] / s.width;
  if (q.dims[2] % s.width || k.dims[2] % s.width || s.key_heads == 0 || s.query_heads % s.key_heads)
    throw Unsupported(op.name() + ": the widths of q and k do not fit head_width");
  s.scale = static_cast<float>(op.f64("scale", 1.0 / std::sqrt(static_cast<double>(s.width))));
  const std::string mask = op.text("mask", "causal");
  if (mask == "causal") {
    s.mask = Mask::kCausal;
  } else if (mask == "cached") {
    s.mask = Mask::kCached;
  } else if (mask == "segments") {
    s.mask = Mask::kSegments;
  } else {
    throw Unsupported(op.name() + ": mask \"" + mask + "\" is not one of causal, cached, segments");
  }
  if (s.mask != Mask::kCached && s.queries != s.keys)
    throw Unsupported(op.name() + ": as many keys as queries are expected with mask \"" + mask + "\"");
  return s;
}

AttentionHead head_of(const Shape& s, const Buffers& b, int64_t batch, int64_t query_head) {
  const int64_t key_head = query_head / (s.query_heads / s.key_heads);
  AttentionHead h{};
  h.q_pitch = s.query_heads * s.width;
  h.k_pitch = s.key_heads * s.width;
  h.q = b.in(0) + batch * s.queries * h.q_pitch + query_head * s.width;
  h.k = b.in(1) + batch * s.keys * h.k_pitch + key_head * s.width;
  h.v = b.in(2) + batch * s.keys * h.k_pitch + key_head * s.width;
  h.width = s.width;
  h.queries = s.queries;
  h.keys = s.keys;
  h.scale = s.scale;
  return h;
}

class Attention : public Kernel {
 public:
  Attention(const Op& op, const Pool& pool) : Kernel(op, pool), shape_(shape_of(op)) {
    op.require_counts(shape_.mask == Mask::kCausal ? 3 : 4, 2);
    if (shape_.mask != Mask::kCausal) op.require_input(3, KM_I32);
    op.require_output(0, KM_F32);
    op.require_output(1, KM_F32);
    const int64_t blocks = (shape_.queries + kAttentionBlock - 1) / kAttentionBlock,
                  heads = shape_.batch * shape_.query_heads;
    const int64_t wanted = 4 * static_cast<int64_t>(pool.threads());
    const int64_t pieces = std::clamp<int64_t>((wanted + heads - 1) / heads, 1, blocks);
    piece_ = (blocks + pieces - 1) / pieces * kAttentionBlock;
    scratch_ = (attention_forward_scratch(shape_.width, shape_.keys) + 63) / 64 * 64;
    support_.workspace_bytes = static_cast<uint64_t>(scratch_ * pool.threads()) * sizeof(float);
  }

  void run(const Buffers& b, void* workspace) override {
    const Shape& s = shape_;
    const int64_t pieces = (s.queries + piece_ - 1) / piece_;
    pool_.run(s.batch * s.query_heads * pieces, [&](int64_t number, uint32_t worker) {
      const int64_t piece = pieces - 1 - number % pieces, head = number / pieces; // the longest first
      const int64_t batch = head / s.query_heads;
      AttentionHead h = head_of(s, b, batch, head % s.query_heads);
      h.past = s.mask == Mask::kCached ? *b.in<int32_t>(3) : 0;
      h.segments = s.mask == Mask::kSegments ? b.in<int32_t>(3) + batch * s.queries : nullptr;
      h.o = b.out(0) + batch * s.queries * h.q_pitch + head % s.query_heads * s.width;
      h.lse = b.out(1) + head * s.queries;
      attention_forward(h, piece * piece_, std::min(s.queries, (piece + 1) * piece_),
                        static_cast<float*>(workspace) + scratch_ * worker);
    });
  }

 private:
  Shape shape_;
  int64_t piece_, scratch_;
};

/* A task is a key head with the query heads that read it: dk and dv are then sums within one task. */
class AttentionBackward : public Kernel {
 public:
  AttentionBackward(const Op& op, const Pool& pool) : Kernel(op, pool), shape_(shape_of(op)) {
    if (shape_.mask == Mask::kCached) throw Unsupported("attention_backward: mask \"cached\" has no gradient");
    op.require_counts(shape_.mask == Mask::kSegments ? 7 : 6, 3);
    for (uint32_t i = 3; i < 6; ++i) op.require_input(i, KM_F32);
    if (shape_.mask == Mask::kSegments) op.require_input(6, KM_I32);
    for (uint32_t o = 0; o < 3; ++o) op.require_output(o, KM_F32);
    scratch_ = (attention_backward_scratch(shape_.width, shape_.keys) + 63) / 64 * 64;
    support_.workspace_bytes = static_cast<uint64_t>(scratch_ * pool.threads()) * sizeof(float);
  }

  void run(const Buffers& b, void* workspace) override {
    const Shape& s = shape_;
    const int64_t group = s.query_heads / s.key_heads;
    pool_.run(s.batch * s.key_heads, [&](int64_t number, uint32_t worker) {
      const int64_t batch = number / s.key_heads, key_head = number % s.key_heads, query_head = key_head * group;
      AttentionHead h = head_of(s, b, batch, query_head);
      h.segments = s.mask == Mask::kSegments ? b.in<int32_t>(6) + batch * s.queries : nullptr;
      const int64_t q_at = h.q - b.in(0), k_at = h.k - b.in(1);
      AttentionGradients g{};
      g.group = group;
      g.o = b.in(3) + q_at;
      g.lse = b.in(4) + (batch * s.query_heads + query_head) * s.queries;
      g.d_o = b.in(5) + q_at;
      g.dq = b.out(0) + q_at;
      g.dk = b.out(1) + k_at;
      g.dv = b.out(2) + k_at;
      attention_backward(h, g, static_cast<float*>(workspace) + scratch_ * worker);
    });
  }

 private:
  Shape shape_;
  int64_t scratch_;
};

} // namespace

std::unique_ptr<Kernel> make_attention(const Op& op, const Pool& pool) { return make<Attention>(op, pool); }
std::unique_ptr<Kernel> make_attention_backward(const Op& op, const Pool& pool) {
  return make<AttentionBackward>(op, pool);
}

} // namespace kumiki::generic
