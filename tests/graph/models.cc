#include "tests/graph/models.h"

#include <string>

namespace kumiki::test {
namespace {

class Model {
 public:
  Model(Graph& graph, const ModelShape& shape) : graph_(graph), shape_(shape) {
    const Type ids{KM_I32, {shape.batch, shape.tokens}};
    for (const char* name : {"tokens", "targets"}) graph.declare_input(name, ids);
    if (shape.segments) graph.declare_input("segments", ids);
    graph.cursor.origin = "model test";
  }

  ValueId weight(const std::string& name, int64_t out, int64_t in) {
    return graph_.add_parameter(prefix_ + name, Type{KM_F32, {out, in}}, KM_ROLE_COLUMN, KM_INIT_NORMAL, 0.02, true);
  }
  ValueId vector(const std::string& name, int64_t n, uint32_t init) {
    return graph_.add_parameter(prefix_ + name, Type{KM_F32, {n}}, KM_ROLE_REPLICATED, init, 0, false);
  }
  void layer(int64_t number) {
    graph_.cursor.layer = static_cast<int32_t>(number);
    prefix_ = number < 0 ? "" : "layers." + std::to_string(number) + ".";
  }
  ValueId linear(const std::string& name, ValueId x, int64_t out, int64_t in, bool bias) {
    const ValueId y = graph_.add1("matmul", {x, weight(name + ".weight", out, in)}, {{"transpose_b", int64_t{1}}});
    return bias ? graph_.add1("bias_add", {y, vector(name + ".bias", out, KM_INIT_ZERO)}) : y;
  }
  ValueId layernorm(const std::string& name, ValueId x) {
    return graph_.add1(
        "layernorm",
        {x, vector(name + ".weight", shape_.width, KM_INIT_ONE), vector(name + ".bias", shape_.width, KM_INIT_ZERO)},
        {{"epsilon", 1e-5}});
  }
  ValueId rmsnorm(const std::string& name, ValueId x) {
    return graph_.add1("rmsnorm", {x, vector(name + ".weight", shape_.width, KM_INIT_ONE)}, {{"epsilon", 1e-5}});
  }
  ValueId dropout(ValueId x) {
    if (shape_.dropout == 0) return x;
    return graph_.add1("dropout", {x, graph_.step_scalar("seed"), graph_.step_scalar("sample")},
                       {{"probability", shape_.dropout}, {"stream", ++stream_}});
  }
  ValueId attend(ValueId q, ValueId k, ValueId v) {
    Attributes attributes = {{"head_width", shape_.width / shape_.heads}};
    std::vector<ValueId> inputs = {q, k, v};
    const ValueId segments = graph_.input("segments");
    attributes["mask"] = std::string(segments ? "segments" : "causal");
    if (segments) inputs.push_back(segments);
    return graph_.add1("attention", inputs, attributes);
  }
  void close(ValueId x, ValueId embedding) {
    const ValueId head = shape_.tied ? embedding : weight("head.weight", shape_.vocabulary, shape_.width);
    const ValueId logits = graph_.add1("matmul", {x, head}, {{"transpose_b", int64_t{1}}});
    const std::vector<ValueId> loss = graph_.add("cross_entropy", {logits, graph_.input("targets")});
    graph_.set_output("loss", loss[0]);
    graph_.set_output("tokens", loss[1]);
  }

 private:
  Graph& graph_;
  const ModelShape& shape_;
  std::string prefix_;
  int64_t stream_ = 0;
};

} // namespace

void build_gpt(Graph& graph, const ModelShape& shape) {
  Model m(graph, shape);
  const int64_t width = shape.width;
  m.layer(-1);
  const ValueId embedding = m.weight("embedding.weight", shape.vocabulary, width);
  ValueId x = graph.add1("embedding", {graph.input("tokens"), embedding});
  x = m.dropout(graph.add1("add_position", {x, m.weight("position.weight", shape.tokens + 2, width)}));
  for (int64_t layer = 0; layer < shape.layers; ++layer) {
    m.layer(layer);
    ValueId h = m.layernorm("norm1", x);
    const ValueId q = m.linear("query", h, width, width, true);
    const ValueId k = m.linear("key", h, width, width, true);
    const ValueId v = m.linear("value", h, width, width, true);
    h = m.dropout(m.linear("output", m.attend(q, k, v), width, width, true));
    x = graph.add1("add", {x, h});
    h = m.layernorm("norm2", x);
    h = graph.add1("gelu", {m.linear("up", h, shape.feed_forward, width, true)});
    h = m.dropout(m.linear("down", h, width, shape.feed_forward, true));
    x = graph.add1("add", {x, h});
  }
  m.layer(-1);
  m.close(m.layernorm("norm", x), embedding);
}

void build_llama(Graph& graph, const ModelShape& shape) {
  Model m(graph, shape);
  const int64_t width = shape.width, head_width = width / shape.heads;
  m.layer(-1);
  const ValueId embedding = m.weight("embedding.weight", shape.vocabulary, width);
  ValueId x = graph.add1("embedding", {graph.input("tokens"), embedding});
  for (int64_t layer = 0; layer < shape.layers; ++layer) {
    m.layer(layer);
    const Attributes rope = {{"head_width", head_width}, {"base", 10000.0}};
    ValueId h = m.rmsnorm("norm1", x);
    const ValueId q = graph.add1("rope", {m.linear("query", h, width, width, false)}, rope);
    const ValueId k = graph.add1("rope", {m.linear("key", h, shape.key_heads * head_width, width, false)}, rope);
    const ValueId v = m.linear("value", h, shape.key_heads * head_width, width, false);
    x = graph.add1("add", {x, m.dropout(m.linear("output", m.attend(q, k, v), width, width, false))});
    h = m.rmsnorm("norm2", x);
    h = graph.add1("swiglu", {m.linear("gate", h, shape.feed_forward, width, false),
                              m.linear("up", h, shape.feed_forward, width, false)});
    x = graph.add1("add", {x, m.dropout(m.linear("down", h, width, shape.feed_forward, false))});
  }
  m.layer(-1);
  m.close(m.rmsnorm("norm", x), embedding);
}

} // namespace kumiki::test
