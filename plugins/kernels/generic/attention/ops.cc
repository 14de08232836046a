/* attention, attention_part and their gradients: heads over threads. */
#include <algorithm>
#include <cmath>

#include "plugins/kernels/generic/attention/attention.h"
#include "plugins/kernels/generic/kernels.h"

namespace kumiki::generic {
namespace {

/* kPart: all queries see all keys. */
enum class Mask { kCausal, kCached, kSegments, kPart };

/* What both directions read from the op. The queries before `first` and the keys from `seen` on take no part. */
struct Shape {
  int64_t batch, queries, keys, query_heads, key_heads, width;
  float scale;
  Mask mask;
  int64_t first, seen;
};

void part_of(const Op& op, Shape& s) {
  const std::string mask = op.text("mask", "none");
  if (mask != "none" && mask != "causal")
    throw Unsupported(op.name() + ": mask \"" + mask + "\" is not one of none, causal");
  s.mask = mask == "causal" ? Mask::kCausal : Mask::kPart;
  s.first = op.i64("first", 0);
  s.seen = op.i64("keys", s.keys);
  if (s.first < 0 || s.first >= s.queries || s.seen < 1 || s.seen > s.keys ||
      (s.mask == Mask::kCausal && (s.queries != s.keys || s.first != 0 || s.seen != s.keys)))
    throw Unsupported(op.name() + ": there is no such part of the queries and keys");
}

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
  s.seen = s.keys;
  if (op.name().starts_with("attention_part")) {
    part_of(op, s);
    return s;
  }
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
  h.q += s.first * h.q_pitch;
  h.width = s.width;
  h.queries = s.queries - s.first;
  h.keys = s.seen;
  h.past = s.mask == Mask::kPart ? s.seen : 0;
  h.scale = s.scale;
  return h;
}

/* Whether the op has segments, and how many inputs stand before them. One input is both the queries' and the keys'. */
struct Segments {
  Segments(const Op& op, const Shape& s, uint32_t before) {
    const bool part = op.name().starts_with("attention_part");
    const uint32_t count = part ? op.inputs() - before : s.mask == Mask::kSegments ? 1 : 0;
    if (count > 0) queries = static_cast<int>(before);
    if (count > 0) keys = queries + (part ? 1 : 0);
    op.require_counts(before + (part && count > 0 ? 2 : s.mask == Mask::kCached ? 1 : count), op.outputs());
    if (count > 0) op.require_input(before, KM_I32);
    if (count > 0) op.require_input(static_cast<uint32_t>(keys), KM_I32);
  }
  void add_to(AttentionHead& h, const Shape& s, const Buffers& b, int64_t batch) const {
    if (queries < 0) return;
    h.query_segments = b.in<int32_t>(queries) + batch * s.queries + s.first;
    h.key_segments = b.in<int32_t>(keys) + batch * s.keys;
  }
  int queries = -1, keys = -1;
};

class Attention : public Kernel {
 public:
  Attention(const Op& op, const Pool& pool) : Kernel(op, pool), shape_(shape_of(op)), segments_(op, shape_, 3) {
    if (op.outputs() != 2) throw Unsupported(op.name() + ": 2 outputs are expected");
    if (shape_.mask == Mask::kCached) op.require_input(3, KM_I32);
    op.require_output(0, KM_F32);
    op.require_output(1, KM_F32);
    const int64_t blocks = (shape_.queries - shape_.first + kAttentionBlock - 1) / kAttentionBlock,
                  heads = shape_.batch * shape_.query_heads;
    const int64_t wanted = 4 * static_cast<int64_t>(pool.threads());
    const int64_t pieces = std::clamp<int64_t>((wanted + heads - 1) / heads, 1, blocks);
    piece_ = (blocks + pieces - 1) / pieces * kAttentionBlock;
    scratch_ = (attention_forward_scratch(shape_.width, shape_.keys) + 63) / 64 * 64;
    support_.workspace_bytes = static_cast<uint64_t>(scratch_ * pool.threads()) * sizeof(float);
  }

  void run(const Buffers& b, void* workspace) override {
    const Shape& s = shape_;
    const int64_t queries = s.queries - s.first, pieces = (queries + piece_ - 1) / piece_;
    pool_.run(s.batch * s.query_heads * pieces, [&](int64_t number, uint32_t worker) {
      const int64_t piece = pieces - 1 - number % pieces, head = number / pieces; // the longest first
      const int64_t batch = head / s.query_heads;
      AttentionHead h = head_of(s, b, batch, head % s.query_heads);
      if (s.mask == Mask::kCached) h.past = *b.in<int32_t>(3);
      segments_.add_to(h, s, b, batch);
      float* o = b.out(0) + batch * s.queries * h.q_pitch + head % s.query_heads * s.width;
      float* lse = b.out(1) + head * s.queries;
      for (int64_t t = 0; piece == 0 && t < s.first; ++t) {
        std::fill_n(o + t * h.q_pitch, s.width, 0.0f);
        lse[t] = -INFINITY;
      }
      h.o = o + s.first * h.q_pitch;
      h.lse = lse + s.first;
      attention_forward(h, piece * piece_, std::min(queries, (piece + 1) * piece_),
                        static_cast<float*>(workspace) + scratch_ * worker);
    });
  }

 private:
  Shape shape_;
  Segments segments_;
  int64_t piece_, scratch_;
};

/* A task is a key head with the query heads that read it: dk and dv are then sums within one task. */
class AttentionBackward : public Kernel {
 public:
  AttentionBackward(const Op& op, const Pool& pool) : Kernel(op, pool), shape_(shape_of(op)), segments_(op, shape_, 6) {
    if (shape_.mask == Mask::kCached) throw Unsupported("attention_backward: mask \"cached\" has no gradient");
    if (op.outputs() != 3) throw Unsupported(op.name() + ": 3 outputs are expected");
    for (uint32_t i = 3; i < 6; ++i) op.require_input(i, KM_F32);
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
      segments_.add_to(h, s, b, batch);
      const int64_t q_at = h.q - b.in(0), k_at = h.k - b.in(1);
      for (int64_t t = 0; t < s.first; ++t)
        std::fill_n(b.out(0) + q_at + (t - s.first) * h.q_pitch, group * s.width, 0.0f);
      for (int64_t t = s.seen; t < s.keys; ++t)
        for (const int output : {1, 2}) std::fill_n(b.out(output) + k_at + t * h.k_pitch, s.width, 0.0f);
      AttentionGradients g{};
      g.group = group;
      g.lse_pitch = s.queries;
      g.o = b.in(3) + q_at;
      g.lse = b.in(4) + (batch * s.query_heads + query_head) * s.queries + s.first;
      g.d_o = b.in(5) + q_at;
      g.dq = b.out(0) + q_at;
      g.dk = b.out(1) + k_at;
      g.dv = b.out(2) + k_at;
      attention_backward(h, g, static_cast<float*>(workspace) + scratch_ * worker);
    });
  }

 private:
  Shape shape_;
  Segments segments_;
  int64_t scratch_;
};

} // namespace

std::unique_ptr<Kernel> make_attention(const Op& op, const Pool& pool) { return make<Attention>(op, pool); }
std::unique_ptr<Kernel> make_attention_backward(const Op& op, const Pool& pool) {
  return make<AttentionBackward>(op, pool);
}

} // namespace kumiki::generic
