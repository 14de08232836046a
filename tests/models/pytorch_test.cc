// The models, autodiff and the optimizers against PyTorch and transformers (tests/oracle/models.py): the same weights, the
// same tokens, ten steps. Run node by node on the reference kernels; nothing of the planner is in it.
#include <catch2/catch.hpp>
#include <cmath>

#include "kumiki/optimizer.h"
#include "tests/models/hugging_face.h"

namespace kumiki::test {
namespace {

using Json = nlohmann::json;

// One of the oracle's models: opened as its config.json says, and its weights under our names.
struct Oracle {
  explicit Oracle(const std::string& name)
      : folder("tests/oracle/data/" + name + "/"), path("plugins/models/transformer/" + name + "/" + name + ".so") {
    json = Json::parse(read_text(folder + "oracle.json"));
    const Component any(path, "model");
    model = std::make_unique<Component>(path, "model", options_from_config(any, read_text(folder + "config.json")));
    shape = {json["batch"], json["sequence"], 0, 0, json["sequence"], false};
    description = describe(*model, shape);
    weights = ours("model.safetensors");
  }
  Tensors ours(const std::string& file) const { return to_ours(description, read_safetensors(folder + file)); }
  void set_weights(Interpreter& interpreter) const {
    for (const auto& [name, tensor] : weights) interpreter.set(name, tensor.elements);
  }
  // Tokens or targets of one step, flat.
  std::vector<int32_t> batch(const char* what, size_t step) const {
    std::vector<int32_t> out;
    for (const auto& row : json[what][step])
      for (const int32_t token : row) out.push_back(token);
    return out;
  }

  std::string folder, path;
  Json json;
  std::unique_ptr<Component> model;
  ModelShape shape;
  Description description;
  Tensors weights;
};

double norm(const std::vector<float>& elements) {
  double sum = 0;
  for (const float x : elements) sum += static_cast<double>(x) * x;
  return std::sqrt(sum);
}

// ‖a · scale − b‖ / ‖b‖, or the first norm alone where b is (nearly) zero.
double distance(const std::vector<float>& a, double scale, const std::vector<float>& b) {
  REQUIRE(a.size() == b.size());
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += std::pow(a[i] * scale - b[i], 2);
  const double size = norm(b);
  return std::sqrt(sum) / (size > 1e-6 ? size : 1.0);
}

const std::string kReference = "plugins/kernels/reference/reference.so";

// Gradients of the mean loss against the oracle's, each parameter by itself.
void check_gradients(const Graph& graph, const Interpreter& run, double tokens, const Tensors& theirs,
                     double tolerance) {
  for (const ValueId parameter : graph.parameters()) {
    const std::string& name = graph.value(parameter).name;
    INFO(name);
    CHECK(distance(run.get(graph.gradients().at(parameter)), 1 / tokens, theirs.at(name).elements) < tolerance);
  }
}

TEST_CASE("ten steps of training give PyTorch's losses, norms and gradients") {
  for (const std::string name : {"gpt", "llama"}) {
    const Oracle oracle(name);
    for (const auto& [optimizer_name, expected] : oracle.json["runs"].items()) {
      INFO(name << " " << optimizer_name);
      std::map<std::string, std::string> options;
      for (const auto& [key, value] : expected["options"].items()) options[key] = value.dump();
      const Component optimizer("plugins/optimizers/standard/" + optimizer_name + "/" + optimizer_name + ".so",
                                "optimizer", options);
      const Component kernels(kReference, "kernels");

      Graph graph;
      build_model(*oracle.model, graph, oracle.shape);
      REQUIRE(graph.parameters().size() == oracle.weights.size());
      autodiff(graph);
      graph.cursor = {};
      graph.cursor.phase = Phase::kTail;
      for (const ValueId parameter : graph.parameters()) {
        const ValueId gradient = graph.gradients().at(parameter);
        REQUIRE(optimizer.table<km_optimizer>().update(optimizer.self(), to_abi(&graph), parameter, gradient) == KM_OK);
        REQUIRE(take_service_error() == "");
      }
      graph.check();

      Interpreter run(graph, kernels);
      oracle.set_weights(run);
      run.set("loss_scale", {1});
      run.set("apply", {1});
      run.set("learning_rate", {expected["learning_rate"].get<float>()});
      const size_t steps = expected["losses"].size();
      for (size_t step = 0; step < steps; ++step) {
        run.set_i32("tokens", oracle.batch("tokens", step));
        run.set_i32("targets", oracle.batch("targets", step));
        run.run(Phase::kBody);
        const double tokens = run.get(graph.output("tokens")).at(0);
        double squares = 0;
        for (const ValueId parameter : graph.parameters())
          squares += std::pow(norm(run.get(graph.gradients().at(parameter))), 2);
        const double length = std::sqrt(squares) / tokens, clip = expected["clip"];
        INFO("step " << step + 1);
        CHECK(run.get(graph.output("loss")).at(0) / tokens ==
              Approx(expected["losses"][step].get<double>()).epsilon(1e-5));
        CHECK(length == Approx(expected["norms"][step].get<double>()).epsilon(1e-4));
        if (step == 0) check_gradients(graph, run, tokens, oracle.ours("gradients-1.safetensors"), 1e-5);
        if (step + 1 == steps)
          check_gradients(graph, run, tokens, oracle.ours("gradients-10-" + optimizer_name + ".safetensors"), 2e-4);
        run.set("step", {static_cast<float>(step + 1)});
        run.set("gradient_scale",
                {static_cast<float>((clip > 0 ? std::min(1.0, clip / (length + 1e-6)) : 1.0) / tokens)});
        run.run(Phase::kTail);
      }
    }
  }
}

// One forward pass of prefill or decode: logits of the last token; the caches move from run to run by name.
struct Generator {
  Generator(const Oracle& oracle, const Component& kernels, uint32_t mode, int64_t tokens) : graph(mode) {
    build_model(*oracle.model, graph, {1, tokens, 0, oracle.shape.sequence, oracle.shape.sequence, false});
    run = std::make_unique<Interpreter>(graph, kernels);
    oracle.set_weights(*run);
  }
  std::vector<float> step(const std::vector<int32_t>& tokens, int32_t past) {
    run->set_i32("tokens", tokens);
    run->set_i32("past", {past});
    run->run();
    return run->get(graph.output("logits"));
  }
  void take_caches(const Generator& other) {
    for (const ValueId state : other.graph.states()) run->set(other.graph.value(state).name, other.run->get(state));
  }
  Graph graph;
  std::unique_ptr<Interpreter> run;
};

TEST_CASE("a prompt in two chunks, then token by token with the cache, goes on as transformers does without one") {
  for (const std::string name : {"gpt", "llama"}) {
    INFO(name);
    const Oracle oracle(name);
    const Component kernels(kReference, "kernels");
    const auto prompt = oracle.json["greedy"]["prompt"].get<std::vector<int32_t>>();
    REQUIRE(prompt.size() == 5);
    Generator prefill(oracle, kernels, KM_MODE_PREFILL, 2), decode(oracle, kernels, KM_MODE_DECODE, 1);
    prefill.step({prompt[0], prompt[1]}, 0);
    prefill.step({prompt[2], prompt[3]}, 2);
    decode.take_caches(prefill);
    std::vector<float> logits = decode.step({prompt[4]}, 4);
    CHECK(distance(logits, 1, oracle.json["greedy"]["logits"].get<std::vector<float>>()) < 1e-5);
    int32_t past = 5;
    for (const int32_t expected : oracle.json["greedy"]["continuation"]) {
      const auto best = static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
      REQUIRE(best == expected);
      if (past < oracle.shape.sequence) logits = decode.step({best}, past++);
    }
  }
}

} // namespace
} // namespace kumiki::test
