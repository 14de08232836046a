// What the models promise: how many parameters the published sizes have, their names, roles and beginnings, the outputs of
// each mode, and errors that say what to do.
#include <catch2/catch.hpp>
#include <fstream>
#include <set>
#include <sstream>

#include "tests/models/component.h"

namespace kumiki::test {
namespace {

using Options = std::map<std::string, std::string>;

std::string path_of(const std::string& model) { return "plugins/models/transformer/" + model + "/" + model + ".so"; }

int64_t count_parameters(const std::string& model, const Options& options, int64_t vocabulary, int64_t sequence) {
  const Component component(path_of(model), "model", options);
  Graph graph;
  build_model(component, graph, {1, sequence, vocabulary, 0, 0, false});
  int64_t count = 0;
  for (const ValueId id : graph.parameters()) count += graph.value(id).type.elements();
  return count;
}

int count_nodes(const Graph& graph, const std::string& op) {
  int count = 0;
  for (const NodeId id : graph.order()) count += graph.node(id).op == op;
  return count;
}

// What opening, or building in the given mode, says: "" if it is well.
std::string refusal(const std::string& model, const Options& options, uint32_t mode = KM_MODE_TRAIN,
                    ModelShape shape = {}) {
  try {
    const Component component(path_of(model), "model", options);
    Graph graph(mode);
    build_model(component, graph, shape);
  } catch (const std::exception& error) {
    return error.what();
  }
  return "";
}

const char* role_name(uint32_t role) {
  constexpr const char* kNames[] = {"?", "replicated", "column", "column_kv", "row", "vocabulary"};
  return kNames[role < 6 ? role : 0];
}

std::string describe_parameters(const Graph& graph) {
  std::ostringstream out;
  for (const ValueId id : graph.parameters()) {
    const Value& v = graph.value(id);
    out << v.name << " [";
    for (size_t i = 0; i < v.type.shape.size(); ++i) out << (i ? "," : "") << v.type.shape[i];
    out << "] " << role_name(v.role) << " layer " << v.layer << (v.decay ? " decay" : "");
    if (v.init == KM_INIT_ZERO) out << " zero";
    if (v.init == KM_INIT_ONE) out << " one";
    if (v.init == KM_INIT_NORMAL) out << " normal " << v.init_std;
    out << "\n";
  }
  return out.str();
}

TEST_CASE("published sizes have the published number of parameters") {
  CHECK(count_parameters("gpt", {}, 50257, 1024) == 124'439'808);
  CHECK(count_parameters("gpt", {{"layers", "48"}, {"width", "1600"}, {"heads", "25"}}, 50257, 1024) == 1'557'611'200);
  const Options llama2 = {{"layers", "32"}, {"width", "4096"}, {"heads", "32"}, {"feed_forward", "11008"}};
  CHECK(count_parameters("llama", llama2, 32000, 4096) == 6'738'415'616);
  const Options tiny = {
      {"layers", "22"}, {"width", "2048"}, {"heads", "32"}, {"key_heads", "4"}, {"feed_forward", "5632"}};
  CHECK(count_parameters("llama", tiny, 32000, 2048) == 1'100'048'384);
  const Options llama3 = {{"layers", "32"},   {"width", "4096"},         {"heads", "32"},
                          {"key_heads", "8"}, {"feed_forward", "14336"}, {"vocabulary", "128256"}};
  CHECK(count_parameters("llama", llama3, 0, 8192) == 8'030'261'248);
}

TEST_CASE("names, shapes, roles and beginnings of parameters are those of the golden list") {
  const Options small = {{"layers", "2"}, {"width", "16"}, {"heads", "4"}, {"feed_forward", "48"}, {"tied", "false"}};
  Options grouped = small;
  grouped["key_heads"] = "2";
  for (const auto& [model, options] : {std::pair<std::string, Options>{"gpt", small}, {"llama", grouped}}) {
    const Component component(path_of(model), "model", options);
    Graph graph;
    build_model(component, graph, {2, 8, 61, 0, 32, false});
    std::ifstream file("tests/models/golden/" + model + ".txt");
    std::ostringstream golden;
    golden << file.rdbuf();
    INFO(model);
    CHECK(describe_parameters(graph) == golden.str());
  }
}

TEST_CASE("training gives loss and tokens, every parameter gets a gradient, and each dropout has numbers of its own") {
  for (const std::string model : {"gpt", "llama"}) {
    for (const std::string tied : {"true", "false"}) {
      Options options = {{"layers", "3"}, {"width", "16"}, {"heads", "4"}, {"tied", tied}};
      if (model == "gpt") options["dropout"] = "0.1";
      const Component component(path_of(model), "model", options);
      Graph graph;
      build_model(component, graph, {2, 8, 61, 0, 0, false});
      INFO(model << " tied " << tied);
      CHECK(graph.output("loss") != 0);
      CHECK(graph.output("tokens") != 0);
      CHECK(graph.states().empty());
      CHECK((graph.find("head.weight") == 0) == (tied == "true"));
      std::set<int64_t> streams;
      for (const NodeId id : graph.order())
        if (graph.node(id).op == "dropout") streams.insert(graph.node(id).i64("stream"));
      CHECK(streams.size() == (model == "gpt" ? 7u : 0u));
      CHECK(count_nodes(graph, "dropout") == static_cast<int>(streams.size()));
      autodiff(graph);
      graph.check();
      for (const ValueId id : graph.parameters()) CHECK(graph.gradients().count(id) == 1);
    }
  }
}

TEST_CASE("prefill and decode give logits of the last token and keep keys and values in states that are not saved") {
  for (const uint32_t mode : {KM_MODE_PREFILL, KM_MODE_DECODE}) {
    const int64_t tokens = mode == KM_MODE_DECODE ? 1 : 4;
    const Component gpt(path_of("gpt"), "model",
                        {{"layers", "2"}, {"width", "16"}, {"heads", "4"}, {"dropout", "0.1"}});
    const Component llama(path_of("llama"), "model",
                          {{"layers", "2"}, {"width", "16"}, {"heads", "4"}, {"key_heads", "2"}});
    for (const auto& [model, cached] : {std::pair<const Component*, int64_t>{&gpt, 16}, {&llama, 8}}) {
      Graph graph(mode);
      build_model(*model, graph, {3, tokens, 61, 10, 12, false});
      CHECK(graph.value(graph.output("logits")).type.shape == Shape{3, 61});
      CHECK(graph.output("loss") == 0);
      CHECK(graph.states().size() == 4);
      for (const ValueId id : graph.states()) {
        CHECK(graph.value(id).owner == 0);
        CHECK(graph.value(id).type.shape == Shape{3, 10, cached});
      }
      CHECK(graph.find("layers.1.value_cache") != 0);
      CHECK(count_nodes(graph, "assign") == 4);
      CHECK(count_nodes(graph, "dropout") == 0);
    }
  }
}

TEST_CASE("data that keeps documents apart gives attention within segments") {
  for (const std::string model : {"gpt", "llama"}) {
    const Component component(path_of(model), "model", {{"layers", "2"}, {"width", "16"}, {"heads", "4"}});
    Graph graph;
    build_model(component, graph, {2, 8, 61, 0, 0, true});
    int found = 0;
    for (const NodeId id : graph.order()) {
      const Node& node = graph.node(id);
      if (node.op != "attention") continue;
      CHECK(node.text("mask") == "segments");
      CHECK(node.inputs.back() == graph.find("segments"));
      ++found;
    }
    CHECK(found == 2);
  }
}

TEST_CASE("wrong sizes are refused with the numbers and a remedy") {
  using Catch::Contains;
  CHECK_THAT(refusal("gpt", {{"width", "100"}, {"heads", "12"}}),
             Contains("width 100") && Contains("heads 12") && Contains("set width to 108"));
  CHECK_THAT(refusal("llama", {{"width", "100"}, {"heads", "12"}}),
             Contains("width 100") && Contains("set width to 108"));
  CHECK_THAT(refusal("llama", {{"width", "36"}, {"heads", "12"}}), Contains("3 wide") && Contains("even"));
  CHECK_THAT(refusal("llama", {{"width", "96"}, {"heads", "12"}, {"key_heads", "5"}}),
             Contains("heads 12") && Contains("key_heads 5"));
  const Options small = {{"layers", "1"}, {"width", "16"}, {"heads", "4"}};
  for (const std::string model : {"gpt", "llama"}) {
    Options narrow = small;
    narrow["vocabulary"] = "50";
    CHECK_THAT(refusal(model, narrow, KM_MODE_TRAIN, {2, 8, 61, 0, 0, false}),
               Contains("vocabulary 50") && Contains("61") && Contains("model.vocabulary"));
    CHECK(refusal(model, small, KM_MODE_TRAIN, {2, 8, 61, 0, 0, false}) == "");
  }
  CHECK_THAT(refusal("gpt", small, KM_MODE_DECODE, {2, 1, 61, 40, 32, false}),
             Contains("40 tokens") && Contains("32 rows") && Contains("run.sequence"));
  CHECK(refusal("llama", small, KM_MODE_DECODE, {2, 1, 61, 40, 32, false}) == "");
}

} // namespace
} // namespace kumiki::test
