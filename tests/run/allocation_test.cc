// A step of training allocates nothing. This binary's malloc counts, for all threads and for plugins too. What libraries
// of others allocate inside their own calls is left out: oneDNN makes a table of its arguments in every one.
#include <catch2/catch.hpp>

#include <link.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <new>

#include "tests/run/rig.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define COUNTS 0 // the sanitizer has the place of malloc
#else
#define COUNTS 1
#endif

namespace {
std::atomic<bool> counting{false};
std::atomic<long> calls{0};

// Where the code of libraries of others lies.
struct Range {
  uintptr_t begin, end;
};
std::array<Range, 16> others;
size_t other_count = 0;

int note_other(dl_phdr_info* info, size_t, void*) {
  if (!std::strstr(info->dlpi_name, "libdnnl.so") && !std::strstr(info->dlpi_name, "libgomp.so")) return 0;
  for (int i = 0; i < info->dlpi_phnum && other_count < others.size(); ++i) {
    const ElfW(Phdr)& segment = info->dlpi_phdr[i];
    if (segment.p_type != PT_LOAD || !(segment.p_flags & PF_X)) continue;
    const uintptr_t begin = info->dlpi_addr + segment.p_vaddr;
    others[other_count++] = {begin, begin + segment.p_memsz};
  }
  return 0;
}

[[maybe_unused]] void note_call(const void* caller) {
  if (!counting.load(std::memory_order_relaxed)) return;
  const auto at = reinterpret_cast<uintptr_t>(caller);
  for (size_t i = 0; i < other_count; ++i)
    if (at >= others[i].begin && at < others[i].end) return;
  ++calls;
}
} // namespace

#if COUNTS
// glibc's own, under the names that its malloc hooks are documented to be replaced through.
extern "C" {
void* __libc_malloc(size_t);
void* __libc_calloc(size_t, size_t);
void* __libc_realloc(void*, size_t);
void* __libc_memalign(size_t, size_t);

void* malloc(size_t bytes) {
  note_call(__builtin_return_address(0));
  return __libc_malloc(bytes);
}
void* calloc(size_t count, size_t bytes) {
  note_call(__builtin_return_address(0));
  return __libc_calloc(count, bytes);
}
void* realloc(void* at, size_t bytes) {
  note_call(__builtin_return_address(0));
  return __libc_realloc(at, bytes);
}
void* memalign(size_t alignment, size_t bytes) {
  note_call(__builtin_return_address(0));
  return __libc_memalign(alignment, bytes);
}
void* aligned_alloc(size_t alignment, size_t bytes) {
  note_call(__builtin_return_address(0));
  return __libc_memalign(alignment, bytes);
}
int posix_memalign(void** at, size_t alignment, size_t bytes) {
  note_call(__builtin_return_address(0));
  *at = __libc_memalign(alignment, bytes);
  return *at ? 0 : ENOMEM;
}
}

// Those of the standard library would all seem to call malloc from there.
void* operator new(size_t bytes) {
  note_call(__builtin_return_address(0));
  if (void* at = __libc_malloc(bytes)) return at;
  throw std::bad_alloc();
}
void* operator new(size_t bytes, std::align_val_t alignment) {
  note_call(__builtin_return_address(0));
  if (void* at = __libc_memalign(static_cast<size_t>(alignment), bytes)) return at;
  throw std::bad_alloc();
}
void operator delete(void* at) noexcept { std::free(at); }
void operator delete(void* at, size_t) noexcept { std::free(at); }
void operator delete(void* at, std::align_val_t) noexcept { std::free(at); }
void operator delete(void* at, size_t, std::align_val_t) noexcept { std::free(at); }
#endif

using namespace kumiki;
using namespace kumiki::test;

TEST_CASE("a step allocates nothing once it is planned") {
  if (!COUNTS) {
    WARN("skipped: under a sanitizer malloc cannot be counted");
    return;
  }
  for (const char* model : {"gpt dropout", "llama"}) {
    for (const char* kernels :
         {"\"reference\"", "\"generic\", \"reference\"", "\"onednn\", \"generic\", \"reference\""}) {
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
        other_count = 0;
        dl_iterate_phdr(note_other, nullptr);
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
