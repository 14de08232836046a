// Reverse mode over the forward graph.
//
// Walked backwards, a node finds the gradients of its outputs complete, since all readers of them stand behind it.
// Each of its inputs on which the loss depends through a parameter gets one more term; from the second term on a
// running sum, so that each term can die at once (and the sum can be fused into the op that makes the term). Inputs
// that vary between micro-batches come first: what they need is part B, and what only parameters need, part W, waits
// for nothing.
//
// A value that the body reads and the head makes (a parameter that was gathered there) is to the body what a parameter
// is: its terms are summed over the micro-batches by `accumulate`. The derivative of the head node goes on from there
// in the tail, where a parameter's own terms of the body, accumulated too, meet what comes through the head.
#include <algorithm>

#include "core/base/error.h"
#include "core/graph/graph.h"

namespace kumiki {
namespace {

class Differentiation {
 public:
  explicit Differentiation(Graph& graph) : graph_(graph), gradient_(1), wanted_(1, false) {}

  void run() {
    const ValueId loss = graph_.output("loss");
    if (loss == 0)
      throw Error("", "the graph has no output \"loss\" to differentiate", "the model sets it in mode train");
    const std::vector<NodeId> forward = graph_.order();
    const Graph::Cursor before = graph_.cursor;
    graph_.cursor = {};
    graph_.cursor.origin = "autodiff";
    find_wanted(forward);
    if (!wanted(loss)) throw Error("", "the loss depends on no parameter");
    graph_.cursor.part = Part::kBackward;
    add_term(loss, graph_.step_scalar("loss_scale"));
    for (size_t i = forward.size(); i-- > 0;) {
      differentiate(forward[i]);
      for (const ValueId value : finished_after_[i]) accumulate(value);
    }
    for (const ValueId parameter : graph_.parameters()) {
      if (gradient(parameter) == 0) unused(parameter);
      graph_.gradients()[parameter] = gradient(parameter);
    }
    graph_.cursor = before;
    graph_.cursor.before = 0;
  }

 private:
  // Values that depend on a parameter; and, for each parameter and each value of the head, its first reader in the
  // body: once that is differentiated, all terms of the body are there.
  void find_wanted(const std::vector<NodeId>& forward) {
    finished_after_.resize(forward.size());
    for (const ValueId parameter : graph_.parameters()) {
      set_wanted(parameter);
      if (graph_.users(parameter).empty()) unused(parameter);
      find_first_reader(parameter);
    }
    for (size_t i = 0; i < forward.size(); ++i) {
      const Node& node = graph_.node(forward[i]);
      if (node.phase == Phase::kTail)
        throw Error("",
                    "autodiff runs before anything stands in the tail, but " + node.op + " does (" + node.origin + ")");
      if (std::any_of(node.inputs.begin(), node.inputs.end(), [this](ValueId id) { return wanted(id); }))
        for (const ValueId output : node.outputs) {
          set_wanted(output);
          if (node.phase == Phase::kHead) find_first_reader(output);
        }
      const auto found = first_reader_.find(forward[i]);
      if (found != first_reader_.end()) finished_after_[i] = found->second;
    }
  }

  void find_first_reader(ValueId value) {
    for (const NodeId user : graph_.users(value))
      if (graph_.node(user).phase == Phase::kBody) {
        first_reader_[user].push_back(value);
        return;
      }
  }

  void differentiate(NodeId id) {
    const Node& node = graph_.node(id);
    std::vector<ValueId> gradients;
    bool any = false;
    for (const ValueId output : node.outputs) {
      gradients.push_back(gradient(output));
      any = any || gradients.back() != 0;
    }
    if (!any) return;
    const OpRules& rules = graph_.rules(node.op);
    for (const bool varies : {true, false})
      for (size_t i = 0; i < node.inputs.size(); ++i) {
        const ValueId input = node.inputs[i];
        if (!wanted(input) || graph_.value(input).varies != varies) continue;
        if (!rules.derivative)
          throw Error(place(node), node.op + " has no derivative, but the gradient of a parameter goes through it");
        stand_for(node, varies ? Part::kBackward : Part::kWeight);
        const ValueId term = call(rules, node, i, gradients);
        if (term != 0) add_term(input, term);
      }
  }

  ValueId call(const OpRules& rules, const Node& node, size_t input, const std::vector<ValueId>& gradients) {
    ValueId term = 0;
    try {
      term = rules.derivative(graph_, node, input, gradients);
    } catch (const Error& error) {
      throw Error(place(node), std::string("in the derivative: ") + error.what());
    }
    if (term == 0) return 0;
    const Type& type = graph_.value(term).type;
    const Type& of = graph_.value(node.inputs[input]).type;
    if (type.dtype != KM_F32 || type.shape != of.shape)
      throw Error(place(node), "the derivative of " + node.op + " for input " + std::to_string(input) + " gives " +
                                   to_text(type) + ", but the input is " + to_text(of));
    return term;
  }

  void stand_for(const Node& node, Part part) {
    Graph::Cursor& cursor = graph_.cursor;
    cursor.layer = node.layer;
    cursor.stage = node.stage;
    cursor.phase = node.phase == Phase::kHead ? Phase::kTail : Phase::kBody;
    cursor.part = node.phase == Phase::kHead ? Part::kForward : part;
    cursor.derived_from = node.id;
    cursor.share = true;
  }

  // The sum lives on the stage of what it is the gradient of.
  void add_term(ValueId value, ValueId term) {
    ValueId& sum = gradient(value);
    if (sum == 0) {
      sum = term;
      return;
    }
    Graph::Cursor& cursor = graph_.cursor;
    const Graph::Cursor here = cursor;
    if (graph_.value(value).producer != 0) cursor.stage = graph_.value(value).stage;
    cursor.share = false;
    sum = graph_.add1("add", {sum, term});
    cursor = here;
  }

  // The terms of the body are all there; what comes through the head is added behind.
  void accumulate(ValueId id) {
    ValueId& sum = gradient(id);
    if (sum == 0) return;
    Graph::Cursor& cursor = graph_.cursor;
    const Value& term = graph_.value(sum);
    cursor.layer = term.producer ? term.layer : graph_.value(id).layer;
    cursor.stage = term.producer ? term.stage : graph_.value(id).stage;
    cursor.phase = Phase::kBody;
    cursor.part = Part::kWeight;
    cursor.derived_from = 0;
    cursor.share = false;
    sum = graph_.add1("accumulate", {sum});
  }

  [[noreturn]] void unused(ValueId parameter) const {
    throw Error(graph_.value(parameter).name, "the loss does not depend on this parameter, so it has no gradient",
                "a model adds only parameters that it uses");
  }

  static std::string place(const Node& node) {
    return (node.layer >= 0 ? "layer " + std::to_string(node.layer) + ", " : "") + node.origin;
  }

  ValueId& gradient(ValueId value) {
    if (gradient_.size() <= value) gradient_.resize(value + 1, 0);
    return gradient_[value];
  }
  bool wanted(ValueId value) const { return value < wanted_.size() && wanted_[value]; }
  void set_wanted(ValueId value) {
    if (wanted_.size() <= value) wanted_.resize(value + 1, false);
    wanted_[value] = true;
  }

  Graph& graph_;
  std::vector<ValueId> gradient_;                                 // by value: the sum of the terms so far
  std::vector<bool> wanted_;                                      // by value
  std::unordered_map<NodeId, std::vector<ValueId>> first_reader_; // in the body: of parameters and values of the head
  std::vector<std::vector<ValueId>> finished_after_;              // by place in the forward order
};

} // namespace

void autodiff(Graph& graph) {
  if (!graph.gradients().empty()) throw Error("", "the graph has gradients already: autodiff runs once");
  Differentiation(graph).run();
}

} // namespace kumiki
