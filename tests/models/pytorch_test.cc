// The models, autodiff, the planner and the optimizers against PyTorch and transformers (tests/oracle/models.py): the
// same weights, the same tokens, ten steps, in the planned executor with each chain of kernels. What training does not
// do goes through the interpreter: ignored targets, and going on from a prompt with a cache.
#include <catch2/catch.hpp>
#include <cmath>
#include <filesystem>

#include "tests/models/hugging_face.h"
#include "tests/run/rig.h"

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
  // The run of one optimizer as a configuration: kernels as in TOML, two micro-batches a step.
  Config config(const std::string& optimizer, const std::string& kernels) const {
    const Json& run = json["runs"][optimizer];
    const int64_t batch = json["batch"];
    std::string text = "[run]\nsteps = 10\nsequence = " + json["sequence"].dump() +
                       "\nmicro_batch = " + std::to_string(batch / 2) + "\nglobal_batch = " + std::to_string(batch) +
                       "\nthreads = 2\n[model]\nuse = " + json["model"].dump() + "\n";
    const Component any(path, "model");
    for (const auto& [key, value] : options_from_config(any, read_text(folder + "config.json")))
      text += key + " = " + value + "\n";
    text += "[kernels]\nuse = [" + kernels + "]\n[optimizer]\nuse = \"" + optimizer +
            "\"\nlearning_rate = " + run["learning_rate"].dump() + "\nclip = " + run["clip"].dump() + "\n";
    for (const auto& [key, value] : run["options"].items()) text += key + " = " + value.dump() + "\n";
    text += "[[data]]\nuse = \"tokens\"\npath = \"" + std::filesystem::absolute(folder + "tokens.bin").string() +
            "\"\nsplit = \"1\"\nshuffle = false\nvocabulary = " + json["vocabulary"].dump() + "\n";
    return Config::parse(text, "oracle.toml");
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

double norm(const Tensors& tensors) {
  double squares = 0;
  for (const auto& [name, tensor] : tensors) squares += std::pow(norm(tensor.elements), 2);
  return std::sqrt(squares);
}

// ‖a · scale − b‖
double difference(const std::vector<float>& a, double scale, const std::vector<float>& b) {
  REQUIRE(a.size() == b.size());
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += std::pow(a[i] * scale - b[i], 2);
  return std::sqrt(sum);
}

const std::string kReference = "plugins/kernels/reference/reference.so";

// Adding the same to all scores of a row leaves its softmax as it is: the gradient of a key bias is exactly zero. What
// kernels make of it is rounding, and what Adam makes of that are steps of full size.
bool is_key_bias(const std::string& name) {
  const std::string end = "attention.key.bias";
  return name.size() > end.size() && name.compare(name.size() - end.size(), end.size(), end) == 0;
}

// Gradients of the mean loss, each parameter by itself.
void check_gradients(const Rig& rig, double tokens, const Tensors& theirs) {
  const double all = norm(theirs);
  for (const std::string& name : rig.parameters()) {
    INFO(name);
    const std::vector<float>& expected = theirs.at(name).elements;
    const double far = difference(rig.gradient(name), 1 / tokens, expected);
    if (is_key_bias(name)) {
      CHECK(norm(expected) < 1e-12 * all);
      CHECK(far <= 1e-6 * all);
    } else {
      CHECK(far <= 1e-5 * norm(expected));
    }
  }
}

void check_weights(const Rig& rig, const Tensors& theirs, double tolerance) {
  for (const std::string& name : rig.parameters()) {
    INFO(name);
    const std::vector<float>& expected = theirs.at(name).elements;
    if (!is_key_bias(name)) CHECK(difference(rig.parameter(name), 1, expected) <= tolerance * norm(expected));
  }
}

void check_training(const Oracle& oracle, const std::string& optimizer, const std::string& kernels) {
  const Json& expected = oracle.json["runs"][optimizer];
  RigOptions options;
  options.keep_gradients = true;
  Rig rig(oracle.config(optimizer, kernels), options);
  REQUIRE(rig.parameters().size() == oracle.weights.size());
  for (const auto& [name, tensor] : oracle.weights) rig.set_parameter(name, tensor.elements);
  const size_t steps = expected["losses"].size();
  REQUIRE(steps == 10);
  for (size_t step = 0; step < steps; ++step) {
    INFO("step " << step + 1);
    CHECK(rig.step() == Approx(expected["losses"][step].get<double>()).epsilon(1e-5));
    CHECK(rig.executor().scalar("gradient_norm") == Approx(expected["norms"][step].get<double>()).epsilon(1e-5));
    const double tokens = rig.executor().scalar("tokens");
    if (step == 0) check_gradients(rig, tokens, oracle.ours("gradients-1.safetensors"));
    if (step + 1 == steps) check_gradients(rig, tokens, oracle.ours("gradients-10-" + optimizer + ".safetensors"));
  }
  check_weights(rig, oracle.ours("weights-10-" + optimizer + ".safetensors"), optimizer == "sgd" ? 1e-5 : 1e-4);
}

TEST_CASE("ten steps of training give PyTorch's losses, norms, gradients and weights") {
  for (const std::string name : {"gpt", "llama"}) {
    const Oracle oracle(name);
    for (const std::string optimizer : {"sgd", "adamw"}) {
      for (const std::string kernels :
           {"\"reference\"", "\"generic\", \"reference\"", "\"onednn\", \"generic\", \"reference\""}) {
        INFO(name << ", " << optimizer << ", " << kernels);
        check_training(oracle, optimizer, kernels);
      }
    }
  }
}

TEST_CASE("targets that are ignored count neither in the loss nor in the gradients") {
  for (const std::string name : {"gpt", "llama"}) {
    INFO(name);
    const Oracle oracle(name);
    const Json& expected = oracle.json["ignoring"];
    const auto targets = expected["targets"].get<std::vector<int32_t>>();
    const Component kernels(kReference, "kernels");
    Graph graph;
    build_model(*oracle.model, graph, oracle.shape);
    autodiff(graph);
    graph.check();
    Interpreter run(graph, kernels);
    oracle.set_weights(run);
    run.set("loss_scale", {1});
    run.set_i32("tokens", oracle.json["ignoring"]["tokens"].get<std::vector<int32_t>>());
    run.set_i32("targets", targets);
    run.run(Phase::kBody);
    const double tokens = run.get(graph.output("tokens")).at(0);
    CHECK(tokens == std::count_if(targets.begin(), targets.end(), [](int32_t target) { return target >= 0; }));
    CHECK(run.get(graph.output("loss")).at(0) / tokens == Approx(expected["loss"].get<double>()).epsilon(1e-5));
    double squares = 0;
    for (const ValueId parameter : graph.parameters())
      squares += std::pow(norm(run.get(graph.gradients().at(parameter))), 2);
    CHECK(std::sqrt(squares) / tokens == Approx(expected["norm"].get<double>()).epsilon(1e-5));
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
    const auto expected_logits = oracle.json["greedy"]["logits"].get<std::vector<float>>();
    CHECK(difference(logits, 1, expected_logits) <= 1e-5 * norm(expected_logits));
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
