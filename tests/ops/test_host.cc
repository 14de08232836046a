#include "tests/ops/test_host.h"

#include <dlfcn.h>
#include <unistd.h>

#include <atomic>
#include <barrier>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <mutex>
#include <stdexcept>
#include <thread>

#include "kumiki/parallel_for.h"
#include "tests/support/plain_host.h"

#if defined(__SSE2__)
#include <xmmintrin.h>
#endif

namespace kumiki::test {
namespace {

class Pool {
 public:
  explicit Pool(uint32_t threads) : barrier_(threads) {
    for (uint32_t worker = 1; worker < threads; ++worker) threads_.emplace_back([this, worker] { serve(worker); });
  }
  ~Pool() {
    {
      std::lock_guard lock(mutex_);
      stop_ = true;
    }
    wake_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }
  uint32_t threads() const { return static_cast<uint32_t>(threads_.size()) + 1; }

  /* Runs body(worker) on every thread and returns when all are done. */
  void everywhere(const std::function<void(uint32_t)>& body) {
    {
      std::lock_guard lock(mutex_);
      body_ = &body;
      ++generation_;
      running_ = threads() - 1;
    }
    wake_.notify_all();
    {
      FlushDenormals flush;
      body(0);
    }
    std::unique_lock lock(mutex_);
    done_.wait(lock, [this] { return running_ == 0; });
  }
  void barrier() { barrier_.arrive_and_wait(); }

 private:
  void serve(uint32_t worker) {
    FlushDenormals flush;
    uint64_t seen = 0;
    std::unique_lock lock(mutex_);
    while (true) {
      wake_.wait(lock, [&] { return stop_ || generation_ != seen; });
      if (stop_) return;
      seen = generation_;
      const auto* body = body_;
      lock.unlock();
      (*body)(worker);
      lock.lock();
      if (--running_ == 0) done_.notify_one();
    }
  }

  std::vector<std::thread> threads_;
  std::barrier<> barrier_;
  std::mutex mutex_;
  std::condition_variable wake_, done_;
  const std::function<void(uint32_t)>* body_ = nullptr;
  uint64_t generation_ = 0;
  uint32_t running_ = 0;
  bool stop_ = false;
};

} // namespace

#if defined(__SSE2__)
FlushDenormals::FlushDenormals() : before_(_mm_getcsr()) { _mm_setcsr(before_ | 0x8040u); }
FlushDenormals::~FlushDenormals() { _mm_setcsr(before_); }
#elif defined(__aarch64__)
FlushDenormals::FlushDenormals() : before_(__builtin_aarch64_get_fpcr()) {
  __builtin_aarch64_set_fpcr(before_ | (1u << 24));
}
FlushDenormals::~FlushDenormals() { __builtin_aarch64_set_fpcr(before_); }
#else
FlushDenormals::FlushDenormals() = default;
FlushDenormals::~FlushDenormals() = default;
#endif

struct TestHost::Body {
  explicit Body(uint32_t threads) : pool(threads) {}
  km_host table{}; /* first: the functions below get its address and find the rest behind it */
  Pool pool;
  std::mutex mutex;
  std::vector<std::string> lines;

  static Body& of(const km_host* host) { return *reinterpret_cast<Body*>(const_cast<km_host*>(host)); }
};

TestHost::TestHost(uint32_t threads) : body_(std::make_unique<Body>(threads)) {
  km_host& t = body_->table;
  t.struct_size = sizeof(km_host);
  t.abi_major = KM_ABI_MAJOR;
  t.minor_lowest = KM_ABI_MINOR;
  t.minor_highest = KM_ABI_MINOR;
  t.fail = plain_fail;
  t.log = [](const km_host* host, uint32_t, const char* text) {
    Body& body = Body::of(host);
    std::lock_guard lock(body.mutex);
    body.lines.emplace_back(text);
  };
  t.allocate = plain_allocate;
  t.release = plain_release;
  t.service = [](const km_host*, const char* id) -> const void* {
    static const km_parallel parallel = {
        .struct_size = sizeof(km_parallel),
        .reserved = 0,
        .threads = [](const km_host* host) { return Body::of(host).pool.threads(); },
        .run =
            [](const km_host* host, uint32_t tasks, km_task task, void* context) {
              std::atomic<uint32_t> next{0};
              Body::of(host).pool.everywhere([&](uint32_t worker) {
                for (uint32_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < tasks;) task(context, i, worker);
              });
            },
        .each =
            [](const km_host* host, km_task task, void* context) {
              Body::of(host).pool.everywhere([&](uint32_t worker) { task(context, worker, worker); });
            },
        .barrier = [](const km_host* host) { Body::of(host).pool.barrier(); },
    };
    return km_same_text(id, KM_PARALLEL_SERVICE) ? &parallel : nullptr;
  };
}

TestHost::~TestHost() = default;

const km_host* TestHost::table() const { return &body_->table; }
std::string TestHost::last_error() { return plain_error; }
std::vector<std::string> TestHost::log_lines() const {
  std::lock_guard lock(body_->mutex);
  return body_->lines;
}

bool file_exists(const std::string& path) { return access(path.c_str(), R_OK) == 0; }

namespace {

km_option_value default_of(const km_option& option) {
  km_option_value value{};
  value.name = option.name;
  value.type = option.type;
  value.string = option.default_text ? option.default_text : "";
  if (!option.default_text) return value;
  if (option.type == KM_OPTION_BOOL) value.i64 = km_same_text(option.default_text, "true");
  if (option.type == KM_OPTION_I64) value.i64 = std::strtoll(option.default_text, nullptr, 10);
  if (option.type == KM_OPTION_I64 || option.type == KM_OPTION_F64)
    value.f64 = std::strtod(option.default_text, nullptr);
  return value;
}

const km_component* find_component(const km_plugin& plugin, const std::string& name) {
  for (uint32_t i = 0; i < plugin.component_count; ++i) {
    const char* at = reinterpret_cast<const char*>(plugin.components) + uint64_t{i} * plugin.component_size;
    const auto* component = reinterpret_cast<const km_component*>(at);
    if (km_same_text(component->kind, "kernels") && (name.empty() || name == component->name)) return component;
  }
  return nullptr;
}

} // namespace

KernelsPlugin::KernelsPlugin(TestHost& host, const std::string& path, const std::string& name) : host_(host) {
  const std::string file = path.find('/') == std::string::npos ? "./" + path : path;
  library_ = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!library_) throw std::runtime_error(path + ": " + dlerror());
  auto entry = reinterpret_cast<km_plugin_entry>(dlsym(library_, KM_PLUGIN_SYMBOL));
  if (!entry) throw std::runtime_error(path + ": no symbol " KM_PLUGIN_SYMBOL);
  const km_plugin* plugin = entry(host.table());
  if (!plugin) throw std::runtime_error(path + ": " + TestHost::last_error());
  const km_component* component = find_component(*plugin, name);
  if (!component) throw std::runtime_error(path + ": no kernels component " + name);
  name_ = component->name;
  table_ = static_cast<const km_kernels*>(component->table);
  std::vector<km_option_value> values;
  for (uint32_t i = 0; i < component->option_count; ++i) {
    const char* at = reinterpret_cast<const char*>(component->options) + uint64_t{i} * plugin->option_size;
    values.push_back(default_of(*reinterpret_cast<const km_option*>(at)));
  }
  km_options options{};
  options.struct_size = sizeof options;
  options.count = static_cast<uint32_t>(values.size());
  options.values = values.data();
  const km_status status = table_->open(host.table(), &options, &self_);
  if (status == KM_OK) return;
  reason_ = TestHost::last_error();
  if (status != KM_UNSUPPORTED) throw std::runtime_error(path + ": " + reason_);
  supported_ = false;
}

/* The library stays loaded: sanitizers then still know its symbols when they report a leak. */
KernelsPlugin::~KernelsPlugin() {
  if (supported_ && table_) table_->close(self_);
}

} // namespace kumiki::test
