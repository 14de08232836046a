#include <algorithm>
#include <vector>

#include "plugins/kernels/host/makers.h"

namespace kumiki::kernels {
namespace {

Activation activation_of(const Op& op) {
  const std::string name = op.text("activation", "none");
  if (name == "none") return Activation::kNone;
  if (name == "gelu") return Activation::kGelu;
  if (name == "silu") return Activation::kSilu;
  throw Unsupported(op.name() + ": activation \"" + name + "\" is not one of none, gelu, silu");
}

/* Reads and checks the sizes of a product of input `a` and input `b`. */
ProductShape shape_of(const Op& op, uint32_t a, uint32_t b, bool transpose_a, bool transpose_b) {
  const km_tensor &ta = op.input(a), &tb = op.input(b);
  ProductShape s;
  s.transpose_a = transpose_a;
  s.transpose_b = transpose_b;
  s.m = transpose_a ? width(ta) : rows(ta);
  s.k = transpose_a ? rows(ta) : width(ta);
  const int64_t b_rows = rows(tb), b_width = width(tb);
  s.n = transpose_b ? b_rows : b_width;
  if ((transpose_b ? b_width : b_rows) != s.k) throw Unsupported(op.name() + ": the sizes of a and b do not agree");
  if (s.m == 0 || s.n == 0 || s.k == 0) throw Unsupported(op.name() + ": an operand is empty");
  return s;
}

class ProductKernel : public Kernel {
 public:
  using Kernel::Kernel;

 protected:
  /* The component's product, whose right operand is input b; how that is packed goes to what this kernel supports. */
  std::unique_ptr<Product> product_for(uint32_t b, const ProductShape& shape) {
    const ProductFunctions& functions = *functions_.product;
    std::unique_ptr<Product> product = functions.make(shape, pool_);
    if (shape.packed_b) {
      support_.prepack_bytes[b] = product->packed_b_bytes();
      support_.prepack_format[b] = shape.transpose_b ? functions.packed_transposed_format : functions.packed_format;
    }
    return product;
  }
};

/* matmul and matmul_bias. */
class Matmul : public ProductKernel {
 public:
  Matmul(const Op& op, const Pool& pool) : ProductKernel(op, pool) {
    op.require_f32();
    has_bias_ = op.name() == "matmul_bias";
    activation_ = has_bias_ ? activation_of(op) : Activation::kNone;
    op.require_counts(has_bias_ ? 3 : 2, activation_ == Activation::kNone ? 1 : 2);
    addend_ = op.addend(0);
    if (addend_ >= 0 && activation_ != Activation::kNone)
      throw Unsupported(op.name() + ": accumulate and an activation exclude each other");
    ProductShape shape = shape_of(op, 0, 1, op.i64("transpose_a", 0) != 0, op.i64("transpose_b", 0) != 0);
    shape.packed_b = op.may_prepack(1) && !shape.transpose_a;
    product_ = product_for(1, shape);
    support_.workspace_bytes = product_->workspace_bytes();
    support_.flags = KM_SUPPORT_ADDEND_APART;
  }

  void pack(uint32_t, const float* plain, float* packed) override { product_->pack_b(plain, packed); }

  void run(const Buffers& buffers, void* workspace) override {
    ProductOutput c;
    c.c = buffers.out(0);
    c.addend = buffers.in(addend_);
    if (has_bias_) c.bias = buffers.in(2);
    if (activation_ != Activation::kNone) { // outputs: y = activation(u), u
      c.c = buffers.out(1);
      c.activation = activation_;
      c.activated = buffers.out(0);
    }
    product_->run(buffers.in(0), buffers.in(1), c, workspace);
  }

 private:
  bool has_bias_;
  Activation activation_;
  int addend_;
  std::unique_ptr<Product> product_;
};

/* Several products with the same left operand, packed once where it is packed, one after the other. */
class MatmulGroup : public ProductKernel {
 public:
  MatmulGroup(const Op& op, const Pool& pool) : ProductKernel(op, pool) {
    op.require_f32();
    n_ = static_cast<uint32_t>(op.i64("n", 0));
    bias_ = op.i64("bias", 0) != 0;
    if (n_ == 0) throw Unsupported("matmul_group: attribute n is missing");
    op.require_counts(1 + n_ * (bias_ ? 2 : 1), n_);
    for (uint32_t i = 0; i < n_; ++i) {
      ProductShape s = shape_of(op, 0, 1 + i, false, op.i64("transpose_b", 0) != 0);
      s.packed_b = op.may_prepack(1 + i);
      products_.push_back(product_for(1 + i, s));
      support_.workspace_bytes = std::max(support_.workspace_bytes, products_.back()->workspace_bytes());
    }
  }

  void pack(uint32_t input, const float* plain, float* packed) override {
    products_.at(input - 1)->pack_b(plain, packed);
  }

  void run(const Buffers& buffers, void* workspace) override {
    bool a_stands = false;
    for (uint32_t i = 0; i < n_; ++i) {
      ProductOutput c;
      c.c = buffers.out(static_cast<int>(i));
      if (bias_) c.bias = buffers.in(static_cast<int>(1 + n_ + i));
      products_[i]->run(buffers.in(0), buffers.in(static_cast<int>(1 + i)), c, workspace, a_stands);
      a_stands = products_[i]->keeps_a();
    }
  }

 private:
  uint32_t n_;
  bool bias_;
  std::vector<std::unique_ptr<Product>> products_;
};

} // namespace

std::unique_ptr<Kernel> make_matmul(const Op& op, const Pool& pool) { return make<Matmul>(op, pool); }
std::unique_ptr<Kernel> make_matmul_group(const Op& op, const Pool& pool) { return make<MatmulGroup>(op, pool); }

} // namespace kumiki::kernels
