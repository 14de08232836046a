#include "core/graph/ops.h"

#include <algorithm>
#include <bit>

namespace kumiki {
namespace ops {

Rule rule(const char* name, size_t least_inputs, size_t most_inputs, std::vector<AttributeRule> attributes,
          decltype(OpRules::shape) shape, decltype(OpRules::derivative) derivative) {
  Rule rules;
  rules.name = name;
  rules.least_inputs = least_inputs;
  rules.most_inputs = most_inputs;
  rules.known_attributes = std::move(attributes);
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

void expect_positions(const Node& node, int64_t count) {
  const int64_t fold = node.i64("fold", count);
  if (node.i64("offset") < 0 || node.i64("fold_offset") < 0)
    wrong(node, "attributes offset and fold_offset must not be negative");
  if (node.has("fold") != node.has("fold_offset"))
    wrong(node, "of the attributes fold and fold_offset it has only one");
  if (fold < 0 || fold > count)
    wrong(node, "attribute fold is " + std::to_string(fold) + ", but x has " + std::to_string(count));
}

int64_t positions_end(const Node& node, int64_t count) {
  const int64_t fold = node.i64("fold", count);
  return std::max(node.i64("offset") + fold, fold < count ? node.i64("fold_offset") + count - fold : 0);
}

void no_gradient_through(const Node& node, const Gradients& gradients, size_t output, const char* name) {
  if (gradients[output] == 0) return;
  wrong(node, std::string("the loss depends on its output ") + name + ", through which no derivative is known");
}

namespace {

const char* attribute_type_name(uint32_t type) {
  switch (type) {
    case KM_ATTRIBUTE_I64: return "an integer";
    case KM_ATTRIBUTE_F64: return "a number";
    case KM_ATTRIBUTE_STRING: return "a string";
    default: return "a list of integers";
  }
}

uint32_t attribute_type(const Attribute& attribute) {
  constexpr uint32_t kTypes[] = {KM_ATTRIBUTE_I64, KM_ATTRIBUTE_F64, KM_ATTRIBUTE_STRING, KM_ATTRIBUTE_I64_LIST};
  return kTypes[attribute.index()];
}

void check_attributes(const Node& node, const Rule& rules) {
  for (const auto& [name, attribute] : node.attributes) {
    if (name.find('.') != std::string::npos) continue;
    const auto found = std::find_if(rules.known_attributes.begin(), rules.known_attributes.end(),
                                    [&name = name](const auto& known) { return known.first == name; });
    if (found == rules.known_attributes.end()) {
      std::string names;
      for (const auto& known : rules.known_attributes) names += (names.empty() ? "" : ", ") + known.first;
      throw Error("", node.op + " has no attribute \"" + name + "\"",
                  names.empty() ? "it has none" : "its attributes: " + names);
    }
    const uint32_t type = attribute_type(attribute);
    if (type != found->second && !(type == KM_ATTRIBUTE_I64 && found->second == KM_ATTRIBUTE_F64))
      throw Error("", node.op + ": attribute " + name + " is " + attribute_type_name(type) + ", but must be " +
                          attribute_type_name(found->second));
  }
}

void check_input_count(const Node& node, const Rule& rules, size_t count) {
  if (count >= rules.least_inputs && count <= rules.most_inputs) return;
  std::string must = std::to_string(rules.least_inputs);
  if (rules.most_inputs == SIZE_MAX)
    must = "at least " + must;
  else if (rules.most_inputs != rules.least_inputs)
    must += " to " + std::to_string(rules.most_inputs);
  throw Error("", node.op + ": " + std::to_string(count) + " inputs, but it takes " + must);
}

// The rule's shape for the inputs without addends, which must have the types of their outputs.
Types checked_shape(const Rule& rules, const Node& node, const Types& all) {
  check_attributes(node, rules);
  const uint64_t mask = static_cast<uint64_t>(node.i64("accumulate"));
  if (mask & ~uint64_t{rules.accumulates})
    wrong(node, "attribute accumulate is " + std::to_string(mask) + ", but only the bits " +
                    std::to_string(rules.accumulates) + " are possible");
  const size_t addends = static_cast<size_t>(std::popcount(mask));
  check_input_count(node, rules, all.size() < addends ? 0 : all.size() - addends);
  const Types in(all.begin(), all.end() - static_cast<std::ptrdiff_t>(addends));
  Types out = rules.shape(node, in);
  size_t addend = in.size();
  for (size_t bit = 0; addend < all.size(); ++bit) {
    if (!(mask >> bit & 1)) continue;
    const std::string name = "the addend of output " + std::to_string(bit);
    if (bit >= out.size()) wrong(node, name + ": there is no such output");
    if (!(all[addend] == out[bit]))
      wrong(node, name + " is " + to_text(all[addend]) + ", but the output is " + to_text(out[bit]));
    ++addend;
  }
  return out;
}

std::map<std::string, OpRules> make_table() {
  std::map<std::string, OpRules> table;
  for (auto* family : {&products, &elementwise, &norms, &attention, &losses, &updates, &communication})
    for (Rule& rule : (*family)()) {
      KM_CHECK(table.count(rule.name) == 0, "each op has one rule: " + rule.name);
      if (rule.accumulates) rule.known_attributes.push_back(i64("accumulate"));
      OpRules& rules = table[rule.name] = rule;
      rules.shape = [rule](const Node& node, const Types& in) { return checked_shape(rule, node, in); };
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
