/* linear.cc: matmul, matmul_bias and matmul_group as one or more products over the pool. */
#include <algorithm>
#include <cstring>

#include "product.h"
#include "row_math.h"

namespace kumiki::onednn {
namespace {

dnnl::memory::data_type type_of(uint32_t dtype) {
  if (dtype == KM_F32) return dnnl::memory::data_type::f32;
  if (dtype == KM_BF16) return dnnl::memory::data_type::bf16;
  throw Unsupported("only f32 and bf16");
}

int64_t last(const km_tensor& t) { return t.dims[t.rank - 1]; }
int64_t rows(const km_tensor& t) { return km_elements(&t) / std::max<int64_t>(1, last(t)); }

/* Shapes were checked by the core's shape rule; what is looked at here is what the memory layout depends on. */
ProductSizes sizes_of(const Instance& instance, const km_op& op, const km_tensor& b, const km_tensor& y) {
  const km_tensor& a = op.inputs[0];
  if (a.rank < 1 || b.rank < 1 || y.rank < 1) throw Unsupported("rank 0");
  if (a.dtype != b.dtype) throw Unsupported("a and b differ in type");
  if (a.dtype == KM_F32 && y.dtype != KM_F32) throw Unsupported("f32 products with a bf16 result");
  if (a.dtype == KM_BF16 && !instance.has_bf16) throw Unsupported("the processor has no bf16 products");
  ProductSizes s;
  s.transpose_a = km_attribute_i64(&op, "transpose_a", 0) != 0;
  s.transpose_b = km_attribute_i64(&op, "transpose_b", 0) != 0;
  s.m = s.transpose_a ? last(a) : rows(a);
  s.k = s.transpose_a ? rows(a) : last(a);
  s.n = s.transpose_b ? rows(b) : last(b);
  s.lda = last(a), s.ldb = last(b), s.ldc = s.n;
  if (s.k * s.n != km_elements(&b) || s.m * s.n != km_elements(&y)) throw Unsupported("the shapes do not fit");
  s.in = type_of(a.dtype), s.out = type_of(y.dtype);
  s.row_block = good_row_block(s.m, s.transpose_a);
  s.column_block = good_column_block(s.m, s.n);
  return s;
}

enum class Activation { kNone, kGelu, kSilu };

Activation activation_of(const km_op& op) {
  const char* name = km_attribute_string(&op, "activation", "none");
  if (km_same_text(name, "none")) return Activation::kNone;
  if (km_same_text(name, "gelu")) return Activation::kGelu;
  if (km_same_text(name, "silu")) return Activation::kSilu;
  throw Unsupported("unknown activation");
}

class Linear final : public Kernel {
 public:
  Linear(const Instance& instance, const km_request& request) : instance_(instance) {
    const km_op& op = *request.op;
    const bool group = km_same_text(op.name, "matmul_group");
    const int64_t n = group ? km_attribute_i64(&op, "n", 0) : 1;
    biases_ = group ? km_attribute_i64(&op, "bias", 0) != 0 : km_same_text(op.name, "matmul_bias");
    accumulate_ = km_attribute_i64(&op, "accumulate", 0) != 0;
    activation_ = group ? Activation::kNone : activation_of(op);
    if (accumulate_ && activation_ != Activation::kNone)
      throw Unsupported("accumulate and an activation exclude each other");
    const uint32_t base = static_cast<uint32_t>(1 + n * (biases_ ? 2 : 1));
    if (n < 1 || op.n_inputs != base + accumulate_ || op.n_outputs < n) throw Unsupported("wrong number of inputs");
    n_inputs_ = op.n_inputs;
    for (uint32_t i = 0; i < n; ++i) {
      /* With an activation the product makes u, the second output, and y follows from it. */
      const uint32_t made = activation_ == Activation::kNone ? i : 1;
      if (op.n_outputs <= made) throw Unsupported("wrong number of outputs");
      ProductSizes sizes = sizes_of(instance, op, op.inputs[1 + i], op.outputs[made]);
      sizes.bias = biases_;
      sizes.sum = accumulate_;
      /* Where both operands change with each call, packing one of them is the primitive's own affair. */
      products_.emplace_back(instance, sizes, !sizes.transpose_a && (request.may_prepack >> (1 + i) & 1));
      scratch_bytes_ = std::max(scratch_bytes_, products_.back().scratch_bytes());
    }
    if (activation_ != Activation::kNone && op.outputs[0].dtype != op.outputs[1].dtype)
      throw Unsupported("y and u differ in type");
  }

  void describe(km_support* support) const override {
    support->workspace_bytes = scratch_bytes_ * instance_.threads;
    for (size_t i = 0; i < products_.size(); ++i) {
      if (!products_[i].packs()) continue;
      support->prepack_bytes[1 + i] = products_[i].packed_bytes();
      support->prepack_format[1 + i] = lasting_text(products_[i].packed_format());
    }
    if (!accumulate_) return;
    support->in_place[0] |= 1u << (n_inputs_ - 1);
    support->flags |= KM_SUPPORT_ADDEND_APART;
  }

  void prepare() override {
    for (Product& product : products_) product.prepare();
  }

  void pack(uint32_t input, const void* plain, void* packed) override {
    const Product& product = products_.at(input - 1);
    instance_.run(product.pack_tasks(),
                  [&](uint32_t task, uint32_t worker) { product.pack_task(task, worker, plain, packed); });
  }

  void run(const km_address* buffers, void* workspace) override {
    uint32_t tasks = 0;
    for (const Product& product : products_) tasks += product.tasks();
    instance_.run(tasks, [&](uint32_t task, uint32_t worker) {
      uint32_t which = 0;
      while (task >= products_[which].tasks()) task -= products_[which++].tasks();
      run_one(which, task, worker, buffers, static_cast<char*>(workspace) + worker * scratch_bytes_);
    });
  }

 private:
  void run_one(uint32_t which, uint32_t task, uint32_t worker, const km_address* buffers, void* scratch) const {
    const Product& product = products_[which];
    const uint32_t n = static_cast<uint32_t>(products_.size());
    const auto* bias = biases_ ? static_cast<const float*>(pointer(buffers[1 + n + which])) : nullptr;
    const bool plain = activation_ == Activation::kNone;
    void* made = pointer(buffers[n_inputs_ + (plain ? which : 1)]);
    if (accumulate_) bring_addend(product, task, pointer(buffers[n_inputs_ - 1]), made);
    product.run_task(task, worker, pointer(buffers[0]), pointer(buffers[1 + which]), bias, made, scratch);
    if (plain) return;
    /* The block that was just made is still in the cache. */
    const ProductSizes& s = product.sizes();
    const int64_t i = task % product.row_blocks() * s.row_block, j = task / product.row_blocks() * s.column_block;
    const int64_t columns = std::min(s.column_block, s.n - j);
    void* y = pointer(buffers[n_inputs_]);
    const auto activate = activation_ == Activation::kGelu ? row_math().gelu : row_math().silu;
    for (int64_t r = i; r < std::min(s.m, i + s.row_block); ++r)
      activate(made, y, r * s.n + j, columns, s.out == dnnl::memory::data_type::bf16);
  }

  /* The primitive adds to what its block of y holds: an addend that lies elsewhere is copied there, into the cache. */
  static void bring_addend(const Product& product, uint32_t task, const void* addend, void* y) {
    if (addend == y) return;
    const ProductSizes& s = product.sizes();
    const int64_t i = task % product.row_blocks() * s.row_block, j = task / product.row_blocks() * s.column_block;
    const int64_t columns = std::min(s.column_block, s.n - j);
    const size_t bytes = s.out == dnnl::memory::data_type::bf16 ? 2 : 4;
    for (int64_t r = i; r < std::min(s.m, i + s.row_block); ++r) {
      const size_t at = static_cast<size_t>(r * s.n + j) * bytes;
      std::memcpy(static_cast<char*>(y) + at, static_cast<const char*>(addend) + at,
                  static_cast<size_t>(columns) * bytes);
    }
  }

  const Instance& instance_;
  std::vector<Product> products_;
  uint64_t scratch_bytes_ = 0;
  uint32_t n_inputs_ = 0;
  bool biases_ = false, accumulate_ = false;
  Activation activation_ = Activation::kNone;
};

} // namespace

std::unique_ptr<Kernel> make_linear(const Instance& instance, const km_request& request) {
  return std::make_unique<Linear>(instance, request);
}

} // namespace kumiki::onednn
