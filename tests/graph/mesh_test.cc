// Communication ops in a small transformer block: divided over tensor (with and without sequence parallelism), data
// (whole, or flat parameters gathered in the head or in the body), stages. Loss and gradients are those of one rank.
#include <catch2/catch.hpp>
#include <cmath>

#include "core/base/error.h"
#include "core/graph/graph.h"
#include "tests/graph/block.h"
#include "tests/graph/ranks.h"

namespace kumiki::test {
namespace {

struct Result {
  double loss, tokens;
  std::map<std::string, Numbers> gradients;
};

Result run(const Layout& layout, bool checked = true) {
  Ranks ranks(axes_of(layout), [&](Graph& graph) {
    build_block(graph, layout);
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
      build_block(graph, {1, 2, false, gather, false});
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

} // namespace
} // namespace kumiki::test
