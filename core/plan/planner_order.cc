// What this rank runs, and when: the segments of its stages, the nodes in them, leaves, kernels.
//
// Time is a list of positions: the head, one position for packing, the segments of the body one after another, the tail.
// Segments of the body run many times, in the order of the schedule; what lives in one of them only is laid out as if they
// ran in a row, what one hands to another lies in the slot of its micro-batch.
#include <algorithm>
#include <cstdio>

#include "core/base/error.h"
#include "core/plan/overlap.h"
#include "core/plan/planner.h"

namespace kumiki {

void Planner::make_segments() {
  plan_.stages = graph_.stages();
  if (merged()) {
    plan_.body.push_back({});
    return;
  }
  const bool training = std::any_of(graph_.order().begin(), graph_.order().end(),
                                    [this](NodeId id) { return graph_.node(id).part != Part::kForward; });
  const std::vector<PartEntry> entries =
      strategies_->schedule(graph_.stages(), options_.micro_batches, training, strategies_->pipeline_coordinate());
  const bool split =
      std::any_of(entries.begin(), entries.end(), [](const PartEntry& e) { return e.part == Part::kWeight; });
  for (int32_t stage = 0; stage < graph_.stages(); ++stage) {
    if (!owns(stage)) continue;
    plan_.body.push_back({{}, stage, Part::kForward});
    if (training) plan_.body.push_back({{}, stage, Part::kBackward});
    if (training && split) plan_.body.push_back({{}, stage, Part::kWeight});
    int32_t open = 0, most = 1;
    for (const PartEntry& e : entries) {
      if (e.stage != stage) continue;
      if (e.part == Part::kForward) most = std::max(most, ++open);
      if (!training || e.part == (split ? Part::kWeight : Part::kBackward)) --open;
    }
    plan_.slots[stage] = most;
  }
}

// A sum over some stages is made on each of them.
bool Planner::runs(const Node& node) const {
  const auto list = node.op == "add_stages" ? node.attributes.find("stages") : node.attributes.end();
  if (list == node.attributes.end()) return owns(node.stage);
  const std::vector<int64_t>& stages = std::get<std::vector<int64_t>>(list->second);
  return stages.empty() ||
         std::any_of(stages.begin(), stages.end(), [this](int64_t s) { return owns(static_cast<int32_t>(s)); });
}

int32_t Planner::segment_of(int32_t stage, Part part) const {
  if (merged()) return 0;
  int32_t found = kAnySegment;
  for (size_t i = 0; i < plan_.body.size(); ++i) {
    const Segment& s = plan_.body[i];
    // Nodes of every stage go with the last of this rank's; without a segment for weights they go with the activations.
    if ((stage == kEveryStage || s.stage == stage) &&
        (s.part == part || (part == Part::kWeight && s.part == Part::kBackward)))
      found = static_cast<int32_t>(i);
  }
  KM_CHECK(found != kAnySegment, "a segment for stage " + std::to_string(stage));
  return found;
}

void Planner::add_item(const Node& node, Phase phase, int32_t segment, Item::Role role) {
  Item item;
  item.node = &node;
  item.position = static_cast<int32_t>(items_.size()) + (phase == Phase::kHead ? 0 : 1);
  item.segment = segment;
  item.role = role;
  item.last_only = phase == Phase::kBody && node.phase == Phase::kTail;
  if (role != Item::Role::kSend) item_of_[node.id] = items_.size();
  items_.push_back(std::move(item));
}

// A sum over the ranks of one stage in the tail that reads nothing but sums over micro-batches: it may begin as soon as
// those are complete. What crosses stages stays in the tail, where all ranks come to it in one order.
bool Planner::can_hoist(const Node& node) const {
  if (node.phase != Phase::kTail ||
      (node.op != "all_reduce" && node.op != "flat_scatter" && node.op != "reduce_scatter"))
    return false;
  return std::all_of(node.inputs.begin(), node.inputs.end(), [this, &node](ValueId in) {
    const NodeId producer = graph_.value(in).producer;
    return producer != 0 && graph_.node(producer).op == "accumulate" && graph_.node(producer).stage == node.stage;
  });
}

// The nodes of a segment of the body, with as much as may be computed beside its messages.
std::vector<NodeId> Planner::body_order(int32_t segment) const {
  std::vector<NodeId> order;
  for (NodeId id : graph_.order()) {
    const Node& node = graph_.node(id);
    if (node.phase == Phase::kBody && runs(node) && segment_of(node.stage, node.part) == segment) order.push_back(id);
  }
  if (!options_.overlap) return order;
  return gathers_ahead(graph_, weights_beside_messages(graph_, order));
}

void Planner::order_nodes() {
  // For each accumulate, the hoisted nodes that wait for it; for each of those, how many it still waits for.
  std::map<NodeId, std::vector<NodeId>> waiting;
  std::map<NodeId, size_t> missing;
  for (NodeId id : graph_.order()) {
    const Node& node = graph_.node(id);
    if (!runs(node) || !can_hoist(node)) continue;
    for (ValueId in : node.inputs) waiting[graph_.value(in).producer].push_back(id);
    missing[id] = node.inputs.size();
  }
  const auto role_of = [](const Node& node) {
    return node.op == "assign" || node.op == "accumulate" ? Item::Role::kOwn
           : is_communication(node.op)                    ? Item::Role::kCollective
                                                          : Item::Role::kKernel;
  };
  const auto add_body = [&](const Node& node, int32_t segment) {
    add_item(node, Phase::kBody, segment, node.op == "transfer" ? Item::Role::kSend : role_of(node));
    const auto found = waiting.find(node.id);
    if (found == waiting.end()) return;
    for (NodeId id : found->second)
      if (--missing.at(id) == 0) add_item(graph_.node(id), Phase::kBody, segment, Item::Role::kCollective);
  };

  for (NodeId id : graph_.order()) {
    const Node& node = graph_.node(id);
    if (node.phase == Phase::kHead && runs(node)) add_item(node, Phase::kHead, kAnySegment, role_of(node));
  }
  pack_position_ = static_cast<int32_t>(items_.size());
  body_begin_ = pack_position_ + 1;
  for (int32_t s = 0; s < static_cast<int32_t>(plan_.body.size()); ++s) {
    for (NodeId id : graph_.order()) {
      const Node& node = graph_.node(id);
      if (node.op != "transfer" || node.phase != Phase::kBody) continue;
      const int32_t to = static_cast<int32_t>(node.i64("to"));
      if (owns(to) && segment_of(to, node.part) == s) add_item(node, Phase::kBody, s, Item::Role::kReceive);
    }
    for (NodeId id : body_order(s)) add_body(graph_.node(id), s);
  }
  body_end_ = static_cast<int32_t>(items_.size()); // the position of the last item of the body
  for (NodeId id : graph_.order()) {
    const Node& node = graph_.node(id);
    if (node.phase == Phase::kTail && runs(node) && !missing.count(id))
      add_item(node, Phase::kTail, kAnySegment, role_of(node));
  }
  end_ = static_cast<int32_t>(items_.size()) + 1;
}

void Planner::find_last_uses() {
  for (size_t i = 0; i < items_.size(); ++i)
    if (items_[i].role != Item::Role::kReceive)
      for (ValueId in : items_[i].node->inputs)
        if (readers_[in].empty() || readers_[in].back() != i) readers_[in].push_back(i);
  for (const auto& [value, readers] : readers_) last_use_[value] = items_[readers.back()].position;
  for (const auto& [name, id] : graph_.outputs()) last_use_[id] = end_;
  // What the head makes and the body reads is read again in the next micro-batch.
  for (const Item& item : items_)
    if (item.segment == kAnySegment && item.position < pack_position_)
      for (ValueId out : item.node->outputs)
        if (last_use_[out] > pack_position_) last_use_[out] = std::max(last_use_[out], body_end_);
  // A communication step runs beside what comes after it, up to the first step that needs its result (which awaits it), or to
  // the end of its segment (which does). Until then nobody else may use its buffers.
  std::map<int32_t, int32_t> segment_end;
  for (const Item& item : items_) segment_end[item.segment] = item.position;
  for (const Item& item : items_) {
    if (item.role != Item::Role::kCollective) continue;
    int32_t until = item.last_only ? end_ : segment_end.at(item.segment);
    for (ValueId out : item.node->outputs)
      for (size_t reader : readers_[out]) until = std::min(until, items_[reader].position);
    if (item.last_only) until = std::max(until, body_end_);
    for (ValueId in : item.node->inputs) last_use_[in] = std::max(last_use_[in], until);
    for (ValueId out : item.node->outputs) last_use_[out] = std::max(last_use_[out], until);
  }
}

// ---- leaves ---------------------------------------------------------------------------------------------------------

// Inputs of the same name have other shapes in other plans of a run (a chunk of a prompt, a batch): each its own leaf.
std::string Planner::leaf_name(const Value& v) {
  if (v.kind == ValueKind::kConstant) {
    char text[40];
    std::snprintf(text, sizeof text, "constant:%.17g", v.constant);
    return text;
  }
  if (v.kind != ValueKind::kInput) return v.name;
  std::string shape;
  for (int64_t d : v.type.shape) shape += (shape.empty() ? "" : "x") + std::to_string(d);
  return "input:" + v.name + "@" + shape;
}

// Of ranks that hold the same part, the first along each axis writes it.
bool Planner::writes(const Value& v) const {
  for (size_t i = 0; i < graph_.axes().size(); ++i) {
    const bool pipeline = strategies_ && strategies_->is_pipeline(graph_.axes()[i]);
    if (pipeline && v.stage != kEveryStage && graph_.stages() > 1) continue; // its stage's rank is the only one
    if (graph_.placement(v.id, i).spread == Spread::kReplicated && graph_.axes()[i].coordinate != 0) return false;
  }
  return true;
}

uint32_t Planner::add_leaf(const Value& v) {
  Leaf leaf;
  leaf.name = leaf_name(v);
  leaf.kind = v.kind;
  leaf.type = v.type;
  leaf.value = v.id;
  leaf.constant = v.constant;
  leaf.saved = v.kind == ValueKind::kParameter || (v.kind == ValueKind::kState && v.owner != 0);
  leaf.stored = v.name;
  if (v.kind == ValueKind::kParameter && v.tied_to) leaf.stored = graph_.value(v.tied_to).name;
  if (v.kind == ValueKind::kState && v.tied_to)
    leaf.stored = graph_.value(v.tied_to).name + v.name.substr(graph_.value(v.owner).name.size());
  leaf.writes = v.tied_to == 0 && writes(v);
  leaf.logical_shape = v.logical_shape, leaf.box_offset = v.box_offset, leaf.box_shape = v.box_shape;
  leaf.flat_begin = v.flat_begin, leaf.flat_end = v.flat_end;
  plan_.leaves.push_back(std::move(leaf));
  return static_cast<uint32_t>(plan_.leaves.size() - 1);
}

void Planner::collect_leaves() {
  std::vector<ValueId> read;
  for (const Item& item : items_)
    if (item.role != Item::Role::kReceive)
      for (ValueId in : item.node->inputs)
        if (graph_.value(in).producer == 0 && (item.node->op != "add_stages" || owns(graph_.value(in).stage)))
          read.push_back(in);
  std::sort(read.begin(), read.end());
  read.erase(std::unique(read.begin(), read.end()), read.end());
  uint32_t scalars = kNone;
  for (ValueId id : read) {
    const Value& v = graph_.value(id);
    Storage s;
    s.kind = Storage::Kind::kLeaf;
    if (v.kind == ValueKind::kScalar) {
      if (scalars == kNone) {
        Leaf block;
        block.name = "scalars";
        block.kind = v.kind;
        block.type = Type{KM_U8, {static_cast<int64_t>(kScalarBytes)}};
        plan_.leaves.push_back(std::move(block));
        scalars = static_cast<uint32_t>(plan_.leaves.size() - 1);
      }
      s.leaf = {scalars, scalar_offset(v.name)};
    } else {
      s.leaf = {add_leaf(v), 0};
    }
    storage_of_[id] = add_storage(s);
  }
}

// ---- kernels --------------------------------------------------------------------------------------------------------

// Constant within a step, so that a packed copy may stand in for it in all micro-batches.
bool Planner::steady(ValueId id) const {
  const Value& v = graph_.value(id);
  if (v.kind == ValueKind::kParameter) return true;
  return v.producer != 0 && graph_.node(v.producer).phase == Phase::kHead;
}

uint32_t Planner::may_prepack(const Node& node) const {
  if (!options_.prepack || node.phase != Phase::kBody) return 0;
  uint32_t mask = 0;
  for (size_t i = 0; i < node.inputs.size(); ++i)
    if (steady(node.inputs[i])) mask |= 1u << i;
  return mask;
}

void Planner::choose_kernels() {
  for (Item& item : items_) {
    if (item.role != Item::Role::kKernel) continue;
    item.request = std::make_unique<OpRequest>(graph_, *item.node, may_prepack(*item.node));
    item.choice = chain_.choose(*item.request);
  }
}

} // namespace kumiki
