// What the tail computes, and the two ops that are the planner's own.
#include "core/graph/ops.h"

namespace kumiki::ops {
namespace {

Types gradient_scale_shape(const Node& node, const Types& in) {
  expect_type(node, in, 0, "sum_squares", scalar());
  expect_type(node, in, 1, "tokens", scalar());
  expect_type(node, in, 2, "loss_scale", scalar());
  return {scalar(), scalar(), scalar()};
}

Types adamw_update_shape(const Node& node, const Types& in) {
  expect_dtype(node, in, 0, "p", KM_F32);
  const char* names[] = {"p", "g", "m", "v", "learning_rate", "step", "gradient_scale", "apply"};
  for (size_t i = 1; i < 4; ++i) expect_type(node, in, i, names[i], in[0]);
  for (size_t i = 4; i < 8; ++i) expect_type(node, in, i, names[i], scalar());
  return {in[0], in[0], in[0]};
}

Types assign_shape(const Node& node, const Types& in) {
  if (!(in[0] == in[1]))
    wrong(node,
          "the state is " + to_text(in[0]) + ", its new value " + to_text(in[1]) + ": they must have the same type");
  return {};
}

} // namespace

std::vector<Rule> updates() {
  std::vector<Rule> rules = {
      rule("gradient_scale", 3, 3, {f64("clip")}, gradient_scale_shape),
      rule("assign", 2, 2, {}, assign_shape),
      rule("accumulate", 1, 1, {}, [](const Node&, const Types& in) { return Types{in[0]}; }),
  };
  rules.push_back(rule("adamw_update", 8, 8, {f64("beta1"), f64("beta2"), f64("epsilon"), f64("weight_decay")},
                       adamw_update_shape));
  rules.back().takes_apply = true;
  return rules;
}

} // namespace kumiki::ops
