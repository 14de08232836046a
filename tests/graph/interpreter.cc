#include "tests/graph/interpreter.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <stdexcept>

#include "plugins/kernels/reference/reference.h"
#include "tests/support/plain_host.h"

namespace kumiki::test {
namespace {

constexpr km_host kHost = {sizeof(km_host), KM_ABI_MAJOR,   KM_ABI_MINOR,  KM_ABI_MINOR, plain_fail,
                           no_log,          plain_allocate, plain_release, no_service};

void store(const Type& type, unsigned char* to, const Numbers& numbers) {
  for (size_t i = 0; i < numbers.size(); ++i) {
    switch (type.dtype) {
      case KM_F32: reinterpret_cast<float*>(to)[i] = static_cast<float>(numbers[i]); break;
      case KM_BF16: reinterpret_cast<uint16_t*>(to)[i] = reference_to_bf16(static_cast<float>(numbers[i])); break;
      case KM_I32: reinterpret_cast<int32_t*>(to)[i] = static_cast<int32_t>(numbers[i]); break;
      case KM_I64: reinterpret_cast<int64_t*>(to)[i] = static_cast<int64_t>(numbers[i]); break;
      default: throw std::logic_error("the interpreter does not know this type");
    }
  }
}

Numbers load(const Type& type, const unsigned char* from) {
  Numbers numbers(static_cast<size_t>(type.elements()));
  for (size_t i = 0; i < numbers.size(); ++i) {
    switch (type.dtype) {
      case KM_F32: numbers[i] = reinterpret_cast<const float*>(from)[i]; break;
      case KM_BF16: numbers[i] = reference_from_bf16(reinterpret_cast<const uint16_t*>(from)[i]); break;
      case KM_I32: numbers[i] = reinterpret_cast<const int32_t*>(from)[i]; break;
      case KM_I64: numbers[i] = static_cast<double>(reinterpret_cast<const int64_t*>(from)[i]); break;
      default: throw std::logic_error("the interpreter does not know this type");
    }
  }
  return numbers;
}

} // namespace

void Interpreter::set(const std::string& leaf, const Numbers& numbers) { given_[leaf] = numbers; }

void Interpreter::fill_leaves() {
  for (const ValueId id : graph_.values()) {
    const Value& value = graph_.value(id);
    if (value.kind == ValueKind::kActivation) continue;
    Numbers numbers(static_cast<size_t>(value.type.elements()), 0);
    if (value.kind == ValueKind::kConstant) numbers[0] = value.constant;
    if (value.kind == ValueKind::kScalar) numbers[0] = value.name == "past" || value.name == "micro" ? 0 : 1;
    const auto given = given_.find(value.name);
    if (given != given_.end() && (value.kind != ValueKind::kScalar || given->second.size() == 1))
      numbers = given->second;
    if (numbers.size() != static_cast<size_t>(value.type.elements()))
      throw std::runtime_error(value.name + ": given numbers do not fill " + to_text(value.type));
    Bytes& bytes = buffers_[id];
    bytes.resize(value.type.bytes());
    store(value.type, bytes.data(), numbers);
  }
}

void Interpreter::start() {
  buffers_.clear();
  assigned_.clear();
  fill_leaves();
}

void Interpreter::put(ValueId value, const Numbers& numbers) {
  const Type& type = graph_.value(value).type;
  if (numbers.size() != static_cast<size_t>(type.elements()))
    throw std::runtime_error("numbers do not fill " + to_text(type));
  buffers_[value].resize(type.bytes());
  store(type, buffers_[value].data(), numbers);
}

void Interpreter::run() {
  start();
  for (const NodeId id : graph_.order()) run_node(graph_.node(id));
}

void Interpreter::run_node(const Node& node) {
  if (node.op == "assign") {
    assigned_[node.inputs[0]] = buffers_.at(node.inputs[1]);
    return;
  }
  if (node.op == "accumulate" || node.op == "transfer") {
    buffers_[node.outputs[0]] = buffers_.at(node.inputs[0]);
    return;
  }
  if (node.op == "add_stages") {
    Numbers sum = get(node.inputs[0]);
    for (size_t i = 1; i < node.inputs.size(); ++i) {
      const Numbers more = get(node.inputs[i]);
      for (size_t e = 0; e < sum.size(); ++e) sum[e] += more[e];
    }
    put(node.outputs[0], sum);
    return;
  }
  std::vector<km_tensor> inputs, outputs;
  std::vector<void*> buffers;
  for (const ValueId id : node.inputs) {
    inputs.push_back(to_abi(graph_.value(id).type));
    buffers.push_back(buffers_.at(id).data());
  }
  for (const ValueId id : node.outputs) {
    outputs.push_back(to_abi(graph_.value(id).type));
    Bytes& bytes = buffers_[id];
    bytes.assign(graph_.value(id).type.bytes(), 0xff); // NaN: what is not written shows
    buffers.push_back(bytes.data());
  }
  const std::vector<km_attribute> attributes = to_abi(node.attributes);
  const km_op op = {sizeof(km_op),
                    static_cast<uint32_t>(inputs.size()),
                    static_cast<uint32_t>(outputs.size()),
                    static_cast<uint32_t>(attributes.size()),
                    node.op.c_str(),
                    inputs.data(),
                    outputs.data(),
                    attributes.data()};
  const km_request request = {sizeof(km_request), 0, &op};
  km_support support = {};
  support.struct_size = sizeof support;
  reference_kernel* kernel = nullptr;
  km_status status = reference_query(&kHost, &request, &support);
  if (status == KM_OK) status = reference_create(&kHost, &request, &kernel);
  if (status == KM_OK) {
    std::vector<double> workspace(support.workspace_bytes / sizeof(double) + 1);
    status = reference_run(kernel, buffers.data(), workspace.data());
  }
  reference_destroy(kernel);
  if (status != KM_OK) throw std::runtime_error(to_text(graph_, node) + ": " + plain_error);
}

Numbers Interpreter::get(ValueId value) const { return load(graph_.value(value).type, buffers_.at(value).data()); }

Numbers Interpreter::assigned(const std::string& leaf) const {
  const ValueId id = graph_.find(leaf);
  const auto found = assigned_.find(id);
  return found == assigned_.end() ? Numbers{} : load(graph_.value(id).type, found->second.data());
}

Numbers random_numbers(int64_t count, uint64_t seed) {
  std::mt19937_64 engine(seed);
  Numbers numbers(static_cast<size_t>(count));
  for (double& number : numbers) number = static_cast<double>(engine() >> 11) / 4503599627370496.0 - 1;
  return numbers;
}

void set_random_leaves(Interpreter& interpreter, const Graph& graph, int64_t vocabulary, uint64_t seed) {
  for (const ValueId id : graph.parameters()) {
    const Value& value = graph.value(id);
    Numbers numbers = random_numbers(value.type.elements(), seed + id);
    const bool norm = value.init == KM_INIT_ONE;
    for (double& number : numbers) number = norm ? 1 + 0.3 * number : 0.4 * number;
    interpreter.set(value.name, numbers);
  }
  for (const char* name : {"tokens", "targets", "segments"}) {
    const ValueId id = graph.find(name);
    if (id == 0 || graph.value(id).kind != ValueKind::kInput) continue;
    const Type& type = graph.value(id).type;
    Numbers numbers =
        random_numbers(type.elements(), seed + 1000 + static_cast<uint64_t>(name[0]) + static_cast<uint64_t>(name[1]));
    for (size_t i = 0; i < numbers.size(); ++i) {
      if (name[0] == 's')
        numbers[i] = static_cast<double>(i % static_cast<size_t>(type.shape[1])) < 3 ? 0 : 1;
      else
        numbers[i] = std::floor((numbers[i] + 1) / 2 * static_cast<double>(vocabulary));
      if (std::strcmp(name, "targets") == 0 && i % 5 == 4) numbers[i] = -1;
    }
    interpreter.set(name, numbers);
  }
}

double difference(const Numbers& expected, const Numbers& got) {
  if (expected.size() != got.size()) return HUGE_VAL;
  double largest = 1, apart = 0;
  for (const double number : expected)
    if (std::isfinite(number)) largest = std::max(largest, std::fabs(number));
  for (size_t i = 0; i < expected.size(); ++i) {
    if (expected[i] == got[i]) continue; // infinities, too
    const double d = std::fabs(expected[i] - got[i]);
    if (!(d <= apart)) apart = d; // a NaN stays
    if (std::isnan(d)) return HUGE_VAL;
  }
  return apart / largest;
}

} // namespace kumiki::test
