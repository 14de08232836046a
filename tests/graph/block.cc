#include "tests/graph/block.h"

#include "core/graph/recompute.h"

namespace kumiki::test {

std::vector<Axis> axes_of(const Layout& layout) {
  std::vector<Axis> axes;
  if (layout.tensor > 1) axes.push_back({"tensor", layout.tensor, 0, kTensorLevel});
  if (layout.data > 1) axes.push_back({"data", layout.data, 0, kDataLevel});
  return axes;
}

const std::map<std::string, Shape>& shapes() {
  static const std::map<std::string, Shape> table = {
      {"table", {kVocabulary, kWidth}},
      {"position", {kTokens, kWidth}},
      {"norm1", {kWidth}},
      {"shift1", {kWidth}},
      {"up", {kInner, kWidth}},
      {"up_bias", {kInner}},
      {"down", {kWidth, kInner}},
      {"down_bias", {kWidth}},
      {"norm2", {kWidth}},
      {"shift2", {kWidth}},
  };
  return table;
}

namespace {

// The block as tensor and data strategies would write it.
class Block {
 public:
  Block(Graph& graph, const Layout& layout) : g_(graph), layout_(layout), spread_(layout.tensor > 1) {}

  void build() {
    g_.cursor.origin = "test";
    const Type ids{KM_I32, {kBatch, kTokens}};
    for (const char* name : {"tokens", "targets"}) {
      g_.declare_input(name, ids);
      if (layout_.data > 1) g_.shard(g_.input(name), 0, g_.axis_index("data"));
    }
    for (const auto& [name, shape] : shapes()) p_[name] = parameter(name, shape);
    ValueId x = lookup();
    x = dropout(g_.add1("add_position", {x, p_["position"]}, with_offset(sequence(), begin_of_tokens())), 1);
    ValueId h = open(norm(x, "1"));
    h = g_.add1("bias_add", {g_.add1("matmul", {h, p_["up"]}, {{"transpose_b", int64_t{1}}}), p_["up_bias"]});
    h = g_.add1("matmul", {g_.add1("gelu", {h}), p_["down"]}, {{"transpose_b", int64_t{1}}});
    x = g_.add1("add", {x, dropout(g_.add1("bias_add", {close(h), p_["down_bias"]}), 2)});
    if (layout_.again) mark();
    loss(g_.add1("matmul", {open(norm(x, "2")), p_["table"]}, {{"transpose_b", int64_t{1}}}));
    g_.infer_all();
  }

 private:
  ValueId parameter(const std::string& name, const Shape& shape) {
    const ValueId id = g_.add_parameter(name, {KM_F32, shape}, KM_ROLE_REPLICATED, KM_INIT_NORMAL, 1, false);
    const int32_t dim = name == "down" ? 1 : name == "table" || name.starts_with("up") ? 0 : -1;
    if (spread_ && dim >= 0) g_.shard(id, dim, g_.axis_index("tensor"));
    if (layout_.gather == Gather::kNone) return id;
    const Shape box = g_.value(id).type.shape;
    g_.shard(id, -1, g_.axis_index("data"));
    g_.cursor.phase = layout_.gather == Gather::kHead ? Phase::kHead : Phase::kBody;
    const ValueId whole = g_.add1("flat_gather", {id}, {{"axes", std::string("data")}, {"shape", box}});
    g_.cursor.phase = Phase::kBody;
    return whole;
  }

  bool sequence() const { return spread_ && layout_.sequence; }
  int64_t coordinate() const { return g_.axes()[g_.axis_index("tensor")].coordinate; }
  int64_t begin_of_tokens() const { return sequence() ? coordinate() * kTokens / layout_.tensor : 0; }
  int64_t begin_of_vocabulary() const { return spread_ ? part_begin(kVocabulary, layout_.tensor, coordinate()) : 0; }
  static Attributes with_offset(bool with, int64_t offset) {
    return with ? Attributes{{"offset", offset}} : Attributes{};
  }
  ValueId over(const char* op, ValueId x, Attributes attributes = {}) {
    attributes["axes"] = std::string("tensor");
    return g_.add1(op, {x}, std::move(attributes));
  }

  // Into what each rank computes a part of, and out of it.
  ValueId open(ValueId x) {
    if (!spread_) return x;
    return sequence() ? over("all_gather", x, {{"dim", int64_t{1}}}) : over("replicate", x);
  }
  ValueId close(ValueId x) {
    if (!spread_) return x;
    return sequence() ? over("reduce_scatter", x, {{"dim", int64_t{1}}}) : over("all_reduce", x);
  }

  ValueId lookup() {
    return close(g_.add1("embedding", {g_.input("tokens"), p_["table"]}, with_offset(spread_, begin_of_vocabulary())));
  }
  ValueId dropout(ValueId x, int64_t stream) {
    Attributes attributes = with_offset(sequence(), begin_of_tokens() * kWidth);
    attributes["probability"] = 0.3;
    attributes["stream"] = stream;
    return g_.add1("dropout", {x, g_.step_scalar("seed"), g_.step_scalar("sample")}, attributes);
  }
  ValueId norm(ValueId x, const std::string& number) {
    return g_.add1("layernorm", {x, p_["norm" + number], p_["shift" + number]}, {{"epsilon", 1e-5}});
  }
  void mark() {
    for (const NodeId id : g_.order())
      if (g_.node(id).phase == Phase::kBody) g_.node(id).again = true;
    g_.node(g_.order().back()).again = false; // the block's output
  }
  void loss(ValueId logits) {
    std::vector<ValueId> made;
    if (spread_) {
      const Attributes offset = with_offset(true, begin_of_vocabulary());
      const ValueId targets = g_.input("targets");
      const ValueId max = over("all_reduce", g_.add1("row_max", {logits}), {{"reduce", std::string("max")}});
      const std::vector<ValueId> parts = g_.add("row_exp_pick", {logits, targets, max}, offset);
      const std::vector<ValueId> sums = g_.add("all_reduce", parts, {{"axes", std::string("tensor")}});
      made = g_.add("cross_entropy_parts", {logits, targets, max, sums[0], sums[1]}, offset);
    } else {
      made = g_.add("cross_entropy", {logits, g_.input("targets")});
    }
    g_.set_output("loss", made[0]);
    g_.set_output("tokens", made[1]);
  }

  Graph& g_;
  Layout layout_;
  bool spread_;
  std::map<std::string, ValueId> p_;
};

// What is partial after autodiff is reduced in the tail, as strategies and core do.
ValueId reduced(Graph& graph, ValueId value) {
  std::string axes;
  for (size_t i = graph.axes().size(); i-- > 0;)
    if (graph.placement(value, i).spread == Spread::kPartial) axes += (axes.empty() ? "" : ",") + graph.axes()[i].name;
  return axes.empty() ? value : graph.add1("all_reduce", {value}, {{"axes", axes}});
}

} // namespace

void build_block(Graph& graph, const Layout& layout) { Block(graph, layout).build(); }

void finish(Graph& graph) {
  autodiff(graph);
  graph.infer_all();
  graph.cursor = {};
  graph.cursor.origin = "test";
  std::map<std::string, ValueId> sums;
  for (const char* name : {"loss", "tokens"}) sums[name] = graph.add1("accumulate", {graph.output(name)});
  graph.infer_all();
  graph.cursor.phase = Phase::kTail;
  for (const auto& [name, sum] : sums) graph.set_output(name, reduced(graph, sum));
  for (auto& [parameter, gradient] : graph.gradients()) gradient = reduced(graph, gradient);
  recompute(graph);
  graph.infer_all();
  graph.check();
}

} // namespace kumiki::test
