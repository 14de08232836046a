#include "plugins/kernels/sve/kernels.h"
#include "plugins/kernels/sve/simd.h"

namespace kumiki::sve {
namespace {

/* Square, gelu and silu: what training uses. component.cc lists no other. */
void unary(Unary function, const float* x, float* y, int64_t n) {
  if (function == Unary::kSquare) return map(x, y, 0, n, [](V v) { return mul(v, v); });
  if (function == Unary::kGelu) return map(x, y, 0, n, [](V v) { return gelu(v); });
  map(x, y, 0, n, [](V v) { return silu(v); });
}

/* Either operand may be one number. It is read before anything is written: it may lie in the output, if that has one
 * element too. */
template <class F>
inline void map_or_broadcast(const float* a, int a_step, const float* b, int b_step, float* y, int64_t n, const F& f) {
  if (a_step && b_step) return map(a, b, y, 0, n, f);
  const float left = *a, right = *b;
  if (a_step) return map(a, y, 0, n, [&](V v) { return f(v, set(right)); });
  if (b_step) return map(b, y, 0, n, [&](V v) { return f(set(left), v); });
  const V both = f(set(left), set(right));
  for_vectors(0, n, [&](int64_t i, svbool_t p) { svst1(p, y + i, both); });
}

/* Add, subtract and multiply. */
void binary(Binary function, const float* a, int a_step, const float* b, int b_step, float* y, int64_t n) {
  const auto over = [&](const auto& f) { map_or_broadcast(a, a_step, b, b_step, y, n, f); };
  if (function == Binary::kAdd) return over([](V p, V q) { return add(p, q); });
  if (function == Binary::kSubtract) return over([](V p, V q) { return sub(p, q); });
  over([](V p, V q) { return mul(p, q); });
}

template <class Slope>
inline void backward(const float* dy, const float* x, const float* addend, float* dx, int64_t n, const Slope& slope) {
  if (addend) return map(dy, x, addend, dx, 0, n, [&](V d, V v, V more) { return mla(more, d, slope(v)); });
  map(dy, x, dx, 0, n, [&](V d, V v) { return mul(d, slope(v)); });
}

void gelu_backward(const float* dy, const float* x, const float* addend, float* dx, int64_t n) {
  backward(dy, x, addend, dx, n, [](V v) { return gelu_slope(v); });
}
void silu_backward(const float* dy, const float* x, const float* addend, float* dx, int64_t n) {
  backward(dy, x, addend, dx, n, [](V v) { return silu_slope(v, sigmoid(v)); });
}

void swiglu(const float* gate, const float* up, float* y, int64_t n) {
  map(gate, up, y, 0, n, [](V g, V u) { return mul(silu(g), u); });
}

void swiglu_backward(const float* dy, const float* gate, const float* up, float* d_gate, float* d_up, int64_t end) {
  const int64_t n = lanes();
  int64_t i = 0;
  for (; i + 2 * n <= end; i += 2 * n) {
    const V d0 = svld1(all(), dy + i), g0 = svld1(all(), gate + i), u0 = svld1(all(), up + i);
    const V d1 = svld1_vnum(all(), dy + i, 1), g1 = svld1_vnum(all(), gate + i, 1), u1 = svld1_vnum(all(), up + i, 1);
    const V s0 = sigmoid(g0), s1 = sigmoid(g1);
    const V gate0 = mul(mul(d0, u0), silu_slope(g0, s0)), gate1 = mul(mul(d1, u1), silu_slope(g1, s1));
    const V up0 = mul(d0, mul(g0, s0)), up1 = mul(d1, mul(g1, s1));
    svst1(all(), d_gate + i, gate0);
    svst1_vnum(all(), d_gate + i, 1, gate1);
    svst1(all(), d_up + i, up0);
    svst1_vnum(all(), d_up + i, 1, up1);
  }
  for (; i < end; i += n) {
    const svbool_t p = first(end - i);
    const V d = svld1(p, dy + i), g = svld1(p, gate + i), u = svld1(p, up + i);
    const V s = sigmoid(g);
    svst1(p, d_gate + i, mul(mul(d, u), silu_slope(g, s)));
    svst1(p, d_up + i, mul(d, mul(g, s)));
  }
}

void scale(float factor, const float* x, float* y, int64_t n) {
  map(x, y, 0, n, [=](V v) { return mul(v, set(factor)); });
}

void bias_add(const float* x, const float* bias, float* y, int64_t rows, int64_t width) {
  for (int64_t r = 0; r < rows; ++r)
    map(x + r * width, bias, y + r * width, 0, width, [](V p, V q) { return add(p, q); });
}

} // namespace

const ElementwiseFunctions kElementwise = {.unary = unary,
                                           .binary = binary,
                                           .gelu_backward = gelu_backward,
                                           .silu_backward = silu_backward,
                                           .swiglu = swiglu,
                                           .swiglu_backward = swiglu_backward,
                                           .scale = scale,
                                           .bias_add = bias_add,
                                           .select = nullptr,
                                           .dropout = dropout,
                                           .f32_to_bf16 = nullptr,
                                           .bf16_to_f32 = nullptr};

} // namespace kumiki::sve
