// Each fusion leaves what the graph computes as it was, keeps the graph true, and happens only where it may.
#include <algorithm>
#include <catch2/catch.hpp>
#include <chrono>
#include <cmath>
#include <map>
#include <set>

#include "core/base/error.h"
#include "core/graph/fusion.h"
#include "core/graph/precision.h"
#include "tests/graph/interpreter.h"
#include "tests/graph/models.h"

namespace kumiki::test {
namespace {

constexpr int64_t kVocabulary = 11;

// Accepts these ops (all if the set is empty; "accumulate" stands for that attribute).
Supported only(const std::set<std::string>& ops) {
  return [ops](const Graph& graph, const Candidate& candidate) {
    CHECK_NOTHROW(graph.infer_types(candidate.node));
    CHECK(candidate.node.outputs.empty());
    const std::string what = candidate.node.i64("accumulate") ? "accumulate" : candidate.node.op;
    return ops.empty() || ops.count(what) != 0;
  };
}

std::map<std::string, int> count_ops(const Graph& graph) {
  std::map<std::string, int> count;
  for (const NodeId id : graph.order()) {
    const Node& node = graph.node(id);
    ++count[node.op];
    if (node.i64("accumulate")) ++count["accumulate attribute"];
    if (node.has("activation")) ++count["activation"];
  }
  return count;
}

// Sums of loss and tokens over micro-batches as the planner adds them, and a plain gradient step in the tail.
void finish(Graph& graph) {
  graph.cursor = {};
  for (const char* name : {"loss", "tokens"}) graph.set_output(name, graph.add1("accumulate", {graph.output(name)}));
  graph.cursor.phase = Phase::kTail;
  for (const auto& [parameter, gradient] : graph.gradients()) {
    const ValueId step = graph.add1("scale", {gradient}, {{"factor", 0.01}});
    graph.assign(parameter, graph.add1("subtract", {parameter, step}));
  }
  graph.cursor = {};
}

struct Model {
  std::string name;
  void (*build)(Graph&, const ModelShape&);
  ModelShape shape;
};

std::vector<Model> models() {
  ModelShape plain, dropout, grouped;
  dropout.dropout = 0.2;
  dropout.segments = true;
  grouped.tied = false;
  grouped.heads = 4;
  grouped.key_heads = 2;
  grouped.layers = 3;
  return {{"gpt", build_gpt, plain},
          {"gpt with dropout", build_gpt, dropout},
          {"llama", build_llama, plain},
          {"llama untied", build_llama, grouped}};
}

Graph training(const Model& model, bool bf16 = false) {
  Graph graph;
  model.build(graph, model.shape);
  autodiff(graph);
  if (bf16) use_bf16(graph);
  finish(graph);
  graph.check();
  return graph;
}

Graph evaluation(const Model& model, bool bf16 = false) {
  Graph graph;
  model.build(graph, model.shape);
  if (bf16) use_bf16(graph);
  finish(graph);
  graph.check();
  return graph;
}

// All outputs, gradients and assigned values of both graphs are equal, up to rounding.
void check_equal(const Graph& before, const Graph& after, double tolerance) {
  Interpreter a(before), b(after);
  set_random_leaves(a, before, kVocabulary, 3);
  set_random_leaves(b, after, kVocabulary, 3);
  a.run();
  b.run();
  for (const auto& [name, value] : before.outputs()) {
    INFO("output " << name);
    CHECK(difference(a.get_output(name), b.get_output(name)) < tolerance);
  }
  for (const auto& [parameter, gradient] : before.gradients()) {
    const std::string& name = before.value(parameter).name;
    INFO("gradient of " << name);
    REQUIRE(after.gradients().count(parameter) == 1);
    const Numbers expected = a.get(gradient);
    CHECK(difference(expected, b.get(after.gradients().at(parameter))) < tolerance);
    CHECK(difference(a.assigned(name), b.assigned(name)) < tolerance);
    double size = 0;
    for (const double number : expected) size += std::fabs(number);
    CHECK(size > 0);
  }
}

void check_places(const Graph& graph) {
  for (const NodeId id : graph.order()) {
    const Node& node = graph.node(id);
    if (node.phase != Phase::kBody || node.op == "accumulate") continue;
    for (const ValueId input : node.inputs) {
      const NodeId producer = graph.value(input).producer;
      if (producer == 0 || graph.node(producer).phase != Phase::kBody) continue;
      INFO(to_text(graph, node));
      if (node.part == Part::kForward) CHECK(graph.node(producer).part == Part::kForward);
      if (node.part == Part::kBackward) CHECK(graph.node(producer).part != Part::kWeight);
    }
  }
}

} // namespace

TEST_CASE("all fusions together leave training as it was") {
  for (const Model& model : models()) {
    INFO(model.name);
    const Graph before = training(model);
    Graph after(before);
    const FusionStats stats = fuse(after, only({}));
    after.check();
    check_places(after);
    check_equal(before, after, 1e-6);
    CHECK(after.order().size() < before.order().size());
    CHECK(stats.projection_loss == 1);
    CHECK(stats.matmul_group >= 2);
    CHECK(stats.add_norm >= 2);
    CHECK(stats.accumulate >= 4);
  }
}

TEST_CASE("all fusions together leave evaluation as it was") {
  for (const Model& model : models()) {
    INFO(model.name);
    const Graph before = evaluation(model);
    Graph after(before);
    const FusionStats stats = fuse(after, only({}));
    after.check();
    check_equal(before, after, 1e-6);
    CHECK(stats.projection_loss == 1);
    CHECK(count_ops(after)["projection_cross_entropy"] == 1);
  }
}

TEST_CASE("each fusion by itself leaves training and evaluation as they were") {
  for (const char* op : {"matmul_bias", "matmul_group", "add_layernorm", "add_rmsnorm", "projection_cross_entropy",
                         "projection_cross_entropy_train", "accumulate"}) {
    int made = 0;
    for (const Model& model : models()) {
      INFO(op << " in " << model.name);
      for (const bool train : {true, false}) {
        const Graph before = train ? training(model) : evaluation(model);
        Graph after(before);
        fuse(after, only({op}));
        after.check();
        check_places(after);
        check_equal(before, after, 1e-6);
        auto count = count_ops(after);
        made += count[std::string(op) == "accumulate" ? "accumulate attribute" : op];
      }
    }
    INFO(op);
    CHECK(made > 0);
  }
}

TEST_CASE("nothing is fused where no kernel is") {
  for (const Model& model : models()) {
    const Graph before = training(model);
    Graph after(before);
    const FusionStats stats = fuse(after, [](const Graph&, const Candidate&) { return false; });
    CHECK(to_text(after) == to_text(before));
    CHECK(stats.accumulate + stats.add_norm + stats.matmul_bias + stats.activation + stats.matmul_group +
              stats.projection_loss ==
          0);
  }
}

TEST_CASE("a linear layer with bias and activation is one product, whose second output the backward reads") {
  Graph graph = training(models()[0]);
  const FusionStats stats = fuse(graph, only({"matmul_bias"}));
  CHECK(stats.activation == 2);   // layers
  CHECK(stats.matmul_bias == 10); // q, k, v, output, down of each
  auto count = count_ops(graph);
  CHECK(count["gelu"] == 0);
  CHECK(count["bias_add"] == 0);
  for (const NodeId id : graph.order())
    if (graph.node(id).op == "gelu_backward") {
      const Node& producer = graph.node(graph.value(graph.node(id).inputs[1]).producer);
      CHECK(producer.op == "matmul_bias");
      CHECK(producer.outputs[1] == graph.node(id).inputs[1]);
    }
  // Where the form with activation is not there, the one without is taken.
  Graph other = training(models()[0]);
  const FusionStats without = fuse(other, [](const Graph&, const Candidate& candidate) {
    return candidate.node.op == "matmul_bias" && !candidate.node.has("activation");
  });
  CHECK(without.activation == 0);
  CHECK(without.matmul_bias == 12);
}

TEST_CASE("query, key and value are one group of different widths, and gate and up another") {
  Graph graph = training(models()[3]);
  CHECK(fuse(graph, only({"matmul_group"})).matmul_group == 6);
  std::multiset<int64_t> sizes;
  for (const NodeId id : graph.order())
    if (graph.node(id).op == "matmul_group") sizes.insert(graph.node(id).i64("n"));
  CHECK(sizes == std::multiset<int64_t>{2, 2, 2, 3, 3, 3});
  Graph gpt = training(models()[0]);
  fuse(gpt, only({"matmul_bias", "matmul_group"}));
  for (const NodeId id : gpt.order())
    if (gpt.node(id).op == "matmul_group") {
      CHECK(gpt.node(id).i64("bias") == 1);
      CHECK(gpt.node(id).i64("n") == 3);
    }
}

TEST_CASE("the fused loss of training never has the logits in memory, in f32 and in bf16") {
  for (const bool bf16 : {false, true})
    for (const Model& model : models()) {
      INFO(model.name << (bf16 ? " bf16" : " f32"));
      const Graph before = training(model, bf16);
      Graph after(before);
      CHECK(fuse(after, only({"projection_cross_entropy_train"})).projection_loss == 1);
      after.check();
      check_places(after);
      auto count = count_ops(after);
      CHECK(count["cross_entropy"] == 0);
      CHECK(count["cross_entropy_backward"] == 0);
      for (const NodeId id : after.order())
        for (const ValueId output : after.node(id).outputs) {
          const Shape& shape = after.value(output).type.shape;
          CHECK_FALSE((shape.size() == 3 && shape[2] == kVocabulary));
        }
      // In bf16 the unfused form rounds d_logits to bf16, the fused one need not.
      check_equal(before, after, bf16 ? 2e-2 : 1e-6);
    }
}

TEST_CASE("logits that something else reads stay") {
  Graph graph;
  build_gpt(graph, {});
  const ValueId logits = graph.node(graph.value(graph.output("loss")).producer).inputs[0];
  graph.set_output("all logits", logits);
  CHECK(fuse(graph, only({})).projection_loss == 0);
  Graph other;
  build_gpt(other, {});
  other.set_output("sum",
                   other.add1("sum_squares", {other.node(other.value(other.output("loss")).producer).inputs[0]}));
  CHECK(fuse(other, only({})).projection_loss == 0);
}

TEST_CASE("an addend that others read later must lie apart, one that is dead need not") {
  size_t apart = 0, together = 0;
  for (const Model& model : models()) {
    Graph graph = training(model);
    fuse(graph, [&](const Graph& g, const Candidate& candidate) {
      if (!candidate.node.i64("accumulate")) return false;
      REQUIRE(candidate.node.i64("accumulate") == 1);
      const ValueId addend = candidate.node.inputs.back();
      (candidate.addend_apart_needed ? apart : together) += 1;
      if (candidate.node.part == Part::kForward) CHECK(candidate.addend_apart_needed); // the norm's backward reads x
      if (!candidate.addend_apart_needed) CHECK(g.value(addend).producer != 0);
      return true;
    });
    graph.check();
    // Where it was said that the addend is dead, nobody behind the node reads it.
    Graph strict = training(model);
    fuse(strict, [](const Graph&, const Candidate& candidate) {
      return candidate.node.i64("accumulate") != 0 && !candidate.addend_apart_needed;
    });
    for (const NodeId id : strict.order()) {
      const Node& node = strict.node(id);
      if (!node.i64("accumulate")) continue;
      const ValueId addend = node.inputs.back();
      CHECK(strict.users(addend).back() == id);
      CHECK(strict.reads(addend) >= 1);
      CHECK(std::count(node.inputs.begin(), node.inputs.end(), addend) == 1);
    }
  }
  CHECK(apart > 0);
  CHECK(together > 0);
}

TEST_CASE("an addend that the op also multiplies must lie apart") {
  Graph graph;
  const ValueId x =
      graph.add1("exp", {graph.add_parameter("x", Type{KM_F32, {4, 4}}, KM_ROLE_REPLICATED, KM_INIT_ZERO, 0, false)});
  graph.set_output("y", graph.add1("add", {graph.add1("matmul", {x, x}), x}));
  bool asked = false;
  fuse(graph, [&](const Graph&, const Candidate& candidate) {
    asked = true;
    CHECK(candidate.addend_apart_needed);
    return false;
  });
  CHECK(asked);
}

TEST_CASE("precision: every product takes bf16, each value is cast once, parameters once a step") {
  for (const Model& model : models()) {
    INFO(model.name);
    const Graph graph = training(model, true);
    std::set<ValueId> cast;
    for (const NodeId id : graph.order()) {
      const Node& node = graph.node(id);
      if (node.op == "matmul") {
        for (const ValueId input : node.inputs) CHECK(graph.value(input).type.dtype == KM_BF16);
        CHECK(graph.value(node.outputs[0]).type.dtype == KM_F32);
      }
      if (node.op != "cast") continue;
      CHECK(cast.insert(node.inputs[0]).second);
      const Value& from = graph.value(node.inputs[0]);
      CHECK((node.phase == Phase::kHead) == (from.kind == ValueKind::kParameter));
      if (from.producer) CHECK(node.part == graph.node(from.producer).part);
    }
    // The gradients are near those of f32: bf16 has 8 bits.
    const Graph exact = training(model);
    Interpreter a(exact), b(graph);
    set_random_leaves(a, exact, kVocabulary, 3);
    set_random_leaves(b, graph, kVocabulary, 3);
    a.run();
    b.run();
    CHECK(difference(a.get_output("loss"), b.get_output("loss")) < 0.02);
    for (const auto& [parameter, gradient] : exact.gradients()) {
      double apart = 0, size = 0;
      const Numbers x = a.get(gradient), y = b.get(graph.gradients().at(parameter));
      for (size_t i = 0; i < x.size(); ++i) apart += (x[i] - y[i]) * (x[i] - y[i]), size += x[i] * x[i];
      INFO(exact.value(parameter).name);
      // 1e-6: the gradient of the key bias is 0 but for rounding, since a softmax does not see it.
      CHECK(std::sqrt(apart) < 0.15 * std::sqrt(size) + 1e-6);
    }
  }
}

TEST_CASE("fusion after precision keeps what bf16 computes") {
  for (const Model& model : models()) {
    INFO(model.name);
    const Graph before = training(model, true);
    Graph after(before);
    fuse(after, only({"matmul_bias", "matmul_group", "add_layernorm", "add_rmsnorm"}));
    after.check();
    check_equal(before, after, 1e-3);
    Graph all(before);
    CHECK(fuse(all, only({})).projection_loss == 1);
    all.check();
    check_equal(before, all, 3e-2);
  }
}

TEST_CASE("fusing a training graph of 24 layers (the time is reported, not asserted)") {
  for (const Model& model : models()) {
    Model deep = model;
    deep.shape.layers = 24;
    Graph graph = training(deep);
    const size_t before = graph.order().size();
    const auto from = std::chrono::steady_clock::now();
    fuse(graph, [](const Graph&, const Candidate&) { return true; });
    const double milliseconds =
        std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - from).count();
    graph.check();
    WARN(model.name << ": " << before << " nodes to " << graph.order().size() << " in " << milliseconds << " ms");
  }
}

} // namespace kumiki::test
