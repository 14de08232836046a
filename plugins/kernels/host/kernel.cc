#include "plugins/kernels/host/kernel.h"

namespace kumiki::kernels {
namespace {

std::string dtype_name(uint32_t dtype) {
  switch (dtype) {
    case KM_F32: return "f32";
    case KM_BF16: return "bf16";
    case KM_F16: return "f16";
    case KM_F64: return "f64";
    case KM_I32: return "i32";
    case KM_I64: return "i64";
    case KM_U8: return "u8";
    default: return "type " + std::to_string(dtype);
  }
}

int bits(int64_t mask) { return __builtin_popcountll(static_cast<unsigned long long>(mask)); }

} // namespace

const km_tensor& Op::input(uint32_t i) const {
  if (i >= op_.n_inputs) throw Unsupported(name() + ": input " + std::to_string(i) + " is missing");
  return op_.inputs[i];
}

const km_tensor& Op::output(uint32_t i) const {
  if (i >= op_.n_outputs) throw Unsupported(name() + ": output " + std::to_string(i) + " is missing");
  return op_.outputs[i];
}

void Op::require_input(uint32_t i, uint32_t dtype) const {
  const km_tensor& t = input(i);
  if (t.dtype != dtype || t.layout != 0)
    throw Unsupported(name() + ": input " + std::to_string(i) + " is " + dtype_name(t.dtype) + "; " + component_ +
                      " takes " + dtype_name(dtype) + " here");
}

void Op::require_output(uint32_t i, uint32_t dtype) const {
  const km_tensor& t = output(i);
  if (t.dtype != dtype || t.layout != 0)
    throw Unsupported(name() + ": output " + std::to_string(i) + " is " + dtype_name(t.dtype) + "; " + component_ +
                      " gives " + dtype_name(dtype) + " here");
}

void Op::require_f32() const {
  for (uint32_t i = 0; i < inputs(); ++i) require_input(i, KM_F32);
  for (uint32_t o = 0; o < outputs(); ++o) require_output(o, KM_F32);
}

void Op::require_counts(uint32_t inputs, uint32_t outputs) const {
  if (plain_inputs() != inputs || op_.n_outputs != outputs)
    throw Unsupported(name() + ": " + std::to_string(plain_inputs()) + " inputs and " + std::to_string(op_.n_outputs) +
                      " outputs; expected " + std::to_string(inputs) + " and " + std::to_string(outputs));
}

int Op::addend(uint32_t o) const {
  const int64_t mask = i64("accumulate", 0);
  if ((mask >> o & 1) == 0) return -1;
  return static_cast<int>(plain_inputs()) + bits(mask & ((int64_t{1} << o) - 1));
}

uint32_t Op::plain_inputs() const {
  const uint32_t addends = static_cast<uint32_t>(bits(i64("accumulate", 0)));
  if (addends > op_.n_inputs)
    throw Unsupported(name() + ": attribute accumulate names more addends than there are inputs");
  return op_.n_inputs - addends;
}

Positions positions_of(const Op& op, int64_t count) {
  const Positions p{op.i64("offset", 0), op.i64("fold", count), op.i64("fold_offset", 0), count};
  if (p.offset < 0 || p.fold_offset < 0 || p.fold < 0 || p.fold > count)
    throw Unsupported(op.name() + ": there are no positions like attributes offset, fold, fold_offset");
  return p;
}

int64_t width(const km_tensor& t) { return t.rank == 0 ? 1 : t.dims[t.rank - 1]; }

int64_t rows(const km_tensor& t) {
  int64_t n = 1;
  for (uint32_t i = 0; i + 1 < t.rank; ++i) n *= t.dims[i];
  return n;
}

void Kernel::pack(uint32_t input, const float*, float*) {
  throw std::logic_error("input " + std::to_string(input) + " of this kernel has no packed form");
}

double scalar(const km_tensor& t, const void* p) {
  switch (t.dtype) {
    case KM_F32: return static_cast<double>(*static_cast<const float*>(p));
    case KM_F64: return *static_cast<const double*>(p);
    case KM_I32: return *static_cast<const int32_t*>(p);
    case KM_I64: return static_cast<double>(*static_cast<const int64_t*>(p));
    default: throw std::logic_error("a scalar of " + dtype_name(t.dtype));
  }
}

} // namespace kumiki::kernels
