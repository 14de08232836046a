// The graph: values (typed, statically shaped, assigned once) and nodes (an op applied). Models fill it, autodiff and
// the update extend it, strategies and kernels rewrite it, the planner reads it. It knows no kernel and no memory.
// Floor: graph (stands on plugin, config, abi).
#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

#include "kumiki/graph.h"
#include "kumiki/rewrite.h"

namespace kumiki {

using ValueId = uint32_t; // 0 = none; never reused
using NodeId = uint32_t;  // 0 = none; never reused
using Shape = std::vector<int64_t>;
using Attribute = std::variant<int64_t, double, std::string, std::vector<int64_t>>;
using Attributes = std::map<std::string, Attribute>;

enum class ValueKind : uint32_t {
  kParameter = KM_VALUE_PARAMETER,
  kInput = KM_VALUE_INPUT,
  kState = KM_VALUE_STATE,
  kConstant = KM_VALUE_CONSTANT,
  kScalar = KM_VALUE_SCALAR,
  kActivation = KM_VALUE_ACTIVATION,
};
enum class Phase : uint32_t { kHead = KM_PHASE_HEAD, kBody = KM_PHASE_BODY, kTail = KM_PHASE_TAIL };
enum class Part : uint32_t { kForward = KM_PART_FORWARD, kBackward = KM_PART_BACKWARD, kWeight = KM_PART_WEIGHT };

struct Type {
  uint32_t dtype = KM_F32;
  Shape shape;
  int64_t elements() const;
  uint64_t bytes() const;
  bool operator==(const Type& other) const = default;
};

// One dimension of the mesh of ranks, as this rank sees it. docs/architecture.md, section 6.
struct Axis {
  std::string name;
  int64_t degree = 1;
  int64_t coordinate = 0;
  uint32_t level = 0; // of its strategy: where several divide one dimension, the lower is the inner one
  // Of half of an axis that was split: the name of the whole, and which half.
  std::string part_of{};
  bool outer = false;
  bool named(const std::string& axis) const { return name == axis || part_of == axis; }
  // Where both divide one dimension, whether this one cuts the parts of the other.
  bool inside(const Axis& other) const {
    if (level != other.level) return level < other.level;
    return !part_of.empty() && part_of == other.part_of && !outer && other.outer;
  }
  bool operator==(const Axis& other) const = default;
};

// How the ranks along one axis hold a value.
enum class Spread : uint8_t {
  kReplicated, // all the same
  kSharded,    // each a part along dimension `dim`
  kFlat,       // each a range of the elements
  kPartial,    // the value is the sum over the ranks
  kPartialMax, // the value is the maximum over the ranks
};
struct Placement {
  Spread spread = Spread::kReplicated;
  int32_t dim = 0; // of kSharded
  bool operator==(const Placement& other) const = default;
};
std::string to_text(const Placement& placement); // "replicated", "sharded(1)", "flat", "partial", "maximum"

// Where the part of a rank begins that n things are divided into, nearly equal and contiguous.
inline int64_t part_begin(int64_t n, int64_t degree, int64_t index) {
  return n / degree * index + std::min(n % degree, index);
}

constexpr int32_t kEveryStage = -1;

struct Value {
  ValueId id = 0;
  ValueKind kind = ValueKind::kActivation;
  std::string name; // of leaves: unique; of activations: the op's name, for people
  Type type;
  NodeId producer = 0;
  int32_t layer = -1;
  int32_t stage = 0;                 // kEveryStage: all have it
  std::vector<Placement> placements; // by axis of the graph; empty: replicated on all
  bool varies = false; // differs between micro-batches (inputs, "sample", "micro", "past", and what is made of them)
  // of parameters
  uint32_t role = KM_ROLE_REPLICATED;
  uint32_t init = KM_INIT_ZERO;
  double init_std = 0;
  bool decay = false;
  // of leaves that are divided (else empty): the whole shape; the box [box_offset, box_offset + box_shape) of it that
  // this rank's part lies in; and of a flat one the range of the box's elements, counted row-major
  Shape logical_shape, box_offset, box_shape;
  int64_t flat_begin = 0, flat_end = -1;
  ValueId tied_to = 0; // of a parameter: it is a copy of that one, on another stage; not saved, updated alike
  // of states: the parameter that owns it (0: not saved)
  ValueId owner = 0;
  double constant = 0; // of constants
};

struct Node {
  NodeId id = 0;
  std::string op;
  std::vector<ValueId> inputs;
  std::vector<ValueId> outputs;
  Attributes attributes;
  int32_t layer = -1;
  int32_t stage = 0;
  Phase phase = Phase::kBody;
  Part part = Part::kForward;
  NodeId derived_from = 0; // the forward node whose derivative this is
  bool again = false;      // marked for recomputation: backward readers get a clone
  std::string origin;      // who added it: "model gpt", "autodiff", "optimizer adamw", …

  int64_t i64(std::string_view name, int64_t otherwise = 0) const;
  double f64(std::string_view name, double otherwise = 0) const;
  std::string text(std::string_view name, const std::string& otherwise = "") const;
  std::vector<int64_t> list(std::string_view name) const; // empty without it
  bool has(std::string_view name) const;
};

// What the core knows of an op (docs/ops.md). Built-in ones stand in one table (ops.cc); a plugin's come through
// OpProvider.
class Graph;
struct OpRules {
  std::string name;
  // Types of the outputs; throws Error (a sentence that names the shapes) where the inputs do not fit.
  std::function<std::vector<Type>(const Node&, const std::vector<Type>& inputs)> shape;
  // Adds nodes for the gradient of input `input` at the cursor and returns it; 0: not differentiable. Null: no
  // derivative.
  std::function<ValueId(Graph&, const Node&, size_t input, const std::vector<ValueId>& output_gradients)> derivative;
  // Whether a fused op already honours the step scalar "apply", so that assign needs no select.
  bool takes_apply = false;
  // Placement of output `output` along one axis, for those of the inputs; throws Error (a sentence) where they do not
  // go together. Null: the rule of the vocabulary's table (placement.cc), else it takes replicated values only.
  std::function<Placement(const Graph&, const Node&, const std::vector<Placement>& inputs, size_t output, size_t axis)>
      placement;
  // Bits that the attribute `accumulate` may have. The built-in shape rules know of its addends at the end of the
  // inputs.
  uint32_t accumulates = 0;
};

// Gives the rules of ops that the vocabulary does not have; asked in order. Made from the ability "kumiki.op/1".
using OpProvider = std::function<const OpRules*(const std::string& op)>;

class Graph {
 public:
  explicit Graph(uint32_t mode = KM_MODE_TRAIN);
  Graph(const Graph&) = default; // a deep copy: evaluation keeps the forward graph
  Graph& operator=(const Graph&) = delete;

  uint32_t mode() const { return mode_; }
  void add_provider(OpProvider provider);
  const OpRules& rules(const std::string& op) const; // throws Error: unknown op, "did you mean"

  // -- mesh: before any node is added --
  void set_axes(std::vector<Axis> axes);
  const std::vector<Axis>& axes() const { return axes_; }
  size_t axis_index(const std::string& name) const; // throws Error: no such axis
  // The axes that a list of names means ("data", "data,context"), as a group counts its ranks: outer first. A split axis
  // is its two halves.
  std::vector<size_t> group_axes(const std::string& axes) const;
  // Splits an axis into blocks of `inner` neighbours: NAME/inner counts the blocks, NAME%inner the ranks of a block; the
  // name of the whole goes on to mean both. Only before anything is placed along it; again with the same `inner`: nothing.
  // `mesh_axis` counts as set_axes did, whatever was split since. Returns outer and inner as mesh_axes takes them.
  std::pair<size_t, size_t> split_axis(size_t mesh_axis, int64_t inner);
  // What the number that a strategy knows an axis by stands for in axes(), outer first.
  const std::vector<size_t>& mesh_axes(size_t mesh_axis) const;
  // The group of ranks along some axes ("data", "data,context"): how many, and which of them this rank is.
  int64_t group_size(const std::string& axes) const;
  int64_t group_index(const std::string& axes) const;
  int32_t stages() const { return stages_; } // virtual stages of the pipeline; 1 without one
  void set_stages(int32_t stages) { stages_ = stages; }

  // Divides a leaf along an axis: dimension `dim`, or -1: the elements of what is left of it (then its shape has rank
  // 1). Its readers have wrong types until infer_all. States of an owner follow it when they are added.
  void shard(ValueId leaf, int32_t dim, size_t axis) { shard(leaf, dim, std::vector<size_t>{axis}); }
  // The same along several at once, outer first: as many parts as they have ranks together.
  void shard(ValueId leaf, int32_t dim, const std::vector<size_t>& axes);
  Placement placement(ValueId id, size_t axis) const;
  // A copy of a parameter on another stage (tied weights across a pipeline).
  ValueId add_tied_copy(ValueId parameter, int32_t stage);
  // Of its outputs too. A transfer stands on its stage `from`, its output on `to`; add_stages where its `stages` say.
  void set_stage(NodeId node, int32_t stage);
  bool stands_on(ValueId id, int32_t stage) const; // whether a node of that stage may read it
  // Types of all nodes, then placements, from the leaves on. Throws Error naming node, axis and who added it.
  void infer_all();

  // -- leaves --
  ValueId add_parameter(const std::string& name, const Type&, uint32_t role, uint32_t init, double init_std,
                        bool decay);
  ValueId input(const std::string& name); // as declared; "segments" that nobody declared is 0, other names an Error
  void declare_input(const std::string& name, const Type&);
  ValueId add_state(ValueId owner, const std::string& name, const Type&);
  ValueId constant(double value); // one value for equal constants
  ValueId step_scalar(const std::string& name);
  // From here on step_scalar(name) is `value`, for "gradient_scale", "gradient_norm", "apply", "tokens", which the tail
  // computes; what reads the leaf that stood in for it reads `value` now.
  void set_tail_scalar(const std::string& name, ValueId value);
  std::vector<ValueId> tail_scalars() const; // those that were set

  // -- nodes --
  // Outputs come from the shape rule. Inserted at the cursor, with the cursor's layer, stage, phase, part and origin.
  std::vector<ValueId> add(const std::string& op, const std::vector<ValueId>& inputs, Attributes attributes = {});
  ValueId add1(const std::string& op, const std::vector<ValueId>& inputs,
               Attributes attributes = {}); // the first output
  void assign(ValueId state,
              ValueId value); // in the tail: through select(apply, value, state) unless the producer takes apply
  void set_output(const std::string& name, ValueId value);
  ValueId output(const std::string& name) const; // 0: none
  const std::map<std::string, ValueId>& outputs() const { return outputs_; }

  // -- reading --
  const Value& value(ValueId id) const;
  Value& value(ValueId id);
  const Node& node(NodeId id) const;
  Node& node(NodeId id);
  bool alive(NodeId id) const;
  const std::vector<NodeId>& order() const { return order_; } // topological
  std::vector<NodeId> users(ValueId id) const;                // in order
  size_t reads(ValueId id) const;                             // inputs of nodes that are this value; constant time
  std::vector<ValueId> values() const;                        // all that a node or output uses, and all leaves
  const std::vector<ValueId>& parameters() const { return parameters_; } // in order of declaration
  const std::vector<ValueId>& states() const { return states_; }
  ValueId find(const std::string& leaf_name) const; // parameter, state or input, else step scalar; 0: none
  bool precedes(NodeId a, NodeId b) const;          // in order; constant time
  NodeId first_of_body() const;                     // 0: none
  NodeId next(NodeId id) const;                     // in order; 0: the first, and the end. Also after an erased node
  // The final gradient of each parameter (set by autodiff: the output of `accumulate`).
  std::map<ValueId, ValueId>& gradients() { return gradients_; }
  const std::map<ValueId, ValueId>& gradients() const { return gradients_; }

  // -- rewriting --
  // Inputs of nodes change only through these, so that the index of readers stays true (check() sees to it).
  // References to nodes and values stay valid when others are added.
  void replace_uses(ValueId old_value, ValueId now, NodeId except = 0); // outputs and gradients move along; same type
  void replace_input(NodeId node, size_t input, ValueId now);           // then infer(node), if the type is another
  void move_before(NodeId node, NodeId place);                          // place 0: to the end
  void erase(NodeId node);                                              // must be unused
  void erase_dead(); // nodes that lead to no output, assign or gradient
  // What the op's rule gives for the node's inputs; the Error says where the node stands. The node need not be added.
  std::vector<Type> infer_types(const Node& node) const;
  void infer(NodeId node); // shape rule again, after attributes or inputs changed; not of its readers

  // -- cursor: what is added takes these --
  struct Cursor {
    NodeId before = 0; // 0: at the end
    int32_t layer = -1;
    int32_t stage = 0;
    Phase phase = Phase::kBody;
    Part part = Part::kForward;
    NodeId derived_from = 0;
    std::string origin;
    bool share = false; // autodiff: an equal node of the same derived_from is used again
    bool moved = false; // by stand_before or stand_after: stand_at_end goes back
  };
  Cursor cursor;
  void stand_before(NodeId node); // position, layer, stage, phase, part of the node
  void stand_after(NodeId node);
  void stand_at_end(); // as it was before the first stand_before or stand_after

  // Throws Error naming the first thing that is wrong: order, dangling ids, types, phases (the tail reads nothing
  // that varies, the head reads leaves and head only), an assign of another type, two assigns of one state.
  void check() const;

 private:
  ValueId new_value(Value value);
  ValueId new_leaf(const std::string& name, Value value);
  std::vector<ValueId> insert(Node node, const std::vector<Type>& types);
  NodeId find_shared(const Node& node) const;
  void place(NodeId node, NodeId before);
  void displace(NodeId node);
  size_t position(NodeId node) const;
  void relabel();
  void remove_user(ValueId value, NodeId node);
  void spread_varies(NodeId node);
  void settle_stage(NodeId node);

  uint32_t mode_;
  std::vector<Axis> axes_;
  std::vector<std::vector<size_t>> mesh_axes_; // by the number that a strategy knows: in axes_, outer first
  int32_t stages_ = 1;
  std::deque<Value> values_; // by id; [0] unused
  std::deque<Node> nodes_;   // by id; [0] unused; erased ones have no op
  std::vector<NodeId> order_;
  // By node: rises along order_, with gaps, so that two nodes compare in constant time and one goes between without
  // numbering the rest again. An erased node keeps its own: a walk can go on from it.
  std::vector<uint64_t> labels_;
  std::vector<std::vector<NodeId>> users_;                  // by value; unordered, once for each input that reads it
  std::unordered_map<NodeId, std::vector<NodeId>> derived_; // by forward node: what the cursor's share looks through
  std::map<std::string, ValueId> leaves_;                   // parameters, states, inputs
  std::map<std::string, ValueId> scalars_;
  std::vector<ValueId> parameters_, states_;
  std::map<uint64_t, ValueId> constants_; // by the bits of the double
  std::map<std::string, Type> declared_inputs_;
  std::map<std::string, ValueId> outputs_;
  std::map<ValueId, ValueId> gradients_;
  std::vector<OpProvider> providers_;
  Cursor end_cursor_;
};

// Reverse mode: adds the gradients of output "loss" (seeded with the step scalar "loss_scale") for every parameter,
// and one `accumulate` node for each, whose output is gradients()[parameter]. Backward nodes take layer and stage of
// their forward node; part W if the input that they differentiate does not vary on micro-batches, else B. accumulate
// stands in the body, its output does not vary. Where the head makes of a parameter what the body reads (flat_gather),
// the accumulated gradient of that goes through the derivative of the head's node in the tail, and
// gradients()[parameter] is what comes out. A parameter that the loss does not depend on is an Error.
void autodiff(Graph& graph);

// Replaces tensor_norm(x), for x divided over ranks, by the root of the sum of their sum_squares(x). The graph's
// placements are inferred on the way.
void resolve_norms(Graph& graph);

// What must hold at last, when strategies, optimizer and core have written all they have to: each gradient lies as its
// parameter does, and none is a partial sum; nodes read what is on their stage; outputs are on all ranks alike; gathers
// and scatters go over the innermost axes of a dimension; the gradients of tied copies are one sum over their stages;
// no norm is that of one rank. Needs placements (infer_all). Throws Error naming node, axis and who added it.
void check_final(const Graph& graph);

// One line a node: `%12:f32[4,64,128] = matmul(%3:tokens, %9:wte) {transpose_b=1}  body/F layer 3`. And as Graphviz.
std::string to_text(const Graph& graph);
std::string to_graphviz(const Graph& graph);
std::string to_text(const Type& type); // "f32[4,64,128]"
std::string to_text(const Graph& graph, const Node& node);

// Placement of output `output` of a node along one axis, for those of its inputs (placement.cc): the op's own rule,
// else that of the vocabulary. Ops without output are checked too (output 0). Throws Error (a sentence).
Placement infer_placement(const Graph& graph, const Node& node, const std::vector<Placement>& inputs, size_t output,
                          size_t axis);
bool has_placement_rule(const std::string& op); // whether the vocabulary's table has one

// The built-in rules (ops.cc).
const OpRules* find_builtin_op(const std::string& name);
// Whether the op goes between ranks or stages (docs/ops.md, "Communication"): the planner's own, no kernel runs it.
bool is_communication(const std::string& op);
std::vector<std::string> builtin_ops();

// The ABI service "kumiki.graph/1" (service.cc): a km_graph* is a Graph*. Errors inside a plugin's call go to
// host->fail and are also kept: take_service_error gives and clears the first of them (empty: none).
const km_graph_service* graph_service();
inline km_graph* to_abi(Graph* graph) { return reinterpret_cast<km_graph*>(graph); }
std::string take_service_error();
km_tensor to_abi(const Type& type);
Type from_abi(const km_tensor& tensor);
// Attributes in ABI form; the view holds pointers into `attributes`.
std::vector<km_attribute> to_abi(const Attributes& attributes);

// FLOPs (2 for a multiply-add; attention counted as its mask needs: causal half) and bytes that a node moves at least.
struct Cost {
  double flops = 0;
  double bytes = 0;
};
Cost cost(const Graph& graph, const Node& node);

} // namespace kumiki
