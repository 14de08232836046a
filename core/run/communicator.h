// The communication queue of a rank: a thread of its own on which alone the comm component runs, so that messages go on while
// the rank computes. The rank's thread starts messages and awaits them by number; nothing is allocated or locked on the way.
// Floor: run.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "core/base/doorbell.h"
#include "core/plugin/options.h"
#include "core/plugin/registry.h"
#include "core/run/board.h"
#include "core/run/culprit.h"
#include "core/run/inquiry.h"
#include "core/run/trace.h"
#include "kumiki/comm.h"

namespace kumiki {

// The comm component of a run, before its ranks exist.
struct CommChoice {
  const Component* component = nullptr; // null: one rank, no communication
  ComponentUse use;
};
// What [comm] says; "auto" is mpi where a launcher's environment says that there is more than one rank, else none.
CommChoice choose_comm(const Config& config, Registry& registry);
// How many ranks this process drives (comm `threads`: all of them).
uint32_t ranks_of_process(const CommChoice& choice, Host& host);

class Communicator {
 public:
  // Joins the other ranks. Throws Error.
  Communicator(Host& host, const CommChoice& choice);
  // Waits for all ranks, unless abandon() was called.
  ~Communicator();
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;

  const km_rank_info& place() const { return place_; }
  // Collective over the ranks named, which call it in one order. Equal lists are one group.
  km_group* group(const std::vector<uint32_t>& ranks);

  // Starts a message, which stays where it is until it is done; gives its number. [the rank's thread, as all below]
  uint64_t start(const km_message* message);
  bool done(uint64_t number) const;
  // Until message `number` is done. KM_OK, or what went wrong: text by error().
  km_status wait(uint64_t number);
  std::string error() const;
  // Seconds that wait has waited.
  double waited() const { return waited_; }
  // A message that takes longer is an error of the rank that waits (exit code 86).
  void set_time_limit(double seconds) { time_limit_.store(seconds, std::memory_order_relaxed); }
  // What is told with an error: the step under way.
  void set_step(int64_t step);

  // In place over all ranks, at once: for what the trainer has to agree on.
  void all_reduce(int64_t* values, uint32_t n, uint32_t reduce);
  // Bytes of one member of a group (its index) for all its members, in place.
  void broadcast(km_group* group, void* bytes, uint64_t count, uint32_t from = 0);
  // The text of one rank for all.
  void broadcast(std::string& text, uint32_t from = 0);
  void barrier();

  // From now on, or no longer, times of messages are kept; what was kept so far comes out.
  std::vector<TraceEvent> trace(bool on);

  // Ends the whole job.
  [[noreturn]] void abort(int exit_code, const std::string& text);
  // The other ranks are not waited for at the end: this one failed.
  void abandon() { abandoned_ = true; }

 private:
  static constexpr uint64_t kRing = 4096; // messages that may be under way or done and not asked for
  struct Entry {
    const km_message* message = nullptr;
    uint64_t request = 0;
    int64_t begin = 0; // where a trace is kept
  };
  void work();
  bool run_calls();
  void start_new();
  bool test_all();
  void fail(km_status status, const km_message& message);
  // Runs a call of the component on its thread and waits for it; throws what it threw.
  void on_thread(const std::function<void()>& call);
  std::string describe(const km_message& message) const;
  void wait_all(const km_message& message);
  [[noreturn]] void give_up(uint64_t number);
  // waited_for.cc
  void meet_hosts();
  void open_board();
  void open_inquiry();
  void tell_waiting(double seconds);
  int64_t microseconds_between_looks() const;
  uint64_t count(const km_message& message);
  RankState state_of(uint32_t rank, int64_t now);
  std::string who_is_missing(const km_message& message, uint64_t collective);

  Host& host_;
  const CommChoice choice_;
  std::unique_ptr<OptionValues> options_;
  km_comm table_{};
  void* self_ = nullptr;
  km_rank_info place_{};
  std::map<std::vector<uint32_t>, km_group*> groups_;
  km_group* all_ = nullptr;
  bool abandoned_ = false;
  double waited_ = 0;
  std::atomic<double> time_limit_{120};
  std::atomic<int64_t> step_{0};

  // Of each rank, the lowest rank of its host, and its process; by the former the host's name. Empty: comm cannot say.
  std::vector<uint32_t> hosts_;
  std::vector<int32_t> processes_;
  std::map<uint32_t, std::string> host_names_;
  std::unique_ptr<Board> board_;
  std::atomic<Board::Line*> line_{nullptr}; // of this rank
  std::unique_ptr<Inquiry> inquiry_;        // where there are several hosts
  std::atomic<Inquiry*> asking_{nullptr};   // the same, for the communication thread
  std::map<const km_group*, uint64_t> group_hash_;
  struct Counted {
    uint64_t started = 0;
    uint32_t place = 0; // in the line's groups; behind their end: not kept there
  };
  std::map<const km_group*, Counted> collectives_;
  uint64_t collective_[kRing] = {}; // number of a message among those of its group; 0: send, receive

  const km_message* ring_[kRing] = {};
  std::atomic<uint8_t> done_[kRing] = {};
  std::vector<Entry> active_; // of the communication thread
  std::vector<uint64_t> active_numbers_;
  bool tracing_ = false; // of the communication thread, as the events
  std::vector<TraceEvent> events_;
  alignas(64) std::atomic<uint64_t> issued_{0}; // messages handed over
  Doorbell work_bell_;                          // with each message and call: for the communication thread
  Doorbell done_bell_;                          // with each completion and answer: for the rank's
  std::atomic<bool> crowded_{false};            // more ranks than cores here
  std::atomic<bool> waiting_{false};            // the rank's thread has nothing to do until a message is complete
  uint64_t taken_ = 0;                          // of the communication thread
  std::atomic<const std::function<void()>*> call_{nullptr};
  std::exception_ptr call_error_;
  std::atomic<bool> stop_{false}, failed_{false};
  std::string error_;
  km_status status_ = KM_OK;
  std::thread thread_;
};

} // namespace kumiki
