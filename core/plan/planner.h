// The planner at work: from a graph and a kernel chain to a Plan. Internal to core/plan: plan.cc is the order of its steps,
// planner_order.cc says what runs when (overlap.cc: what beside messages), planner_place.cc where values lie, planner_emit.cc writes the steps,
// planner_comm.cc the messages.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/plan/plan.h"

namespace kumiki {

class Planner {
 public:
  Planner(const Graph& graph, KernelChain& chain, const PlanOptions& options, const Strategies* strategies)
      : graph_(graph), chain_(chain), options_(options), strategies_(strategies) {}
  Plan make();

 private:
  static constexpr uint32_t kNone = 0xffffffffu;
  static constexpr int32_t kAnySegment = -1;

  // Memory that one or more values share: a part of a leaf, an interval of the arena, or an interval of each slot of a stage.
  struct Storage {
    enum class Kind : uint8_t { kArena, kLeaf, kSlot };
    Kind kind = Kind::kArena;
    Location leaf;
    Interval interval; // kSlot: within the slot
    int32_t stage = 0; // kSlot
    const char* purpose = "activations";
    bool pinned = false; // lives over the whole body or longer: nothing else may be written into it in place
  };

  // One node on its way to a step.
  struct Item {
    const Node* node = nullptr;
    int32_t position = 0;
    int32_t segment = kAnySegment; // of the body; kAnySegment: head or tail
    bool last_only = false;        // a tail node that runs with the last micro-batch
    enum class Role : uint8_t { kKernel, kOwn, kSend, kReceive, kCollective } role = Role::kKernel;
    std::unique_ptr<OpRequest> request, next_request;
    KernelChain::Choice choice, next_choice;
    ValueId accumulates_into = 0; // the accumulator that the `next` variant adds to
    size_t accumulate_output = 0;
  };
  struct Pack {
    size_t storage;
    uint32_t member;
    km_kernel* kernel;
    uint32_t input;
    ValueId value;
  };

  // -- planner_order.cc --
  bool owns(int32_t stage) const { return !strategies_ || graph_.stages() == 1 || strategies_->owns(stage); }
  bool runs(const Node& node) const;
  bool merged() const { return graph_.stages() == 1; } // one segment does all of a micro-batch
  void make_segments();
  int32_t segment_of(int32_t stage, Part part) const;
  void order_nodes();
  std::vector<NodeId> body_order(int32_t segment) const;
  void add_item(const Node& node, Phase phase, int32_t segment, Item::Role role);
  void collect_leaves();
  uint32_t add_leaf(const Value& value);
  static std::string leaf_name(const Value& value);
  bool writes(const Value& value) const;
  void find_last_uses();
  bool steady(ValueId id) const;
  uint32_t may_prepack(const Node& node) const;
  void choose_kernels();
  bool can_hoist(const Node& node) const;

  // -- planner_place.cc --
  size_t add_storage(Storage s);
  Item* producer_item(ValueId value);
  const Item* producer_item(ValueId value) const { return const_cast<Planner*>(this)->producer_item(value); }
  static size_t output_index(const Node& node, ValueId value);
  static size_t addend_index(const Node& node, size_t output);
  static size_t addend_place(const Node& node, size_t output);
  void accumulators();
  std::unique_ptr<OpRequest> adding_request(const Item& item, size_t output) const;
  void assigns();
  void store_values();
  bool crosses_segments(ValueId value) const;
  bool is_sent(ValueId value) const;
  int32_t slot_last(int32_t segment) const;
  int32_t last_read(ValueId value) const;
  size_t reusable(const Item& item, size_t output, bool slot) const;
  void packs();
  void want_packs(const Item& item, const OpRequest& request, const KernelChain::Choice& choice, size_t extra_input);
  std::string pack_key(const KernelChain::Choice& choice, ValueId value, uint32_t input) const;
  void place_workspaces();
  void place_all();
  void memory_rows();

  // -- planner_emit.cc --
  Location location(size_t storage) const;
  Location location_of(ValueId value) const;
  Action run_action(const Item& item, const OpRequest& request, const KernelChain::Choice& choice, size_t extra_input);
  static Action copy_action(Location from, Location to, uint64_t bytes);
  Action add_action(ValueId like, Location a, Location b, Location sum);
  Step step_for(const Node& node) const;
  Segment& segment_of(const Item& item);
  void emit();
  void emit_kernel(const Item& item, Segment& segment);
  void emit_addend_copies(const Item& item, Segment& segment, const Step& like);
  void emit_packs();
  bool emit_accumulate(const Node& node, Step& step);
  void name_outputs();

  // -- planner_comm.cc --
  static bool is_communication(const std::string& op);
  void emit_comm(const Item& item, Segment& segment);
  void emit_shift(const Item& item, Segment& segment);
  void emit_stage_sum(const Item& item, Segment& segment);
  void emit_message(const Item& item, Segment& segment, Message message, Location input, Location output,
                    ValueId result);
  uint32_t group(const std::string& axes);
  void await_inputs(const Node& node, Step& step) const;
  static void await_at_end(Segment& segment);

  const Graph& graph_;
  KernelChain& chain_;
  const PlanOptions& options_;
  const Strategies* strategies_;
  Plan plan_;
  std::vector<Item> items_;
  std::vector<Storage> storages_;
  std::map<ValueId, size_t> storage_of_;
  std::map<ValueId, int32_t> last_use_;
  std::map<NodeId, size_t> item_of_; // of a node that this rank runs; of a transfer the item that makes its output
  std::map<ValueId, std::vector<size_t>> readers_; // items, in order
  std::map<int32_t, size_t> workspaces_;           // by position
  std::map<std::string, Pack> packs_;
  std::vector<std::string> pack_order_;
  std::map<int32_t, uint64_t> slot_offset_, slot_stride_; // by stage
  std::map<ValueId, std::vector<uint32_t>> makers_;       // communication steps that a value comes from
  int32_t pack_position_ = 0, body_begin_ = 0, body_end_ = 0, end_ = 0;
};

} // namespace kumiki
