/* What every kernel on the host is: made from an op (an unsuitable op throws Unsupported), it says what it needs
 * (support), and runs on buffers. Shape and attribute readers stand here too. Above pool.h and
 * functions.h. */
#ifndef KUMIKI_PLUGINS_KERNELS_HOST_KERNEL_H
#define KUMIKI_PLUGINS_KERNELS_HOST_KERNEL_H

#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>

#include "kumiki/kernels.h"
#include "plugins/kernels/host/functions.h"
#include "plugins/kernels/host/pool.h"

namespace kumiki::kernels {

/* "Not I, ask the next", with the reason. */
class Unsupported : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/* Reads a km_op, for the component of that name. Valid as long as the op. */
class Op {
 public:
  Op(const km_request& request, const char* component, const Functions& functions)
      : op_(*request.op), may_prepack_(request.may_prepack), component_(component), functions_(functions) {}

  std::string name() const { return op_.name; }
  const char* component() const { return component_; }
  const Functions& functions() const { return functions_; }
  uint32_t inputs() const { return op_.n_inputs; }
  uint32_t outputs() const { return op_.n_outputs; }
  const km_tensor& input(uint32_t i) const;
  const km_tensor& output(uint32_t i) const;
  bool may_prepack(uint32_t i) const { return (may_prepack_ >> i & 1u) != 0; }

  bool has(const char* attribute) const { return km_find_attribute(&op_, attribute) != nullptr; }
  int64_t i64(const char* name, int64_t otherwise) const { return km_attribute_i64(&op_, name, otherwise); }
  double f64(const char* name, double otherwise) const { return km_attribute_f64(&op_, name, otherwise); }
  std::string text(const char* name, const char* otherwise) const { return km_attribute_string(&op_, name, otherwise); }

  /* Throws Unsupported unless all tensors with these numbers have `dtype`. */
  void require_input(uint32_t i, uint32_t dtype) const;
  void require_output(uint32_t i, uint32_t dtype) const;
  /* All inputs and outputs are f32. */
  void require_f32() const;
  /* The op has so many inputs (addends not counted) and outputs. */
  void require_counts(uint32_t inputs, uint32_t outputs) const;

  /* Number of the input that is the addend of output o, or -1: addends stand last, in the order of the mask's bits. */
  int addend(uint32_t o) const;
  /* Inputs that are no addends. */
  uint32_t plain_inputs() const;

 private:
  const km_op& op_;
  uint32_t may_prepack_;
  const char* component_;
  const Functions& functions_;
};

/* By the op's attributes; throws Unsupported where they do not go together. */
Positions positions_of(const Op& op, int64_t count);

/* The last dimension, and the product of all others. */
int64_t width(const km_tensor& t);
int64_t rows(const km_tensor& t);

/* Addresses of one run: inputs, then outputs. */
class Buffers {
 public:
  Buffers(const km_address* addresses, uint32_t n_inputs) : addresses_(addresses), n_inputs_(n_inputs) {}
  template <class T = float>
  const T* in(int i) const {
    return i < 0 ? nullptr : reinterpret_cast<const T*>(static_cast<uintptr_t>(addresses_[i]));
  }
  template <class T = float>
  T* out(int o) const {
    return reinterpret_cast<T*>(static_cast<uintptr_t>(addresses_[n_inputs_ + static_cast<uint32_t>(o)]));
  }

 private:
  const km_address* addresses_;
  uint32_t n_inputs_;
};

struct Support {
  uint32_t flags = 0;
  uint64_t workspace_bytes = 0;
  uint32_t in_place[KM_MAX_OUTPUTS] = {};
  uint64_t prepack_bytes[KM_MAX_INPUTS] = {};
  const char* prepack_format[KM_MAX_INPUTS] = {};
};

class Kernel {
 public:
  explicit Kernel(const Op& op, const Pool& pool) : functions_(op.functions()), pool_(pool), n_inputs_(op.inputs()) {}
  virtual ~Kernel() = default;
  Kernel(const Kernel&) = delete;
  Kernel& operator=(const Kernel&) = delete;

  const Support& support() const { return support_; }
  uint32_t inputs() const { return n_inputs_; }
  /* Builds tables that run needs: called once, for a kernel that is going to run. */
  virtual void prepare() {}
  virtual void pack(uint32_t input, const float* plain, float* packed);
  virtual void run(const Buffers& buffers, void* workspace) = 0;

 protected:
  const Functions& functions_;
  Pool pool_;
  Support support_;

 private:
  uint32_t n_inputs_;
};

template <class K>
std::unique_ptr<Kernel> make(const Op& op, const Pool& pool) {
  return std::make_unique<K>(op, pool);
}
using Make = std::unique_ptr<Kernel> (*)(const Op& op, const Pool& pool);

/* Cuts a workspace into aligned pieces; with a null base it only counts the bytes. */
class Arena {
 public:
  explicit Arena(void* base) : base_(static_cast<char*>(base)) {}
  template <class T = float>
  T* take(int64_t elements) {
    T* p = base_ ? reinterpret_cast<T*>(base_ + used_) : nullptr;
    used_ += (static_cast<uint64_t>(elements) * sizeof(T) + 255) / 256 * 256;
    return p;
  }
  uint64_t used() const { return used_; }

 private:
  char* base_;
  uint64_t used_ = 0;
};

/* The value of a rank-0 tensor of any number type, as a double. */
double scalar(const km_tensor& t, const void* p);

} // namespace kumiki::kernels

#endif
