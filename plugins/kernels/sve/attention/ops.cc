/* attention, attention_part and their gradients over the threads of the pool. How the work is cut depends on the shapes alone, so
 * the bits do not depend on the number of threads. */
#include <algorithm>
#include <cmath>
#include <vector>

#include "plugins/kernels/sve/attention/attention.h"
#include "plugins/kernels/sve/attention/cut.h"
#include "plugins/kernels/sve/kernels.h"
#include "plugins/kernels/sve/simd.h"

namespace kumiki::sve {
namespace {

enum class Mask { kCausal, kCached, kSegments, kPart }; /* kPart: all queries see all keys */

/* What both directions read from the op. With a cache there are more keys than tokens. The queries before `first` and the
 * keys from `seen` on take no part. */
struct Shape {
  int64_t batch, tokens, keys, query_heads, key_heads, width;
  float scale;
  Mask mask;
  int64_t first, seen;

  int64_t queries() const { return tokens - first; }

  int64_t q_pitch() const { return query_heads * width; }
  int64_t k_pitch() const { return key_heads * width; }
  int64_t group() const { return query_heads / key_heads; }
};

void part_of(const Op& op, Shape& s) {
  const std::string mask = op.text("mask", "none");
  if (mask != "none" && mask != "causal")
    throw Unsupported(op.name() + ": mask \"" + mask + "\" is not one of none, causal");
  s.mask = mask == "causal" ? Mask::kCausal : Mask::kPart;
  s.first = op.i64("first", 0);
  s.seen = op.i64("keys", s.keys);
  if (s.first < 0 || s.first >= s.tokens || s.seen < 1 || s.seen > s.keys ||
      (s.mask == Mask::kCausal && (s.tokens != s.keys || s.first != 0 || s.seen != s.keys)))
    throw Unsupported(op.name() + ": there is no such part of the queries and keys");
}

Shape shape_of(const Op& op) {
  for (uint32_t i = 0; i < 3; ++i) op.require_input(i, KM_F32);
  const km_tensor &q = op.input(0), &k = op.input(1);
  if (q.rank != 3 || k.rank != 3 || op.input(2).rank != 3)
    throw Unsupported(op.name() + ": expected tensors [batch, tokens, width]");
  Shape s{};
  s.width = op.i64("head_width", 0);
  if (s.width < 1 || s.width > 256) throw Unsupported(op.name() + ": sve takes a head_width of 1 to 256");
  s.batch = q.dims[0];
  s.tokens = q.dims[1];
  s.query_heads = q.dims[2] / s.width;
  s.key_heads = k.dims[2] / s.width;
  if (q.dims[2] % s.width || k.dims[2] % s.width || s.key_heads == 0 || s.query_heads % s.key_heads)
    throw Unsupported(op.name() + ": the widths of q and k do not fit head_width");
  s.scale = static_cast<float>(op.f64("scale", 1.0 / std::sqrt(static_cast<double>(s.width))));
  s.keys = s.seen = k.dims[1];
  if (op.name().starts_with("attention_part")) {
    part_of(op, s);
    return s;
  }
  const std::string mask = op.text("mask", "causal");
  if (mask != "causal" && mask != "cached" && mask != "segments")
    throw Unsupported(op.name() + ": mask \"" + mask + "\" is not one of causal, cached, segments");
  s.mask = mask == "causal" ? Mask::kCausal : mask == "cached" ? Mask::kCached : Mask::kSegments;
  if (s.mask != Mask::kCached && s.keys != s.tokens)
    throw Unsupported(op.name() + ": as many keys as queries are expected with mask \"" + mask + "\"");
  return s;
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
  int queries = -1, keys = -1;
};

Head head_of(const Shape& s, const Buffers& b, const Segments& segments, int64_t batch) {
  Head head{s.queries(), s.seen, s.width, s.scale, nullptr, nullptr, s.mask == Mask::kPart ? s.seen : 0};
  if (segments.queries < 0) return head;
  head.query_segments = b.in<int32_t>(segments.queries) + batch * s.tokens + s.first;
  head.key_segments = b.in<int32_t>(segments.keys) + batch * s.keys;
  return head;
}

Head cached_head(const Shape& s, int64_t past) {
  return {s.tokens, past + s.tokens, s.width, s.scale, nullptr, nullptr, past};
}

class Attention : public Kernel {
 public:
  Attention(const Op& op, const Pool& pool) : Kernel(op, pool), shape_(shape_of(op)), segments_(op, shape_, 3) {
    if (op.outputs() != 2) throw Unsupported(op.name() + ": 2 outputs are expected");
    if (shape_.mask == Mask::kCached) op.require_input(3, KM_I32);
    few_ = shape_.mask == Mask::kCached && shape_.tokens <= kFewQueries;
    op.require_output(0, KM_F32);
    op.require_output(1, KM_F32);
    Arena arena(nullptr);
    lay_out(arena);
    support_.workspace_bytes = arena.used();
  }

  void run(const Buffers& b, void* workspace) override {
    Arena arena(workspace);
    lay_out(arena);
    const Shape& s = shape_;
    const int64_t past = s.mask == Mask::kCached ? *b.in<int32_t>(3) : 0;
    if (few_) return run_few(b, past);
    pool_.run(s.batch * s.key_heads, [&](int64_t number, uint32_t) {
      const int64_t at = key_offset(number);
      pack_head({b.in(1) + at, s.k_pitch()}, {b.in(2) + at, s.k_pitch()},
                s.mask == Mask::kCached ? past + s.tokens : s.seen, s.width, keys_ + number * keys_floats_,
                values_ + number * values_floats_);
    });
    const int64_t pieces = (s.queries() + forward_queries() - 1) / forward_queries();
    pool_.run(s.batch * s.query_heads * pieces, [&](int64_t number, uint32_t worker) {
      const int64_t heads = s.batch * s.query_heads;
      const int64_t piece = pieces - 1 - number / heads, head = number % heads; // the longest first
      const int64_t batch = head / s.query_heads, query_head = head % s.query_heads;
      const int64_t at = batch * s.tokens * s.q_pitch() + query_head * s.width;
      const int64_t key_head = batch * s.key_heads + query_head / s.group();
      const int64_t first_at = at + s.first * s.q_pitch();
      if (piece == 0) hide_first(b.out(0) + at, b.out(1) + head * s.tokens);
      attention_forward(s.mask == Mask::kCached ? cached_head(s, past) : head_of(s, b, segments_, batch),
                        {b.in(0) + first_at, s.q_pitch()}, keys_ + key_head * keys_floats_,
                        values_ + key_head * values_floats_, piece * forward_queries(), b.out(0) + first_at,
                        b.out(1) + head * s.tokens + s.first, scratch_ + worker * scratch_floats_);
    });
  }

 private:
  /* o and lse of a head's queries that see no key. */
  void hide_first(float* o, float* lse) const {
    for (int64_t t = 0; t < shape_.first; ++t) {
      std::fill_n(o + t * shape_.q_pitch(), shape_.width, 0.0f);
      lse[t] = -INFINITY;
    }
  }

  /* The next tokens of a generation: a task is a head. */
  void run_few(const Buffers& b, int64_t past) const {
    const Shape& s = shape_;
    pool_.run(s.batch * s.query_heads, [&](int64_t head, uint32_t worker) {
      const int64_t batch = head / s.query_heads, query_head = head % s.query_heads;
      const int64_t at = batch * s.tokens * s.q_pitch() + query_head * s.width;
      const int64_t k_at = key_offset(batch * s.key_heads + query_head / s.group());
      attention_few(cached_head(s, past), {b.in(0) + at, s.q_pitch()}, {b.in(1) + k_at, s.k_pitch()},
                    {b.in(2) + k_at, s.k_pitch()}, b.out(0) + at, b.out(1) + head * s.tokens,
                    scratch_ + worker * scratch_floats_);
    });
  }

  int64_t key_offset(int64_t head) const {
    const Shape& s = shape_;
    return head / s.key_heads * s.keys * s.k_pitch() + head % s.key_heads * s.width;
  }

  void lay_out(Arena& arena) {
    const Shape& s = shape_;
    scratch_floats_ = ((few_ ? few_scratch(s.width) : forward_scratch(s.width)) + 63) / 64 * 64;
    scratch_ = arena.take(scratch_floats_ * pool_.threads());
    if (few_) return;
    keys_floats_ = packed_keys_floats(s.keys, s.width);
    values_floats_ = packed_values_floats(s.keys, s.width);
    keys_ = arena.take(s.batch * s.key_heads * keys_floats_);
    values_ = arena.take(s.batch * s.key_heads * values_floats_);
  }

  Shape shape_;
  Segments segments_;
  bool few_;
  int64_t keys_floats_ = 0, values_floats_ = 0, scratch_floats_;
  float *keys_ = nullptr, *values_ = nullptr, *scratch_;
};

/* A task is a run of keys of one key head, with all query heads that read it: dk and dv are sums within one task. dq of
 * the first part goes straight to the output, that of the others to the workspace; then they are added in order. */
class AttentionBackward : public Kernel {
 public:
  AttentionBackward(const Op& op, const Pool& pool) : Kernel(op, pool), shape_(shape_of(op)), segments_(op, shape_, 6) {
    if (shape_.mask == Mask::kCached) throw Unsupported("attention_backward: mask \"cached\" has no gradient");
    if (op.outputs() != 3) throw Unsupported(op.name() + ": 3 outputs are expected");
    for (uint32_t i = 3; i < 6; ++i) op.require_input(i, KM_F32);
    for (uint32_t o = 0; o < 3; ++o) op.require_output(o, KM_F32);
    cut_ = cut_backward(shape_.batch * shape_.key_heads, shape_.queries(), shape_.seen, past());
    Head head;
    head.past = past();
    for (const int64_t begin : cut_.begins)
      first_rows_.push_back(first_query(head, key_block_begin(begin, shape_.seen)));
    Arena arena(nullptr);
    lay_out(arena);
    support_.workspace_bytes = arena.used();
  }

  void run(const Buffers& b, void* workspace) override {
    Arena arena(workspace);
    lay_out(arena);
    const Shape& s = shape_;
    const int64_t heads = s.batch * s.key_heads, parts = cut_.runs();
    const auto key_offset = [&](int64_t head) {
      return head / s.key_heads * s.keys * s.k_pitch() + head % s.key_heads * s.width;
    };
    pool_.run(heads, [&](int64_t head, uint32_t) {
      const int64_t at = key_offset(head);
      pack_head_backward({b.in(1) + at, s.k_pitch()}, {b.in(2) + at, s.k_pitch()}, s.seen, s.width, packed(head));
      for (int64_t t = s.seen; t < s.keys; ++t)
        for (const int output : {1, 2}) std::fill_n(b.out(output) + at + t * s.k_pitch(), s.width, 0.0f);
    });
    const int64_t pieces = (s.tokens + kRowsOfTask - 1) / kRowsOfTask;
    pool_.run(s.batch * s.query_heads * pieces, [&](int64_t number, uint32_t) {
      const int64_t head = number / pieces, begin = number % pieces * kRowsOfTask;
      const int64_t at = head / s.query_heads * s.tokens * s.q_pitch() + head % s.query_heads * s.width;
      for (int64_t t = begin; t < std::min(s.first, begin + kRowsOfTask); ++t)
        std::fill_n(b.out(0) + at + t * s.q_pitch(), s.width, 0.0f);
      attention_deltas({b.in(3) + at, s.q_pitch()}, {b.in(5) + at, s.q_pitch()}, begin,
                       std::min(s.tokens, begin + kRowsOfTask), s.width, deltas_ + head * s.tokens);
    });
    pool_.run(heads * parts, [&](int64_t number, uint32_t worker) {
      const int64_t part = cut_.order[static_cast<size_t>(number / heads)], head = number % heads;
      const int64_t batch = head / s.key_heads, query_head = head % s.key_heads * s.group();
      const int64_t q_at = (batch * s.tokens + s.first) * s.q_pitch() + query_head * s.width, k_at = key_offset(head);
      const int64_t row = (batch * s.query_heads + query_head) * s.tokens + s.first;
      BackwardPart p;
      p.block_begin = cut_.begins[static_cast<size_t>(part)];
      p.block_end = cut_.begins[static_cast<size_t>(part) + 1];
      p.group = s.group();
      p.q = {b.in(0) + q_at, s.q_pitch()};
      p.d_o = {b.in(5) + q_at, s.q_pitch()};
      p.lse = b.in(4) + row;
      p.deltas = deltas_ + row;
      p.row_pitch = s.tokens;
      p.dk = b.out(1) + k_at;
      p.dv = b.out(2) + k_at;
      p.k_pitch = s.k_pitch();
      if (part == 0) {
        p.dq = b.out(0) + q_at;
        p.dq_pitch = s.q_pitch();
        p.dq_member = s.width;
      } else {
        p.dq = part_of_dq(part, batch * s.query_heads + query_head, 0);
        p.dq_pitch = s.width;
        p.dq_member = rows_of(part) * s.width;
      }
      attention_backward(head_of(s, b, segments_, batch), packed(head), p, scratch_ + worker * scratch_floats_);
    });
    if (parts > 1) add_parts(b.out(0));
  }

 private:
  static constexpr int64_t kRowsOfTask = 64;

  int64_t past() const { return shape_.mask == Mask::kPart ? shape_.seen : 0; }
  int64_t first_row(int64_t part) const { return first_rows_[static_cast<size_t>(part)]; }
  int64_t rows_of(int64_t part) const { return shape_.queries() - first_row(part); }
  /* Row t, from query `first` on, of a query head in a part's dq; rows begin at first_row(part). */
  float* part_of_dq(int64_t part, int64_t query_head, int64_t t) const {
    return dq_[static_cast<size_t>(part)] + (query_head * rows_of(part) + t - first_row(part)) * shape_.width;
  }
  PackedHead packed(int64_t head) const {
    return {keys_turned_ + head * turned_floats_, values_turned_ + head * turned_floats_,
            keys_ + head * columns_floats_};
  }

  void add_parts(float* dq) const {
    const Shape& s = shape_;
    const int64_t pieces = (s.queries() + kRowsOfTask - 1) / kRowsOfTask;
    pool_.run(s.batch * s.query_heads * pieces, [&](int64_t number, uint32_t) {
      const int64_t head = number / pieces, begin = number % pieces * kRowsOfTask;
      for (int64_t t = begin; t < std::min(s.queries(), begin + kRowsOfTask); ++t) {
        float* to = dq + (head / s.query_heads * s.tokens + s.first + t) * s.q_pitch() + head % s.query_heads * s.width;
        for (int64_t part = 1; part < cut_.runs(); ++part) {
          if (t < first_row(part)) break;
          const float* from = part_of_dq(part, head, t);
          for_vectors(0, s.width,
                      [=](int64_t j, svbool_t p) { svst1(p, to + j, add(svld1(p, to + j), svld1(p, from + j))); });
        }
      }
    });
  }

  void lay_out(Arena& arena) {
    const Shape& s = shape_;
    const int64_t heads = s.batch * s.key_heads;
    turned_floats_ = turned_floats(s.seen, s.width);
    columns_floats_ = columns_floats(s.seen, s.width);
    scratch_floats_ = (backward_scratch(s.width) + 63) / 64 * 64;
    keys_turned_ = arena.take(heads * turned_floats_);
    values_turned_ = arena.take(heads * turned_floats_);
    keys_ = arena.take(heads * columns_floats_);
    deltas_ = arena.take(s.batch * s.query_heads * s.tokens);
    scratch_ = arena.take(scratch_floats_ * pool_.threads());
    dq_.assign(1, nullptr);
    for (int64_t part = 1; part < cut_.runs(); ++part)
      dq_.push_back(arena.take(s.batch * s.query_heads * rows_of(part) * s.width));
  }

  Shape shape_;
  Segments segments_;
  BackwardCut cut_;
  std::vector<int64_t> first_rows_; /* of each part's dq */
  int64_t turned_floats_, columns_floats_, scratch_floats_;
  float *keys_turned_, *values_turned_, *keys_, *deltas_, *scratch_;
  std::vector<float*> dq_;
};

} // namespace

std::unique_ptr<Kernel> make_attention(const Op& op, const Pool& pool) { return make<Attention>(op, pool); }
std::unique_ptr<Kernel> make_attention_backward(const Op& op, const Pool& pool) {
  return make<AttentionBackward>(op, pool);
}

} // namespace kumiki::sve
