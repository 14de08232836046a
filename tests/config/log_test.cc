#include <catch2/catch.hpp>

#include <fcntl.h>
#include <unistd.h>

#include <fstream>
#include <map>
#include <thread>
#include <vector>

#include "core/base/log.h"
#include "tests/config/temp_folder.h"

using namespace kumiki;

TEST_CASE("flush_log returns when every line of every thread is written, whole and in the order of its thread") {
  const TempFolder folder;
  const std::string path = folder / "log";
  const int saved = ::dup(2), file = ::open(path.c_str(), O_WRONLY | O_CREAT, 0600);
  REQUIRE(::dup2(file, 2) == 2);
  set_log_prefix("rank 3: ");
  constexpr int kThreads = 4, kLines = 3000; // more than the queue holds
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([t] {
      for (int i = 0; i < kLines; ++i) {
        log_info("thread " + std::to_string(t) + " line " + std::to_string(i) + " {} %s");
        log_debug("not shown");
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  flush_log();
  set_log_level(LogLevel::kError);
  log_warning("not shown");
  log_error("the last");
  flush_log();
  set_log_level(LogLevel::kInfo);
  ::dup2(saved, 2);
  ::close(saved);
  ::close(file);

  std::ifstream in(path);
  std::map<int, int> next;
  int lines = 0, last = 0;
  for (std::string line; std::getline(in, line); ++lines) {
    INFO(line);
    if (line.find("error: rank 3: the last") != std::string::npos) {
      ++last;
      continue;
    }
    int thread = -1, number = -1;
    const size_t at = line.find("info: rank 3: thread ");
    REQUIRE(at != std::string::npos);
    REQUIRE(std::sscanf(line.c_str() + at, "info: rank 3: thread %d line %d {} %%s", &thread, &number) == 2);
    REQUIRE(number == next[thread]++);
  }
  CHECK(last == 1);
  CHECK(lines == kThreads * kLines + 1);
}
