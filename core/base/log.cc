#include "core/base/log.h"

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <mutex>

#include <spdlog/async.h>
#include <spdlog/sinks/base_sink.h>
#include <spdlog/spdlog.h>

#include "core/base/threads.h"

namespace kumiki {
namespace {

std::atomic<LogLevel> current_level{LogLevel::kInfo};

spdlog::level::level_enum to_spdlog(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug: return spdlog::level::debug;
    case LogLevel::kInfo: return spdlog::level::info;
    case LogLevel::kWarning: return spdlog::level::warn;
    case LogLevel::kError: return spdlog::level::err;
  }
  return spdlog::level::info;
}

constexpr const char* kPattern = "[%H:%M:%S] %^%l%$: ";

// Writes to stderr and counts the lines, so that flush_log can wait for those before it.
class CountingSink : public spdlog::sinks::base_sink<std::mutex> {
 public:
  std::atomic<uint64_t> written{0};

 protected:
  void sink_it_(const spdlog::details::log_msg& message) override {
    spdlog::memory_buf_t line;
    formatter_->format(message, line);
    std::fwrite(line.data(), 1, line.size(), stderr);
    ++written;
    written.notify_all();
  }
  void flush_() override { std::fflush(stderr); }
};

// Owns the thread; ending it writes what is queued. A full queue blocks the caller: no line is lost.
struct Writer {
  static constexpr size_t kQueuedLines = 8192;
  std::atomic<uint64_t> posted{0};
  std::shared_ptr<CountingSink> sink = std::make_shared<CountingSink>();
  std::shared_ptr<spdlog::details::thread_pool> pool =
      without_signals([] { return std::make_shared<spdlog::details::thread_pool>(kQueuedLines, 1); });
  std::shared_ptr<spdlog::async_logger> logger =
      std::make_shared<spdlog::async_logger>("kumiki", sink, pool, spdlog::async_overflow_policy::block);
  Writer() {
    logger->set_level(spdlog::level::debug); // the level is checked before
    logger->set_pattern(std::string(kPattern) + "%v");
  }
  ~Writer() { pool.reset(); } // joins the thread before the logger goes
  Writer(const Writer&) = delete;
  Writer& operator=(const Writer&) = delete;
};

Writer& writer() {
  static Writer shared;
  return shared;
}

} // namespace

void set_log_level(LogLevel level) { current_level = level; }
LogLevel log_level() { return current_level; }

void set_log_prefix(const std::string& prefix) {
  std::string escaped;
  for (const char c : prefix) escaped += c == '%' ? std::string("%%") : std::string(1, c);
  writer().logger->set_pattern(kPattern + escaped + "%v");
}

void log(LogLevel level, std::string_view text) {
  if (level < current_level.load(std::memory_order_relaxed)) return;
  Writer& to = writer();
  ++to.posted;
  to.logger->log(to_spdlog(level), spdlog::string_view_t(text.data(), text.size()));
}

void flush_log() {
  Writer& from = writer();
  const uint64_t target = from.posted;
  for (uint64_t seen = from.sink->written; seen < target; seen = from.sink->written) from.sink->written.wait(seen);
  std::fflush(stderr);
}

} // namespace kumiki
