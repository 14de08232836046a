// Where values lie: accumulators, what is written in place, intervals of the arena and of the slots.
#include <algorithm>
#include <bit>

#include "core/base/error.h"
#include "core/plan/planner.h"

namespace kumiki {

size_t Planner::add_storage(Storage s) {
  storages_.push_back(s);
  return storages_.size() - 1;
}

// Null where this rank does not make the value.
Planner::Item* Planner::producer_item(ValueId value) {
  const auto found = item_of_.find(graph_.value(value).producer);
  return found == item_of_.end() ? nullptr : &items_[found->second];
}

size_t Planner::output_index(const Node& node, ValueId value) {
  return static_cast<size_t>(std::find(node.outputs.begin(), node.outputs.end(), value) - node.outputs.begin());
}

// The addend that belongs to output `output` of a node with attribute accumulate: index of its input, or kNone.
size_t Planner::addend_index(const Node& node, size_t output) {
  return node.i64("accumulate") >> output & 1 ? addend_place(node, output) : kNone;
}

// Addends stand behind the other inputs, in the order of their outputs: where the one of `output` stands, or would stand.
size_t Planner::addend_place(const Node& node, size_t output) {
  const uint64_t mask = static_cast<uint64_t>(node.i64("accumulate"));
  const uint64_t before = mask & ((uint64_t{1} << output) - 1);
  return node.inputs.size() - static_cast<size_t>(std::popcount(mask)) + static_cast<size_t>(std::popcount(before));
}

// ---- gradients over micro-batches -----------------------------------------------------------------------------------

// x -> accumulate: x is written straight into the accumulator where its producer can add to its output. If x itself is a
// sum made in place (tied weights), the whole chain of addends lies in the accumulator, and its first producer adds.
void Planner::accumulators() {
  for (Item& item : items_) {
    if (item.node->op != "accumulate") continue;
    const ValueId x = item.node->inputs[0], sum = item.node->outputs[0];
    Storage s;
    s.purpose = "gradients";
    s.pinned = true;
    s.interval.bytes = graph_.value(sum).type.bytes();
    s.interval.first = body_begin_;
    s.interval.last = std::max({last_use_[sum], body_end_, options_.keep_gradients ? end_ : 0});
    const size_t storage = add_storage(s);
    storage_of_[sum] = storage;

    std::vector<ValueId> in_place;
    ValueId current = x;
    Item* first = nullptr;
    while (true) {
      Item* p = producer_item(current);
      if (!p || graph_.users(current).size() != 1 || p->segment != item.segment || p->role != Item::Role::kKernel)
        break;
      in_place.push_back(current);
      const size_t addend = addend_index(*p->node, output_index(*p->node, current));
      if (addend == kNone) {
        first = p;
        break;
      }
      current = p->node->inputs[addend];
    }
    if (!first) continue;
    const size_t output = output_index(*first->node, current);
    auto request = adding_request(*first, output);
    if (!request || !chain_.supported(*request)) continue;
    if (first->next_request) continue; // one output a node adds to an accumulator in place; others are added apart
    first->next_choice = chain_.choose(*request);
    first->next_request = std::move(request);
    first->accumulates_into = sum;
    first->accumulate_output = output;
    for (ValueId v : in_place) storage_of_[v] = storage;
  }
}

// The request of an item with one more addend, for its output `output`.
std::unique_ptr<OpRequest> Planner::adding_request(const Item& item, size_t output) const {
  const Node& node = *item.node;
  // A kernel that does not know the attribute here must not be asked: it may pass it over and say yes.
  if (!(graph_.rules(node.op).accumulates >> output & 1)) return nullptr;
  const km_op& op = item.request->op();
  std::vector<km_tensor> inputs(op.inputs, op.inputs + op.n_inputs), outputs(op.outputs, op.outputs + op.n_outputs);
  if (inputs.size() >= KM_MAX_INPUTS) return nullptr;
  Attributes attributes = node.attributes;
  attributes["accumulate"] = node.i64("accumulate") | (int64_t{1} << output);
  inputs.insert(inputs.begin() + static_cast<std::ptrdiff_t>(addend_place(node, output)), outputs[output]);
  return std::make_unique<OpRequest>(node.op, inputs, outputs, attributes, may_prepack(node));
}

// ---- states: where the producer may write over the old one, the new value lies in the state's own memory -------------
void Planner::assigns() {
  for (const Item& item : items_) {
    if (item.node->op != "assign") continue;
    const ValueId state = item.node->inputs[0], value = item.node->inputs[1];
    if (storage_of_.count(value)) continue;
    const Item* p = producer_item(value);
    if (!p || p->role != Item::Role::kKernel || p->segment != item.segment || p->node->phase != item.node->phase)
      continue;
    const uint32_t mask = p->choice.support.in_place[output_index(*p->node, value)];
    bool can = false;
    for (size_t i = 0; i < p->node->inputs.size(); ++i) can |= p->node->inputs[i] == state && (mask >> i & 1);
    for (NodeId user : graph_.users(state)) {
      const auto found = item_of_.find(user);
      can &= user == item.node->id || found == item_of_.end() || items_[found->second].position <= p->position;
    }
    if (can) storage_of_[value] = storage_of_.at(state);
  }
}

// ---- activations ----------------------------------------------------------------------------------------------------

int32_t Planner::last_read(ValueId value) const {
  const auto found = readers_.find(value);
  return found == readers_.end() || found->second.empty() ? -1 : items_[found->second.back()].position;
}

// Made in one segment of the body and needed in another, or by a message that may still be under way when the segment ends.
bool Planner::crosses_segments(ValueId value) const {
  const Item* producer = producer_item(value);
  if (!producer || producer->segment == kAnySegment || producer->last_only || merged()) return false;
  if (producer->role == Item::Role::kReceive || is_sent(value)) return true;
  const auto found = readers_.find(value);
  return found != readers_.end() && std::any_of(found->second.begin(), found->second.end(), [&](size_t i) {
           return items_[i].segment != kAnySegment && items_[i].segment != producer->segment;
         });
}

bool Planner::is_sent(ValueId value) const {
  const auto found = readers_.find(value);
  return found != readers_.end() && std::any_of(found->second.begin(), found->second.end(),
                                                [&](size_t i) { return items_[i].role == Item::Role::kSend; });
}

// The last position of the stage that a segment belongs to: where the slot of a micro-batch is done with.
int32_t Planner::slot_last(int32_t segment) const {
  const int32_t stage = plan_.body[static_cast<size_t>(segment)].stage;
  int32_t last = 0;
  for (const Item& item : items_)
    if (item.segment != kAnySegment && plan_.body[static_cast<size_t>(item.segment)].stage == stage)
      last = std::max(last, item.position);
  return last;
}

void Planner::store_values() {
  for (Item& item : items_) {
    const Node& node = *item.node;
    if (node.op == "accumulate" || node.op == "assign" || item.role == Item::Role::kSend) continue;
    for (size_t o = 0; o < node.outputs.size(); ++o) {
      const ValueId out = node.outputs[o];
      if (storage_of_.count(out)) continue;
      const bool slot = crosses_segments(out);
      int32_t last = std::max(last_use_[out], item.position);
      if (slot && is_sent(out)) last = std::max(last, slot_last(item.segment)); // nobody waits for it within the slot
      const size_t reuse = reusable(item, o, slot);
      if (reuse != kNone) {
        storage_of_[out] = reuse;
        Interval& interval = storages_[reuse].interval;
        interval.last = std::max(interval.last, last);
        continue;
      }
      Storage s;
      s.interval = {graph_.value(out).type.bytes(), item.position, last, 0};
      if (slot) {
        s.kind = Storage::Kind::kSlot;
        s.stage = plan_.body[static_cast<size_t>(item.segment)].stage;
      }
      if (item.segment == kAnySegment && item.position < pack_position_) s.pinned = last_use_[out] > pack_position_;
      if (item.role == Item::Role::kCollective || item.role == Item::Role::kReceive)
        s.purpose = s.pinned || node.op == "flat_gather" ? "gathered parameters" : "communication";
      storage_of_[out] = add_storage(s);
    }
  }
}

// The storage of an input that dies here and that output `output` may take over, or kNone.
size_t Planner::reusable(const Item& item, size_t output, bool slot) const {
  const Node& node = *item.node;
  uint32_t mask = 0; // of the first 32 inputs; a sum over stages may have more
  size_t always = kNone;
  if (item.role == Item::Role::kKernel) {
    mask = item.choice.support.in_place[output];
    always = addend_index(node, output);
  } else if (node.op == "all_reduce") {
    always = output;
  }
  for (size_t i = 0; i < node.inputs.size(); ++i) {
    const bool may = i == always || (i < 32 && (mask >> i & 1));
    if (!may || !storage_of_.count(node.inputs[i])) continue;
    const size_t s = storage_of_.at(node.inputs[i]);
    const Storage& storage = storages_[s];
    const bool sum = item.last_only && storage.pinned && node.op == "all_reduce"; // the accumulator, summed over ranks
    if (storage.kind == Storage::Kind::kLeaf || (storage.pinned && !sum)) continue;
    const int32_t dies = node.op == "all_reduce" ? last_read(node.inputs[i]) : storage.interval.last;
    if (dies > item.position) continue;
    if (slot && storage.kind != Storage::Kind::kSlot) continue;
    if (graph_.value(node.inputs[i]).type.bytes() != graph_.value(node.outputs[output]).type.bytes()) continue;
    return s;
  }
  return kNone;
}

// ---- packed copies of what is constant within the step --------------------------------------------------------------

void Planner::packs() {
  for (Item& item : items_) {
    if (item.role != Item::Role::kKernel) continue;
    want_packs(item, *item.request, item.choice, kNone);
    if (item.next_request)
      want_packs(item, *item.next_request, item.next_choice, addend_place(*item.node, item.accumulate_output));
  }
}

void Planner::want_packs(const Item& item, const OpRequest& request, const KernelChain::Choice& choice,
                         size_t extra_input) {
  for (uint32_t i = 0; i < request.op().n_inputs; ++i) {
    if (choice.support.prepack_bytes[i] == 0) continue;
    KM_CHECK(i != extra_input, "an addend is never packed");
    const ValueId value = item.node->inputs[i > extra_input ? i - 1 : i];
    const std::string key = pack_key(choice, value, i);
    if (packs_.count(key)) continue;
    Storage s;
    s.purpose = "packed weights";
    s.pinned = true;
    s.interval = {choice.support.prepack_bytes[i], pack_position_, body_end_, 0};
    packs_[key] = {add_storage(s), choice.member, chain_.create(choice, request), i, value};
    pack_order_.push_back(key);
  }
}

std::string Planner::pack_key(const KernelChain::Choice& choice, ValueId value, uint32_t input) const {
  const char* format = choice.support.prepack_format[input];
  return std::to_string(choice.member) + ":" + std::to_string(value) + ":" + (format ? format : "") + ":" +
         std::to_string(choice.support.prepack_bytes[input]);
}

// ---- the arena ------------------------------------------------------------------------------------------------------

void Planner::place_workspaces() {
  for (const Item& item : items_) {
    if (item.role != Item::Role::kKernel) continue;
    const uint64_t bytes =
        std::max(item.choice.support.workspace_bytes, item.next_request ? item.next_choice.support.workspace_bytes : 0);
    if (bytes == 0) continue;
    Storage s;
    s.purpose = "workspace";
    s.interval = {bytes, item.position, item.position, 0};
    workspaces_[item.position] = add_storage(s);
  }
}

// First the values within the slot of each stage, then the arena, in which all slots of a stage are one block.
void Planner::place_all() {
  std::map<int32_t, size_t> blocks;
  for (const auto& [stage, count] : plan_.slots) {
    std::vector<Interval*> inside;
    for (Storage& s : storages_)
      if (s.kind == Storage::Kind::kSlot && s.stage == stage) inside.push_back(&s.interval);
    slot_stride_[stage] = place(inside).bytes;
    Storage block;
    block.pinned = true;
    block.interval = {slot_stride_[stage] * static_cast<uint64_t>(count), body_begin_, body_end_, 0};
    if (block.interval.bytes > 0) blocks[stage] = add_storage(block);
  }
  std::vector<Interval*> intervals;
  for (Storage& s : storages_)
    if (s.kind == Storage::Kind::kArena) intervals.push_back(&s.interval);
  plan_.arena = place(intervals);
  for (const auto& [stage, block] : blocks) slot_offset_[stage] = storages_[block].interval.offset;
}

void Planner::memory_rows() {
  std::map<std::string, uint64_t> rows;
  for (const Leaf& leaf : plan_.leaves) {
    const char* what = leaf.kind == ValueKind::kParameter ? "parameters"
                       : leaf.kind == ValueKind::kState
                           ? (graph_.value(leaf.value).owner ? "optimizer states" : "caches")
                           : "inputs and scalars";
    rows[what] += leaf.type.bytes();
  }
  std::vector<uint64_t> live(static_cast<size_t>(end_) + 2, 0);
  for (const Storage& s : storages_)
    if (s.kind == Storage::Kind::kArena)
      for (int32_t t = s.interval.first; t <= s.interval.last; ++t) live[static_cast<size_t>(t)] += s.interval.bytes;
  const int32_t peak = static_cast<int32_t>(std::max_element(live.begin(), live.end()) - live.begin());
  uint64_t sum = 0;
  for (const Storage& s : storages_)
    if (s.kind == Storage::Kind::kArena && s.interval.first <= peak && peak <= s.interval.last) {
      rows[s.purpose] += s.interval.bytes;
      sum += s.interval.bytes;
    }
  if (plan_.arena.bytes > sum) rows["gaps in the arena"] = plan_.arena.bytes - sum;
  for (const char* what :
       {"parameters", "optimizer states", "caches", "gradients", "gathered parameters", "activations", "communication",
        "packed weights", "workspace", "gaps in the arena", "inputs and scalars"})
    if (rows.count(what)) plan_.memory.push_back({what, rows[what]});
}

} // namespace kumiki
