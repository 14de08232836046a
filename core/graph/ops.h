// The built-in rules, by family, and what they are written with. Internal to core/graph: ops.cc joins the families to
// the one table that find_builtin_op reads; docs/ops.md is the meaning of each op.
#pragma once

#include <string>
#include <vector>

#include "core/base/error.h"
#include "core/graph/graph.h"

namespace kumiki::ops {

using Types = std::vector<Type>;
using Gradients = std::vector<ValueId>;

// Attribute lists: {i64("transpose_a"), f64("epsilon"), text("dtype")}.
using AttributeRule = std::pair<std::string, uint32_t>;
inline AttributeRule i64(const char* name) { return {name, KM_ATTRIBUTE_I64}; }
inline AttributeRule f64(const char* name) { return {name, KM_ATTRIBUTE_F64}; }
inline AttributeRule text(const char* name) { return {name, KM_ATTRIBUTE_STRING}; }
inline AttributeRule i64_list(const char* name) { return {name, KM_ATTRIBUTE_I64_LIST}; }

// What a family writes down. The table wraps `shape`, so that the rule sees the right number of inputs, without the
// addends of `accumulate`, and only attributes that the op has (or with a dot in the name: marks of others).
struct Rule : OpRules {
  size_t least_inputs = 0;
  size_t most_inputs = 0;
  std::vector<AttributeRule> known_attributes;
};

std::vector<Rule> products();
std::vector<Rule> elementwise();
std::vector<Rule> norms();
std::vector<Rule> attention();
std::vector<Rule> losses();
std::vector<Rule> updates();
std::vector<Rule> communication();

// A rule in the order in which the page reads: how many inputs, attributes, shape, derivative.
Rule rule(const char* name, size_t least_inputs, size_t most_inputs, std::vector<AttributeRule> attributes,
          decltype(OpRules::shape) shape, decltype(OpRules::derivative) derivative = nullptr);

// Throws the sentence, which begins with the op.
[[noreturn]] void wrong(const Node& node, const std::string& sentence);
// Input `index` is called `name` in the page; throws unless it is of that type, or that type and shape.
void expect_dtype(const Node& node, const Types& in, size_t index, const char* name, uint32_t dtype);
void expect_type(const Node& node, const Types& in, size_t index, const char* name, const Type& type);
void expect_rank(const Node& node, const Types& in, size_t index, const char* name, size_t least, size_t most);
void expect_f32(const Node& node, const Types& in);

// "f32" or "bf16" as the attribute `dtype` says; f32 without it.
uint32_t dtype_attribute(const Node& node);

Type scalar(uint32_t dtype = KM_F32);
Type vector(int64_t n);
Shape leading(const Shape& shape); // without the last dimension
Type with_last(const Type& type, int64_t last);
int64_t last(const Type& type);

// Where x stands in the whole, by the attributes offset, fold and fold_offset (docs/ops.md, "Positions"): its `count`
// tokens (of dropout: elements of a sample) at offset, offset + 1, …, from number `fold` on at fold_offset, ….
void expect_positions(const Node& node, int64_t count); // throws unless the attributes go together
int64_t positions_end(const Node& node, int64_t count); // behind the last of them

// The derivative through output `output` is not known; throws if it is asked for.
void no_gradient_through(const Node& node, const Gradients& gradients, size_t output, const char* name);

} // namespace kumiki::ops
