/* test_host.h: a small host for tests of kernels plugins: errors and logs into strings, memory from malloc, and the
 * service "kumiki.parallel/1" on a given number of threads; and a loader that opens the kernels component of one .so
 * with its default options. It stands on abi/ alone, so that a plugin is tested with none of the core. */
#ifndef KUMIKI_TESTS_OPS_TEST_HOST_H
#define KUMIKI_TESTS_OPS_TEST_HOST_H

#include <memory>
#include <string>
#include <vector>

#include "kumiki/kernels.h"
#include "kumiki/plugin.h"

namespace kumiki::test {

/* Denormals are flushed to zero in this thread while this lives, as in the threads of the core's pool. */
class FlushDenormals {
 public:
  FlushDenormals();
  ~FlushDenormals();
  FlushDenormals(const FlushDenormals&) = delete;
  FlushDenormals& operator=(const FlushDenormals&) = delete;

 private:
  unsigned before_ = 0;
};

/* Owns its threads (threads - 1 of them; the caller is the first). All of it lives as long as the object. */
class TestHost {
 public:
  explicit TestHost(uint32_t threads = 1);
  ~TestHost();
  TestHost(const TestHost&) = delete;
  TestHost& operator=(const TestHost&) = delete;

  const km_host* table() const;
  /* The text of the last fail of the calling thread, and all log lines so far. */
  static std::string last_error();
  std::vector<std::string> log_lines() const;

 private:
  struct Body;
  std::unique_ptr<Body> body_;
};

/* The kernels component of a plugin, open. */
class KernelsPlugin {
 public:
  /* Loads `path`, takes its first component of kind "kernels" (or the one called `name`) and opens it; the host must
   * outlive this. Throws std::runtime_error with the reason; where open says KM_UNSUPPORTED, supported() is false
   * instead. */
  KernelsPlugin(TestHost& host, const std::string& path, const std::string& name = "");
  ~KernelsPlugin();
  KernelsPlugin(const KernelsPlugin&) = delete;
  KernelsPlugin& operator=(const KernelsPlugin&) = delete;

  bool supported() const { return supported_; }
  const std::string& reason() const { return reason_; }
  const km_kernels& table() const { return *table_; }
  void* self() const { return self_; }
  TestHost& host() const { return host_; }
  const std::string& name() const { return name_; }

 private:
  TestHost& host_;
  void* library_ = nullptr;
  const km_kernels* table_ = nullptr;
  void* self_ = nullptr;
  bool supported_ = true;
  std::string reason_, name_;
};

bool file_exists(const std::string& path);

} // namespace kumiki::test

#endif
