/* products.c: matmul, matmul_bias, matmul_group.
 *
 * A block of kBlock columns of b is copied to doubles, zero padded, in the workspace; then each row of a runs down it
 * with one row of double accumulators. So the inner loop is long and contiguous for every transposition. */
#include <math.h>

#include "ops.h"

enum { kBlock = 64 };

typedef struct matrix {
  const void* data;
  uint32_t dtype;
  int64_t row_stride, column_stride;
} matrix;

/* The sizes of one product y[m, n] = a[m, k] b[k, n]. */
typedef struct product {
  int64_t m, n, k;
  int transpose_a, transpose_b;
} product;

static matrix matrix_of(const void* data, const km_tensor* t, int transposed) {
  int64_t width = reference_last(t);
  matrix plain = {data, t->dtype, width, 1};
  matrix turned = {data, t->dtype, 1, width};
  return transposed ? turned : plain;
}

/* sums[0 … kBlock-1] = row i of a · block. */
static void multiply_row(matrix a, int64_t i, const double* block, int64_t k, double* sums) {
  for (int j = 0; j < kBlock; ++j) sums[j] = 0;
  for (int64_t p = 0; p < k; ++p) {
    double x = reference_load(a.data, a.dtype, i * a.row_stride + p * a.column_stride);
    const double* row = block + p * kBlock;
    for (int j = 0; j < kBlock; ++j) sums[j] += x * row[j];
  }
}

static void copy_block(matrix b, int64_t k, int64_t first, int64_t columns, double* block) {
  for (int64_t p = 0; p < k; ++p)
    for (int j = 0; j < kBlock; ++j)
      block[p * kBlock + j] =
          j < columns ? reference_load(b.data, b.dtype, p * b.row_stride + (first + j) * b.column_stride) : 0.0;
}

static double activate(const char* activation, double x) {
  if (km_same_text(activation, "gelu")) return reference_gelu(x);
  if (km_same_text(activation, "silu")) return reference_silu(x);
  return x;
}

/* What becomes of a sum: y = activation(u) + addend, u = sum + bias. Only y is always there. */
typedef struct epilogue {
  const float* bias;
  const char* activation;
  const void* addend;
  void* u;
  uint32_t u_dtype;
  void* y;
  uint32_t y_dtype;
} epilogue;

static void multiply(product p, matrix a, matrix b, const epilogue* e, double* block) {
  double sums[kBlock];
  for (int64_t first = 0; first < p.n; first += kBlock) {
    int64_t columns = p.n - first < kBlock ? p.n - first : kBlock;
    copy_block(b, p.k, first, columns, block);
    for (int64_t i = 0; i < p.m; ++i) {
      multiply_row(a, i, block, p.k, sums);
      for (int64_t j = 0; j < columns; ++j) {
        int64_t at = i * p.n + first + j;
        double u = sums[j];
        if (e->bias) u += e->bias[first + j];
        if (e->u) reference_store(e->u, e->u_dtype, at, u);
        double y = activate(e->activation, u);
        if (e->addend) y += reference_load(e->addend, e->y_dtype, at);
        reference_store(e->y, e->y_dtype, at, y);
      }
    }
  }
}

/* Reads the sizes; a reason if a and b do not fit. */
static const char* product_of(const km_op* op, const km_tensor* a, const km_tensor* b, product* p) {
  p->transpose_a = km_attribute_i64(op, "transpose_a", 0) != 0;
  p->transpose_b = km_attribute_i64(op, "transpose_b", 0) != 0;
  if (a->rank < 1 || b->rank < 1) return "a and b need at least one dimension";
  if (!reference_is_product_type(a->dtype) || a->dtype != b->dtype) return "a and b must be both f32 or both bf16";
  p->m = p->transpose_a ? reference_last(a) : reference_rows(a);
  p->k = p->transpose_a ? reference_rows(a) : reference_last(a);
  if ((p->transpose_b || !p->transpose_a) && b->rank != 2) return "b must have two dimensions";
  p->n = p->transpose_b ? b->dims[0] : reference_last(b);
  if ((p->transpose_b ? b->dims[1] : reference_rows(b)) != p->k) return "the summed dimensions of a and b differ";
  return NULL;
}

static int is_product_output(const km_tensor* y, const km_tensor* a, product p) {
  if (!reference_is_product_type(y->dtype) || reference_last(y) != p.n) return 0;
  if (p.transpose_a) return y->rank == 2 && y->dims[0] == p.m;
  if (y->rank != a->rank) return 0;
  for (uint32_t i = 0; i + 1 < a->rank; ++i)
    if (y->dims[i] != a->dims[i]) return 0;
  return 1;
}

static km_status check_product(const km_host* host, const km_op* op, const km_tensor* b, const km_tensor* y,
                               km_support* support) {
  product p;
  const char* reason = product_of(op, &op->inputs[0], b, &p);
  REFERENCE_REQUIRE(!reason, reason);
  REFERENCE_REQUIRE(is_product_output(y, &op->inputs[0], p), "y is not a · b");
  support->workspace_bytes = (uint64_t)p.k * kBlock * sizeof(double);
  return KM_OK;
}

km_status check_matmul(const km_host* host, const km_op* op, km_support* support) {
  REFERENCE_TRY(reference_check_counts(host, op, support, 2, 1, 1));
  return check_product(host, op, &op->inputs[1], &op->outputs[0], support);
}

km_status run_matmul(const reference_call* c) {
  product p;
  product_of(c->op, &c->op->inputs[0], &c->op->inputs[1], &p);
  epilogue e = {
      .activation = "none", .addend = reference_addend(c, 0), .y = c->out[0], .y_dtype = c->op->outputs[0].dtype};
  multiply(p, matrix_of(c->in[0], &c->op->inputs[0], p.transpose_a),
           matrix_of(c->in[1], &c->op->inputs[1], p.transpose_b), &e, c->workspace);
  return KM_OK;
}

km_status check_matmul_bias(const km_host* host, const km_op* op, km_support* support) {
  const char* activation = km_attribute_string(op, "activation", "none");
  int plain = km_same_text(activation, "none");
  REFERENCE_REQUIRE(plain || km_same_text(activation, "gelu") || km_same_text(activation, "silu"),
                    "unknown activation");
  REFERENCE_TRY(reference_check_counts(host, op, support, 3, plain ? 1 : 2, plain ? 1 : 0));
  REFERENCE_TRY(check_product(host, op, &op->inputs[1], &op->outputs[0], support));
  REFERENCE_REQUIRE(reference_is_vector(&op->inputs[2], reference_last(&op->outputs[0])), "bias must be f32 [N]");
  REFERENCE_REQUIRE(plain || (reference_is_product_type(op->outputs[1].dtype) &&
                              reference_same_dims(&op->outputs[1], &op->outputs[0])),
                    "u must have the shape of y");
  return KM_OK;
}

km_status run_matmul_bias(const reference_call* c) {
  product p;
  product_of(c->op, &c->op->inputs[0], &c->op->inputs[1], &p);
  epilogue e = {.bias = c->in[2],
                .activation = km_attribute_string(c->op, "activation", "none"),
                .addend = reference_addend(c, 0),
                .y = c->out[0],
                .y_dtype = c->op->outputs[0].dtype};
  if (c->op->n_outputs == 2) e.u = c->out[1], e.u_dtype = c->op->outputs[1].dtype;
  multiply(p, matrix_of(c->in[0], &c->op->inputs[0], p.transpose_a),
           matrix_of(c->in[1], &c->op->inputs[1], p.transpose_b), &e, c->workspace);
  return KM_OK;
}

km_status check_matmul_group(const km_host* host, const km_op* op, km_support* support) {
  int64_t n = km_attribute_i64(op, "n", 0);
  int bias = km_attribute_i64(op, "bias", 0) != 0;
  REFERENCE_REQUIRE(n >= 1 && n <= KM_MAX_OUTPUTS && 1 + n * (1 + bias) <= KM_MAX_INPUTS, "n is out of range");
  REFERENCE_TRY(reference_check_counts(host, op, support, (uint32_t)(1 + n * (1 + bias)), (uint32_t)n, 0));
  for (int64_t i = 0; i < n; ++i) {
    REFERENCE_TRY(check_product(host, op, &op->inputs[1 + i], &op->outputs[i], support));
    REFERENCE_REQUIRE(!bias || reference_is_vector(&op->inputs[1 + n + i], reference_last(&op->outputs[i])),
                      "a bias must be f32 [N]");
  }
  return KM_OK;
}

km_status run_matmul_group(const reference_call* c) {
  int64_t n = km_attribute_i64(c->op, "n", 0);
  int bias = km_attribute_i64(c->op, "bias", 0) != 0;
  for (int64_t i = 0; i < n; ++i) {
    const km_tensor* b = &c->op->inputs[1 + i];
    product p;
    product_of(c->op, &c->op->inputs[0], b, &p);
    epilogue e = {.bias = bias ? c->in[1 + n + i] : NULL,
                  .activation = "none",
                  .y = c->out[i],
                  .y_dtype = c->op->outputs[i].dtype};
    multiply(p, matrix_of(c->in[0], &c->op->inputs[0], p.transpose_a), matrix_of(c->in[1 + i], b, p.transpose_b), &e,
             c->workspace);
  }
  return KM_OK;
}
