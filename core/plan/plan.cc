#include "core/plan/plan.h"

#include <algorithm>
#include <bit>
#include <cstdio>
#include <limits>
#include <map>

#include "core/base/error.h"

namespace kumiki {
namespace {

constexpr uint32_t kNone = 0xffffffffu;

// Memory that one or more values share: a part of a leaf, or an interval of the arena.
struct Storage {
  bool is_leaf = false;
  Location leaf;
  Interval interval;
  const char* purpose = "activations";
  bool pinned = false; // lives over the whole body or longer: nothing else may be written into it in place
};

// One node on its way to a step.
struct Item {
  const Node* node = nullptr;
  int32_t position = 0;
  std::unique_ptr<OpRequest> request, next_request;
  KernelChain::Choice choice, next_choice;
  ValueId accumulates_into = 0; // the accumulator that the `next` variant adds to
  size_t accumulate_output = 0;
};

class Planner {
 public:
  Planner(const Graph& graph, KernelChain& chain, const PlanOptions& options)
      : graph_(graph), chain_(chain), options_(options) {}

  Plan make() {
    collect_leaves();
    order_nodes();
    choose_kernels();
    accumulators();
    assigns();
    store_values();
    packs();
    const auto workspaces = place_workspaces();
    std::vector<Interval*> intervals;
    for (Storage& s : storages_)
      if (!s.is_leaf) intervals.push_back(&s.interval);
    plan_.arena = place(intervals);
    emit(workspaces);
    name_outputs();
    memory_rows();
    return std::move(plan_);
  }

 private:
  // -- leaves --
  void collect_leaves() {
    uint32_t scalars = kNone;
    for (ValueId id : graph_.values()) {
      const Value& v = graph_.value(id);
      if (v.kind == ValueKind::kActivation) continue;
      Storage s;
      s.is_leaf = true;
      if (v.kind == ValueKind::kScalar) {
        if (scalars == kNone) {
          scalars = add_leaf({"scalars", v.kind, Type{KM_U8, {static_cast<int64_t>(kScalarBytes)}}, 0, false, 0});
        }
        s.leaf = {scalars, scalar_offset(v.name)};
      } else {
        const bool saved = v.kind == ValueKind::kParameter || (v.kind == ValueKind::kState && v.owner != 0);
        s.leaf = {add_leaf({leaf_name(v), v.kind, v.type, id, saved, v.constant}), 0};
      }
      storage_of_[id] = add_storage(s);
    }
  }

  // Inputs of the same name have other shapes in other plans of a run (a chunk of a prompt, a batch): each its own leaf.
  static std::string leaf_name(const Value& v) {
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

  uint32_t add_leaf(Leaf leaf) {
    plan_.leaves.push_back(std::move(leaf));
    return static_cast<uint32_t>(plan_.leaves.size() - 1);
  }
  size_t add_storage(Storage s) {
    storages_.push_back(s);
    return storages_.size() - 1;
  }

  // -- time: head, packs (one position), body, tail, end --
  void order_nodes() {
    for (Phase phase : {Phase::kHead, Phase::kBody, Phase::kTail}) {
      if (phase == Phase::kBody) {
        pack_position_ = static_cast<int32_t>(items_.size());
        body_begin_ = pack_position_ + 1;
      }
      if (phase == Phase::kTail)
        body_end_ = static_cast<int32_t>(items_.size()); // of the last body item, packs counted
      for (NodeId id : graph_.order()) {
        const Node& node = graph_.node(id);
        if (node.phase != phase) continue;
        Item item;
        item.node = &node;
        item.position = static_cast<int32_t>(items_.size()) + (phase == Phase::kHead ? 0 : 1);
        position_of_[id] = item.position;
        items_.push_back(std::move(item));
      }
    }
    end_ = static_cast<int32_t>(items_.size()) + 1;
    for (const auto& [name, id] : graph_.outputs()) last_use_[id] = end_;
    for (const Item& item : items_)
      for (ValueId in : item.node->inputs) last_use_[in] = std::max(last_use_[in], item.position);
    // What the head makes and the body reads is read again in the next micro-batch.
    for (const Item& item : items_)
      if (item.node->phase == Phase::kHead)
        for (ValueId out : item.node->outputs)
          if (last_use_[out] > pack_position_) last_use_[out] = std::max(last_use_[out], body_end_);
  }

  // Constant within a step, so that a packed copy may stand in for it in all micro-batches.
  bool steady(ValueId id) const {
    const Value& v = graph_.value(id);
    if (v.kind == ValueKind::kParameter) return true;
    return v.producer != 0 && graph_.node(v.producer).phase == Phase::kHead;
  }

  uint32_t may_prepack(const Node& node) const {
    if (!options_.prepack || node.phase != Phase::kBody) return 0;
    uint32_t mask = 0;
    for (size_t i = 0; i < node.inputs.size(); ++i)
      if (steady(node.inputs[i])) mask |= 1u << i;
    return mask;
  }

  static bool own(const Node& node) { return node.op == "assign" || node.op == "accumulate"; }

  void choose_kernels() {
    for (Item& item : items_) {
      if (own(*item.node)) continue;
      item.request = std::make_unique<OpRequest>(graph_, *item.node, may_prepack(*item.node));
      item.choice = chain_.choose(*item.request);
    }
  }

  Item& producer_item(ValueId value) {
    const NodeId id = graph_.value(value).producer;
    const int32_t position = position_of_.at(id);
    return items_[static_cast<size_t>(position - (graph_.node(id).phase == Phase::kHead ? 0 : 1))];
  }

  static size_t output_index(const Node& node, ValueId value) {
    return static_cast<size_t>(std::find(node.outputs.begin(), node.outputs.end(), value) - node.outputs.begin());
  }

  // The addend that belongs to output `output` of a node with attribute accumulate: index of its input, or kNone.
  static size_t addend_index(const Node& node, size_t output) {
    return node.i64("accumulate") >> output & 1 ? addend_place(node, output) : kNone;
  }

  // Addends stand behind the other inputs, in the order of their outputs: where the one of `output` stands, or would stand.
  static size_t addend_place(const Node& node, size_t output) {
    const uint64_t mask = static_cast<uint64_t>(node.i64("accumulate"));
    const uint64_t before = mask & ((uint64_t{1} << output) - 1);
    return node.inputs.size() - static_cast<size_t>(std::popcount(mask)) + static_cast<size_t>(std::popcount(before));
  }

  // -- gradients over micro-batches --
  // x -> accumulate: x is written straight into the accumulator where its producer can add to its output. If x itself is a
  // sum made in place (tied weights), the whole chain of addends lies in the accumulator, and its first producer adds.
  void accumulators() {
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
        const Value& v = graph_.value(current);
        if (v.producer == 0 || graph_.users(current).size() != 1 || graph_.node(v.producer).phase != Phase::kBody)
          break;
        in_place.push_back(current);
        Item& p = producer_item(current);
        const size_t addend = addend_index(*p.node, output_index(*p.node, current));
        if (addend == kNone) {
          first = &p;
          break;
        }
        current = p.node->inputs[addend];
      }
      if (!first || own(*first->node)) continue;
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
  std::unique_ptr<OpRequest> adding_request(const Item& item, size_t output) const {
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
  // -- states: where the producer may write over the old one, the new value lies in the state's own memory --
  void assigns() {
    for (const Item& item : items_) {
      if (item.node->op != "assign") continue;
      const ValueId state = item.node->inputs[0], value = item.node->inputs[1];
      const Value& v = graph_.value(value);
      if (v.producer == 0 || storage_of_.count(value)) continue;
      const Item& p = producer_item(value);
      if (own(*p.node) || p.node->phase != item.node->phase) continue;
      const uint32_t mask = p.choice.support.in_place[output_index(*p.node, value)];
      bool can = false;
      for (size_t i = 0; i < p.node->inputs.size(); ++i) can |= p.node->inputs[i] == state && (mask >> i & 1);
      for (NodeId user : graph_.users(state)) can &= user == item.node->id || position_of_.at(user) <= p.position;
      if (can) storage_of_[value] = storage_of_.at(state);
    }
  }

  // -- activations --
  void store_values() {
    for (Item& item : items_) {
      const Node& node = *item.node;
      if (node.op == "accumulate" || node.op == "assign") continue;
      for (size_t o = 0; o < node.outputs.size(); ++o) {
        const ValueId out = node.outputs[o];
        if (storage_of_.count(out)) continue;
        const size_t reuse = reusable(item, o);
        if (reuse != kNone) {
          storage_of_[out] = reuse;
          Interval& interval = storages_[reuse].interval;
          interval.last = std::max(interval.last, std::max(last_use_[out], item.position));
          continue;
        }
        Storage s;
        s.interval = {graph_.value(out).type.bytes(), item.position, std::max(last_use_[out], item.position), 0};
        if (node.phase == Phase::kHead) s.pinned = last_use_[out] > pack_position_;
        storage_of_[out] = add_storage(s);
      }
    }
  }

  // The storage of an input that dies here and that output `o` may take over, or kNone.
  size_t reusable(const Item& item, size_t o) const {
    const Node& node = *item.node;
    const size_t addend = addend_index(node, o);
    uint32_t mask = item.choice.support.in_place[o];
    if (addend != kNone) mask |= 1u << addend;
    for (size_t i = 0; i < node.inputs.size(); ++i) {
      if (!(mask >> i & 1)) continue;
      const size_t s = storage_of_.at(node.inputs[i]);
      const Storage& storage = storages_[s];
      if (storage.is_leaf || storage.pinned || storage.interval.last > item.position) continue;
      if (graph_.value(node.inputs[i]).type.bytes() != graph_.value(node.outputs[o]).type.bytes()) continue;
      return s;
    }
    return kNone;
  }

  // -- packed copies of what is constant within the step --
  struct Pack {
    size_t storage;
    uint32_t member;
    km_kernel* kernel;
    uint32_t input;
    ValueId value;
  };

  void packs() {
    for (Item& item : items_) {
      if (own(*item.node)) continue;
      want_packs(item, *item.request, item.choice, kNone);
      if (item.next_request)
        want_packs(item, *item.next_request, item.next_choice, addend_place(*item.node, item.accumulate_output));
    }
  }

  void want_packs(const Item& item, const OpRequest& request, const KernelChain::Choice& choice, size_t extra_input) {
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

  std::string pack_key(const KernelChain::Choice& choice, ValueId value, uint32_t input) const {
    const char* format = choice.support.prepack_format[input];
    return std::to_string(choice.member) + ":" + std::to_string(value) + ":" + (format ? format : "") + ":" +
           std::to_string(choice.support.prepack_bytes[input]);
  }

  // -- workspaces --
  std::map<int32_t, size_t> place_workspaces() {
    std::map<int32_t, size_t> result;
    for (const Item& item : items_) {
      if (own(*item.node)) continue;
      const uint64_t bytes = std::max(item.choice.support.workspace_bytes,
                                      item.next_request ? item.next_choice.support.workspace_bytes : 0);
      if (bytes == 0) continue;
      Storage s;
      s.purpose = "workspace";
      s.interval = {bytes, item.position, item.position, 0};
      result[item.position] = add_storage(s);
    }
    return result;
  }

  // -- steps --
  Location location(size_t storage) const {
    const Storage& s = storages_[storage];
    return s.is_leaf ? s.leaf : Location{Location::kArena, s.interval.offset};
  }
  Location location_of(ValueId value) const { return location(storage_of_.at(value)); }

  Action run_action(const Item& item, const OpRequest& request, const KernelChain::Choice& choice, size_t extra_input,
                    const std::map<int32_t, size_t>& workspaces) {
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
    if (auto w = workspaces.find(item.position); w != workspaces.end()) a.workspace = location(w->second);
    return a;
  }

  static Action copy_action(Location from, Location to, uint64_t bytes) {
    Action a;
    a.kind = StepKind::kCopy;
    a.buffers = {from, to};
    a.bytes = bytes;
    return a;
  }

  Step step_for(const Node& node) const {
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

  void emit(const std::map<int32_t, size_t>& workspaces) {
    std::vector<Step> late_copies[3];
    for (const Item& item : items_) {
      const Node& node = *item.node;
      Segment& segment = node.phase == Phase::kHead ? plan_.head : node.phase == Phase::kBody ? plan_.body : plan_.tail;
      Step step = step_for(node);
      if (node.op == "assign") {
        const Location from = location_of(node.inputs[1]), to = location_of(node.inputs[0]);
        if (from.leaf == to.leaf && from.offset == to.offset) continue;
        step.first = step.next = copy_action(from, to, graph_.value(node.inputs[0]).type.bytes());
        late_copies[static_cast<int>(node.phase) - 1].push_back(step);
        continue;
      }
      if (node.op == "accumulate") {
        if (!emit_accumulate(node, step)) continue;
        segment.steps.push_back(step);
        continue;
      }
      emit_addend_copies(item, segment, step);
      step.first = run_action(item, *item.request, item.choice, kNone, workspaces);
      step.next = step.first;
      if (item.next_request) {
        step.varies = true;
        step.next = run_action(item, *item.next_request, item.next_choice, addend_place(node, item.accumulate_output),
                               workspaces);
      }
      segment.steps.push_back(std::move(step));
    }
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
      plan_.head.steps.push_back(std::move(step));
    }
    Segment* segments[3] = {&plan_.head, &plan_.body, &plan_.tail};
    for (int i = 0; i < 3; ++i)
      for (Step& step : late_copies[i]) segments[i]->steps.push_back(std::move(step));
  }

  // A kernel that adds in place only: the addend is brought into the output's buffer first.
  void emit_addend_copies(const Item& item, Segment& segment, const Step& like) {
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
  bool emit_accumulate(const Node& node, Step& step) {
    const ValueId x = node.inputs[0], sum = node.outputs[0];
    const size_t from = storage_of_.at(x), to = storage_of_.at(sum);
    if (from == to) return false;
    const Type& type = graph_.value(sum).type;
    step.varies = true;
    step.first = copy_action(location(from), location(to), type.bytes());
    const km_tensor tensor = to_abi(type);
    OpRequest add("add", {tensor, tensor}, {tensor}, {}, 0);
    const KernelChain::Choice choice = chain_.choose(add);
    KM_CHECK(choice.support.in_place[0] & 1u, "`add` works in place");
    step.next.kind = StepKind::kRun;
    step.next.member = choice.member;
    step.next.kernel = chain_.create(choice, add);
    step.next.buffers = {location(to), location(from), location(to)};
    return true;
  }

  void name_outputs() {
    for (const auto& [name, id] : graph_.outputs()) {
      plan_.outputs[name] = location_of(id);
      plan_.output_types[name] = graph_.value(id).type;
    }
    for (const auto& [parameter, gradient] : graph_.gradients())
      if (storage_of_.count(gradient)) plan_.gradients[parameter] = location_of(gradient);
  }

  void memory_rows() {
    std::map<std::string, uint64_t> rows;
    for (const Leaf& leaf : plan_.leaves) {
      const char* what = leaf.kind == ValueKind::kParameter ? "parameters"
                         : leaf.kind == ValueKind::kState   ? (leaf.saved ? "optimizer states" : "caches")
                                                            : "inputs and scalars";
      rows[what] += leaf.type.bytes();
    }
    std::vector<uint64_t> live(static_cast<size_t>(end_) + 2, 0);
    for (const Storage& s : storages_)
      if (!s.is_leaf)
        for (int32_t t = s.interval.first; t <= s.interval.last; ++t) live[static_cast<size_t>(t)] += s.interval.bytes;
    const int32_t peak = static_cast<int32_t>(std::max_element(live.begin(), live.end()) - live.begin());
    uint64_t sum = 0;
    for (const Storage& s : storages_)
      if (!s.is_leaf && s.interval.first <= peak && peak <= s.interval.last) {
        rows[s.purpose] += s.interval.bytes;
        sum += s.interval.bytes;
      }
    if (plan_.arena.bytes > sum) rows["gaps in the arena"] = plan_.arena.bytes - sum;
    for (const char* what : {"parameters", "optimizer states", "caches", "gradients", "activations", "packed weights",
                             "workspace", "gaps in the arena", "inputs and scalars"})
      if (rows.count(what)) plan_.memory.push_back({what, rows[what]});
  }

  const Graph& graph_;
  KernelChain& chain_;
  const PlanOptions& options_;
  Plan plan_;
  std::vector<Item> items_;
  std::vector<Storage> storages_;
  std::map<ValueId, size_t> storage_of_;
  std::map<ValueId, int32_t> last_use_;
  std::map<NodeId, int32_t> position_of_;
  std::map<std::string, Pack> packs_;
  std::vector<std::string> pack_order_;
  int32_t pack_position_ = 0, body_begin_ = 0, body_end_ = 0, end_ = 0;
};

} // namespace

uint64_t scalar_offset(const std::string& name) {
  for (size_t i = 0; i < std::size(kStepScalars); ++i)
    if (name == kStepScalars[i]) return i * kScalarStride;
  throw Error("", "'" + name + "' is no step scalar");
}

std::vector<ScheduleEntry> one_rank_schedule(int32_t micro_batches) {
  std::vector<ScheduleEntry> schedule;
  schedule.push_back({Phase::kHead, 0, 0, true, true});
  for (int32_t m = 0; m < micro_batches; ++m) schedule.push_back({Phase::kBody, 0, m, m == 0, m + 1 == micro_batches});
  schedule.push_back({Phase::kTail, 0, 0, true, true});
  return schedule;
}

uint64_t Plan::leaf_bytes() const {
  uint64_t bytes = 0;
  for (const Leaf& leaf : leaves) bytes += leaf.type.bytes();
  return bytes;
}

Plan make_plan(const Graph& graph, KernelChain& chain, const PlanOptions& options) {
  return Planner(graph, chain, options).make();
}

} // namespace kumiki
