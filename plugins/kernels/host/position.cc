/* rope, add_position and its backward, cache_append, last_token: the ops that know where a token stands. */
#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "plugins/kernels/host/makers.h"

namespace kumiki::kernels {
namespace {

/* Dimensions of a tensor [batch, tokens, width]. */
struct Tokens {
  int64_t batch, tokens, width;
};

Tokens tokens_of(const Op& op, const km_tensor& t) {
  if (t.rank != 3) throw Unsupported(op.name() + ": expected a tensor [batch, tokens, width]");
  return {t.dims[0], t.dims[1], t.dims[2]};
}

void require_past(const Op& op, uint32_t input) {
  op.require_input(input, KM_I32);
  if (km_elements(&op.input(input)) != 1) throw Unsupported(op.name() + ": past is not one number");
}

/* Cosines and sines of sign · position · base^(-2i/width), i < width/2, in double. */
void fill_angles(double base, double sign, int64_t width, int64_t position, float* cosine, float* sine) {
  for (int64_t i = 0; i < width / 2; ++i) {
    const double frequency = std::pow(base, -2.0 * static_cast<double>(i) / static_cast<double>(width));
    const double angle = sign * static_cast<double>(position) * frequency;
    cosine[i] = static_cast<float>(std::cos(angle));
    sine[i] = static_cast<float>(std::sin(angle));
  }
}

/* The table is made once where positions are known; with `past` it is made in the workspace of each run. */
class Rope : public Kernel {
 public:
  Rope(const Op& op, const Pool& pool) : Kernel(op, pool) {
    op.require_input(0, KM_F32);
    op.require_output(0, KM_F32);
    has_past_ = op.inputs() > 1;
    if (has_past_) require_past(op, 1);
    shape_ = tokens_of(op, op.input(0));
    positions_ = positions_of(op, shape_.tokens);
    head_width_ = op.i64("head_width", 0);
    base_ = op.f64("base", 10000.0);
    sign_ = op.f64("sign", 1.0);
    if (head_width_ < 2 || head_width_ % 2 || shape_.width % head_width_)
      throw Unsupported("rope: head_width is not an even divisor of the last dimension");
    support_.in_place[0] = 1;
    if (has_past_) support_.workspace_bytes = static_cast<uint64_t>(shape_.tokens * head_width_) * sizeof(float);
  }

  void prepare() override {
    if (has_past_) return;
    table_.resize(static_cast<size_t>(shape_.tokens * head_width_));
    fill(table_.data(), 0);
  }

  void run(const Buffers& b, void* workspace) override {
    const float* table = table_.data();
    if (has_past_) {
      fill(static_cast<float*>(workspace), *b.in<int32_t>(1));
      table = static_cast<const float*>(workspace);
    }
    const int64_t heads = shape_.width / head_width_;
    pool_.ranges(shape_.batch * shape_.tokens, std::max<int64_t>(1, 8192 / shape_.width),
                 [&](int64_t begin, int64_t end, uint32_t) {
                   for (int64_t row = begin; row < end; ++row) {
                     const float* cosine = table + row % shape_.tokens * head_width_;
                     functions_.position->rope_token(b.in(0) + row * shape_.width, cosine, cosine + head_width_ / 2,
                                                     heads, head_width_, b.out(0) + row * shape_.width);
                   }
                 });
  }

 private:
  void fill(float* table, int64_t past) const {
    pool_.ranges(shape_.tokens, 16, [&](int64_t begin, int64_t end, uint32_t) {
      for (int64_t t = begin; t < end; ++t)
        fill_angles(base_, sign_, head_width_, past + positions_.of(t), table + t * head_width_,
                    table + t * head_width_ + head_width_ / 2);
    });
  }

  bool has_past_;
  Tokens shape_{};
  Positions positions_;
  int64_t head_width_;
  double base_, sign_;
  std::vector<float> table_; /* [tokens][cosines, sines] */
};

class AddPosition : public Kernel {
 public:
  AddPosition(const Op& op, const Pool& pool) : Kernel(op, pool) {
    op.require_input(0, KM_F32);
    op.require_input(1, KM_F32);
    op.require_output(0, KM_F32);
    has_past_ = op.inputs() > 2;
    if (has_past_) require_past(op, 2);
    shape_ = tokens_of(op, op.input(0));
    if (width(op.input(1)) != shape_.width) throw Unsupported("add_position: table and x differ in width");
    positions_ = positions_of(op, shape_.tokens);
    if (rows(op.input(1)) < positions_.end()) throw Unsupported("add_position: fewer rows than positions");
    support_.in_place[0] = 1;
  }
  void run(const Buffers& b, void*) override {
    const int64_t past = has_past_ ? *b.in<int32_t>(2) : 0, w = shape_.width;
    pool_.ranges(
        shape_.batch * shape_.tokens, std::max<int64_t>(1, 8192 / w), [&](int64_t begin, int64_t end, uint32_t) {
          for (int64_t row = begin; row < end; ++row)
            functions_.position->add(b.in(0) + row * w, b.in(1) + (past + positions_.of(row % shape_.tokens)) * w,
                                     b.out(0) + row * w, w);
        });
  }

 private:
  bool has_past_;
  Tokens shape_{};
  Positions positions_;
};

class AddPositionBackward : public Kernel {
 public:
  AddPositionBackward(const Op& op, const Pool& pool) : Kernel(op, pool) {
    op.require_f32();
    op.require_counts(1, 1);
    shape_ = tokens_of(op, op.input(0));
    rows_ = op.i64("rows", rows(op.output(0)));
    positions_ = positions_of(op, shape_.tokens);
    if (rows_ < positions_.end()) throw Unsupported("add_position_backward: fewer rows than positions");
    addend_ = op.addend(0);
    support_.flags = KM_SUPPORT_ADDEND_APART;
  }
  void run(const Buffers& b, void*) override {
    const int64_t w = shape_.width;
    const float* addend = b.in(addend_);
    float* y = b.out(0);
    pool_.ranges(rows_, std::max<int64_t>(1, 8192 / w), [&](int64_t begin, int64_t end, uint32_t) {
      for (int64_t r = begin; r < end; ++r) {
        const size_t bytes = static_cast<size_t>(w) * sizeof(float);
        float* row = y + r * w;
        if (!addend) {
          std::memset(row, 0, bytes);
        } else if (addend != y) {
          std::memcpy(row, addend + r * w, bytes);
        }
        const auto add_token = [&](int64_t t) {
          for (int64_t s = 0; s < shape_.batch; ++s)
            functions_.position->add(row, b.in(0) + (s * shape_.tokens + t) * w, row, w);
        };
        const Positions& p = positions_;
        if (r >= p.offset && r < p.offset + p.fold) add_token(r - p.offset);
        if (r >= p.fold_offset && r - p.fold_offset < p.count - p.fold) add_token(r - p.fold_offset + p.fold);
      }
    });
  }

 private:
  Tokens shape_{};
  Positions positions_;
  int64_t rows_;
  int addend_;
};

class CacheAppend : public Kernel {
 public:
  CacheAppend(const Op& op, const Pool& pool) : Kernel(op, pool) {
    op.require_counts(3, 1);
    op.require_input(0, KM_F32);
    op.require_input(1, KM_F32);
    op.require_output(0, KM_F32);
    require_past(op, 2);
    cache_ = tokens_of(op, op.input(0));
    x_ = tokens_of(op, op.input(1));
    if (cache_.batch != x_.batch || cache_.width != x_.width)
      throw Unsupported("cache_append: cache and x differ in shape");
    support_.in_place[0] = 1;
  }
  void run(const Buffers& b, void*) override {
    const int64_t past = *b.in<int32_t>(2), w = cache_.width, last = std::min(cache_.tokens, past + x_.tokens);
    const auto copy = [w](const float* from, float* to, int64_t count) {
      if (count > 0 && from != to) std::memcpy(to, from, static_cast<size_t>(count * w) * sizeof(float));
    };
    pool_.run(cache_.batch, [&](int64_t s, uint32_t) {
      const float* old = b.in(0) + s * cache_.tokens * w;
      float* y = b.out(0) + s * cache_.tokens * w;
      copy(old, y, past);
      copy(b.in(1) + s * x_.tokens * w, y + past * w, last - past);
      copy(old + last * w, y + last * w, cache_.tokens - last);
    });
  }

 private:
  Tokens cache_{}, x_{};
};

class LastToken : public Kernel {
 public:
  LastToken(const Op& op, const Pool& pool) : Kernel(op, pool) {
    op.require_f32();
    op.require_counts(1, 1);
    shape_ = tokens_of(op, op.input(0));
  }
  void run(const Buffers& b, void*) override {
    for (int64_t s = 0; s < shape_.batch; ++s)
      std::memcpy(b.out(0) + s * shape_.width, b.in(0) + ((s + 1) * shape_.tokens - 1) * shape_.width,
                  static_cast<size_t>(shape_.width) * sizeof(float));
  }

 private:
  Tokens shape_{};
};

} // namespace

std::unique_ptr<Kernel> make_rope(const Op& op, const Pool& pool) { return make<Rope>(op, pool); }
std::unique_ptr<Kernel> make_add_position(const Op& op, const Pool& pool) { return make<AddPosition>(op, pool); }
std::unique_ptr<Kernel> make_add_position_backward(const Op& op, const Pool& pool) {
  return make<AddPositionBackward>(op, pool);
}
std::unique_ptr<Kernel> make_cache_append(const Op& op, const Pool& pool) { return make<CacheAppend>(op, pool); }
std::unique_ptr<Kernel> make_last_token(const Op& op, const Pool& pool) { return make<LastToken>(op, pool); }

} // namespace kumiki::kernels
