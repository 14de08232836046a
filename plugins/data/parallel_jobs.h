// Runs numbered jobs over a few threads of its own: only while a data set is opened (steps run on the core's pool).
#pragma once

#include <atomic>
#include <exception>
#include <functional>
#include <thread>
#include <vector>

namespace kumiki::data {

// job(0 … jobs-1), each once, in any order. If jobs throw, the exception of the lowest number is thrown on when all
// have stopped, so that the same input gives the same message.
inline void run_jobs(size_t jobs, unsigned threads, const std::function<void(size_t)>& job) {
  std::atomic<size_t> next{0};
  std::atomic<bool> failed{false};
  std::vector<std::exception_ptr> errors(jobs);
  const auto work = [&] {
    // Numbers are handed out in order, so all below a failed one have been begun and end by themselves.
    while (!failed.load()) {
      const size_t number = next.fetch_add(1);
      if (number >= jobs) return;
      try {
        job(number);
      } catch (...) {
        errors[number] = std::current_exception();
        failed = true;
      }
    }
  };
  std::vector<std::thread> workers;
  for (size_t i = 1; i < threads && i < jobs; ++i) workers.emplace_back(work);
  work();
  for (std::thread& worker : workers) worker.join();
  for (const std::exception_ptr& error : errors)
    if (error) std::rethrow_exception(error);
}

} // namespace kumiki::data
