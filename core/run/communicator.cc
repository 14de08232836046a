#include "core/run/communicator.h"

#include <sys/prctl.h>

#include <chrono>
#include <cstdlib>
#include <numeric>

#include "core/base/cores.h"
#include "core/base/error.h"
#include "core/base/hash.h"
#include "core/base/log.h"
#include "core/base/pause.h"
#include "core/base/threads.h"

namespace kumiki {
namespace {

using SteadyClock = std::chrono::steady_clock;

double seconds_since(SteadyClock::time_point begin) {
  return std::chrono::duration<double>(SteadyClock::now() - begin).count();
}

// Ranks that a launcher started, by what it leaves in the environment: Open MPI, PMI and PMIx (Slurm, MPICH), Fujitsu MPI.
int64_t ranks_of_launcher() {
  for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMIX_SIZE", "MPI_LOCALNRANKS"})
    if (const char* text = std::getenv(name)) return std::atoll(text);
  if (std::getenv("PMIX_RANK") || std::getenv("PMI_RANK")) return 2; // more than one, as far as this one knows
  return 1;
}

} // namespace

CommChoice choose_comm(const Config& config, Registry& registry) {
  CommChoice choice;
  choice.use = config.comm();
  if (choice.use.name == "auto") {
    if (ranks_of_launcher() <= 1) return choice;
    choice.use.name = "mpi";
  }
  if (choice.use.name == "self") return choice;
  choice.component = &registry.find("comm", choice.use.name);
  return choice;
}

uint32_t ranks_of_process(const CommChoice& choice, Host& host) {
  if (!choice.component) return 1;
  const km_comm table = table_of<km_comm>(*choice.component, "comm", KM_COMM_VERSION);
  const OptionValues options(*choice.component, choice.use.options);
  uint32_t ranks = 1;
  check(table.ranks_here(host.abi(), options.get(), &ranks), choice.component->title(), "ranks_here");
  return ranks;
}

Communicator::Communicator(Host& host, const CommChoice& choice) : host_(host), choice_(choice) {
  table_ = table_of<km_comm>(*choice_.component, "comm", KM_COMM_VERSION);
  options_ = std::make_unique<OptionValues>(*choice_.component, choice_.use.options);
  active_.reserve(kRing);
  active_numbers_.reserve(kRing);
  thread_ = start_thread([this] {
    run_on_any_core();
    work();
  });
  try {
    on_thread([this] {
      check(table_.open(host_.abi(), options_->get(), &self_), choice_.component->title(), "open");
      place_.struct_size = sizeof place_;
      place_.host = UINT32_MAX; // where the component cannot say
      check(table_.place(self_, &place_), choice_.component->title(), "place");
    });
    std::vector<uint32_t> ranks(place_.size);
    std::iota(ranks.begin(), ranks.end(), 0u);
    all_ = group(ranks);
    // Beside the rank's own thread, which sleeps while it waits for messages: there it takes nothing from other ranks.
    const std::vector<int> cores = cores_of_rank(place_.local_rank, place_.local_size);
    meet_hosts();
    open_board();
    open_inquiry();
    crowded_ = cores.empty();
    if (!crowded_) on_thread([&] { run_on_core(cores[0]); });
  } catch (...) {
    stop_ = true;
    work_bell_.ring();
    thread_.join();
    throw;
  }
}

Communicator::~Communicator() {
  if (!abandoned_ && !failed_) {
    try {
      on_thread([this] {
        asking_ = nullptr;
        table_.close(self_);
      });
    } catch (const std::exception& error) {
      log_warning(std::string("comm: ") + error.what());
    }
  }
  stop_ = true;
  work_bell_.ring();
  thread_.join();
}

// ---- the communication thread ---------------------------------------------------------------------------------------

void Communicator::work() {
  prctl(PR_SET_TIMERSLACK, 1000, 0, 0, 0); // the sleeps below are short
  uint32_t idle = 0;                       // rounds in which nothing moved
  for (;;) {
    const uint32_t seen = work_bell_.count();
    const int64_t now = Board::now();
    if (Board::Line* line = line_.load(std::memory_order_acquire)) line->beat.store(now);
    Inquiry* const inquiry = asking_.load(std::memory_order_acquire);
    if (inquiry) inquiry->turn(time_limit_.load(std::memory_order_relaxed), now);
    bool moved = run_calls();
    const uint64_t before = taken_;
    start_new();
    moved |= taken_ != before;
    moved |= test_all();
    if (stop_.load()) return;
    if (moved) {
      idle = 0;
    } else if (active_.empty()) {
      work_bell_.wait(seen, inquiry ? microseconds_between_looks() : 1000000);
    } else if (++idle < 100 && !crowded_) {
      pause();
    } else if (crowded_) {
      work_bell_.wait(seen, std::min(idle, 50u)); // more ranks than cores: whoever can go on should
    } else if (waiting_.load(std::memory_order_relaxed)) {
      pause(); // the rank's core is free until a message is complete
    } else {
      // The rank computes, perhaps on this core: the longer nothing moves, the longer the sleep.
      work_bell_.wait(seen, std::min(idle - 90, 100u));
    }
  }
}

int64_t Communicator::microseconds_between_looks() const {
  return static_cast<int64_t>(seconds_between_looks(time_limit_.load(std::memory_order_relaxed)) * 1e6);
}

bool Communicator::run_calls() {
  const std::function<void()>* call = call_.load(std::memory_order_acquire);
  if (!call) return false;
  try {
    (*call)();
    call_error_ = nullptr;
  } catch (...) {
    call_error_ = std::current_exception();
  }
  call_.store(nullptr, std::memory_order_release);
  done_bell_.ring();
  return true;
}

void Communicator::start_new() {
  const uint64_t issued = issued_.load(std::memory_order_acquire);
  for (; taken_ < issued; ++taken_) {
    const km_message* message = ring_[taken_ % kRing];
    Entry entry{message, 0};
    const km_status status = failed_ ? status_ : table_.start(self_, message, &entry.request);
    if (status != KM_OK) {
      fail(status, *message);
      done_[taken_ % kRing].store(1, std::memory_order_release);
      done_bell_.ring();
      continue;
    }
    if (tracing_) entry.begin = trace_now();
    active_.push_back(entry);
    active_numbers_.push_back(taken_);
  }
}

bool Communicator::test_all() {
  bool moved = false;
  for (size_t i = 0; i < active_.size();) {
    uint32_t done = 0;
    const km_status status = failed_ ? status_ : table_.test(self_, active_[i].request, &done);
    if (status != KM_OK) fail(status, *active_[i].message);
    if (!done && status == KM_OK) {
      ++i;
      continue;
    }
    if (active_[i].begin != 0 && tracing_) {
      const km_message& m = *active_[i].message;
      events_.push_back({&op_name(m.op), TraceEvent::kMessages, active_[i].begin, trace_now(),
                         m.count * m.outer * km_dtype_bytes(m.dtype)});
    }
    done_[active_numbers_[i] % kRing].store(1, std::memory_order_release);
    active_.erase(active_.begin() + static_cast<std::ptrdiff_t>(i));
    active_numbers_.erase(active_numbers_.begin() + static_cast<std::ptrdiff_t>(i));
    moved = true;
  }
  if (moved) done_bell_.ring();
  return moved;
}

void Communicator::fail(km_status status, const km_message& message) {
  if (failed_) return;
  status_ = status;
  error_ = describe(message) + ": " + Host::take_error();
  failed_.store(true, std::memory_order_release);
}

std::string Communicator::describe(const km_message& message) const {
  for (const auto& [ranks, group] : groups_)
    if (group == message.group) {
      std::string text = op_name(message.op) + " of " +
                         std::to_string(message.count * message.outer * km_dtype_bytes(message.dtype)) +
                         " bytes among ranks";
      for (size_t i = 0; i < ranks.size() && i < 8; ++i) text += (i ? "," : " ") + std::to_string(ranks[i]);
      return text + (ranks.size() > 8 ? "…" : "");
    }
  return op_name(message.op);
}

// ---- the rank's thread ----------------------------------------------------------------------------------------------

void Communicator::on_thread(const std::function<void()>& call) {
  call_.store(&call, std::memory_order_release);
  work_bell_.ring();
  for (;;) {
    const uint32_t seen = done_bell_.count();
    if (call_.load(std::memory_order_acquire) != &call) break;
    done_bell_.wait(seen, 1000000);
  }
  if (call_error_) std::rethrow_exception(call_error_);
}

km_group* Communicator::group(const std::vector<uint32_t>& ranks) {
  if (const auto found = groups_.find(ranks); found != groups_.end()) return found->second;
  km_group* made = nullptr;
  on_thread([&] {
    check(table_.group(self_, ranks.data(), static_cast<uint32_t>(ranks.size()), &made), choice_.component->title(),
          "group");
  });
  groups_[ranks] = made;
  group_hash_[made] = xxh3(ranks.data(), ranks.size() * sizeof(uint32_t));
  return made;
}

uint64_t Communicator::start(const km_message* message) {
  const uint64_t number = issued_.load(std::memory_order_relaxed);
  if (number >= kRing) wait(number - kRing); // its place in the ring is free again
  collective_[number % kRing] = count(*message);
  ring_[number % kRing] = message;
  done_[number % kRing].store(0, std::memory_order_relaxed);
  issued_.store(number + 1, std::memory_order_release);
  work_bell_.ring();
  return number;
}

bool Communicator::done(uint64_t number) const {
  return issued_.load(std::memory_order_relaxed) > number + kRing ||
         done_[number % kRing].load(std::memory_order_acquire) != 0;
}

km_status Communicator::wait(uint64_t number) {
  if (!done(number)) {
    const auto entered = SteadyClock::now();
    auto begin = entered, looked = entered;
    const auto spin_end = begin + std::chrono::microseconds(20);
    waiting_.store(true, std::memory_order_relaxed);
    while (!done(number)) {
      const uint32_t seen = done_bell_.count();
      if (done(number)) break;
      if (SteadyClock::now() < spin_end) {
        pause();
        continue;
      }
      done_bell_.wait(seen, 100000);
      if (seconds_since(looked) > 2) begin = SteadyClock::now(); // this rank itself was stopped: it was waited for
      looked = SteadyClock::now();
      const double limit = time_limit_.load(std::memory_order_relaxed), so_far = seconds_since(begin);
      tell_waiting(so_far > limit / 2 ? so_far : 0);
      if (so_far > limit && !done(number)) give_up(number);
    }
    waiting_.store(false, std::memory_order_relaxed);
    tell_waiting(0);
    waited_ += seconds_since(entered);
  }
  return failed_.load(std::memory_order_acquire) ? status_ : KM_OK;
}

void Communicator::set_step(int64_t step) {
  step_ = step;
  if (Board::Line* line = line_.load(std::memory_order_relaxed)) line->step.store(step, std::memory_order_relaxed);
}

std::string Communicator::error() const { return failed_.load(std::memory_order_acquire) ? error_ : ""; }

void Communicator::wait_all(const km_message& message) {
  const uint64_t number = start(&message);
  if (wait(number) != KM_OK) {
    Error failure(choice_.component->title(), error_);
    failure.exit_code = 6;
    throw failure;
  }
}

void Communicator::all_reduce(int64_t* values, uint32_t n, uint32_t reduce) {
  km_message message{};
  message.struct_size = sizeof message;
  message.op = KM_COMM_ALL_REDUCE;
  message.dtype = KM_I64;
  message.reduce = reduce;
  message.group = all_;
  message.count = n;
  message.outer = 1;
  message.input = message.output = reinterpret_cast<km_address>(values);
  wait_all(message);
}

void Communicator::broadcast(km_group* group, void* bytes, uint64_t count, uint32_t from) {
  km_message message{};
  message.struct_size = sizeof message;
  message.op = KM_COMM_BROADCAST;
  message.dtype = KM_U8;
  message.group = group;
  message.peer = static_cast<int32_t>(from);
  message.count = count;
  message.outer = 1;
  message.input = message.output = reinterpret_cast<km_address>(bytes);
  wait_all(message);
}

void Communicator::broadcast(std::string& text, uint32_t from) {
  int64_t size = place_.rank == from ? static_cast<int64_t>(text.size()) : 0;
  all_reduce(&size, 1, KM_REDUCE_MAX);
  text.resize(static_cast<size_t>(size));
  if (size > 0) broadcast(all_, text.data(), static_cast<uint64_t>(size), from);
}

std::vector<TraceEvent> Communicator::trace(bool on) {
  std::vector<TraceEvent> kept;
  on_thread([&] {
    tracing_ = on;
    kept.swap(events_);
    if (on) events_.reserve(size_t{1} << 16);
  });
  return kept;
}

void Communicator::barrier() {
  int64_t nothing = 0;
  all_reduce(&nothing, 1, KM_REDUCE_MAX);
}

void Communicator::abort(int exit_code, const std::string& text) {
  flush_log();
  table_.abort(self_, exit_code, text.c_str()); // it says which rank
  std::_Exit(exit_code);
}

} // namespace kumiki
