#include "core/plan/scale/predict.h"

#include <algorithm>
#include <tuple>

#include "core/base/error.h"
#include "core/plan/scale/network.h"
#include "core/plan/scale/step_cost.h"
#include "kumiki/comm.h"

namespace kumiki {
namespace {

const char* name_of(uint32_t op) {
  switch (op) {
    case KM_COMM_ALL_REDUCE: return "all_reduce";
    case KM_COMM_REDUCE_SCATTER: return "reduce_scatter";
    case KM_COMM_ALL_GATHER: return "all_gather";
    case KM_COMM_ALL_TO_ALL: return "all_to_all";
    case KM_COMM_BROADCAST: return "broadcast";
    case KM_COMM_SEND: return "send";
    default: return "receive";
  }
}

// Of what the members gather or scatter together, or of the whole that is reduced or sent.
double bytes_of(const Message& message, int64_t members) {
  double elements = static_cast<double>(message.count);
  if (message.op == KM_COMM_ALL_GATHER || message.op == KM_COMM_REDUCE_SCATTER || message.op == KM_COMM_ALL_TO_ALL) {
    if (message.counts.empty()) {
      elements *= static_cast<double>(members);
    } else {
      elements = 0;
      for (const uint64_t count : message.counts) elements += static_cast<double>(count);
    }
    elements *= static_cast<double>(message.outer);
  }
  return elements * static_cast<double>(km_dtype_bytes(message.dtype));
}

// "pipeline{0,7}" -> "pipeline".
std::string without_braces(const std::string& axes) { return axes.substr(0, axes.find('{')); }

class Builder {
 public:
  Builder(const Machine& machine, const Graph& graph, const std::vector<RankPlan>& plans, Prediction& out)
      : machine_(machine), network_(machine), cost_(machine, graph), plans_(plans), out_(out) {}

  void build() {
    for (const RankPlan& plan : plans_) out_.programs.push_back(program(plan));
  }

  void finish() {
    const double n = static_cast<double>(plans_.size());
    for (auto& [key, traffic] : traffic_) {
      traffic.calls /= n, traffic.bytes /= n, traffic.seconds /= n;
      out_.traffic.push_back(traffic);
    }
    for (auto& [name, seconds] : out_.classes) seconds /= n;
    out_.update /= n;
    for (size_t i = 0; i < axes_.size(); ++i) {
      AxisTime time{axes_[i], 0, 0};
      for (const SimTimes& times : out_.timeline.coordinates) {
        time.seconds += times.message[i] / n;
        time.exposed += times.exposed[i] / n;
      }
      out_.axes.push_back(time);
    }
    for (const SimTimes& times : out_.timeline.coordinates) {
      out_.computed += times.computed / n;
      out_.idle += times.idle / n;
    }
  }

  uint32_t axes() const { return static_cast<uint32_t>(axes_.size()); }

 private:
  SimProgram program(const RankPlan& p) {
    SimProgram program;
    program.messages.resize(p.plan.comm_steps);
    for (const Segment& s : p.plan.body) program.slots = std::max(program.slots, p.plan.slots_of(s.stage));
    program.sends.resize(p.plan.body.size());
    for (const Segment& s : p.plan.body) program.parts.push_back({s.stage, s.part, p.plan.body.size() == 1});
    places_.clear();
    add_messages(p, p.plan.head, program);
    add_messages(p, p.plan.tail, program);
    for (const Segment& segment : p.plan.body) {
      add_messages(p, segment, program);
      for (const Step& step : segment.steps) {
        if (step.comm == Step::kNoComm || step.first.message.op != KM_COMM_SEND) continue;
        for (size_t i = 0; i < p.plan.body.size(); ++i)
          if (p.plan.body[i].stage == segment.stage) program.sends[i].push_back(step.comm);
      }
    }
    std::map<std::tuple<Phase, int32_t, bool, bool>, uint32_t> known;
    std::vector<const Segment*> segment_of;
    std::vector<double> uses;
    std::vector<bool> lasts;
    for (const ScheduleEntry& entry : p.schedule) {
      const Segment& segment = entry.phase == Phase::kHead   ? p.plan.head
                               : entry.phase == Phase::kTail ? p.plan.tail
                                                             : p.plan.body[static_cast<size_t>(entry.segment)];
      const auto [found, fresh] = known.try_emplace({entry.phase, entry.segment, entry.first, entry.last},
                                                    static_cast<uint32_t>(program.lists.size()));
      if (fresh) {
        program.lists.push_back(list(segment, entry.last));
        segment_of.push_back(&segment);
        uses.push_back(0);
        lasts.push_back(entry.last);
      }
      uses[found->second] += 1;
      program.entries.push_back({found->second, entry.slot, entry});
    }
    for (size_t i = 0; i < uses.size(); ++i) count(p, *segment_of[i], lasts[i], uses[i], program);
    return program;
  }

  std::vector<SimOp> list(const Segment& segment, bool last) const {
    std::vector<SimOp> ops;
    for (const Step& step : segment.steps) {
      if (step.last_only && !last) continue;
      for (const uint32_t id : step.awaits) ops.push_back({SimOp::Kind::kAwait, 0, id});
      if (step.comm != Step::kNoComm) {
        ops.push_back({SimOp::Kind::kStart, 0, step.comm});
        continue;
      }
      const double seconds = cost_.seconds(step);
      if (!ops.empty() && ops.back().kind == SimOp::Kind::kCompute)
        ops.back().seconds += seconds;
      else if (seconds > 0)
        ops.push_back({SimOp::Kind::kCompute, seconds, 0});
    }
    return ops;
  }

  // Sums over all entries that a list is run by.
  void count(const RankPlan& p, const Segment& segment, bool last, double uses, const SimProgram& program) {
    for (const Step& step : segment.steps) {
      if (step.last_only && !last) continue;
      if (step.comm == Step::kNoComm) {
        if (const double seconds = cost_.seconds(step); seconds > 0) {
          out_.classes[cost_.op_class(step)] += uses * seconds;
          if (&segment == &p.plan.tail) out_.update += uses * seconds;
        }
        continue;
      }
      const Message& message = step.first.message;
      const std::string axes = without_braces(p.plan.groups[message.group]);
      Traffic& traffic = traffic_[{axes, message.op}];
      traffic.op = name_of(message.op);
      traffic.axes = axes;
      traffic.calls += uses;
      traffic.bytes += uses * bytes_of(message, place(p, message.group).size);
      traffic.seconds += uses * program.messages[step.comm].seconds;
    }
  }

  const GroupPlace& place(const RankPlan& p, uint32_t group) {
    const auto found = places_.find(group);
    if (found != places_.end()) return found->second;
    // Rank order may differ along the pipeline; the own rank comes first: its node is the one that counts.
    std::vector<uint32_t> ranks = p.strategies->group(p.plan.groups[group]);
    const auto own = std::find(ranks.begin(), ranks.end(), static_cast<uint32_t>(p.strategies->rank()));
    if (own != ranks.end()) std::iter_swap(ranks.begin(), own);
    return places_[group] = network_.place(std::move(ranks));
  }

  void add_messages(const RankPlan& p, const Segment& segment, SimProgram& program) {
    for (const Step& step : segment.steps) {
      if (step.comm == Step::kNoComm) continue;
      const Message& message = step.first.message;
      const std::string& group = p.plan.groups[message.group];
      SimMessage& m = program.messages[step.comm];
      m.slotted = !step.last_only && &segment != &p.plan.head && &segment != &p.plan.tail;
      m.axes = axes_index(without_braces(group));
      m.name = std::string(name_of(message.op)) + " " + group;
      const bool single = message.op == KM_COMM_SEND || message.op == KM_COMM_RECV;
      if (single && !goes_along_pipeline(p, group)) {
        // Around a ring of this coordinate's ranks: all send at the same time, and what comes is there when what goes is.
        const uint32_t own = static_cast<uint32_t>(p.strategies->rank());
        const uint32_t peer = p.strategies->group(group)[static_cast<size_t>(message.peer)];
        m.lane = static_cast<uint32_t>(network_.level_between(own, peer));
        if (message.op == KM_COMM_SEND) m.seconds = network_.send(own, peer, bytes_of(message, 1));
      } else if (single) {
        m.kind = message.op == KM_COMM_SEND ? SimMessage::Kind::kSend : SimMessage::Kind::kReceive;
        m.peer = message.peer;
        m.tag = message.tag;
        const uint32_t peer = static_cast<uint32_t>(plans_[static_cast<size_t>(message.peer)].strategies->rank());
        const uint32_t own = static_cast<uint32_t>(p.strategies->rank());
        m.seconds = network_.send(own, peer, bytes_of(message, 1));
        m.overlap = machine_.network[network_.level_between(own, peer)].overlap;
      } else {
        const GroupPlace& at = place(p, message.group);
        m.lane = static_cast<uint32_t>(at.level);
        m.seconds = network_.collective(message.op, at, bytes_of(message, at.size));
        m.overlap = machine_.network[at.level].overlap;
        if (goes_along_pipeline(p, group)) {
          m.kind = SimMessage::Kind::kShared;
          m.key = shared_.try_emplace(group, shared_.size()).first->second;
          m.members = coordinates(group);
          // A lane of its own: while some of its members are missing, other messages go on.
          m.lane = static_cast<uint32_t>(machine_.network.size() + m.key);
        }
      }
    }
  }

  static bool goes_along_pipeline(const RankPlan& p, const std::string& group) {
    const int32_t axis = p.strategies->pipeline_axis();
    return axis >= 0 && without_braces(group) == p.strategies->axes()[static_cast<size_t>(axis)].name;
  }

  // "pipeline{0,7}" -> 0, 7; without braces all.
  std::vector<int32_t> coordinates(const std::string& group) const {
    std::vector<int32_t> members;
    const size_t brace = group.find('{');
    if (brace == std::string::npos) {
      for (size_t c = 0; c < plans_.size(); ++c) members.push_back(static_cast<int32_t>(c));
      return members;
    }
    for (size_t at = brace; group[at] != '}'; at = group.find_first_of(",}", at + 1))
      members.push_back(std::stoi(group.substr(at + 1)));
    return members;
  }

  uint32_t axes_index(const std::string& axes) {
    const auto found = std::find(axes_.begin(), axes_.end(), axes);
    if (found != axes_.end()) return static_cast<uint32_t>(found - axes_.begin());
    axes_.push_back(axes);
    return static_cast<uint32_t>(axes_.size() - 1);
  }

  const Machine& machine_;
  const Network network_;
  const StepCost cost_;
  const std::vector<RankPlan>& plans_;
  Prediction& out_;
  std::vector<std::string> axes_;
  std::map<std::string, uint64_t> shared_;
  std::map<uint32_t, GroupPlace> places_; // of the rank at hand, by group
  std::map<std::pair<std::string, uint32_t>, Traffic> traffic_;
};

// The bubble of the schedule alone: each part takes what it takes on the mean of the coordinates.
double schedule_bubble(std::vector<SimProgram> programs, uint32_t axes) {
  std::map<Part, std::pair<double, double>> means; // seconds, entries
  const auto part_of = [](const SimProgram& p, const SimProgram::Entry& e) {
    return p.parts[static_cast<size_t>(e.entry.segment)].part;
  };
  const auto seconds_of = [](const std::vector<SimOp>& list) {
    double sum = 0;
    for (const SimOp& op : list) sum += op.seconds;
    return sum;
  };
  for (const SimProgram& p : programs)
    for (const SimProgram::Entry& e : p.entries)
      if (e.entry.phase == Phase::kBody) {
        auto& [seconds, entries] = means[part_of(p, e)];
        seconds += seconds_of(p.lists[e.list]);
        entries += 1;
      }
  for (SimProgram& p : programs) {
    for (SimMessage& m : p.messages) m.seconds = 0, m.overlap = 1;
    for (const SimProgram::Entry& e : p.entries) {
      std::vector<SimOp>& list = p.lists[e.list];
      const double now = seconds_of(list);
      double wanted = 0;
      if (e.entry.phase == Phase::kBody) wanted = means[part_of(p, e)].first / means[part_of(p, e)].second;
      for (SimOp& op : list) op.seconds *= now > 0 ? wanted / now : 0;
    }
  }
  const SimResult result = simulate(programs, axes, false);
  double idle = 0;
  for (const SimTimes& times : result.coordinates) idle += times.idle;
  const double all = result.seconds * static_cast<double>(programs.size());
  return all > 0 ? idle / all : 0;
}

// Where ranks share cores: those of a node that has all ranks. Of more nodes each is taken to have its part of all
// coordinates.
SimCores shared_cores(const Machine& machine, size_t coordinates, int64_t ranks) {
  if (machine.ranks_of_core <= 1) return {};
  const double of_node = static_cast<double>(std::min(ranks, machine.ranks_per_node));
  return {static_cast<double>(machine.ranks_per_node) / machine.ranks_of_core,
          of_node / static_cast<double>(coordinates)};
}

} // namespace

Prediction predict(const Machine& machine, const Graph& graph, const std::vector<RankPlan>& plans, const RunFacts& run,
                   bool spans) {
  KM_CHECK(!plans.empty(), "a plan for each coordinate");
  Prediction out;
  out.run = run;
  out.machine = machine.name;
  out.ranks_per_node = machine.ranks_per_node;
  out.memory_bytes = machine.memory_bytes;
  out.peak = machine.flops(run.bf16);
  for (const RankPlan& p : plans) {
    CoordinateMemory memory;
    memory.rank = p.strategies->rank();
    for (const Segment& segment : p.plan.body)
      if (memory.stages.empty() || memory.stages.back() != segment.stage) memory.stages.push_back(segment.stage);
    memory.rows = p.plan.memory;
    memory.total = p.plan.leaf_bytes() + p.plan.arena.bytes;
    out.memory.push_back(std::move(memory));
  }
  Builder builder(machine, graph, plans, out);
  builder.build();
  out.timeline = simulate(out.programs, builder.axes(), spans, shared_cores(machine, plans.size(), run.ranks));
  out.seconds = out.timeline.seconds;
  builder.finish();
  if (plans.size() > 1) out.schedule_bubble = schedule_bubble(out.programs, builder.axes());
  return out;
}

uint64_t Prediction::largest_memory() const {
  uint64_t most = 0;
  for (const CoordinateMemory& m : memory) most = std::max(most, m.total);
  return most;
}

double Prediction::flops_per_second() const {
  const double all = run.flops.full * static_cast<double>(run.micro_batches * run.batch_degree);
  return all / seconds / static_cast<double>(run.ranks);
}

double Prediction::tokens_per_step() const {
  return static_cast<double>(run.micro_batches) *
         static_cast<double>(run.micro_batch * run.batch_degree * run.sequence);
}

double Prediction::days() const { return run.tokens / tokens_per_step() * seconds / 86400; }

double Prediction::exposed() const {
  double sum = 0;
  for (const AxisTime& axis : axes) sum += axis.exposed;
  return sum;
}

} // namespace kumiki
