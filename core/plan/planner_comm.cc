// Communication ops become messages: what goes to whom, and which steps await it.
#include <algorithm>
#include <set>

#include "core/base/error.h"
#include "core/plan/planner.h"

namespace kumiki {
namespace {

uint64_t elements(const Shape& shape, size_t begin, size_t end) {
  uint64_t n = 1;
  for (size_t i = begin; i < end; ++i) n *= static_cast<uint64_t>(shape[i]);
  return n;
}

void add(std::vector<uint32_t>& to, const std::vector<uint32_t>& from) {
  for (uint32_t id : from)
    if (std::find(to.begin(), to.end(), id) == to.end()) to.push_back(id);
}

} // namespace

bool Planner::is_communication(const std::string& op) {
  static const std::set<std::string> ops = {"all_reduce",   "all_gather", "reduce_scatter", "flat_gather",
                                            "flat_scatter", "ring_shift", "transfer",       "add_stages"};
  return ops.count(op) != 0;
}

uint32_t Planner::group(const std::string& axes) {
  const auto found = std::find(plan_.groups.begin(), plan_.groups.end(), axes);
  if (found != plan_.groups.end()) return static_cast<uint32_t>(found - plan_.groups.begin());
  plan_.groups.push_back(axes);
  return static_cast<uint32_t>(plan_.groups.size() - 1);
}

void Planner::await_inputs(const Node& node, Step& step) const {
  for (ValueId in : node.inputs)
    if (const auto found = makers_.find(in); found != makers_.end()) add(step.awaits, found->second);
}

// What a segment began and none of its steps awaited, sends apart, is awaited at its end: its buffers are free after it.
void Planner::await_at_end(Segment& segment) {
  std::set<uint32_t> open;
  for (const Step& step : segment.steps) {
    for (uint32_t id : step.awaits) open.erase(id);
    const bool waits = step.op != "transfer" || step.first.message.op != KM_COMM_SEND;
    if (step.comm != Step::kNoComm && !step.last_only && waits) open.insert(step.comm);
  }
  if (open.empty()) return;
  Step step;
  step.op = "await";
  step.awaits.assign(open.begin(), open.end());
  segment.steps.push_back(std::move(step));
}

void Planner::emit_message(const Item& item, Segment& segment, Message message, Location input, Location output,
                           ValueId result) {
  Step step = step_for(*item.node);
  if (item.role != Item::Role::kReceive) await_inputs(*item.node, step);
  step.last_only = item.last_only;
  step.comm = plan_.comm_steps++;
  step.first.kind = StepKind::kComm;
  step.first.message = std::move(message);
  step.first.buffers = {input, output};
  step.next = step.first;
  // The result is complete when this step is; what it was made from no longer matters to its readers.
  if (result) makers_[result].push_back(step.comm);
  segment.steps.push_back(std::move(step));
}

void Planner::emit_comm(const Item& item, Segment& segment) {
  const Node& node = *item.node;
  if (node.op == "add_stages") return emit_stage_sum(item, segment);
  Message message;
  if (node.op == "transfer") {
    const int64_t degree = strategies_->pipeline_degree();
    const bool send = item.role == Item::Role::kSend;
    const int64_t other = node.i64(send ? "to" : "from") % degree;
    KM_CHECK(other != strategies_->pipeline_coordinate(), "a transfer goes to another rank");
    const Type& type = graph_.value(node.inputs[0]).type;
    message.op = send ? KM_COMM_SEND : KM_COMM_RECV;
    message.group = group(strategies_->axes()[static_cast<size_t>(strategies_->pipeline_axis())].name);
    message.peer = static_cast<int32_t>(other);
    message.tag = static_cast<int32_t>(node.id % 32768);
    message.dtype = type.dtype;
    message.count = static_cast<uint64_t>(type.elements());
    const Location at = location_of(send ? node.inputs[0] : node.outputs[0]);
    return emit_message(item, segment, message, at, at, send ? 0 : node.outputs[0]);
  }
  if (node.op == "ring_shift") return emit_shift(item, segment);
  const std::string axes = node.text("axes");
  const uint64_t size = static_cast<uint64_t>(graph_.group_size(axes));
  message.group = group(axes);
  for (size_t i = 0; i < node.outputs.size(); ++i) {
    const Type& in = graph_.value(node.inputs[i]).type;
    const Type& out = graph_.value(node.outputs[i]).type;
    message.dtype = in.dtype;
    if (node.op == "all_reduce") {
      message.op = KM_COMM_ALL_REDUCE;
      message.reduce = node.text("reduce", "sum") == "max" ? KM_REDUCE_MAX : KM_REDUCE_SUM;
      message.count = static_cast<uint64_t>(in.elements());
    } else if (node.op == "all_gather" || node.op == "reduce_scatter") {
      const size_t dim = static_cast<size_t>(node.i64("dim"));
      const Shape& part = node.op == "all_gather" ? in.shape : out.shape;
      message.op = node.op == "all_gather" ? KM_COMM_ALL_GATHER : KM_COMM_REDUCE_SCATTER;
      message.outer = elements(part, 0, dim);
      message.count = elements(part, dim, part.size());
      message.counts.clear();
      const int64_t n = node.i64("whole"), ranks = static_cast<int64_t>(size);
      const int64_t inner = static_cast<int64_t>(elements(part, dim + 1, part.size()));
      for (int64_t r = 0; n > 0 && r < ranks; ++r)
        message.counts.push_back(
            static_cast<uint64_t>((part_begin(n, ranks, r + 1) - part_begin(n, ranks, r)) * inner));
      KM_CHECK(message.counts.empty() || message.counts[static_cast<size_t>(graph_.group_index(axes))] == message.count,
               "x is this rank's part of the whole dimension");
    } else {
      // A range of the elements for each rank, nearly equal.
      const Type& whole = node.op == "flat_gather" ? out : in;
      const Type& part = node.op == "flat_gather" ? in : out;
      message.op = node.op == "flat_gather" ? KM_COMM_ALL_GATHER : KM_COMM_REDUCE_SCATTER;
      message.count = static_cast<uint64_t>(part.elements());
      message.counts.clear();
      const int64_t n = whole.elements(), ranks = static_cast<int64_t>(size);
      for (int64_t r = 0; r < ranks; ++r)
        message.counts.push_back(static_cast<uint64_t>(part_begin(n, ranks, r + 1) - part_begin(n, ranks, r)));
    }
    emit_message(item, segment, message, location_of(node.inputs[i]), location_of(node.outputs[i]), node.outputs[i]);
  }
}

// A send and a receive, which go on side by side: neither waits for the other, so that no ring can wait for itself. Who
// reads what came awaits both, and the memory of what went is free then, too.
void Planner::emit_shift(const Item& item, Segment& segment) {
  const Node& node = *item.node;
  const std::string axes = node.text("axes");
  const Type& type = graph_.value(node.inputs[0]).type;
  const int64_t size = graph_.group_size(axes), index = graph_.group_index(axes);
  const int64_t by = (node.i64("by", 1) % size + size) % size;
  Message message;
  message.group = group(axes);
  message.dtype = type.dtype;
  message.count = static_cast<uint64_t>(type.elements());
  message.tag = static_cast<int32_t>(node.id % 32768);
  message.op = KM_COMM_SEND;
  message.peer = static_cast<int32_t>((index + by) % size);
  const Location from = location_of(node.inputs[0]), to = location_of(node.outputs[0]);
  emit_message(item, segment, message, from, from, node.outputs[0]);
  message.op = KM_COMM_RECV;
  message.peer = static_cast<int32_t>((index - by + size) % size);
  emit_message(item, segment, message, to, to, node.outputs[0]);
}

// A sum over stages: this rank adds up what its own stages have (nothing: zeros), then all ranks that own one of the stages
// add theirs. Also how a value of one stage comes to all.
void Planner::emit_stage_sum(const Item& item, Segment& segment) {
  const Node& node = *item.node;
  const ValueId out = node.outputs[0];
  const Location to = location_of(out);
  std::vector<ValueId> own;
  for (ValueId in : node.inputs)
    if (owns(graph_.value(in).stage)) own.push_back(in);
  Step step = step_for(node);
  for (ValueId in : own)
    if (const auto found = makers_.find(in); found != makers_.end()) add(step.awaits, found->second);
  if (own.empty()) {
    step.first.kind = StepKind::kZero;
    step.first.buffers = {to};
    step.first.bytes = graph_.value(out).type.bytes();
  } else {
    step.first = copy_action(location_of(own[0]), to, graph_.value(out).type.bytes());
  }
  step.next = step.first;
  segment.steps.push_back(step);
  for (size_t i = 1; i < own.size(); ++i) {
    Step more = step_for(node);
    more.first = more.next = add_action(out, to, location_of(own[i]), to);
    segment.steps.push_back(more);
  }

  const int64_t degree = strategies_->pipeline_degree();
  std::set<int64_t> coordinates;
  const auto list = node.attributes.find("stages");
  if (list != node.attributes.end())
    for (int64_t stage : std::get<std::vector<int64_t>>(list->second)) coordinates.insert(stage % degree);
  std::string axes = strategies_->axes()[static_cast<size_t>(strategies_->pipeline_axis())].name;
  if (coordinates.size() == 1) return; // all of them on this rank
  if (!coordinates.empty() && static_cast<int64_t>(coordinates.size()) < degree) {
    axes += "{";
    for (int64_t c : coordinates) axes += (axes.back() == '{' ? "" : ",") + std::to_string(c);
    axes += "}";
  }
  Message message;
  message.op = KM_COMM_ALL_REDUCE;
  message.dtype = graph_.value(out).type.dtype;
  message.group = group(axes);
  message.count = static_cast<uint64_t>(graph_.value(out).type.elements());
  Item sum;
  sum.node = item.node;
  sum.role = Item::Role::kReceive; // its inputs are awaited above
  sum.last_only = item.last_only;
  emit_message(sum, segment, message, to, to, out);
}

} // namespace kumiki
