// A graph as text, one line a node, and as Graphviz.
#include <cstdio>
#include <sstream>

#include "core/base/quote.h"
#include "core/graph/graph.h"

namespace kumiki {
namespace {

const char* dtype_name(uint32_t dtype) {
  switch (dtype) {
    case KM_F32: return "f32";
    case KM_BF16: return "bf16";
    case KM_F16: return "f16";
    case KM_F64: return "f64";
    case KM_I32: return "i32";
    case KM_I64: return "i64";
    case KM_U8: return "u8";
    default: return "?";
  }
}

std::string number(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.9g", value);
  return text;
}

std::string attribute_text(const Attribute& attribute) {
  if (const auto* i64 = std::get_if<int64_t>(&attribute)) return std::to_string(*i64);
  if (const auto* f64 = std::get_if<double>(&attribute)) return number(*f64);
  if (const auto* text = std::get_if<std::string>(&attribute)) return "\"" + *text + "\"";
  std::string list = "[";
  for (const int64_t element : std::get<std::vector<int64_t>>(attribute))
    list += (list.size() > 1 ? "," : "") + std::to_string(element);
  return list + "]";
}

std::string input_text(const Graph& graph, ValueId id) {
  std::string text = "%" + std::to_string(id);
  const Value& value = graph.value(id);
  if (value.kind == ValueKind::kConstant) return text + ":" + number(value.constant);
  if (value.kind != ValueKind::kActivation) return text + ":" + value.name;
  return text;
}

std::string place_text(const Node& node) {
  std::string text = node.phase == Phase::kHead ? "head" : node.phase == Phase::kTail ? "tail" : "body";
  if (node.phase == Phase::kBody)
    text += node.part == Part::kForward ? "/F" : node.part == Part::kBackward ? "/B" : "/W";
  if (node.layer >= 0) text += " layer " + std::to_string(node.layer);
  if (node.stage != 0) text += " stage " + std::to_string(node.stage);
  return text;
}

const char* kind_name(ValueKind kind) {
  switch (kind) {
    case ValueKind::kParameter: return "parameter";
    case ValueKind::kInput: return "input";
    case ValueKind::kState: return "state";
    case ValueKind::kConstant: return "constant";
    case ValueKind::kScalar: return "scalar";
    default: return "activation";
  }
}

} // namespace

std::string to_text(const Type& type) {
  std::string text = std::string(dtype_name(type.dtype)) + "[";
  for (size_t i = 0; i < type.shape.size(); ++i) text += (i ? "," : "") + std::to_string(type.shape[i]);
  return text + "]";
}

std::string to_text(const Graph& graph, const Node& node) {
  std::string text;
  for (const ValueId id : node.outputs)
    text += (text.empty() ? "%" : ", %") + std::to_string(id) + ":" + to_text(graph.value(id).type);
  if (!text.empty()) text += " = ";
  text += node.op + "(";
  for (size_t i = 0; i < node.inputs.size(); ++i) text += (i ? ", " : "") + input_text(graph, node.inputs[i]);
  text += ")";
  if (!node.attributes.empty()) {
    text += " {";
    bool first = true;
    for (const auto& [name, attribute] : node.attributes) {
      text += (first ? "" : ", ") + name + "=" + attribute_text(attribute);
      first = false;
    }
    text += "}";
  }
  return text + "  " + place_text(node);
}

std::string to_text(const Graph& graph) {
  std::ostringstream out;
  for (const ValueId id : graph.values()) {
    const Value& value = graph.value(id);
    if (value.kind == ValueKind::kActivation || value.kind == ValueKind::kConstant) continue;
    out << kind_name(value.kind) << " %" << id << ":" << value.name << " " << to_text(value.type) << "\n";
  }
  for (const NodeId id : graph.order()) out << to_text(graph, graph.node(id)) << "\n";
  for (const auto& [name, id] : graph.outputs()) out << "output " << name << " = " << input_text(graph, id) << "\n";
  for (const auto& [parameter, id] : graph.gradients())
    out << "gradient of " << graph.value(parameter).name << " = " << input_text(graph, id) << "\n";
  return out.str();
}

std::string to_graphviz(const Graph& graph) {
  std::ostringstream out;
  out << "digraph kumiki {\n  rankdir=TB;\n  node [shape=box, fontname=\"monospace\"];\n";
  for (const ValueId id : graph.values()) {
    const Value& value = graph.value(id);
    if (value.kind == ValueKind::kActivation) continue;
    out << "  v" << id << " [shape=ellipse, label=\"" << escaped(input_text(graph, id)) << "\\n"
        << to_text(value.type) << "\"];\n";
  }
  for (const NodeId id : graph.order()) {
    const Node& node = graph.node(id);
    out << "  n" << id << " [label=\"" << escaped(node.op) << "\\n" << escaped(place_text(node)) << "\"];\n";
    for (const ValueId input : node.inputs) {
      const Value& value = graph.value(input);
      if (value.producer)
        out << "  n" << value.producer << " -> n" << id << " [label=\"" << to_text(value.type) << "\"];\n";
      else
        out << "  v" << input << " -> n" << id << ";\n";
    }
  }
  for (const auto& [name, id] : graph.outputs()) {
    out << "  output_" << name << " [shape=diamond, label=\"" << escaped(name) << "\"];\n  "
        << (graph.value(id).producer ? "n" : "v") << (graph.value(id).producer ? graph.value(id).producer : id)
        << " -> output_" << name << ";\n";
  }
  out << "}\n";
  return out.str();
}

} // namespace kumiki
