// A step of training allocates nothing. This binary's malloc counts, for all threads and for plugins too.
#include <catch2/catch.hpp>

#include <atomic>
#include <cerrno>
#include <cstdlib>

#include "tests/run/rig.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define COUNTS 0 // the sanitizer has the place of malloc
#else
#define COUNTS 1
#endif

namespace {
std::atomic<bool> counting{false};
std::atomic<long> calls{0};
} // namespace

#if COUNTS
// glibc's own, under the names that its malloc hooks are documented to be replaced through.
extern "C" {
void* __libc_malloc(size_t);
void* __libc_calloc(size_t, size_t);
void* __libc_realloc(void*, size_t);
void* __libc_memalign(size_t, size_t);

void* malloc(size_t bytes) {
  if (counting.load(std::memory_order_relaxed)) ++calls;
  return __libc_malloc(bytes);
}
void* calloc(size_t count, size_t bytes) {
  if (counting.load(std::memory_order_relaxed)) ++calls;
  return __libc_calloc(count, bytes);
}
void* realloc(void* at, size_t bytes) {
  if (counting.load(std::memory_order_relaxed)) ++calls;
  return __libc_realloc(at, bytes);
}
void* memalign(size_t alignment, size_t bytes) {
  if (counting.load(std::memory_order_relaxed)) ++calls;
  return __libc_memalign(alignment, bytes);
}
void* aligned_alloc(size_t alignment, size_t bytes) { return memalign(alignment, bytes); }
int posix_memalign(void** at, size_t alignment, size_t bytes) {
  *at = memalign(alignment, bytes);
  return *at ? 0 : ENOMEM;
}
}
#endif

using namespace kumiki;
using namespace kumiki::test;

TEST_CASE("a step allocates nothing once it is planned") {
  if (!COUNTS) {
    WARN("skipped: under a sanitizer malloc cannot be counted");
    return;
  }
  for (const char* model : {"gpt dropout", "llama"}) {
    for (const char* kernels : {"\"reference\"", "\"generic\", \"reference\""}) {
      for (const char* compute : {"f32", "bf16"}) {
        CAPTURE(model, kernels, compute);
        calls = 0;
        counting = true;
        Rig rig(tiny(model, kernels, {"run.threads=3", std::string("run.compute=") + compute}));
        counting = false;
        REQUIRE(calls > 100); // it does count
        rig.step();
        rig.stage();
        const std::vector<ScheduleEntry> schedule = rig.schedule();
        calls = 0;
        counting = true;
        km_status status = KM_OK;
        for (int i = 0; i < 3 && status == KM_OK; ++i) status = rig.executor().run(schedule, rig.staging());
        counting = false;
        CHECK(status == KM_OK);
        CHECK(calls == 0);
      }
    }
  }
}
