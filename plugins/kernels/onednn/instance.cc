#include "instance.h"

#include <mutex>
#include <set>

/* From OpenMP's runtime, which oneDNN brings; the header is not needed for two functions. */
extern "C" {
void omp_set_num_threads(int threads);
int omp_get_max_threads(void);
}

namespace kumiki::onednn {

SingleThread::SingleThread() : before_(omp_get_max_threads()) { omp_set_num_threads(1); }
SingleThread::~SingleThread() { omp_set_num_threads(before_); }

namespace {

/* oneDNN answers whether it would use bf16 instructions here. */
bool processor_has_bf16() {
  const dnnl::cpu_isa isa = dnnl::get_effective_cpu_isa();
  return isa == dnnl::cpu_isa::avx512_core_bf16 || isa == dnnl::cpu_isa::avx512_core_amx;
}

} // namespace

Instance::Instance(const km_host* of, const km_parallel* pool)
    : host(of), parallel(pool), threads(pool->threads(of)), has_bf16(processor_has_bf16()) {
  for (uint32_t i = 0; i < threads; ++i) streams.emplace_back(engine);
}

void Kernel::pack(uint32_t, const void*, void*) { throw std::logic_error("onednn: this kernel packs nothing"); }

const char* lasting_text(const std::string& text) {
  static std::mutex mutex;
  static std::set<std::string> texts;
  std::lock_guard lock(mutex);
  return texts.insert(text).first->c_str();
}

} // namespace kumiki::onednn
