#include "instance.h"

#include <exception>
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

void Instance::run(uint32_t tasks, const std::function<void(uint32_t, uint32_t)>& task) const {
  /* Nothing may be thrown through the pool, which is the core's: the first exception waits here. */
  struct Context {
    const std::function<void(uint32_t, uint32_t)>& task;
    std::mutex mutex;
    std::exception_ptr thrown;
  } context{task, {}, {}};
  parallel->run(
      host, tasks,
      [](void* pointer, uint32_t number, uint32_t worker) {
        Context& c = *static_cast<Context*>(pointer);
        try {
          SingleThread single;
          c.task(number, worker);
        } catch (...) {
          std::lock_guard lock(c.mutex);
          if (!c.thrown) c.thrown = std::current_exception();
        }
      },
      &context);
  if (context.thrown) std::rethrow_exception(context.thrown);
}

dnnl::stream& this_threads_stream(const Instance& instance) {
  thread_local std::unique_ptr<dnnl::stream> stream;
  thread_local dnnl_engine_t of = nullptr;
  if (!stream || of != instance.engine.get()) {
    stream = std::make_unique<dnnl::stream>(instance.engine);
    of = instance.engine.get();
  }
  return *stream;
}

void Kernel::pack(uint32_t, const void*, void*) { throw std::logic_error("onednn: this kernel packs nothing"); }

const char* lasting_text(const std::string& text) {
  static std::mutex mutex;
  static std::set<std::string> texts;
  std::lock_guard lock(mutex);
  return texts.insert(text).first->c_str();
}

} // namespace kumiki::onednn
