#include <random>

#include "tests/ops/problem.h"

namespace kumiki::test {
namespace {

using Random = std::mt19937_64;

/* In [low, high); the same on every machine, unlike std::uniform_real_distribution. */
double uniform(Random& random, double low, double high) {
  return low + (high - low) * static_cast<double>(random() >> 11) * 0x1p-53;
}

void fill_uniform(Tensor& t, Random& random, double low, double high) {
  for (int64_t i = 0; i < t.size(); ++i) t.set(i, uniform(random, low, high));
}

/* How many rows of the vocabulary there are here. */
int64_t vocabulary_rows(const Problem& p) {
  if (const int table = p.find_input("table"); table >= 0) return p.inputs[static_cast<size_t>(table)].dims[0];
  if (const int w = p.find_input("w"); w >= 0) return p.inputs[static_cast<size_t>(w)].dims[0];
  if (const int logits = p.find_input("logits"); logits >= 0) {
    const km_tensor& t = p.inputs[static_cast<size_t>(logits)];
    return t.dims[t.rank - 1];
  }
  return p.attribute_i64("rows", 1);
}

/* How many different tokens or targets there may be. With attribute offset the rows here are a part of the vocabulary:
 * some numbers lie before them, some behind. */
int64_t numbers_below(const Problem& p) {
  const int64_t offset = p.attribute_i64("offset", -1);
  return vocabulary_rows(p) + (offset < 0 ? 0 : offset + 3);
}

void fill_segments(Tensor& t, Random& random) {
  const int64_t tokens = t.type.dims[1];
  double segment = 0;
  for (int64_t i = 0; i < t.size(); ++i) {
    segment = i % tokens == 0 ? 0 : segment + (uniform(random, 0, 1) < 0.25);
    t.set(i, segment);
  }
}

/* Values of scalars that stand for one thing. */
std::optional<double> scalar_value(const std::string& name) {
  static const std::map<std::string, double> values = {{"seed", 81985529216486895.0},
                                                       {"sample", 4294967290.0},
                                                       {"past", 0},
                                                       {"d_loss", 0.37},
                                                       {"learning_rate", 1e-3},
                                                       {"step", 3},
                                                       {"gradient_scale", 0.5},
                                                       {"apply", 1},
                                                       {"sum_squares", 12.5},
                                                       {"loss_scale", 8},
                                                       {"tokens", 37}};
  const auto found = values.find(name);
  return found == values.end() ? std::nullopt : std::optional(found->second);
}

void fill(const Problem& p, size_t i, Tensor& t, Random& random) {
  const std::string name = i < p.input_names.size() ? p.input_names[i] : "addend";
  const std::string& op = p.op_name;
  if (i < p.constants.size() && p.constants[i]) {
    for (int64_t e = 0; e < t.size(); ++e) t.set(e, *p.constants[i]);
  } else if (const auto value = scalar_value(name); value && t.type.rank == 0) {
    t.set(0, *value);
  } else if (name.ends_with("segments")) {
    fill_segments(t, random);
  } else if (t.type.dtype == KM_I32) {
    const int64_t below = numbers_below(p);
    for (int64_t e = 0; e < t.size(); ++e) {
      const bool ignored = name == "targets" && random() % 6 == 0;
      t.set(e, ignored ? -1.0 : static_cast<double>(random() % static_cast<uint64_t>(below)));
    }
  } else if (op == "log" || op == "sqrt" || (op == "power" && name == "a")) {
    fill_uniform(t, random, 0.1, 2);
  } else if (op == "reciprocal" || (op == "divide" && name == "b")) {
    fill_uniform(t, random, 0.5, 2);
    for (int64_t e = 0; e < t.size(); e += 3) t.set(e, -t.at(e));
  } else if (name == "max") {
    fill_uniform(t, random, 2, 3);
  } else if (name == "sum_exp") {
    fill_uniform(t, random, 0.5, 9);
  } else if (op == "adamw_update" && name == "v") {
    fill_uniform(t, random, 0, 0.1);
  } else if (op == "select" && name == "c") {
    for (int64_t e = 0; e < t.size(); ++e) t.set(e, static_cast<double>(random() % 2));
  } else if (name == "x" || name == "gate" || name == "logits") {
    fill_uniform(t, random, -3, 3);
  } else {
    fill_uniform(t, random, -1, 1);
  }
}

/* Inputs of a backward op that its forward op gives: forward line, the inputs that it takes, (output, input here). */
struct Derived {
  const char *op, *forward;
  std::vector<const char*> takes;
  std::vector<std::pair<size_t, const char*>> gives;
};

const std::vector<Derived>& derived() {
  static const std::vector<Derived> table = {
      {"layernorm_backward", "layernorm", {"x"}, {{1, "mean"}, {2, "rstd"}}},
      {"layernorm_backward_weight", "layernorm", {"x"}, {{1, "mean"}, {2, "rstd"}}},
      {"rmsnorm_backward", "rmsnorm", {"x"}, {{1, "rstd"}}},
      {"rmsnorm_backward_weight", "rmsnorm", {"x"}, {{1, "rstd"}}},
      {"attention_backward", "attention", {"q", "k", "v", "segments"}, {{0, "o"}, {1, "lse"}}},
      {"attention_part_backward",
       "attention_part",
       {"q", "k", "v", "query_segments", "key_segments"},
       {{0, "o"}, {1, "lse"}}},
  };
  return table;
}

std::string shape_text(const km_tensor& t) {
  std::string text;
  for (uint32_t i = 0; i < t.rank; ++i) text += numbered(i ? "x" : "", static_cast<size_t>(t.dims[i]));
  return t.rank ? text : "[]";
}

void derive(const Problem& p, std::vector<Tensor>& inputs, const Derived& rule, const Evaluate& evaluate) {
  std::string line = rule.forward;
  for (const char* name : rule.takes)
    if (const int i = p.find_input(name); i >= 0)
      line += std::string(" ") + name + "=" + shape_text(p.inputs[static_cast<size_t>(i)]);
  for (const char* name : {"head_width", "scale", "mask", "first", "keys", "epsilon"})
    if (const size_t at = p.line.find(std::string(" ") + name + "="); at != std::string::npos)
      line += p.line.substr(at, p.line.find(' ', at + 1) - at);
  Problem forward;
  parse_problem(line, forward);
  std::vector<Tensor> values = random_inputs(forward, 1, evaluate);
  for (const char* name : rule.takes)
    if (const int i = p.find_input(name); i >= 0)
      values[static_cast<size_t>(forward.find_input(name))] = inputs[static_cast<size_t>(i)];
  const std::vector<Tensor> outputs = evaluate(forward, values);
  for (const auto& [output, name] : rule.gives) inputs[static_cast<size_t>(p.find_input(name))] = outputs[output];
}

} // namespace

std::vector<Tensor> random_inputs(const Problem& p, uint64_t seed, const Evaluate& evaluate) {
  Random random(seed);
  std::vector<Tensor> inputs;
  for (size_t i = 0; i < p.inputs.size(); ++i) {
    const km_tensor& type = p.inputs[i];
    inputs.push_back(make_tensor(type.dtype, {type.dims, type.dims + type.rank}));
    fill(p, i, inputs.back(), random);
  }
  for (const Derived& rule : derived())
    if (p.op_name == rule.op) derive(p, inputs, rule, evaluate);
  return inputs;
}

} // namespace kumiki::test
