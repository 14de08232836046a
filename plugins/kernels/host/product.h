/* What the adapters of matrix products (matmul.cc) ask of a component: an object that knows a product's sizes, says how
 * much scratch memory it needs, packs the right operand and multiplies over the threads of the pool. */
#ifndef KUMIKI_PLUGINS_KERNELS_HOST_PRODUCT_H
#define KUMIKI_PLUGINS_KERNELS_HOST_PRODUCT_H

#include <cstdint>
#include <memory>

namespace kumiki::kernels {

class Pool;

/* Sizes of c [m, n] = a b, and how the operands lie: a [m, k], or [k, m] if transposed; b [k, n], or [n, k] if
 * transposed, or as pack_b makes it. */
struct ProductShape {
  int64_t m = 0, n = 0, k = 0;
  bool transpose_a = false;
  bool transpose_b = false;
  bool packed_b = false;
};

enum class Activation { kNone, kGelu, kSilu };

/* c = addend + a b + bias. */
struct ProductOutput {
  float* c = nullptr;
  const float* addend = nullptr; /* like c; may be c */
  const float* bias = nullptr;   /* [n] */
  Activation activation = Activation::kNone;
  float* activated = nullptr; /* with an activation: activation(c), like c */
};

class Product {
 public:
  Product() = default;
  virtual ~Product() = default;
  Product(const Product&) = delete;
  Product& operator=(const Product&) = delete;

  /* Scratch memory of run, 256-byte aligned. */
  virtual uint64_t workspace_bytes() const = 0;

  /* The size of b when packed, and its packing, over the pool. */
  virtual uint64_t packed_b_bytes() const = 0;
  virtual void pack_b(const float* b, float* packed) const = 0;

  /* Whether the workspace holds all of a, packed, after run. */
  virtual bool keeps_a() const { return false; }

  /* a_stands: the workspace still holds a as the run before packed it (of a product with the same a). */
  virtual void run(const float* a, const float* b, const ProductOutput& output, void* workspace,
                   bool a_stands = false) const = 0;
};

struct ProductFunctions {
  std::unique_ptr<Product> (*make)(const ProductShape& shape, const Pool& pool);
  /* Names of the packed forms of b and of a transposed b: kernels with the same name share one packed copy. */
  const char *packed_format, *packed_transposed_format;
};

} // namespace kumiki::kernels

#endif
