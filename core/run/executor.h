// The executor: walks a schedule and the segments' steps. All addresses are settled in its constructor; run allocates
// nothing, takes no lock and decides nothing. Floor: run.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/plan/plan.h"
#include "core/run/communicator.h"
#include "core/run/store.h"

namespace kumiki {

// What a step is fed with: for each micro-batch a block of step scalars and the rows of each input, in host memory that
// stays as it is until the step is done.
class Staging {
 public:
  Staging(const Plan& plan, int32_t micro_batches);
  // The rows of input "tokens", "targets" or "segments" of a micro-batch; NULL if the plan has no such input.
  int32_t* input(const std::string& name, int32_t micro);
  void set(const char* scalar, double value, int32_t micro);
  void set_all(const char* scalar, double value);
  int32_t micro_batches() const { return micro_batches_; }

 private:
  friend class Executor;
  struct Input {
    uint32_t leaf = 0;
    std::string name;
    uint64_t bytes = 0; // of one micro-batch
    std::vector<std::byte> memory;
  };
  int32_t micro_batches_;
  std::vector<std::byte> scalars_;
  std::vector<Input> inputs_;
};

// Seconds by step, summed over runs; made by the executor when asked to.
struct ProfileRow {
  std::string op, shape, member;
  Phase phase = Phase::kBody;
  double seconds = 0;
  double flops = 0;
  double bytes = 0;
  int64_t calls = 0;
};

// What messages of a plan go over: null and empty where it has none.
struct Links {
  Communicator* communicator = nullptr;
  std::vector<km_group*> groups; // of Plan::groups
};

class Executor {
 public:
  Executor(const Plan& plan, const KernelChain& chain, const Store& store, Links links = {});

  // One walk through the schedule. On error the status and which step it was (failed()); never throws.
  km_status run(const std::vector<ScheduleEntry>& schedule, const Staging& staging);
  std::string failed() const;

  // A rank-0 f32 output, after run.
  float scalar(const std::string& output) const;
  void read_output(const std::string& output, void* to) const;
  void read(const Location& location, void* to, uint64_t bytes) const;

  // From now on, or no longer, times of steps and waits are kept; what was kept so far comes out.
  std::vector<TraceEvent> trace(bool on);
  // With profiling each step waits for its end and is timed.
  void profile(bool on) { profiling_ = on; }
  std::vector<ProfileRow> profile_rows() const;
  // Seconds of all runs that were spent outside of kernels, and in all; with profiling only.
  double overhead_seconds() const { return overhead_; }
  double run_seconds() const { return run_seconds_; }

 private:
  struct Call {
    StepKind kind = StepKind::kNothing;
    const KernelChain::Member* member = nullptr;
    km_kernel* kernel = nullptr;
    uint32_t pack_input = 0;
    const km_address* buffers = nullptr;
    km_address workspace = 0;
    uint64_t bytes = 0;
    const km_message* message = nullptr;
  };
  struct Step {
    Call first, next;
    uint32_t row = 0;
    uint32_t comm = kumiki::Step::kNoComm;
    bool last_only = false;
    const std::vector<uint32_t>* awaits = nullptr; // null: none
  };
  void settle(const Segment& segment, Phase phase, int32_t slot, std::vector<Step>& steps);
  km_address resolve(const Location& location, int32_t slot = 0) const;
  Call resolve(const Action& action, int32_t slot);
  const km_message* message(const Action& action, int32_t slot);
  km_status call(const Call& call);
  uint64_t& ticket(uint32_t comm, int32_t slot) {
    return tickets_[comm * slots_ + (slotted_[comm] ? static_cast<size_t>(slot) : 0)];
  }
  km_status await(uint64_t& ticket);
  km_status send_off(const Step& step, const Call& call, int32_t slot);
  km_status run_entry(const ScheduleEntry& entry);
  km_status run_steps(const std::vector<Step>& steps, const ScheduleEntry& entry);
  km_status feed(const ScheduleEntry& entry, const Staging& staging);
  km_status run_timed(const Step& step, const Call& call);

  const Plan& plan_;
  const KernelChain& chain_;
  const Store& store_;
  Device& device_;
  Links links_;
  std::vector<std::vector<km_address>> address_lists_;
  std::deque<km_message> messages_;
  std::vector<Step> head_, tail_;
  std::vector<std::vector<std::vector<Step>>> body_; // by segment and slot
  // The number + 1 of the last message of each communication step, by slot where it has slots; 0: none under way. Those of
  // sends are awaited when another micro-batch takes their slot, not before: the receiver may come to them only later.
  std::vector<uint64_t> tickets_;
  std::vector<bool> slotted_;                // by communication step
  std::vector<std::vector<uint32_t>> sends_; // by segment: the communication steps that send from its stage
  size_t slots_ = 1;                         // the most of any stage
  std::map<std::string, uint32_t> row_of_;
  std::vector<ProfileRow> rows_;
  const Step* at_ = nullptr;
  bool profiling_ = false, tracing_ = false;
  std::vector<TraceEvent> events_;
  double overhead_ = 0, run_seconds_ = 0;
};

} // namespace kumiki
