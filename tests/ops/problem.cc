#include "tests/ops/problem.h"

#include <bit>
#include <cstring>
#include <sstream>
#include <stdexcept>

namespace kumiki::test {
namespace {

/* name, inputs, outputs. An input: NAME, NAME? (optional) or NAME=RULE (its shape where the line does not say it). An
 * output: RULE. A rule: the name of an input (its shape), rows:NAME (without its last dimension), last:NAME ([last
 * dimension]), scalar, or one of the words of apply_rule. */
struct Row {
  const char *name, *inputs, *outputs;
};

const Row kRows[] = {
    {"matmul", "a b", "product"},
    {"matmul_bias", "a b bias=last:product", "product"},
    {"matmul_group", "x b1 b2? b3? b4? bias1? bias2? bias3? bias4?", "group"},
    {"add", "a b=a", "either"},
    {"subtract", "a b=a", "either"},
    {"multiply", "a b=a", "either"},
    {"divide", "a b=a", "either"},
    {"maximum", "a b=a", "either"},
    {"minimum", "a b=a", "either"},
    {"power", "a b=a", "either"},
    {"copy", "x", "x"},
    {"negate", "x", "x"},
    {"square", "x", "x"},
    {"sqrt", "x", "x"},
    {"reciprocal", "x", "x"},
    {"exp", "x", "x"},
    {"log", "x", "x"},
    {"abs", "x", "x"},
    {"sign", "x", "x"},
    {"tanh", "x", "x"},
    {"gelu", "x", "x"},
    {"silu", "x", "x"},
    {"gelu_backward", "dy=x x", "x"},
    {"silu_backward", "dy=x x", "x"},
    {"swiglu", "gate up=gate", "gate"},
    {"swiglu_backward", "dy=gate gate up=gate", "gate gate"},
    {"scale", "x", "x"},
    {"select", "c a b=a", "a"},
    {"cast", "x", "x"},
    {"bias_add", "x bias=last:x", "x"},
    {"dropout", "x seed=scalar sample=scalar", "x"},
    {"sum_rows", "x", "last:x"},
    {"sum_squares", "x", "scalar"},
    {"tensor_norm", "x", "scalar"},
    {"layernorm", "x weight=last:x bias=last:x", "x rows:x rows:x"},
    {"layernorm_backward", "dy=x x weight=last:x mean=rows:x rstd=rows:x", "x"},
    {"layernorm_backward_weight", "dy=x x mean=rows:x rstd=rows:x", "last:x last:x"},
    {"add_layernorm", "a b=a weight=last:a bias=last:a", "a a rows:a rows:a"},
    {"rmsnorm", "x weight=last:x", "x rows:x"},
    {"rmsnorm_backward", "dy=x x weight=last:x rstd=rows:x", "x"},
    {"rmsnorm_backward_weight", "dy=x x rstd=rows:x", "last:x"},
    {"add_rmsnorm", "a b=a weight=last:a", "a a rows:a"},
    {"attention", "q k=q v=k past? segments?", "q lse"},
    {"attention_backward", "q k=q v=k o=q lse=lse d_o=q segments?", "q k k"},
    {"attention_part", "q k=q v=k query_segments? key_segments?", "q lse"},
    {"attention_part_backward", "q k=q v=k o=q lse=lse d_o=q query_segments? key_segments?", "q k k"},
    {"attention_merge", "q lse=lse o1? lse1? o2? lse2? o3? lse3?", "q lse"},
    {"rope", "x past?", "x"},
    {"add_position", "x table past?", "x"},
    {"add_position_backward", "dy", "table:dy"},
    {"cache_append", "cache x past=scalar", "cache"},
    {"last_token", "x", "token:x"},
    {"embedding", "tokens table", "lookup"},
    {"embedding_backward", "tokens=rows:dy dy", "table:dy"},
    {"cross_entropy", "logits targets=rows:logits", "scalar scalar"},
    {"cross_entropy_backward", "logits targets=rows:logits d_loss=scalar", "logits"},
    {"row_max", "logits", "rows:logits"},
    {"row_exp_pick", "logits targets=rows:logits max=rows:logits", "rows:logits rows:logits"},
    {"cross_entropy_parts", "logits targets=rows:logits max=rows:logits sum_exp=rows:logits picked=rows:logits",
     "scalar scalar"},
    {"cross_entropy_parts_backward", "logits targets=rows:logits max=rows:logits sum_exp=rows:logits d_loss=scalar",
     "logits"},
    {"projection_cross_entropy", "x w targets=rows:x", "scalar scalar"},
    {"projection_cross_entropy_train", "x w targets=rows:x d_loss=scalar", "scalar scalar x w"},
    {"gradient_scale", "sum_squares=scalar tokens=scalar loss_scale=scalar", "scalar scalar scalar"},
    {"adamw_update", "p g=p m=p v=p learning_rate=scalar step=scalar gradient_scale=scalar apply=scalar", "p p p"},
};

[[noreturn]] void refuse(const std::string& line, const std::string& reason) {
  throw std::runtime_error("problem \"" + line + "\": " + reason);
}

std::vector<std::string> words(const std::string& text) {
  std::istringstream stream(text);
  std::vector<std::string> result;
  for (std::string word; stream >> word;) result.push_back(word);
  return result;
}

uint32_t default_type(const std::string& op, const std::string& name) {
  if (name == "targets" || name.ends_with("segments") || name == "past") return KM_I32;
  if (name == "tokens" && op != "gradient_scale") return KM_I32;
  if (name == "seed" || name == "sample") return KM_I64;
  return KM_F32;
}

uint32_t type_of(const std::string& word, const std::string& line) {
  if (word == "f32") return KM_F32;
  if (word == "bf16") return KM_BF16;
  if (word == "i32") return KM_I32;
  if (word == "i64") return KM_I64;
  refuse(line, "no type " + word);
}

km_tensor tensor_of(uint32_t dtype, const std::vector<int64_t>& dims) {
  km_tensor t{};
  t.dtype = dtype;
  t.rank = static_cast<uint32_t>(dims.size());
  for (size_t i = 0; i < dims.size(); ++i) t.dims[i] = dims[i];
  return t;
}

std::vector<int64_t> dims_of(const km_tensor& t) { return {t.dims, t.dims + t.rank}; }

/* SHAPE[:TYPE][@VALUE] */
void parse_input(const std::string& text, uint32_t type, const std::string& line, km_tensor& tensor,
                 std::optional<double>& constant) {
  std::string shape = text;
  if (const size_t at = shape.find('@'); at != std::string::npos) {
    constant = std::stod(shape.substr(at + 1));
    shape.resize(at);
  }
  if (const size_t colon = shape.find(':'); colon != std::string::npos) {
    type = type_of(shape.substr(colon + 1), line);
    shape.resize(colon);
  }
  std::vector<int64_t> dims;
  if (shape != "[]") {
    std::istringstream stream(shape);
    for (std::string part; std::getline(stream, part, 'x');) dims.push_back(std::stoll(part));
    if (dims.empty() || dims.size() > KM_MAX_RANK) refuse(line, "no shape: " + text);
  }
  tensor = tensor_of(type, dims);
}

const km_tensor& input_named(const Problem& p, const std::string& name) {
  const int i = p.find_input(name);
  if (i < 0) refuse(p.line, "needs the shape of " + name);
  return p.inputs[static_cast<size_t>(i)];
}

std::vector<int64_t> product_dims(const Problem& p, const km_tensor& a, const km_tensor& b) {
  std::vector<int64_t> dims = dims_of(a);
  if (dims.empty() || b.rank == 0) refuse(p.line, "a product needs at least one dimension");
  if (p.attribute_i64("transpose_a", 0)) dims = {dims.back(), 0};
  dims.back() = p.attribute_i64("transpose_b", 0) ? b.dims[0] : b.dims[b.rank - 1];
  return dims;
}

/* Adds the shapes that a rule stands for. */
void apply_rule(const Problem& p, const std::string& rule, std::vector<std::vector<int64_t>>& shapes) {
  const size_t colon = rule.find(':');
  const std::string word = rule.substr(0, colon), name = colon == std::string::npos ? "" : rule.substr(colon + 1);
  if (rule == "scalar") {
    shapes.push_back({});
  } else if (rule == "product") {
    shapes.push_back(product_dims(p, input_named(p, "a"), input_named(p, "b")));
    if (p.attribute_string("activation", "none") != "none") shapes.push_back(shapes.back());
  } else if (rule == "last:product") {
    shapes.push_back({product_dims(p, input_named(p, "a"), input_named(p, "b")).back()});
  } else if (rule == "group") {
    std::string operand = "b1";
    for (int64_t i = 1; i <= p.attribute_i64("n", 0); ++i, ++operand[1])
      shapes.push_back(product_dims(p, input_named(p, "x"), input_named(p, operand)));
  } else if (rule == "either") {
    const km_tensor &a = input_named(p, "a"), &b = input_named(p, "b");
    shapes.push_back(dims_of(a.rank ? a : b));
  } else if (rule == "lse") {
    const km_tensor& q = input_named(p, "q");
    shapes.push_back({q.dims[0], q.dims[2] / p.attribute_i64("head_width", 1), q.dims[1]});
  } else if (rule == "lookup") {
    shapes.push_back(dims_of(input_named(p, "tokens")));
    shapes.back().push_back(input_named(p, "table").dims[1]);
  } else if (word == "table") {
    const km_tensor& dy = input_named(p, name);
    shapes.push_back({p.attribute_i64("rows", 1), dy.dims[dy.rank - 1]});
  } else if (word == "token") {
    const km_tensor& x = input_named(p, name);
    shapes.push_back({x.dims[0], x.dims[2]});
  } else if (word == "rows") {
    shapes.push_back(dims_of(input_named(p, name)));
    shapes.back().pop_back();
  } else if (word == "last") {
    shapes.push_back({dims_of(input_named(p, name)).back()});
  } else {
    shapes.push_back(dims_of(input_named(p, rule)));
  }
}

km_attribute attribute_of(Problem& p, const std::string& name, const std::string& text) {
  km_attribute a{};
  a.name = p.texts.emplace_back(name).c_str();
  char* end = nullptr;
  const long long whole = std::strtoll(text.c_str(), &end, 10);
  if (*end == 0) {
    a.type = KM_ATTRIBUTE_I64;
    a.value.i64 = whole;
    return a;
  }
  const double real = std::strtod(text.c_str(), &end);
  if (*end == 0) {
    a.type = KM_ATTRIBUTE_F64;
    a.value.f64 = real;
    return a;
  }
  a.type = KM_ATTRIBUTE_STRING;
  a.value.string = p.texts.emplace_back(text).c_str();
  return a;
}

const Row& row_of(const std::string& op, const std::string& line) {
  for (const Row& row : kRows)
    if (op == row.name) return row;
  refuse(line, "no op " + op);
}

/* Takes the inputs out of `given`, in the order of the row. Inputs whose rule reads a later input come after it. */
void add_inputs(Problem& p, const Row& row, std::map<std::string, std::string>& given) {
  struct Slot {
    std::string name, rule;
    km_tensor tensor{};
    std::optional<double> constant;
    bool known = false;
  };
  std::vector<Slot> slots;
  for (std::string word : words(row.inputs)) {
    Slot slot;
    const size_t equal = word.find('=');
    const bool optional = word.back() == '?';
    slot.name = word.substr(0, optional ? word.size() - 1 : equal);
    if (equal != std::string::npos) slot.rule = word.substr(equal + 1);
    if (const auto found = given.find(slot.name); found != given.end()) {
      parse_input(found->second, default_type(p.op_name, slot.name), p.line, slot.tensor, slot.constant);
      slot.known = true;
      given.erase(found);
    } else if (optional) {
      continue;
    } else if (slot.rule.empty()) {
      refuse(p.line, "needs the input " + slot.name);
    }
    slots.push_back(slot);
  }
  const auto publish = [&] {
    p.input_names.clear(), p.inputs.clear(), p.constants.clear();
    for (const Slot& slot : slots) {
      p.input_names.push_back(slot.known ? slot.name : "");
      p.inputs.push_back(slot.tensor);
      p.constants.push_back(slot.constant);
    }
  };
  publish();
  for (Slot& slot : slots) {
    if (slot.known) continue;
    std::vector<std::vector<int64_t>> shapes;
    apply_rule(p, slot.rule, shapes);
    slot.tensor = tensor_of(default_type(p.op_name, slot.name), shapes.front());
    slot.known = true;
    publish();
  }
}

} // namespace

std::string numbered(const char* prefix, size_t number) {
  std::string text = prefix;
  text += std::to_string(number);
  return text;
}

Tensor make_tensor(uint32_t dtype, const std::vector<int64_t>& dims) {
  Tensor t;
  t.type = tensor_of(dtype, dims);
  t.bytes.resize(km_bytes(&t.type));
  return t;
}

double Tensor::at(int64_t i) const {
  const auto read = [&]<typename T>(T value) {
    std::memcpy(&value, bytes.data() + static_cast<size_t>(i) * sizeof(T), sizeof(T));
    return value;
  };
  switch (type.dtype) {
    case KM_F32: return read(float{});
    case KM_BF16: return std::bit_cast<float>(uint32_t{read(uint16_t{})} << 16);
    case KM_I32: return read(int32_t{});
    default: return static_cast<double>(read(int64_t{}));
  }
}

void Tensor::set(int64_t i, double value) {
  const auto write = [&](auto stored) {
    std::memcpy(bytes.data() + static_cast<size_t>(i) * sizeof stored, &stored, sizeof stored);
  };
  switch (type.dtype) {
    case KM_F32: return write(static_cast<float>(value));
    case KM_BF16: {
      const uint32_t bits = std::bit_cast<uint32_t>(static_cast<float>(value));
      return write(static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16));
    }
    case KM_I32: return write(static_cast<int32_t>(value));
    default: return write(static_cast<int64_t>(value));
  }
}

km_op Problem::op() const {
  km_op op{};
  op.struct_size = sizeof op;
  op.name = op_name.c_str();
  op.n_inputs = static_cast<uint32_t>(inputs.size());
  op.n_outputs = static_cast<uint32_t>(outputs.size());
  op.n_attributes = static_cast<uint32_t>(attributes.size());
  op.inputs = inputs.data();
  op.outputs = outputs.data();
  op.attributes = attributes.data();
  return op;
}

int64_t Problem::attribute_i64(const char* name, int64_t otherwise) const {
  const km_op view = op();
  return km_attribute_i64(&view, name, otherwise);
}

std::string Problem::attribute_string(const char* name, const std::string& otherwise) const {
  const km_op view = op();
  return km_attribute_string(&view, name, otherwise.c_str());
}

int Problem::find_input(const std::string& name) const {
  for (size_t i = 0; i < input_names.size(); ++i)
    if (input_names[i] == name) return static_cast<int>(i);
  return -1;
}

std::vector<std::string> vocabulary() {
  std::vector<std::string> names;
  for (const Row& row : kRows) names.emplace_back(row.name);
  return names;
}

void parse_problem(const std::string& line, Problem& p) {
  const std::vector<std::string> parts = words(line);
  if (parts.empty()) refuse(line, "empty");
  p.line = line;
  p.op_name = parts[0];
  const Row& row = row_of(p.op_name, line);
  std::map<std::string, std::string> given;
  for (size_t i = 1; i < parts.size(); ++i) {
    const size_t equal = parts[i].find('=');
    if (equal == std::string::npos) refuse(line, "no '=' in " + parts[i]);
    given[parts[i].substr(0, equal)] = parts[i].substr(equal + 1);
  }
  /* Attributes first, as shapes depend on them: all that the row does not name as an input. */
  std::map<std::string, std::string> inputs;
  for (const std::string& word : words(row.inputs)) {
    const std::string name = word.substr(0, word.find_first_of("?="));
    if (const auto found = given.find(name); found != given.end()) inputs.insert(given.extract(found));
  }
  for (const auto& [name, text] : given) p.attributes.push_back(attribute_of(p, name, text));
  add_inputs(p, row, inputs);
  std::vector<std::vector<int64_t>> shapes;
  for (const std::string& rule : words(row.outputs)) apply_rule(p, rule, shapes);
  for (const auto& dims : shapes) p.outputs.push_back(tensor_of(KM_F32, dims));
  if (p.attribute_string("dtype", "f32") == "bf16") {
    p.outputs[0].dtype = KM_BF16;
    if (p.op_name == "matmul_bias" && p.outputs.size() == 2) p.outputs[1].dtype = KM_BF16;
  }
  if (p.op_name == "copy") p.outputs[0].dtype = p.inputs[0].dtype;
  const int64_t mask = p.attribute_i64("accumulate", 0);
  for (size_t o = 0; o < p.outputs.size(); ++o) {
    if (!(mask >> o & 1)) continue;
    p.inputs.push_back(p.outputs[o]);
    ++p.addends;
  }
}

} // namespace kumiki::test
