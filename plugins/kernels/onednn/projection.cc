/* projection.cc: projection_cross_entropy and projection_cross_entropy_train in slices of tokens.
 *
 *   for each slice of at most kSlice tokens:
 *     logits = x wᵀ                      in chunks of columns, each chunk a dense [tokens, columns] of its own
 *     loss, d_logits of each row         d_logits in the type of x, laid out in the same chunks
 *     d_x  (+)= Σ over chunks d_logits w
 *     d_w  (+)= d_logitsᵀ x              chunk by chunk
 *
 * Dense chunks are what oneDNN's fastest primitive asks for; no more than one slice of logits is ever in memory. */
#include <algorithm>
#include <cmath>

#include "product.h"
#include "row_math.h"

namespace kumiki::onednn {
namespace {

constexpr int64_t kSlice = 512, kChunk = 2048;

using Type = dnnl::memory::data_type;

uint64_t bytes_of(Type type) { return type == Type::bf16 ? 2 : 4; }

/* The products for chunks of one width and slices of one height. */
struct ChunkProducts {
  std::optional<Product> logits, d_x, d_x_more, d_w, d_w_more; /* _more: adds to what is there */
};

class Projection final : public Kernel {
 public:
  Projection(const Instance& instance, const km_request& request) : instance_(instance) {
    const km_op& op = *request.op;
    const km_tensor &x = op.inputs[0], &w = op.inputs[1];
    train_ = km_same_text(op.name, "projection_cross_entropy_train");
    accumulate_ = km_attribute_i64(&op, "accumulate", 0);
    const uint32_t addends = (accumulate_ >> 2 & 1) + (accumulate_ >> 3 & 1);
    if (op.n_inputs != (train_ ? 4 + addends : 3)) throw Unsupported("wrong number of inputs");
    if (x.rank < 1 || w.rank != 2 || x.dtype != w.dtype || x.dims[x.rank - 1] != w.dims[1])
      throw Unsupported("x and w do not fit");
    if (x.dtype != KM_BF16) throw Unsupported("only bf16");
    if (!instance.has_bf16) throw Unsupported("the processor has no bf16 products");
    n_inputs_ = op.n_inputs;
    vocabulary_ = w.dims[0], width_ = w.dims[1], rows_ = km_elements(&x) / width_;
    if (rows_ < 1) throw Unsupported("no tokens");
    slice_ = std::min(rows_, kSlice);
    chunk_ = std::min(vocabulary_, kChunk);
    /* [last slice][last chunk]: the last ones may be smaller. */
    for (bool last_slice : {false, true})
      for (bool last_chunk : {false, true}) make_products(last_slice, last_chunk);
  }

  void describe(km_support* support) const override {
    support->workspace_bytes = layout().end;
    if (accumulate_ >> 2 & 1) support->in_place[2] |= 1u << 4;
    if (accumulate_ >> 3 & 1) support->in_place[3] |= 1u << (n_inputs_ - 1);
  }

  void prepare() override {
    for (auto& row : products_)
      for (ChunkProducts& p : row)
        for (auto* product : {&p.logits, &p.d_x, &p.d_x_more, &p.d_w, &p.d_w_more})
          if (*product) (*product)->prepare();
  }

  void run(const km_address* buffers, void* workspace) override {
    Call call{buffers, static_cast<char*>(workspace), layout()};
    for (int64_t first = 0; first < rows_; first += slice_) {
      make_logits(call, first);
      make_loss(call, first);
      if (train_) make_gradients(call, first);
    }
    double loss = 0, tokens = 0;
    const double* losses = call.losses();
    for (int64_t r = 0; r < rows_; ++r) {
      const bool counted = call.targets()[r] >= 0;
      loss += counted ? losses[r] : 0;
      tokens += counted;
    }
    *static_cast<float*>(pointer(buffers[n_inputs_])) = static_cast<float>(loss);
    *static_cast<float*>(pointer(buffers[n_inputs_ + 1])) = static_cast<float>(tokens);
  }

 private:
  /* Offsets in the workspace. */
  struct Layout {
    uint64_t losses, logits, d_logits, scratch, end;
  };
  struct Call {
    const km_address* buffers;
    char* workspace;
    Layout at;
    const char* x() const { return static_cast<const char*>(pointer(buffers[0])); }
    const char* w() const { return static_cast<const char*>(pointer(buffers[1])); }
    const int32_t* targets() const { return static_cast<const int32_t*>(pointer(buffers[2])); }
    double* losses() const { return reinterpret_cast<double*>(workspace + at.losses); }
    float* logits() const { return reinterpret_cast<float*>(workspace + at.logits); }
    uint16_t* d_logits() const { return reinterpret_cast<uint16_t*>(workspace + at.d_logits); }
  };

  Layout layout() const {
    const uint64_t elements = static_cast<uint64_t>(slice_ * vocabulary_);
    Layout l{};
    l.logits = round_up(static_cast<uint64_t>(rows_) * sizeof(double), 256);
    l.d_logits = l.logits + round_up(elements * sizeof(float), 256);
    l.scratch = l.d_logits + (train_ ? round_up(elements * bytes_of(type_), 256) : 0);
    l.end = l.scratch + scratch_bytes_ * instance_.threads;
    return l;
  }

  int64_t slice_rows(bool last) const { return last ? rows_ - (slices() - 1) * slice_ : slice_; }
  int64_t chunk_columns(bool last) const { return last ? vocabulary_ - (chunks() - 1) * chunk_ : chunk_; }
  int64_t slices() const { return (rows_ + slice_ - 1) / slice_; }
  int64_t chunks() const { return (vocabulary_ + chunk_ - 1) / chunk_; }

  void make_products(bool last_slice, bool last_chunk) {
    const int64_t rows = slice_rows(last_slice), columns = chunk_columns(last_chunk);
    ChunkProducts& p = products_[last_slice][last_chunk];
    const auto sizes = [&](int64_t m, int64_t n, int64_t k) {
      ProductSizes s;
      s.m = m, s.n = n, s.k = k;
      s.lda = k, s.ldb = n, s.ldc = n;
      s.in = type_, s.out = Type::f32;
      s.row_block = m, s.column_block = n;
      return s;
    };
    ProductSizes logits = sizes(rows, columns, width_); // x wᵀ
    logits.transpose_b = true;
    logits.ldb = width_;
    add(p.logits, logits);
    if (!train_) return;
    ProductSizes d_x = sizes(rows, width_, columns); // d_logits w
    d_x.row_block = 256;
    add(p.d_x, d_x);
    d_x.sum = true;
    add(p.d_x_more, d_x);
    ProductSizes d_w = sizes(columns, width_, rows); // d_logitsᵀ x
    d_w.transpose_a = true;
    d_w.lda = columns;
    add(p.d_w, d_w);
    d_w.sum = true;
    add(p.d_w_more, d_w);
  }

  void add(std::optional<Product>& product, const ProductSizes& sizes) {
    product.emplace(instance_, sizes, false);
    scratch_bytes_ = std::max(scratch_bytes_, product->scratch_bytes());
  }

  const ChunkProducts& products(int64_t first_row, int64_t chunk) const {
    return products_[first_row + slice_ >= rows_][chunk + 1 == chunks()];
  }
  int64_t rows_from(int64_t first) const { return std::min(slice_, rows_ - first); }
  void* scratch(const Call& call, uint32_t worker) const {
    return call.workspace + call.at.scratch + worker * scratch_bytes_;
  }

  void make_logits(const Call& call, int64_t first) const {
    const int64_t rows = rows_from(first);
    const char* x = call.x() + static_cast<uint64_t>(first * width_) * bytes_of(type_);
    instance_.run(static_cast<uint32_t>(chunks()), [&](uint32_t chunk, uint32_t worker) {
      const char* w = call.w() + static_cast<uint64_t>(chunk * chunk_ * width_) * bytes_of(type_);
      products(first, chunk)
          .logits->run_task(0, worker, x, w, nullptr, call.logits() + chunk * chunk_ * rows, scratch(call, worker));
    });
  }

  /* The part of a row that lies in a chunk. */
  template <typename T>
  T* part(T* base, int64_t rows, int64_t row, int64_t chunk) const {
    return base + chunk * chunk_ * rows + row * chunk_columns(chunk + 1 == chunks());
  }

  void make_loss(const Call& call, int64_t first) const {
    const int64_t rows = rows_from(first);
    const float d_loss = train_ ? *static_cast<const float*>(pointer(call.buffers[3])) : 0.0f;
    constexpr int64_t kRows = 8; /* of one task */
    instance_.run(static_cast<uint32_t>((rows + kRows - 1) / kRows), [&](uint32_t task, uint32_t) {
      for (int64_t r = task * kRows; r < std::min(rows, (task + 1) * kRows); ++r)
        loss_row(call, first, rows, r, d_loss);
    });
  }

  void loss_row(const Call& call, int64_t first, int64_t rows, int64_t r, float d_loss) const {
    const RowMath& math = row_math();
    const int64_t target = call.targets()[first + r];
    if (target < 0) {
      for (int64_t c = 0; train_ && c < chunks(); ++c)
        std::fill_n(part(call.d_logits(), rows, r, c), chunk_columns(c + 1 == chunks()), uint16_t{0});
      return;
    }
    float largest = -INFINITY;
    double sum = 0;
    for (int64_t c = 0; c < chunks(); ++c)
      largest = std::max(largest, math.largest(part(call.logits(), rows, r, c), chunk_columns(c + 1 == chunks())));
    for (int64_t c = 0; c < chunks(); ++c)
      sum += math.sum_exp(part(call.logits(), rows, r, c), chunk_columns(c + 1 == chunks()), largest);
    const int64_t c = target / chunk_, j = target % chunk_;
    const float logit = part(call.logits(), rows, r, c)[j];
    call.losses()[first + r] = std::log(sum) + static_cast<double>(largest) - static_cast<double>(logit);
    if (!train_) return;
    const float factor = static_cast<float>(d_loss / sum);
    for (int64_t i = 0; i < chunks(); ++i)
      math.scaled_exp_bf16(part(call.logits(), rows, r, i), chunk_columns(i + 1 == chunks()), largest, factor,
                           part(call.d_logits(), rows, r, i));
    const float of_target = static_cast<float>(std::exp(static_cast<double>(logit - largest)) / sum - 1) * d_loss;
    math.to_bf16(&of_target, 1, part(call.d_logits(), rows, r, c) + j);
  }

  /* d_x and d_w in one go: each has tasks that the other's threads can fill their time with. */
  void make_gradients(const Call& call, int64_t first) const {
    const uint32_t row_blocks = products(first, 0).d_x->row_blocks();
    instance_.run(row_blocks + static_cast<uint32_t>(chunks()), [&](uint32_t task, uint32_t worker) {
      if (task < row_blocks)
        make_d_x(call, first, task, worker);
      else
        make_d_w(call, first, task - row_blocks, worker);
    });
  }

  void make_d_x(const Call& call, int64_t first, uint32_t row_block, uint32_t worker) const {
    const int64_t rows = rows_from(first);
    auto* d_x = static_cast<float*>(pointer(call.buffers[n_inputs_ + 2])) + first * width_;
    for (int64_t c = 0; c < chunks(); ++c) {
      const ChunkProducts& p = products(first, c);
      const bool adds = c > 0 || (accumulate_ >> 2 & 1);
      const char* w = call.w() + static_cast<uint64_t>(c * chunk_ * width_) * bytes_of(type_);
      (adds ? p.d_x_more : p.d_x)
          ->run_task(row_block, worker, call.d_logits() + c * chunk_ * rows, w, nullptr, d_x, scratch(call, worker));
    }
  }

  void make_d_w(const Call& call, int64_t first, uint32_t chunk, uint32_t worker) const {
    const ChunkProducts& p = products(first, chunk);
    const bool adds = first > 0 || (accumulate_ >> 3 & 1);
    const char* x = call.x() + static_cast<uint64_t>(first * width_) * bytes_of(type_);
    auto* d_w = static_cast<float*>(pointer(call.buffers[n_inputs_ + 3])) + chunk * chunk_ * width_;
    (adds ? p.d_w_more : p.d_w)
        ->run_task(0, worker, call.d_logits() + chunk * chunk_ * rows_from(first), x, nullptr, d_w,
                   scratch(call, worker));
  }

  const Instance& instance_;
  Type type_ = Type::bf16;
  bool train_ = false;
  int64_t accumulate_ = 0, rows_ = 0, vocabulary_ = 0, width_ = 0, slice_ = 0, chunk_ = 0;
  uint32_t n_inputs_ = 0;
  uint64_t scratch_bytes_ = 0;
  std::array<std::array<ChunkProducts, 2>, 2> products_; /* [last slice][last chunk] */
};

} // namespace

std::unique_ptr<Kernel> make_projection(const Instance& instance, const km_request& request) {
  return std::make_unique<Projection>(instance, request);
}

} // namespace kumiki::onednn
