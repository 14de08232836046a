#include "core/run/executor.h"

#include <chrono>
#include <cstring>
#include <map>

#include "core/base/error.h"

namespace kumiki {
namespace {

const std::string kWaits = "waits for a message";

} // namespace

// ---- Staging ----

Staging::Staging(const Plan& plan, int32_t micro_batches)
    : micro_batches_(micro_batches), scalars_(kScalarBytes * static_cast<size_t>(micro_batches)) {
  for (uint32_t i = 0; i < plan.leaves.size(); ++i) {
    const Leaf& leaf = plan.leaves[i];
    if (leaf.kind != ValueKind::kInput) continue;
    Input input;
    input.leaf = i;
    const size_t begin = leaf.name.find(':') + 1;
    input.name = leaf.name.substr(begin, leaf.name.find('@') - begin);
    input.bytes = leaf.type.bytes();
    input.memory.resize(input.bytes * static_cast<size_t>(micro_batches));
    inputs_.push_back(std::move(input));
  }
}

int32_t* Staging::input(const std::string& name, int32_t micro) {
  for (Input& input : inputs_)
    if (input.name == name)
      return reinterpret_cast<int32_t*>(input.memory.data() + input.bytes * static_cast<size_t>(micro));
  return nullptr;
}

void Staging::set(const char* scalar, double value, int32_t micro) {
  const std::string name = scalar;
  std::byte* to = scalars_.data() + kScalarBytes * static_cast<size_t>(micro) + scalar_offset(name);
  if (name == "seed" || name == "sample") {
    const int64_t v = static_cast<int64_t>(value);
    std::memcpy(to, &v, sizeof v);
  } else if (name == "micro" || name == "past") {
    const int32_t v = static_cast<int32_t>(value);
    std::memcpy(to, &v, sizeof v);
  } else {
    const float v = static_cast<float>(value);
    std::memcpy(to, &v, sizeof v);
  }
}

void Staging::set_all(const char* scalar, double value) {
  for (int32_t m = 0; m < micro_batches_; ++m) set(scalar, value, m);
}

// ---- Executor ----

Executor::Executor(const Plan& plan, const KernelChain& chain, const Store& store, Links links)
    : plan_(plan),
      chain_(chain),
      store_(store),
      device_(store.device()),
      links_(std::move(links)),
      slotted_(plan.comm_steps, false),
      sends_(plan.body.size()) {
  KM_CHECK(links_.groups.size() == plan.groups.size(), "a group for each that the plan names");
  for (const Segment& segment : plan.body) slots_ = std::max(slots_, static_cast<size_t>(plan.slots_of(segment.stage)));
  tickets_.assign(plan.comm_steps * slots_, 0);
  settle(plan.head, Phase::kHead, 0, head_);
  for (const Segment& segment : plan.body) {
    std::vector<std::vector<Step>>& by_slot = body_.emplace_back();
    for (int32_t slot = 0; slot < plan.slots_of(segment.stage); ++slot)
      settle(segment, Phase::kBody, slot, by_slot.emplace_back());
    for (const kumiki::Step& step : segment.steps) {
      if (step.comm == kumiki::Step::kNoComm) continue;
      slotted_[step.comm] = !step.last_only;
      if (step.first.message.op != KM_COMM_SEND) continue;
      for (size_t i = 0; i < plan.body.size(); ++i)
        if (plan.body[i].stage == segment.stage) sends_[i].push_back(step.comm);
    }
  }
  settle(plan.tail, Phase::kTail, 0, tail_);
}

void Executor::settle(const Segment& segment, Phase phase, int32_t slot, std::vector<Step>& steps) {
  for (const kumiki::Step& from : segment.steps) {
    Step step;
    step.first = resolve(from.first, slot);
    step.next = from.varies ? resolve(from.next, slot) : step.first;
    step.comm = from.comm;
    step.last_only = from.last_only;
    step.awaits = from.awaits.empty() ? nullptr : &from.awaits;
    const std::string member = step.first.member ? step.first.member->name : step.first.message ? "comm" : "";
    const std::string key = from.op + '|' + from.shape + '|' + member + '|' + std::to_string(static_cast<int>(phase));
    auto [it, fresh] = row_of_.emplace(key, static_cast<uint32_t>(rows_.size()));
    if (fresh) rows_.push_back({from.op, from.shape, member, phase, 0, from.cost.flops, from.cost.bytes, 0});
    step.row = it->second;
    steps.push_back(step);
  }
}

km_address Executor::resolve(const Location& location, int32_t slot) const {
  return (location.leaf == Location::kArena ? store_.arena() : store_.leaf(plan_.leaves[location.leaf].name)) +
         location.offset + location.slot_stride * static_cast<uint64_t>(slot);
}

Executor::Call Executor::resolve(const Action& action, int32_t slot) {
  Call call;
  call.kind = action.kind;
  if (action.kind == StepKind::kNothing) return call;
  if (action.kind == StepKind::kRun || action.kind == StepKind::kPack) call.member = &chain_.members()[action.member];
  call.kernel = action.kernel;
  call.pack_input = action.pack_input;
  call.bytes = action.bytes;
  call.workspace = resolve(action.workspace, slot);
  std::vector<km_address> addresses;
  for (const Location& l : action.buffers) addresses.push_back(resolve(l, slot));
  address_lists_.push_back(std::move(addresses)); // the lists themselves do not move when the outer vector grows
  call.buffers = address_lists_.back().data();
  if (action.kind == StepKind::kComm) call.message = message(action, slot);
  return call;
}

const km_message* Executor::message(const Action& action, int32_t slot) {
  const Message& from = action.message;
  km_message m{};
  m.struct_size = sizeof m;
  m.op = from.op;
  m.dtype = from.dtype;
  m.reduce = from.reduce;
  m.group = links_.groups[from.group];
  m.peer = from.peer;
  m.tag = from.tag;
  m.count = from.count;
  m.counts = from.counts.empty() ? nullptr : from.counts.data(); // the plan outlives the executor
  m.outer = from.outer;
  m.input = resolve(action.buffers[0], slot);
  m.output = resolve(action.buffers[1], slot);
  messages_.push_back(m);
  return &messages_.back();
}

km_status Executor::call(const Call& call) {
  switch (call.kind) {
    case StepKind::kRun:
      return call.member->table.run(call.member->self, call.kernel, call.buffers, call.workspace, device_.queue());
    case StepKind::kPack:
      return call.member->table.pack(call.member->self, call.kernel, call.pack_input, call.buffers[0], call.buffers[1],
                                     device_.queue());
    case StepKind::kCopy: return device_.copy(call.buffers[1], call.buffers[0], call.bytes, KM_COPY_WITHIN);
    case StepKind::kZero: return device_.fill(call.buffers[0], 0, call.bytes);
    case StepKind::kComm:
    case StepKind::kNothing: break;
  }
  return KM_OK;
}

// ---- communication ----

km_status Executor::await(uint64_t& ticket) {
  if (ticket == 0) return KM_OK;
  const km_status status = links_.communicator->wait(ticket - 1);
  ticket = 0;
  return status;
}

km_status Executor::send_off(const Step& step, const Call& c, int32_t slot) {
  uint64_t& last = ticket(step.comm, slot);
  if (const km_status status = await(last); status != KM_OK) return status; // its message is free again
  last = links_.communicator->start(c.message) + 1;
  if (!profiling_) return KM_OK;
  if (c.message->op == KM_COMM_SEND) return KM_OK; // the receiver may come to it only later
  using Clock = std::chrono::steady_clock;
  const auto begin = Clock::now();
  const km_status status = await(last);
  const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  rows_[step.row].seconds += seconds;
  rows_[step.row].calls += 1;
  overhead_ -= seconds;
  return status;
}

km_status Executor::feed(const ScheduleEntry& entry, const Staging& staging) {
  const auto upload = [&](uint32_t leaf, const std::byte* from, uint64_t bytes) {
    return device_.copy(store_.leaf(plan_.leaves[leaf].name), reinterpret_cast<km_address>(from), bytes,
                        KM_COPY_TO_DEVICE);
  };
  const size_t micro = static_cast<size_t>(entry.micro);
  for (uint32_t i = 0; i < plan_.leaves.size(); ++i) {
    if (plan_.leaves[i].kind != ValueKind::kScalar) continue;
    const km_status status = upload(i, staging.scalars_.data() + kScalarBytes * micro, kScalarBytes);
    if (status != KM_OK) return status;
  }
  if (entry.phase != Phase::kBody) return KM_OK;
  for (const Staging::Input& input : staging.inputs_) {
    const km_status status = upload(input.leaf, input.memory.data() + input.bytes * micro, input.bytes);
    if (status != KM_OK) return status;
  }
  return KM_OK;
}

km_status Executor::run_timed(const Step& step, const Call& c) {
  using Clock = std::chrono::steady_clock;
  const auto begin = Clock::now();
  km_status status = call(c);
  if (status == KM_OK) status = device_.wait();
  const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  rows_[step.row].seconds += seconds;
  rows_[step.row].calls += 1;
  overhead_ -= seconds;
  return status;
}

km_status Executor::run_steps(const std::vector<Step>& steps, const ScheduleEntry& entry) {
  for (const Step& step : steps) {
    if (step.last_only && !entry.last) continue;
    at_ = &step;
    km_status status = KM_OK;
    const int64_t came = tracing_ ? trace_now() : 0;
    if (step.awaits)
      for (uint32_t id : *step.awaits)
        if (status == KM_OK) status = await(ticket(id, entry.slot));
    if (status != KM_OK) return status;
    const int64_t begin = tracing_ ? trace_now() : 0;
    if (tracing_ && begin - came > 5000) events_.push_back({&kWaits, TraceEvent::kCompute, came, begin, 0});
    const Call& c = entry.first ? step.first : step.next;
    if (step.comm != kumiki::Step::kNoComm)
      status = send_off(step, c, entry.slot);
    else
      status = profiling_ ? run_timed(step, c) : call(c);
    if (status != KM_OK) return status;
    if (tracing_ && step.comm == kumiki::Step::kNoComm)
      events_.push_back({&rows_[step.row].op, TraceEvent::kCompute, begin, trace_now(), 0});
  }
  return KM_OK;
}

km_status Executor::run_entry(const ScheduleEntry& entry) {
  if (entry.phase == Phase::kHead) return run_steps(head_, entry);
  if (entry.phase == Phase::kTail) {
    // The tail may lie where the slots were: what is being sent out of them has to be gone.
    for (const std::vector<uint32_t>& sends : sends_)
      for (uint32_t id : sends)
        for (size_t slot = 0; slot < slots_; ++slot)
          if (const km_status status = await(ticket(id, static_cast<int32_t>(slot))); status != KM_OK) return status;
    return run_steps(tail_, entry);
  }
  const size_t segment = static_cast<size_t>(entry.segment);
  if (entry.opens) {
    for (uint32_t id : sends_[segment])
      if (const km_status status = await(ticket(id, entry.slot)); status != KM_OK) return status;
  }
  return run_steps(body_[segment][static_cast<size_t>(entry.slot)], entry);
}

km_status Executor::run(const std::vector<ScheduleEntry>& schedule, const Staging& staging) {
  const auto begin = std::chrono::steady_clock::now();
  for (const ScheduleEntry& entry : schedule) {
    km_status status = feed(entry, staging);
    if (status == KM_OK) status = run_entry(entry);
    if (status != KM_OK) return status;
  }
  km_status status = device_.wait();
  for (uint64_t& ticket : tickets_)
    if (status == KM_OK) status = await(ticket);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  overhead_ += seconds;
  run_seconds_ += seconds;
  return status;
}

std::vector<TraceEvent> Executor::trace(bool on) {
  std::vector<TraceEvent> kept;
  kept.swap(events_);
  tracing_ = on;
  if (on) events_.reserve(size_t{1} << 18);
  return kept;
}

std::string Executor::failed() const {
  if (!at_) return "the first step";
  const ProfileRow& row = rows_[at_->row];
  return row.op + " " + row.shape + (row.member.empty() ? "" : " (" + row.member + ")");
}

float Executor::scalar(const std::string& output) const {
  float value = 0;
  read_output(output, &value);
  return value;
}

void Executor::read_output(const std::string& output, void* to) const {
  const auto it = plan_.outputs.find(output);
  KM_CHECK(it != plan_.outputs.end(), "an output named " + output);
  read(it->second, to, plan_.output_types.at(output).bytes());
}

void Executor::read(const Location& location, void* to, uint64_t bytes) const {
  device_.download(to, resolve(location), bytes);
}

std::vector<ProfileRow> Executor::profile_rows() const { return rows_; }

} // namespace kumiki
