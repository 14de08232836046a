// Communication ops in a small transformer block: divided over tensor (with and without sequence parallelism), data
// (whole, or flat parameters gathered in the head or in the body), stages. Loss and gradients are those of one rank.
#include <catch2/catch.hpp>
#include <cmath>

#include "core/base/error.h"
#include "core/graph/graph.h"
#include "core/graph/recompute.h"
#include "tests/graph/ranks.h"

namespace kumiki::test {
namespace {

constexpr int64_t kBatch = 6, kTokens = 4, kWidth = 7, kInner = 12, kVocabulary = 11; // 11: nothing divides it
constexpr uint32_t kTensorLevel = 20, kDataLevel = 40;

enum class Gather { kNone, kHead, kBody };
struct Layout {
  int64_t tensor = 1, data = 1;
  bool sequence = false;
  Gather gather = Gather::kNone;
  bool again = false; // what can be computed again is
};

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

struct Result {
  double loss, tokens;
  std::map<std::string, Numbers> gradients;
};

Result run(const Layout& layout, bool checked = true) {
  Ranks ranks(axes_of(layout), [&](Graph& graph) {
    Block(graph, layout).build();
    finish(graph);
    if (checked) check_final(graph);
  });
  uint64_t seed = 40;
  for (const auto& [name, shape] : shapes()) ranks.set(name, random_numbers(Type{KM_F32, shape}.elements(), ++seed));
  Numbers tokens = random_numbers(kBatch * kTokens, 7), targets = random_numbers(kBatch * kTokens, 8);
  for (double& token : tokens) token = std::floor((token + 1) / 2 * kVocabulary);
  for (double& target : targets) target = std::floor((target + 1) / 2 * (kVocabulary + 1)) - 1;
  ranks.set("tokens", tokens);
  ranks.set("targets", targets);
  for (size_t rank = 0; rank < ranks.size(); ++rank) {
    int64_t sample = 100;
    for (const Axis& axis : ranks.graph(rank).axes())
      if (axis.name == "data") sample += axis.coordinate * kBatch / axis.degree;
    ranks.interpreter(rank).set("sample", {static_cast<double>(sample)});
  }
  ranks.run();
  const Graph& graph = ranks.graph();
  Result result{ranks.whole(graph.output("loss"), {})[0], ranks.whole(graph.output("tokens"), {})[0], {}};
  for (const auto& [name, shape] : shapes())
    result.gradients[name] = ranks.whole(graph.gradients().at(graph.find(name)), shape);
  return result;
}

std::string name_of(const Layout& layout) {
  return "tensor " + std::to_string(layout.tensor) + (layout.sequence ? " with sequence" : "") + ", data " +
         std::to_string(layout.data) +
         (layout.gather == Gather::kHead   ? ", gathered in the head"
          : layout.gather == Gather::kBody ? ", gathered in the body"
                                           : "") +
         (layout.again ? ", again" : "");
}

TEST_CASE("loss and gradients of a block are those of one rank, whatever its layout") {
  const Result one = run({});
  REQUIRE(one.tokens > 10);
  std::vector<Layout> layouts;
  for (const int64_t tensor : {1, 2, 4})
    for (const int64_t data : {1, 2, 3})
      for (const bool sequence : {false, true})
        for (const Gather gather : {Gather::kNone, Gather::kHead, Gather::kBody})
          if ((tensor > 1 || !sequence) && (data > 1 || gather == Gather::kNone))
            layouts.push_back({tensor, data, sequence, gather, false});
  CHECK(layouts.size() == 35);
  for (const Layout& layout : layouts) {
    INFO(name_of(layout));
    const Result many = run(layout);
    CHECK(std::fabs(many.loss - one.loss) < 1e-6 * std::fabs(one.loss));
    CHECK(many.tokens == one.tokens);
    for (const auto& [name, gradient] : one.gradients) {
      INFO(name);
      CHECK(difference(gradient, many.gradients.at(name)) < 1e-6);
    }
  }
}

TEST_CASE("computed again, gathers of sequences and parameters too, gradients keep their bits") {
  for (const Layout& layout : {Layout{1, 1, false, Gather::kNone, false}, Layout{2, 1, true, Gather::kNone, false},
                               Layout{2, 3, true, Gather::kBody, false}, Layout{2, 3, false, Gather::kHead, false}}) {
    INFO(name_of(layout));
    Layout again = layout;
    again.again = true;
    const Result expected = run(layout), got = run(again);
    CHECK(expected.loss == got.loss);
    CHECK(expected.gradients == got.gradients);
  }
}

TEST_CASE(
    "a parameter that is gathered in the head has its gradient in the tail, one gathered in the body accumulates its "
    "part") {
  for (const Gather gather : {Gather::kHead, Gather::kBody}) {
    Ranks ranks(axes_of({1, 2}), [&](Graph& graph) {
      Block(graph, {1, 2, false, gather, false}).build();
      autodiff(graph);
      graph.infer_all();
      graph.check();
    });
    const Graph& graph = ranks.graph();
    for (const auto& [parameter, gradient] : graph.gradients()) {
      const Node& node = graph.node(graph.value(gradient).producer);
      const Node& before = graph.node(graph.value(node.inputs[0]).producer);
      const bool head = gather == Gather::kHead;
      CHECK(node.op == (head ? "flat_scatter" : "accumulate"));
      CHECK(node.phase == (head ? Phase::kTail : Phase::kBody));
      CHECK(before.op == (head ? "accumulate" : "flat_scatter"));
      CHECK(before.phase == Phase::kBody);
      CHECK(before.part == Part::kWeight);
      CHECK(graph.placement(gradient, 0) == graph.placement(parameter, 0));
      CHECK(graph.value(gradient).type == graph.value(parameter).type);
    }
  }
}

TEST_CASE("a parameter read by the head and by the body gets both terms") {
  Graph graph;
  const ValueId p = graph.add_parameter("p", {}, KM_ROLE_REPLICATED, KM_INIT_NORMAL, 1, false);
  graph.declare_input("x", {});
  graph.cursor.phase = Phase::kHead;
  const ValueId twice = graph.add1("scale", {p}, {{"factor", 2.0}}), square = graph.add1("square", {twice});
  graph.cursor.phase = Phase::kBody;
  const ValueId sum = graph.add1("add", {graph.add1("multiply", {p, graph.input("x")}), square});
  graph.set_output("loss", graph.add1("add", {sum, twice})); // p x + 4 p² + 2 p
  autodiff(graph);
  graph.check();
  Interpreter interpreter(graph);
  interpreter.set("p", {3});
  interpreter.set("x", {5});
  interpreter.run();
  CHECK(interpreter.get(graph.gradients().at(p))[0] == 5 + 8 * 3 + 2);
}

// ---- stages ---------------------------------------------------------------------------------------------------------

// embedding on stage 0, a product with the same table on stage 1, as the pipeline strategy would cut them.
void build_stages(Graph& graph, bool cut) {
  graph.cursor.origin = "test";
  if (cut) graph.set_stages(2);
  for (const char* name : {"tokens", "targets"}) graph.declare_input(name, {KM_I32, {2, 3}});
  const ValueId table = graph.add_parameter("table", {KM_F32, {5, 4}}, KM_ROLE_VOCABULARY, KM_INIT_NORMAL, 1, true);
  const ValueId tokens = graph.input("tokens"), targets = graph.input("targets");
  ValueId x = graph.add1("embedding", {tokens, table});
  x = graph.add1("add", {x, graph.add1("tanh", {x})});
  ValueId head = table;
  if (cut) {
    x = graph.add1("transfer", {x}, {{"from", int64_t{0}}, {"to", int64_t{1}}});
    graph.cursor.stage = 1;
    head = graph.add_tied_copy(table, 1);
    graph.value(targets).stage = 1;
  }
  const ValueId logits = graph.add1("matmul", {graph.add1("gelu", {x}), head}, {{"transpose_b", int64_t{1}}});
  const std::vector<ValueId> loss = graph.add("cross_entropy", {logits, targets});
  graph.set_output("loss", loss[0]);
  graph.set_output("tokens", loss[1]);
}

void sum_tied(Graph& graph) {
  const ValueId table = graph.find("table"), copy = graph.find("table@stage1");
  graph.cursor = {};
  graph.cursor.origin = "test";
  graph.cursor.phase = Phase::kTail;
  const ValueId sum = graph.add1("add_stages", {graph.gradients().at(table), graph.gradients().at(copy)},
                                 {{"stages", std::vector<int64_t>{0, 1}}});
  graph.gradients()[table] = graph.gradients()[copy] = sum;
}

TEST_CASE("a transfer goes back as a transfer, and tied gradients are summed over their stages") {
  Graph whole, cut;
  build_stages(whole, false);
  autodiff(whole);
  build_stages(cut, true);
  autodiff(cut);
  CHECK_THROWS_WITH((cut.infer_all(), check_final(cut)), Catch::Contains("are not one sum over their stages"));
  sum_tied(cut);
  cut.infer_all();
  cut.check();
  check_final(cut);
  std::vector<std::string> seen;
  for (const NodeId id : cut.order()) {
    const Node& node = cut.node(id);
    if (node.op != "transfer") continue;
    const bool forward = node.part == Part::kForward;
    CHECK(node.stage == (forward ? 0 : 1));
    CHECK(cut.value(node.outputs[0]).stage == (forward ? 1 : 0));
    seen.push_back(forward ? "forward" : "back");
    CHECK((forward || node.part == Part::kBackward));
    cut.set_stage(id, 1); // it stands where its attributes say
    CHECK(node.stage == (forward ? 0 : 1));
    CHECK(cut.value(node.outputs[0]).stage == (forward ? 1 : 0));
  }
  CHECK(seen == std::vector<std::string>{"forward", "back"});
  Interpreter expected(whole), got(cut);
  for (Interpreter* interpreter : {&expected, &got}) {
    for (const char* name : {"table", "table@stage1"}) interpreter->set(name, random_numbers(20, 3));
    interpreter->set("tokens", {0, 1, 2, 3, 4, 0});
    interpreter->set("targets", {1, 2, -1, 4, 0, 3});
    interpreter->run();
  }
  CHECK(expected.get_output("loss") == got.get_output("loss"));
  CHECK(difference(expected.get(whole.gradients().at(whole.find("table"))),
                   got.get(cut.gradients().at(cut.find("table")))) < 1e-7);
}

TEST_CASE("a node reads what is on its stage: leaves, scalars, sums over stages; else it is refused by name") {
  Graph graph;
  build_stages(graph, true);
  autodiff(graph);
  sum_tied(graph);
  graph.infer_all();
  const ValueId sum = graph.gradients().at(graph.find("table"));
  CHECK(graph.stands_on(sum, 0));
  CHECK(graph.stands_on(sum, 1));
  CHECK_FALSE(graph.stands_on(sum, 2));
  CHECK(graph.stands_on(graph.step_scalar("seed"), 1));
  CHECK(graph.stands_on(graph.constant(2), 1));
  CHECK_FALSE(graph.stands_on(graph.find("targets"), 0));
  graph.cursor.phase = Phase::kTail;
  graph.cursor.stage = kEveryStage;
  const ValueId everywhere = graph.add1("add_stages", {graph.add1("copy", {graph.step_scalar("learning_rate")})});
  CHECK(graph.stands_on(everywhere, 0));
  CHECK(graph.node(graph.value(everywhere).producer).stage == kEveryStage);

  Graph wrong;
  build_stages(wrong, true);
  for (const NodeId id : wrong.order())
    if (wrong.node(id).op == "transfer") {
      wrong.replace_uses(wrong.node(id).outputs[0], wrong.node(id).inputs[0]);
      wrong.erase(id);
      break;
    }
  CHECK_THROWS_WITH(check_final(wrong), Catch::Contains("a node of stage 1 reads") && Catch::Contains("stage 0") &&
                                            Catch::Contains("gelu") && Catch::Contains("test") &&
                                            Catch::Contains("transfer or add_stages is missing"));
}

// ---- what is refused ------------------------------------------------------------------------------------------------

TEST_CASE("the final check names what was never reduced, and what lies otherwise than its parameter") {
  const auto graph_of = [](const Layout& layout, const std::function<void(Graph&)>& change) {
    Graph graph;
    graph.set_axes(axes_of(layout));
    Block(graph, layout).build();
    finish(graph);
    check_final(graph);
    change(graph);
    graph.infer_all();
    check_final(graph);
  };
  const auto unreduced = [](const char* name) {
    return [name](Graph& graph) {
      ValueId& gradient = graph.gradients()[graph.find(name)];
      const Node& node = graph.node(graph.value(gradient).producer);
      REQUIRE(node.op == "all_reduce");
      gradient = node.inputs[0];
    };
  };
  CHECK_THROWS_WITH(graph_of({2, 1, true, Gather::kNone, false}, unreduced("norm1")),
                    Catch::Contains("axis tensor: the gradient of norm1 is still a partial sum"));
  CHECK_THROWS_WITH(graph_of({1, 2, false, Gather::kNone, false}, unreduced("up")),
                    Catch::Contains("axis data: the gradient of up is still a partial sum"));
  CHECK_THROWS_WITH(
      graph_of(
          {1, 2, false, Gather::kHead, false},
          [](Graph& graph) {
            const ValueId p = graph.find("norm1");
            ValueId& gradient = graph.gradients()[p];
            graph.cursor = {};
            graph.cursor.phase = Phase::kTail;
            gradient = graph.add1("flat_gather", {gradient}, {{"axes", std::string("data")}, {"shape", Shape{kWidth}}});
          }),
      Catch::Contains("is replicated, but the parameter flat"));
  CHECK_THROWS_WITH(graph_of({1, 2, false, Gather::kNone, false},
                             [](Graph& graph) {
                               const ValueId loss = graph.output("loss");
                               graph.set_output("loss", graph.node(graph.value(loss).producer).inputs[0]);
                             }),
                    Catch::Contains("axis data: output \"loss\" is partial"));
  CHECK_THROWS_WITH(graph_of({1, 2, false, Gather::kNone, false},
                             [](Graph& graph) {
                               for (const NodeId id : graph.order())
                                 if (graph.node(id).op == "dropout" && graph.node(id).part == Part::kBackward)
                                   graph.node(id).attributes["stream"] = int64_t{77};
                             }),
                    Catch::Contains("draws other numbers than its forward node"));
}

TEST_CASE("inference names axis, node and who added it where placements do not go together") {
  const auto message = [](const std::function<void(Graph&, ValueId x, ValueId w)>& build) {
    Graph graph;
    graph.set_axes({{"tensor", 2, 0, kTensorLevel}});
    graph.cursor.origin = "strategy of the test";
    graph.cursor.layer = 3;
    graph.declare_input("x", {KM_F32, {2, 4, 6}});
    const ValueId w = graph.add_parameter("w", {KM_F32, {6, 8}}, KM_ROLE_ROW, KM_INIT_NORMAL, 1, true);
    const ValueId x = graph.input("x");
    build(graph, x, w);
    try {
      graph.infer_all();
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string("nothing");
  };
  const Attributes tensor = {{"axes", std::string("tensor")}};
  const auto columns = [](Graph& graph, ValueId x, ValueId w) {
    graph.shard(x, 2, 0);
    graph.shard(w, 0, 0);
    return graph.add1("matmul", {x, w}); // partial
  };
  const std::string twice = message([&](Graph& graph, ValueId x, ValueId w) {
    graph.add1("all_reduce", {graph.add1("all_reduce", {columns(graph, x, w)}, tensor)}, tensor);
  });
  CHECK_THAT(twice, Catch::Contains("axis tensor") && Catch::Contains("reduced twice") &&
                        Catch::Contains("strategy of the test") && Catch::Contains("layer 3") &&
                        Catch::Contains("inputs: replicated"));
  CHECK_THAT(message([&](Graph& graph, ValueId x, ValueId w) {
               const ValueId bias = graph.add_parameter("b", {KM_F32, {8}}, KM_ROLE_REPLICATED, KM_INIT_ZERO, 0, false);
               graph.add1("bias_add", {columns(graph, x, w), bias});
             }),
             Catch::Contains("would be counted once on each rank"));
  CHECK_THAT(message([&](Graph& graph, ValueId x, ValueId w) { graph.add1("gelu", {columns(graph, x, w)}); }),
             Catch::Contains("gelu cannot take"));
  CHECK_THAT(message([&](Graph& graph, ValueId x, ValueId) { graph.add1("all_reduce", {x}, tensor); }),
             Catch::Contains("nothing to reduce"));
  CHECK_THAT(message([&](Graph& graph, ValueId x, ValueId) {
               graph.shard(x, 2, 0);
               graph.add1("all_gather", {x}, {{"axes", std::string("tensor")}, {"dim", int64_t{1}}});
             }),
             Catch::Contains("is sharded(2), but must be sharded(1)"));
  CHECK_THAT(message([&](Graph& graph, ValueId x, ValueId) {
               graph.shard(x, 2, 0);
               graph.add1("all_reduce", {graph.add1("row_max", {x})}, tensor);
             }),
             Catch::Contains("is maximum, but must be partial"));
  CHECK_THAT(message([&](Graph& graph, ValueId, ValueId w) {
               graph.shard(w, 0, 0);
               graph.cursor.phase = Phase::kTail;
               const ValueId state = graph.add_state(0, "plain", {KM_F32, {3, 8}});
               graph.add("assign", {state, graph.add1("copy", {w})});
             }),
             Catch::Contains("they must lie alike"));
}

TEST_CASE("a gather or scatter goes over the innermost axes of a dimension, named from the outside in") {
  const auto build = [](const std::string& axes, const char* op) {
    Graph graph;
    graph.set_axes({{"context", 2, 0, 10}, {"tensor", 3, 0, 20}}); // by level context is the inner one
    graph.declare_input("x", {KM_F32, {2, 12, 6}});
    const ValueId x = graph.input("x");
    if (std::string(op) == "all_gather") {
      graph.shard(x, 1, 1);
      graph.shard(x, 1, 0);
    } else {
      graph.value(x).placements = {{Spread::kPartial, 0}, {Spread::kSharded, 1}};
      if (axes == "tensor") graph.value(x).placements = {{Spread::kSharded, 1}, {Spread::kPartial, 0}};
    }
    graph.add1(op, {x}, {{"axes", axes}, {"dim", int64_t{1}}});
    graph.infer_all();
    check_final(graph);
    return graph.value(graph.node(graph.order().back()).outputs[0]).type.shape[1];
  };
  CHECK(build("context", "all_gather") == 4);
  CHECK(build("tensor,context", "all_gather") == 12);
  CHECK_THROWS_WITH(build("tensor", "all_gather"),
                    Catch::Contains("axis context divides the same dimension inside of axis tensor"));
  CHECK_THROWS_WITH(build("context,tensor", "all_gather"), Catch::Contains("axis context is named before tensor"));
  CHECK(build("context", "reduce_scatter") == 6);
  CHECK_THROWS_WITH(build("tensor", "reduce_scatter"), Catch::Contains("inside of axis tensor"));
}

TEST_CASE("shapes of communication ops: groups, uneven flat parts, dimensions that do not divide") {
  Graph graph;
  graph.set_axes({{"tensor", 2, 1, kTensorLevel}, {"data", 3, 2, kDataLevel}});
  CHECK(graph.group_size("data,tensor") == 6);
  CHECK(graph.group_index("data,tensor") == 5);
  graph.declare_input("x", {KM_F32, {4, 5}});
  const ValueId x = graph.input("x");
  const auto axes = [](const char* names) { return Attributes{{"axes", std::string(names)}}; };
  const auto type = [&](ValueId id) { return to_text(graph.value(id).type); };
  CHECK(type(graph.add1("flat_scatter", {x}, axes("data"))) == "f32[6]");        // 7 7 6
  CHECK(type(graph.add1("flat_scatter", {x}, axes("data,tensor"))) == "f32[3]"); // 4 4 3 3 3 3
  CHECK(type(graph.add1("all_gather", {x}, {{"axes", std::string("data")}, {"dim", int64_t{1}}})) == "f32[4,15]");
  CHECK(type(graph.add1("reduce_scatter", {x}, {{"axes", std::string("tensor")}, {"dim", int64_t{0}}})) == "f32[2,5]");
  CHECK_THROWS_WITH(graph.add1("reduce_scatter", {x}, {{"axes", std::string("tensor")}, {"dim", int64_t{1}}}),
                    Catch::Contains("does not divide by the 2 ranks along tensor"));
  CHECK_THROWS_WITH(graph.add1("all_reduce", {x}, axes("datum")), Catch::Contains("no axis \"datum\""));
  CHECK_THROWS_WITH(graph.add1("all_reduce", {x}, {}), Catch::Contains("axes"));
  CHECK_THROWS_WITH(graph.add1("flat_gather", {x}, {{"axes", std::string("data")}, {"shape", Shape{4, 5}}}),
                    Catch::Contains("must be f32[6]"));
  CHECK_THROWS_WITH(graph.add1("transfer", {x}, {{"from", int64_t{1}}, {"to", int64_t{1}}}),
                    Catch::Contains("must be two stages"));
  CHECK(graph.add("all_reduce", std::vector<ValueId>(20, x), axes("data")).size() == 20);
}

TEST_CASE("the norm of a divided tensor is that of the whole, once it is resolved") {
  const Shape shape = {6, 5};
  const Numbers numbers = random_numbers(30, 9);
  double expected = 0;
  for (const double number : numbers) expected += number * number;
  bool resolved = false;
  Ranks ranks({{"tensor", 2, 0, kTensorLevel}, {"data", 3, 0, kDataLevel}}, [&](Graph& graph) {
    const ValueId p = graph.add_parameter("p", {KM_F32, shape}, KM_ROLE_COLUMN, KM_INIT_NORMAL, 1, true);
    graph.shard(p, 0, 0);
    graph.shard(p, -1, 1);
    const ValueId q = graph.add_parameter("q", {KM_F32, shape}, KM_ROLE_COLUMN, KM_INIT_NORMAL, 1, true);
    graph.cursor.phase = Phase::kTail;
    // The second norm is of what the first was needed for.
    const ValueId ratio = graph.add1("reciprocal", {graph.add1("tensor_norm", {p})});
    graph.set_output("norm", graph.add1("tensor_norm", {graph.add1("multiply", {p, ratio})}));
    graph.set_output("ratio", ratio);
    graph.set_output("plain", graph.add1("tensor_norm", {q}));
    graph.infer_all();
    if (!resolved) CHECK_THROWS_WITH(check_final(graph), Catch::Contains("the norm is that of one rank"));
    resolve_norms(graph);
    resolved = true;
    graph.check();
    check_final(graph);
  });
  for (const char* name : {"p", "q"}) ranks.set(name, numbers);
  ranks.run();
  CHECK(ranks.whole(ranks.graph().output("ratio"), {})[0] == Approx(1 / std::sqrt(expected)));
  CHECK(ranks.whole(ranks.graph().output("norm"), {})[0] == Approx(1));
  CHECK(ranks.whole(ranks.graph().output("plain"), {})[0] == Approx(std::sqrt(expected)));
}

} // namespace
} // namespace kumiki::test
