#include "tests/abi/fake_device/queue.h"

#include <chrono>
#include <utility>

namespace kumiki::fake_device {

void Ticket::done() {
  {
    std::lock_guard lock(mutex_);
    done_ = true;
  }
  changed_.notify_all();
}

void Ticket::wait() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return done_; });
}

Queue::Queue(int64_t jitter) : jitter_(jitter), thread_([this] { serve(); }) {}

Queue::~Queue() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void Queue::work(std::function<Outcome()> body) { push({std::move(body), false}); }

void Queue::signal(std::function<void()> body) {
  push({[body = std::move(body)] {
          body();
          return Outcome{};
        },
        true});
}

void Queue::push(Item item) {
  {
    std::lock_guard lock(mutex_);
    items_.push_back(std::move(item));
  }
  changed_.notify_all();
}

Outcome Queue::wait() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return items_.empty() && !busy_; });
  return std::exchange(first_error_, {});
}

void Queue::serve() {
  uint64_t random = 88172645463325252u;
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return stop_ || !items_.empty(); });
    if (items_.empty()) return;
    Item item = std::move(items_.front());
    items_.pop_front();
    busy_ = true;
    const bool runs = item.always || first_error_.status == KM_OK;
    lock.unlock();
    random ^= random << 13, random ^= random >> 7, random ^= random << 17;
    if (jitter_ > 0)
      std::this_thread::sleep_for(std::chrono::microseconds(random % (static_cast<uint64_t>(jitter_) + 1)));
    Outcome outcome;
    if (runs) outcome = item.body();
    item.body = nullptr; /* what it holds is let go before anyone hears that it is done */
    lock.lock();
    busy_ = false;
    if (outcome.status != KM_OK) first_error_ = std::move(outcome);
    if (items_.empty()) changed_.notify_all();
  }
}

} // namespace kumiki::fake_device

void km_event::record(km_queue& queue) {
  auto ticket = std::make_shared<kumiki::fake_device::Ticket>();
  {
    std::lock_guard lock(mutex);
    latest = ticket;
  }
  queue.signal([ticket] { ticket->done(); });
}

void km_event::wait(km_queue& queue) {
  std::shared_ptr<kumiki::fake_device::Ticket> ticket;
  {
    std::lock_guard lock(mutex);
    ticket = latest;
  }
  if (ticket) queue.signal([ticket] { ticket->wait(); });
}
