// check_final: what must hold of a graph when all have written what they have to.
#include <algorithm>
#include <set>

#include "core/base/error.h"
#include "core/graph/graph.h"

namespace kumiki {
namespace {

class FinalCheck {
 public:
  explicit FinalCheck(const Graph& graph) : graph_(graph) {}

  void run() const {
    for (const NodeId id : graph_.order()) {
      const Node& node = graph_.node(id);
      check_stages(node);
      check_nesting(node);
      if (node.op == "tensor_norm") check_norm(node);
      if (node.op == "dropout") check_draw(node);
    }
    for (const auto& [parameter, gradient] : graph_.gradients()) check_gradient(parameter, gradient);
    for (const auto& [name, value] : graph_.outputs()) check_output(name, value);
  }

 private:
  [[noreturn]] void fail(const Node& node, const std::string& what, const std::string& remedy = "") const {
    std::string where = to_text(graph_, node);
    if (!node.origin.empty()) where += ", added by " + node.origin;
    throw Error("graph check", what, (remedy.empty() ? "" : remedy + ": ") + "in " + where);
  }
  // For what is wrong with a value: named by the node that makes it, if one does.
  [[noreturn]] void fail_value(ValueId id, const std::string& what) const {
    const Value& value = graph_.value(id);
    if (value.producer != 0) fail(graph_.node(value.producer), what);
    throw Error("graph check", what, "in " + value.name);
  }

  const std::string& axis_name(size_t axis) const { return graph_.axes()[axis].name; }

  std::string stage_text(int32_t stage) const {
    return stage == kEveryStage ? "every stage" : "stage " + std::to_string(stage);
  }

  void check_stages(const Node& node) const {
    if (graph_.stages() == 1) return;
    if (node.op == "add_stages") return check_sum_over_stages(node);
    const auto outside = [&](int64_t stage) { return stage < kEveryStage || stage >= graph_.stages(); };
    if (outside(node.stage) || (node.op == "transfer" && outside(node.i64("to"))))
      fail(node, "there are only " + std::to_string(graph_.stages()) + " stages");
    for (const ValueId input : node.inputs)
      if (!graph_.stands_on(input, node.stage))
        fail(node,
             "a node of " + stage_text(node.stage) + " reads %" + std::to_string(input) + ":" +
                 graph_.value(input).name + ", which is on " + stage_text(graph_.value(input).stage),
             "a transfer or add_stages is missing");
  }

  void check_sum_over_stages(const Node& node) const {
    std::set<int32_t> stages;
    for (const ValueId input : node.inputs)
      if (const int32_t stage = graph_.value(input).stage; stage == kEveryStage || !stages.insert(stage).second)
        fail(node, "it adds %" + std::to_string(input) + " of " + stage_text(stage) +
                       ", but must get one value of each of several stages");
  }

  // A dimension that several axes divide is nested by their levels, and only the innermost part can be gathered.
  void check_nesting(const Node& node) const {
    const bool gather = node.op == "all_gather" || node.op == "flat_gather";
    if (!gather && node.op != "reduce_scatter" && node.op != "flat_scatter") return;
    const std::vector<size_t> group = graph_.group_axes(node.text("axes"));
    for (size_t i = 1; i < group.size(); ++i)
      if (!graph_.axes()[group[i]].inside(graph_.axes()[group[i - 1]]))
        fail(node, "axis " + axis_name(group[i - 1]) + " is named before " + axis_name(group[i]) +
                       ", but is not outside of it by level");
    const bool flat = node.op.starts_with("flat");
    const Placement divided{flat ? Spread::kFlat : Spread::kSharded, flat ? 0 : static_cast<int32_t>(node.i64("dim"))};
    for (const ValueId value : gather ? node.inputs : node.outputs)
      for (size_t axis = 0; axis < graph_.axes().size(); ++axis) {
        if (!(graph_.placement(value, axis) == divided) || std::count(group.begin(), group.end(), axis)) continue;
        for (const size_t inner : group)
          if (!graph_.axes()[inner].inside(graph_.axes()[axis]))
            fail(node, "axis " + axis_name(axis) + " divides the same dimension inside of axis " + axis_name(inner) +
                           " (by level), so that what this op joins or cuts does not lie side by side");
      }
  }

  void check_norm(const Node& node) const {
    for (size_t axis = 0; axis < graph_.axes().size(); ++axis) {
      const Placement p = graph_.placement(node.inputs[0], axis);
      if (p.spread != Spread::kReplicated)
        fail(node, "axis " + axis_name(axis) + ": the norm is that of one rank, for x is " + to_text(p),
             "resolve_norms comes before");
    }
  }

  // What was dropped forward must be dropped backward, and again.
  void check_draw(const Node& node) const {
    if (!graph_.alive(node.derived_from)) return;
    const Node& forward = graph_.node(node.derived_from);
    if (forward.op != "dropout") return;
    if (forward.attributes != node.attributes || forward.inputs[1] != node.inputs[1] ||
        forward.inputs[2] != node.inputs[2])
      fail(node, "it draws other numbers than its forward node, " + to_text(graph_, forward));
  }

  void check_gradient(ValueId parameter, ValueId gradient) const {
    const Value& leaf = graph_.value(parameter);
    for (size_t axis = 0; axis < graph_.axes().size(); ++axis) {
      const Placement p = graph_.placement(parameter, axis), g = graph_.placement(gradient, axis);
      if (g.spread == Spread::kPartial || g.spread == Spread::kPartialMax)
        fail_value(gradient, "axis " + axis_name(axis) + ": the gradient of " + leaf.name +
                                 " is still a partial sum: it was never reduced");
      if (!(p == g))
        fail_value(gradient, "axis " + axis_name(axis) + ": the gradient of " + leaf.name + " is " + to_text(g) +
                                 ", but the parameter " + to_text(p));
    }
    if (!graph_.stands_on(gradient, leaf.stage))
      fail_value(gradient, "the gradient of " + leaf.name + " is on " + stage_text(graph_.value(gradient).stage) +
                               ", but the parameter on " + stage_text(leaf.stage));
    if (leaf.tied_to != 0) check_tied(parameter, gradient);
  }

  // The add_stages that a gradient comes from, through ops that reduce or divide it; 0: none.
  NodeId sum_over_stages(ValueId value) const {
    for (;;) {
      const NodeId producer = graph_.value(value).producer;
      if (producer == 0) return 0;
      const Node& node = graph_.node(producer);
      if (node.op == "add_stages") return producer;
      if (!is_communication(node.op) && node.op != "copy") return 0;
      for (size_t i = 0; i < node.outputs.size(); ++i)
        if (node.outputs[i] == value) {
          value = node.inputs[i];
          break;
        }
    }
  }

  void check_tied(ValueId copy, ValueId gradient) const {
    const Value& leaf = graph_.value(copy);
    const auto original = graph_.gradients().find(leaf.tied_to);
    if (original == graph_.gradients().end())
      throw Error("graph check",
                  leaf.name + " is tied to " + graph_.value(leaf.tied_to).name + ", which has no gradient");
    const NodeId sum = sum_over_stages(gradient);
    if (sum == 0 || sum != sum_over_stages(original->second))
      fail_value(gradient, "the gradients of " + leaf.name + " and of " + graph_.value(leaf.tied_to).name +
                               ", to which it is tied, are not one sum over their stages (add_stages)");
  }

  void check_output(const std::string& name, ValueId value) const {
    for (size_t axis = 0; axis < graph_.axes().size(); ++axis) {
      const Placement p = graph_.placement(value, axis);
      if (p.spread != Spread::kReplicated)
        fail_value(value, "axis " + axis_name(axis) + ": output \"" + name + "\" is " + to_text(p) +
                              ", but must be the same on all ranks");
    }
  }

  const Graph& graph_;
};

} // namespace

void check_final(const Graph& graph) { FinalCheck(graph).run(); }

} // namespace kumiki
