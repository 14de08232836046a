#include "core/plan/scale/kernels.h"

#include <algorithm>
#include <set>
#include <string>

#include "kumiki/kernels.h"

namespace kumiki {
namespace {

// Ops of which output o may lie in an input of its own size: they read each element once, where they write it.
const std::set<std::string>& element_by_element() {
  static const std::set<std::string> ops = {"add",
                                            "subtract",
                                            "multiply",
                                            "divide",
                                            "maximum",
                                            "minimum",
                                            "power",
                                            "negate",
                                            "square",
                                            "sqrt",
                                            "reciprocal",
                                            "exp",
                                            "log",
                                            "abs",
                                            "sign",
                                            "tanh",
                                            "gelu",
                                            "silu",
                                            "gelu_backward",
                                            "silu_backward",
                                            "swiglu",
                                            "swiglu_backward",
                                            "scale",
                                            "select",
                                            "bias_add",
                                            "dropout",
                                            "layernorm",
                                            "rmsnorm",
                                            "add_layernorm",
                                            "add_rmsnorm",
                                            "layernorm_backward",
                                            "rmsnorm_backward",
                                            "rope",
                                            "add_position",
                                            "adamw_update",
                                            "cross_entropy_backward",
                                            "cache_append",
                                            "copy",
                                            "cross_entropy_parts_backward"};
  return ops;
}

bool same_type(const km_tensor& a, const km_tensor& b) {
  return a.dtype == b.dtype && km_elements(&a) == km_elements(&b);
}

km_status open(const km_host*, const km_options* options, void** self) {
  *self = new uint64_t(static_cast<uint64_t>(km_option_i64(options, "workspace")));
  return KM_OK;
}

void close(void* self) { delete static_cast<uint64_t*>(self); }

km_status query(void* self, const km_request* request, km_support* support) {
  const km_op& op = *request->op;
  const std::string name = op.name;
  support->flags = KM_SUPPORT_ADDEND_APART;
  if (name == "adamw_update") { // p, g, m, v: the gradient is nobody's output
    support->in_place[0] = 1u << 0, support->in_place[1] = 1u << 2, support->in_place[2] = 1u << 3;
  } else if (element_by_element().count(name)) {
    for (uint32_t o = 0; o < op.n_outputs; ++o)
      for (uint32_t i = 0; i < op.n_inputs; ++i)
        if (same_type(op.inputs[i], op.outputs[o])) support->in_place[o] |= 1u << i;
  }
  if (name.starts_with("matmul") || name.starts_with("attention") || name.starts_with("projection"))
    support->workspace_bytes = *static_cast<const uint64_t*>(self);
  return KM_OK;
}

// Nothing is ever run: one address stands for all kernels.
km_status create(void* self, const km_request*, km_kernel** kernel) {
  *kernel = static_cast<km_kernel*>(self);
  return KM_OK;
}

void destroy(void*, km_kernel*) {}

km_status run(void*, km_kernel*, const km_address*, km_address, km_queue*) { return KM_UNSUPPORTED; }

constexpr km_kernels kTable = {sizeof(km_kernels), 0, open, close, query, create, destroy, nullptr, run, nullptr};

} // namespace

MachineKernels::MachineKernels(uint64_t workspace_bytes) : workspace_(std::to_string(workspace_bytes)) {
  plugin_.name = "machine";
  component_.kind = "kernels";
  component_.name = "machine";
  component_.interface_version = KM_KERNELS_VERSION;
  component_.table = &kTable;
  component_.table_size = sizeof kTable;
  component_.options.push_back(
      {"workspace", KM_OPTION_I64, 0, workspace_.c_str(), 0, 0, nullptr, "bytes of scratch memory"});
  component_.plugin = &plugin_;
}

MachineKernels::~MachineKernels() = default;

} // namespace kumiki
