#include "core/graph/ops.h"

#include <algorithm>

namespace kumiki {
namespace ops {

OpRules rule(const char* name, size_t least_inputs, size_t most_inputs, std::vector<AttributeRule> attributes,
             decltype(OpRules::shape) shape, decltype(OpRules::derivative) derivative) {
  OpRules rules;
  rules.name = name;
  rules.least_inputs = least_inputs;
  rules.most_inputs = most_inputs;
  rules.attributes = std::move(attributes);
  rules.shape = std::move(shape);
  rules.derivative = std::move(derivative);
  return rules;
}

void wrong(const Node& node, const std::string& sentence) { throw Error("", node.op + ": " + sentence); }

void expect_dtype(const Node& node, const Types& in, size_t index, const char* name, uint32_t dtype) {
  if (in[index].dtype == dtype) return;
  wrong(node,
        std::string(name) + " is " + to_text(in[index]) + ", but must be " + to_text(Type{dtype, in[index].shape}));
}

void expect_type(const Node& node, const Types& in, size_t index, const char* name, const Type& type) {
  if (in[index] == type) return;
  std::string others;
  for (size_t i = 0; i < in.size(); ++i) others += (i ? ", " : "") + to_text(in[i]);
  wrong(node, std::string(name) + " is " + to_text(in[index]) + ", but must be " + to_text(type) +
                  " (inputs: " + others + ")");
}

void expect_rank(const Node& node, const Types& in, size_t index, const char* name, size_t least, size_t most) {
  const size_t rank = in[index].shape.size();
  if (rank >= least && rank <= most) return;
  const std::string must = least == most      ? std::to_string(least)
                           : most == SIZE_MAX ? "at least " + std::to_string(least)
                                              : std::to_string(least) + " to " + std::to_string(most);
  wrong(node, std::string(name) + " is " + to_text(in[index]) + ", but its rank must be " + must);
}

void expect_f32(const Node& node, const Types& in) {
  for (size_t i = 0; i < in.size(); ++i) expect_dtype(node, in, i, ("input " + std::to_string(i)).c_str(), KM_F32);
}

uint32_t dtype_attribute(const Node& node) {
  const std::string dtype = node.text("dtype", "f32");
  if (dtype == "f32") return KM_F32;
  if (dtype == "bf16") return KM_BF16;
  wrong(node, "attribute dtype is \"" + dtype + "\", but must be \"f32\" or \"bf16\"");
}

Type scalar(uint32_t dtype) { return Type{dtype, {}}; }
Type vector(int64_t n) { return Type{KM_F32, {n}}; }
Shape leading(const Shape& shape) { return Shape(shape.begin(), shape.end() - 1); }
Type with_last(const Type& type, int64_t last) {
  Type now{KM_F32, type.shape};
  now.shape.back() = last;
  return now;
}
int64_t last(const Type& type) { return type.shape.back(); }

void no_gradient_through(const Node& node, const Gradients& gradients, size_t output, const char* name) {
  if (gradients[output] == 0) return;
  wrong(node, std::string("the loss depends on its output ") + name + ", through which no derivative is known");
}

namespace {

std::map<std::string, OpRules> make_table() {
  std::map<std::string, OpRules> table;
  for (auto* family : {&products, &elementwise, &norms, &attention, &losses, &updates})
    for (OpRules& rules : (*family)()) {
      KM_CHECK(table.count(rules.name) == 0, "each op has one rule: " + rules.name);
      if (rules.accumulates) rules.attributes.push_back(i64("accumulate"));
      table.emplace(rules.name, std::move(rules));
    }
  return table;
}

const std::map<std::string, OpRules>& table() {
  static const std::map<std::string, OpRules> rules = make_table();
  return rules;
}

} // namespace
} // namespace ops

const OpRules* find_builtin_op(const std::string& name) {
  const auto found = ops::table().find(name);
  return found == ops::table().end() ? nullptr : &found->second;
}

std::vector<std::string> builtin_ops() {
  std::vector<std::string> names;
  for (const auto& [name, rules] : ops::table()) names.push_back(name);
  return names;
}

} // namespace kumiki
