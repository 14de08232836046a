#include "core/run/executor.h"

#include <chrono>
#include <cstring>
#include <map>

#include "core/base/error.h"

namespace kumiki {

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

Executor::Executor(const Plan& plan, const KernelChain& chain, const Store& store)
    : plan_(plan), chain_(chain), store_(store), device_(store.device()) {
  std::map<std::string, uint32_t> row_of;
  const auto settle = [&](const Segment& segment, Phase phase, std::vector<Step>& steps) {
    for (const kumiki::Step& from : segment.steps) {
      Step step;
      step.first = resolve(from.first);
      step.next = from.varies ? resolve(from.next) : step.first;
      const std::string member = step.first.member ? step.first.member->name : "";
      const std::string key = from.op + '|' + from.shape + '|' + member + '|' + std::to_string(static_cast<int>(phase));
      auto [it, fresh] = row_of.emplace(key, static_cast<uint32_t>(rows_.size()));
      if (fresh) rows_.push_back({from.op, from.shape, member, phase, 0, from.cost.flops, from.cost.bytes, 0});
      step.row = it->second;
      steps.push_back(step);
    }
  };
  settle(plan.head, Phase::kHead, head_);
  settle(plan.body, Phase::kBody, body_);
  settle(plan.tail, Phase::kTail, tail_);
}

km_address Executor::resolve(const Location& location) const {
  return (location.leaf == Location::kArena ? store_.arena() : store_.leaf(plan_.leaves[location.leaf].name)) +
         location.offset;
}

Executor::Call Executor::resolve(const Action& action) {
  Call call;
  call.kind = action.kind;
  if (action.kind == StepKind::kNothing) return call;
  if (action.kind != StepKind::kCopy) call.member = &chain_.members()[action.member];
  call.kernel = action.kernel;
  call.pack_input = action.pack_input;
  call.bytes = action.bytes;
  call.workspace = resolve(action.workspace);
  std::vector<km_address> addresses;
  for (const Location& l : action.buffers) addresses.push_back(resolve(l));
  address_lists_.push_back(std::move(addresses)); // the lists themselves do not move when the outer vector grows
  call.buffers = address_lists_.back().data();
  return call;
}

km_status Executor::call(const Call& call) {
  switch (call.kind) {
    case StepKind::kRun:
      return call.member->table.run(call.member->self, call.kernel, call.buffers, call.workspace, device_.queue());
    case StepKind::kPack:
      return call.member->table.pack(call.member->self, call.kernel, call.pack_input, call.buffers[0], call.buffers[1],
                                     device_.queue());
    case StepKind::kCopy: return device_.copy(call.buffers[1], call.buffers[0], call.bytes, KM_COPY_WITHIN);
    case StepKind::kNothing: break;
  }
  return KM_OK;
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

km_status Executor::run(const std::vector<ScheduleEntry>& schedule, const Staging& staging) {
  const auto begin = std::chrono::steady_clock::now();
  for (const ScheduleEntry& entry : schedule) {
    km_status status = feed(entry, staging);
    if (status != KM_OK) return status;
    for (const Step& step : entry.phase == Phase::kHead ? head_ : entry.phase == Phase::kBody ? body_ : tail_) {
      at_ = &step;
      const Call& c = entry.first ? step.first : step.next;
      status = profiling_ ? run_timed(step, c) : call(c);
      if (status != KM_OK) return status;
    }
  }
  const km_status status = device_.wait();
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  overhead_ += seconds;
  run_seconds_ += seconds;
  return status;
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
