/* instance.h: what every kernel of this component stands on: the host with its pool, oneDNN's engine, and the promise
 * that oneDNN starts no thread of its own. A kernel is a C++ object behind km_kernel; the functions of plugin.cc catch
 * what is thrown here. */
#ifndef KUMIKI_PLUGINS_KERNELS_ONEDNN_INSTANCE_H
#define KUMIKI_PLUGINS_KERNELS_ONEDNN_INSTANCE_H

#include <exception>
#include <memory>
#include <mutex>
#include <oneapi/dnnl/dnnl.hpp>
#include <stdexcept>
#include <string>
#include <vector>

#include "kumiki/kernels.h"
#include "kumiki/parallel_for.h"

namespace kumiki::onednn {

/* "Not I, ask the next": becomes KM_UNSUPPORTED. */
struct Unsupported : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/* While this lives, oneDNN computes in the calling thread only. Debian's oneDNN takes its number of threads from
 * OpenMP, which keeps that number for each thread by itself; so this changes nothing for others. */
class SingleThread {
 public:
  SingleThread();
  ~SingleThread();
  SingleThread(const SingleThread&) = delete;
  SingleThread& operator=(const SingleThread&) = delete;

 private:
  int before_;
};

struct Instance {
  Instance(const km_host* host, const km_parallel* parallel);

  const km_host* host;
  const km_parallel* parallel;
  uint32_t threads;
  bool has_bf16; /* the processor multiplies bf16 (AVX512-BF16 or AMX) */
  dnnl::engine engine{dnnl::engine::kind::cpu, 0};
  std::vector<dnnl::stream> streams; /* one for each worker */

  /* Runs task(number, worker) for all numbers below `tasks` on the pool, each with oneDNN held to one thread. Allocates
   * nothing; the first thing that a task throws is thrown again here. */
  template <typename Task>
  void run(uint32_t tasks, const Task& task) const {
    /* Nothing may be thrown through the pool, which is the core's: the first exception waits here. */
    struct Context {
      const Task& task;
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
};

class Kernel {
 public:
  virtual ~Kernel() = default;
  /* Fills workspace, flags, packing. */
  virtual void describe(km_support* support) const = 0;
  /* Makes the primitives (oneDNN compiles them); called once, before pack and run. */
  virtual void prepare() = 0;
  virtual void pack(uint32_t input, const void* plain, void* packed);
  virtual void run(const km_address* buffers, void* workspace) = 0;
};

/* Each makes the kernel of a request or throws Unsupported. */
std::unique_ptr<Kernel> make_linear(const Instance& instance, const km_request& request); /* matmul, _bias, _group */
std::unique_ptr<Kernel> make_projection(const Instance& instance,
                                        const km_request& request); /* projection_cross_entropy* */
std::unique_ptr<Kernel> make_cast(const Instance& instance, const km_request& request);

inline void* pointer(km_address address) { return reinterpret_cast<void*>(address); }

inline uint64_t round_up(uint64_t value, uint64_t unit) { return (value + unit - 1) / unit * unit; }

/* A text that lives as long as the plugin. */
const char* lasting_text(const std::string& text);

} // namespace kumiki::onednn

#endif
