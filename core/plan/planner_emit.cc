// The steps, in order, with the places of their buffers.
#include <algorithm>

#include "core/base/error.h"
#include "core/plan/planner.h"

namespace kumiki {

Location Planner::location(size_t storage) const {
  const Storage& s = storages_[storage];
  if (s.kind == Storage::Kind::kLeaf) return s.leaf;
  if (s.kind == Storage::Kind::kArena) return {Location::kArena, s.interval.offset};
  return {Location::kArena, slot_offset_.at(s.stage) + s.interval.offset, slot_stride_.at(s.stage)};
}

Location Planner::location_of(ValueId value) const {
  const auto found = storage_of_.find(value);
  KM_CHECK(found != storage_of_.end(), "%" + std::to_string(value) + " (" + graph_.value(value).name + ", stage " +
                                           std::to_string(graph_.value(value).stage) + ") has a place on this rank");
  return location(found->second);
}

Segment& Planner::segment_of(const Item& item) {
  if (item.segment != kAnySegment) return plan_.body[static_cast<size_t>(item.segment)];
  return item.position < pack_position_ ? plan_.head : plan_.tail;
}

Action Planner::run_action(const Item& item, const OpRequest& request, const KernelChain::Choice& choice,
                           size_t extra_input) {
  Action a;
  a.kind = StepKind::kRun;
  a.member = choice.member;
  a.kernel = chain_.create(choice, request);
  for (uint32_t i = 0; i < request.op().n_inputs; ++i) {
    if (i == extra_input) {
      a.buffers.push_back(location_of(item.accumulates_into));
      continue;
    }
    const ValueId value = item.node->inputs[i > extra_input ? i - 1 : i];
    a.buffers.push_back(choice.support.prepack_bytes[i] ? location(packs_.at(pack_key(choice, value, i)).storage)
                                                        : location_of(value));
  }
  for (ValueId out : item.node->outputs) a.buffers.push_back(location_of(out));
  if (auto w = workspaces_.find(item.position); w != workspaces_.end()) a.workspace = location(w->second);
  return a;
}

Action Planner::copy_action(Location from, Location to, uint64_t bytes) {
  Action a;
  a.kind = StepKind::kCopy;
  a.buffers = {from, to};
  a.bytes = bytes;
  return a;
}

// sum = a + b, tensors like `like`; sum may be a.
Action Planner::add_action(ValueId like, Location a, Location b, Location sum) {
  const km_tensor tensor = to_abi(graph_.value(like).type);
  OpRequest add("add", {tensor, tensor}, {tensor}, {}, 0);
  const KernelChain::Choice choice = chain_.choose(add);
  KM_CHECK(choice.support.in_place[0] & 1u, "`add` works in place");
  Action action;
  action.kind = StepKind::kRun;
  action.member = choice.member;
  action.kernel = chain_.create(choice, add);
  action.buffers = {a, b, sum};
  return action;
}

Step Planner::step_for(const Node& node) const {
  Step step;
  step.node = node.id;
  step.op = node.op;
  step.cost = cost(graph_, node);
  for (ValueId in : node.inputs) {
    const Shape& shape = graph_.value(in).type.shape;
    std::string text;
    for (int64_t d : shape) text += (text.empty() ? "" : "x") + std::to_string(d);
    if (!text.empty()) step.shape += (step.shape.empty() ? "" : " ") + text;
  }
  return step;
}

void Planner::emit() {
  std::vector<Step> late_copies[3];
  int32_t segment = kAnySegment;
  for (const Item& item : items_) {
    if (item.segment != segment && segment != kAnySegment) await_at_end(plan_.body[static_cast<size_t>(segment)]);
    segment = item.segment;
    const Node& node = *item.node;
    if (item.role == Item::Role::kKernel) {
      emit_kernel(item, segment_of(item));
    } else if (item.role != Item::Role::kOwn) {
      emit_comm(item, segment_of(item));
    } else if (node.op == "assign") {
      const Location from = location_of(node.inputs[1]), to = location_of(node.inputs[0]);
      if (from.leaf == to.leaf && from.offset == to.offset) continue;
      Step step = step_for(node);
      step.first = step.next = copy_action(from, to, graph_.value(node.inputs[0]).type.bytes());
      await_inputs(node, step);
      KM_CHECK(item.segment <= 0, "states are assigned where one segment does all of a micro-batch");
      late_copies[static_cast<int>(node.phase) - 1].push_back(step);
    } else {
      Step step = step_for(node);
      await_inputs(node, step);
      if (emit_accumulate(node, step)) segment_of(item).steps.push_back(step);
    }
  }
  if (segment != kAnySegment) await_at_end(plan_.body[static_cast<size_t>(segment)]);
  emit_packs();
  Segment* segments[3] = {&plan_.head, &plan_.body.front(), &plan_.tail};
  for (int i = 0; i < 3; ++i)
    for (Step& step : late_copies[i]) segments[i]->steps.push_back(std::move(step));
}

void Planner::emit_kernel(const Item& item, Segment& segment) {
  Step step = step_for(*item.node);
  await_inputs(*item.node, step);
  emit_addend_copies(item, segment, step);
  step.first = run_action(item, *item.request, item.choice, kNone);
  step.next = step.first;
  if (item.next_request) {
    step.varies = true;
    step.next =
        run_action(item, *item.next_request, item.next_choice, addend_place(*item.node, item.accumulate_output));
  }
  segment.steps.push_back(std::move(step));
}

void Planner::emit_packs() {
  for (const std::string& key : pack_order_) {
    const Pack& pack = packs_.at(key);
    Step step;
    step.op = "pack";
    step.shape = graph_.value(pack.value).name;
    step.cost.bytes = 2.0 * static_cast<double>(graph_.value(pack.value).type.bytes());
    step.first.kind = StepKind::kPack;
    step.first.member = pack.member;
    step.first.kernel = pack.kernel;
    step.first.pack_input = pack.input;
    step.first.buffers = {location_of(pack.value), location(pack.storage)};
    step.next = step.first;
    if (const auto found = makers_.find(pack.value); found != makers_.end()) step.awaits = found->second;
    plan_.head.steps.push_back(std::move(step));
  }
}

// A kernel that adds in place only: the addend is brought into the output's buffer first.
void Planner::emit_addend_copies(const Item& item, Segment& segment, const Step& like) {
  const Node& node = *item.node;
  if (item.choice.support.flags & KM_SUPPORT_ADDEND_APART) return;
  for (size_t o = 0; o < node.outputs.size(); ++o) {
    const size_t addend = addend_index(node, o);
    if (addend == kNone || storage_of_.at(node.inputs[addend]) == storage_of_.at(node.outputs[o])) continue;
    Step copy = like;
    copy.op = "copy";
    copy.cost = {};
    copy.first = copy_action(location_of(node.inputs[addend]), location_of(node.outputs[o]),
                             graph_.value(node.outputs[o]).type.bytes());
    copy.next = copy.first;
    segment.steps.push_back(std::move(copy));
  }
}

// False: the sum is made where x is made, no step needed.
bool Planner::emit_accumulate(const Node& node, Step& step) {
  const ValueId x = node.inputs[0], sum = node.outputs[0];
  const size_t from = storage_of_.at(x), to = storage_of_.at(sum);
  if (from == to) return false;
  step.varies = true;
  step.first = copy_action(location(from), location(to), graph_.value(sum).type.bytes());
  step.next = add_action(sum, location(to), location(from), location(to));
  return true;
}

void Planner::name_outputs() {
  for (const auto& [name, id] : graph_.outputs()) {
    if (!storage_of_.count(id)) continue; // another stage makes it
    plan_.outputs[name] = location_of(id);
    plan_.output_types[name] = graph_.value(id).type;
  }
  for (const auto& [parameter, gradient] : graph_.gradients())
    if (storage_of_.count(gradient)) plan_.gradients[parameter] = location_of(gradient);
}

} // namespace kumiki
