/* queue.h: queues that are threads of their own, and events as CUDA has them: a record makes a new ticket, a wait binds
 * to the ticket that is the latest at the call. */
#ifndef KUMIKI_TESTS_ABI_FAKE_DEVICE_QUEUE_H
#define KUMIKI_TESTS_ABI_FAKE_DEVICE_QUEUE_H

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "kumiki/device.h"

namespace kumiki::fake_device {

/* Done once, for all who wait. */
class Ticket {
 public:
  void done();
  void wait();

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool done_ = false;
};

/* What a piece of work gives: KM_OK, or a status with its text. */
struct Outcome {
  km_status status = KM_OK;
  std::string text;
};

/* Runs what is enqueued in order, on one thread. After an error work is passed over (but tickets are done, or others
 * would wait for ever) until wait has told it. */
class Queue {
 public:
  /* jitter: up to so many microseconds of sleep before each piece of work, from a fixed row of numbers. */
  explicit Queue(int64_t jitter);
  ~Queue(); /* after all that was enqueued */
  Queue(const Queue&) = delete;
  Queue& operator=(const Queue&) = delete;

  void work(std::function<Outcome()> body);
  /* Always runs, errors or not. */
  void signal(std::function<void()> body);
  Outcome wait();

 private:
  struct Item {
    std::function<Outcome()> body;
    bool always;
  };
  void push(Item item);
  void serve();

  const int64_t jitter_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Item> items_;
  bool busy_ = false, stop_ = false;
  Outcome first_error_;
  std::thread thread_; /* last: it uses all of the above */
};

} // namespace kumiki::fake_device

struct km_queue : kumiki::fake_device::Queue {
  using Queue::Queue;
};

struct km_event {
  std::mutex mutex;
  std::shared_ptr<kumiki::fake_device::Ticket> latest; /* NULL: never recorded */

  void record(km_queue& queue);
  void wait(km_queue& queue);
};

#endif
