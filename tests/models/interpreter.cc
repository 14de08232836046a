#include "tests/models/interpreter.h"

#include <cmath>
#include <cstring>
#include <stdexcept>

#include "kumiki/kernels.h"

namespace kumiki::test {

Interpreter::Interpreter(const Graph& graph, const Component& kernels) : graph_(graph), kernels_(kernels) {
  for (const ValueId id : graph.values()) {
    memory_[id].resize(graph.value(id).type.bytes());
    if (graph.value(id).kind == ValueKind::kConstant) set(id, {static_cast<float>(graph.value(id).constant)});
  }
}

ValueId Interpreter::find(const std::string& name) const {
  if (const ValueId leaf = graph_.find(name)) return leaf;
  for (const auto& [id, bytes] : memory_)
    if (graph_.value(id).kind == ValueKind::kScalar && graph_.value(id).name == name) return id;
  return 0;
}

void Interpreter::write(ValueId value, const void* bytes, size_t size) {
  if (value == 0) return;
  std::vector<unsigned char>& to = memory_.at(value);
  if (to.size() != size) throw std::runtime_error(graph_.value(value).name + ": wrong number of bytes");
  std::memcpy(to.data(), bytes, size);
}

void Interpreter::set(ValueId value, const std::vector<float>& elements) {
  write(value, elements.data(), elements.size() * sizeof(float));
}
void Interpreter::set(const std::string& name, const std::vector<float>& elements) { set(find(name), elements); }
void Interpreter::set_i32(const std::string& name, const std::vector<int32_t>& elements) {
  write(find(name), elements.data(), elements.size() * sizeof(int32_t));
}
void Interpreter::set_i64(const std::string& name, int64_t element) { write(find(name), &element, sizeof element); }

std::vector<float> Interpreter::get(ValueId value) const {
  const std::vector<unsigned char>& from = memory_.at(value);
  std::vector<float> elements(from.size() / sizeof(float));
  std::memcpy(elements.data(), from.data(), from.size());
  return elements;
}
std::vector<float> Interpreter::get(const std::string& name) const { return get(find(name)); }

void Interpreter::run_node(const Node& node) {
  if (node.op == "accumulate") { // of one micro-batch: a copy
    memory_.at(node.outputs[0]) = memory_.at(node.inputs[0]);
    return;
  }
  std::vector<km_tensor> in, out;
  std::vector<km_address> buffers;
  for (const ValueId id : node.inputs) {
    in.push_back(to_abi(graph_.value(id).type));
    buffers.push_back(reinterpret_cast<km_address>(memory_.at(id).data()));
  }
  for (const ValueId id : node.outputs) {
    out.push_back(to_abi(graph_.value(id).type));
    memory_[id].resize(graph_.value(id).type.bytes());
    buffers.push_back(reinterpret_cast<km_address>(memory_.at(id).data()));
  }
  const std::vector<km_attribute> attributes = to_abi(node.attributes);
  const km_op op = {sizeof op,
                    static_cast<uint32_t>(in.size()),
                    static_cast<uint32_t>(out.size()),
                    static_cast<uint32_t>(attributes.size()),
                    node.op.c_str(),
                    in.data(),
                    out.data(),
                    attributes.data()};
  const km_request request = {sizeof request, 0, &op};
  const auto& table = kernels_.table<km_kernels>();
  km_support support = {};
  support.struct_size = sizeof support;
  km_kernel* kernel = nullptr;
  if (table.query(kernels_.self(), &request, &support) != KM_OK ||
      table.create(kernels_.self(), &request, &kernel) != KM_OK)
    throw std::runtime_error(node.op + ": " + Component::take_error());
  std::vector<unsigned char> workspace(support.workspace_bytes);
  const km_status status =
      table.run(kernels_.self(), kernel, buffers.data(), reinterpret_cast<km_address>(workspace.data()), nullptr);
  table.destroy(kernels_.self(), kernel);
  if (status != KM_OK) throw std::runtime_error(node.op + ": " + Component::take_error());
}

void Interpreter::run_nodes(const Phase* only) {
  std::vector<const Node*> assigns;
  for (const NodeId id : graph_.order()) {
    const Node& node = graph_.node(id);
    if (only && node.phase != *only) continue;
    if (node.op == "assign")
      assigns.push_back(&node);
    else
      run_node(node);
  }
  for (const Node* node : assigns) memory_.at(node->inputs[0]) = memory_.at(node->inputs[1]);
}
void Interpreter::run() { run_nodes(nullptr); }
void Interpreter::run(Phase only) { run_nodes(&only); }

void fill_parameters(const Graph& graph, Interpreter& interpreter, double size) {
  for (const ValueId id : graph.parameters()) {
    const Value& parameter = graph.value(id);
    double phase = 0;
    for (const char c : parameter.name) phase = std::fmod(phase * 31 + c, 1000.0);
    std::vector<float> elements(static_cast<size_t>(parameter.type.elements()));
    const double middle = parameter.init == KM_INIT_ONE ? 1.0 : 0.0;
    for (size_t i = 0; i < elements.size(); ++i)
      elements[i] = static_cast<float>(middle + size * std::sin(phase + 2.3 * static_cast<double>(i)));
    interpreter.set(id, elements);
  }
}

} // namespace kumiki::test
