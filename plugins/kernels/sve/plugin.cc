/* The kernels component `sve`: f32 training on Arm processors with the Scalable Vector Extension, tuned for Fujitsu's
 * A64FX. This file knows whether there is SVE, in which case component.h's table works; else open steps aside. It is
 * compiled without SVE, so that the plugin loads everywhere. */
#include "kumiki/plugin.h"
#include "kumiki/kernels.h"

#if defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>

#include "plugins/kernels/sve/component.h"
#endif

namespace kumiki::sve {
namespace {

km_status step_aside(const km_host* host, const char* what) {
  return host->fail(host, KM_UNSUPPORTED, "kernels sve needs an Arm processor with SVE; %s: use \"generic\" here",
                    what);
}

#if defined(__aarch64__)
km_status open(const km_host* host, const km_options* options, void** self) {
  if ((getauxval(AT_HWCAP) & HWCAP_SVE) == 0) return step_aside(host, "this one has none");
  return kSveKernels.open(host, options, self);
}
void close(void* self) { kSveKernels.close(self); }
km_status query(void* self, const km_request* request, km_support* support) {
  return kSveKernels.query(self, request, support);
}
km_status create(void* self, const km_request* request, km_kernel** kernel) {
  return kSveKernels.create(self, request, kernel);
}
void destroy(void* self, km_kernel* kernel) { kSveKernels.destroy(self, kernel); }
km_status pack(void* self, km_kernel* kernel, uint32_t input, km_address plain, km_address packed, km_queue* queue) {
  return kSveKernels.pack(self, kernel, input, plain, packed, queue);
}
km_status run(void* self, km_kernel* kernel, const km_address* buffers, km_address workspace, km_queue* queue) {
  return kSveKernels.run(self, kernel, buffers, workspace, queue);
}
#else
km_status open(const km_host* host, const km_options*, void**) { return step_aside(host, "this is none"); }
/* Nothing below is called: open has made no instance. */
void close(void*) {}
km_status query(void*, const km_request*, km_support*) { return KM_UNSUPPORTED; }
km_status create(void*, const km_request*, km_kernel**) { return KM_UNSUPPORTED; }
void destroy(void*, km_kernel*) {}
km_status pack(void*, km_kernel*, uint32_t, km_address, km_address, km_queue*) { return KM_UNSUPPORTED; }
km_status run(void*, km_kernel*, const km_address*, km_address, km_queue*) { return KM_UNSUPPORTED; }
#endif

constexpr km_kernels kTable = {sizeof(km_kernels), 0, open, close, query, create, destroy, pack, run, nullptr};
constexpr km_component kComponents[] = {{"kernels", "sve", KM_KERNELS_VERSION, 0, &kTable, nullptr,
                                         "f32 training on Arm SVE, tuned for the A64FX of Fugaku"}};
constexpr km_plugin kPlugin = {sizeof(km_plugin),
                               KM_ABI_MINOR,
                               "kumiki-sve",
                               "0.1",
                               "Kumiki",
                               "Apache-2.0",
                               kComponents,
                               1,
                               sizeof(km_component),
                               sizeof(km_option),
                               0};

} // namespace
} // namespace kumiki::sve

KM_PLUGIN(kumiki::sve::kPlugin)
