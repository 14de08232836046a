// The Hugging Face form: config.json there and back, one row for each parameter, and refusals by the name of the key.
#include "tests/models/hugging_face.h"

#include <catch2/catch.hpp>
#include <set>

namespace kumiki::test {
namespace {

using Catch::Contains;
using Json = nlohmann::json;
using Options = std::map<std::string, std::string>;

std::string path_of(const std::string& model) { return "plugins/models/transformer/" + model + "/" + model + ".so"; }

// from_config of `json` by the model: its options, or the text of the refusal under "error".
Options read(const std::string& model, const Json& json) {
  const Component any(path_of(model), "model");
  try {
    return options_from_config(any, json.dump());
  } catch (const std::exception& error) {
    return {{"error", error.what()}};
  }
}

TEST_CASE("describe has one row for each parameter and theirs are covered whole") {
  for (const std::string model : {"gpt", "llama"}) {
    for (const std::string tied : {"true", "false"}) {
      const Component component(path_of(model), "model",
                                {{"layers", "3"}, {"width", "16"}, {"heads", "4"}, {"tied", tied}});
      const ModelShape shape = {1, 8, 61, 0, 8, false};
      Graph graph;
      build_model(component, graph, shape);
      const Description description = describe(component, shape);
      std::set<std::string> ours;
      std::map<std::string, std::pair<std::set<int32_t>, int32_t>> theirs;
      for (const auto& row : description.rows) {
        ours.insert(row.ours);
        theirs[row.theirs].first.insert(row.part);
        theirs[row.theirs].second = row.parts;
        const ValueId parameter = graph.find(row.ours);
        REQUIRE(parameter != 0);
        CHECK((row.how == KM_MAP_COPY || graph.value(parameter).type.shape.size() == 2));
      }
      CHECK(ours.size() == description.rows.size());
      CHECK(ours.size() == graph.parameters().size());
      for (const auto& [name, parts] : theirs) {
        INFO(name);
        CHECK(static_cast<int32_t>(parts.first.size()) == parts.second);
      }
      CHECK((theirs.count("lm_head.weight") == 0) == (tied == "true"));
    }
  }
}

TEST_CASE("the config.json that describe writes is read back as the same options") {
  const Options gpt = {{"layers", "3"},         {"width", "48"},      {"heads", "4"},
                       {"feed_forward", "100"}, {"tied", "false"},    {"dropout", "0.25"},
                       {"vocabulary", "61"},    {"epsilon", "1e-06"}, {"init_std", "0.03"}};
  Options llama = gpt;
  llama.erase("dropout");
  llama["key_heads"] = "2";
  llama["rope_base"] = "500000.0";
  for (const auto& [model, options] : {std::pair<std::string, Options>{"gpt", gpt}, {"llama", llama}}) {
    const Component component(path_of(model), "model", options);
    const Json config = Json::parse(describe(component, {1, 8, 61, 0, 32, false}).config);
    CHECK(config["vocab_size"] == 61);
    CHECK(config["architectures"].is_array());
    CHECK(config[model == "gpt" ? "n_positions" : "max_position_embeddings"] == 32);
    CHECK(read(model, config) == options);
  }
}

TEST_CASE("keys that config.json leaves out have transformers' usual values") {
  CHECK(read("gpt", {{"model_type", "gpt2"}}) == Options{{"layers", "12"},
                                                         {"width", "768"},
                                                         {"heads", "12"},
                                                         {"feed_forward", "0"},
                                                         {"vocabulary", "50257"},
                                                         {"dropout", "0.1"},
                                                         {"tied", "true"},
                                                         {"init_std", "0.02"},
                                                         {"epsilon", "1e-05"}});
  const Options llama = read("llama", {{"model_type", "llama"}, {"num_attention_heads", 8}, {"rope_theta", 5e5}});
  CHECK(llama.at("key_heads") == "8");
  CHECK(llama.at("rope_base") == "500000.0");
  CHECK(llama.at("epsilon") == "1e-06");
  const Json newer = {{"model_type", "llama"}, {"rope_parameters", {{"rope_theta", 7000.0}, {"rope_type", "default"}}}};
  CHECK(read("llama", newer).at("rope_base") == "7000.0");
}

TEST_CASE("what a model cannot do is refused by the name of the key") {
  struct Case {
    const char* model;
    Json json;
    const char* text;
  };
  const Json gpt = {{"model_type", "gpt2"}}, llama = {{"model_type", "llama"}};
  const Case cases[] = {
      {"gpt", {{"activation_function", "relu"}}, "activation_function \"relu\""},
      {"gpt", {{"scale_attn_weights", false}}, "scale_attn_weights = false"},
      {"gpt", {{"scale_attn_by_inverse_layer_idx", true}}, "scale_attn_by_inverse_layer_idx = true"},
      {"gpt", {{"add_cross_attention", true}}, "add_cross_attention = true"},
      {"gpt", {{"n_layer", "twelve"}}, "check that the file is whole"},
      {"llama", {{"rope_scaling", {{"rope_type", "llama3"}, {"factor", 8.0}}}}, "rope_scaling \"llama3\""},
      {"llama", {{"rope_scaling", {{"type", "linear"}, {"factor", 2.0}}}}, "rope_scaling \"linear\""},
      {"llama", {{"rope_parameters", {{"rope_type", "yarn"}}}}, "rope_parameters \"yarn\""},
      {"llama", {{"attention_bias", true}}, "attention_bias = true"},
      {"llama", {{"mlp_bias", true}}, "mlp_bias = true"},
      {"llama", {{"hidden_act", "gelu"}}, "hidden_act \"gelu\""},
      {"llama", {{"head_dim", 64}}, "head_dim = 64"},
  };
  for (const Case& c : cases) {
    Json json = c.model == std::string("gpt") ? gpt : llama;
    json.update(c.json);
    INFO(json.dump());
    CHECK_THAT(read(c.model, json)["error"], Contains(c.text));
  }
  CHECK_THAT(read("gpt", llama)["error"], Contains("\"llama\""));
}

TEST_CASE("another architecture is no error but not ours, and a text that is no JSON is the user's") {
  const Component gpt(path_of("gpt"), "model");
  char toml[4096];
  const auto& table = gpt.table<km_model>();
  CHECK(table.from_config(Component::host(), R"({"model_type": "bert"})", toml, sizeof toml) == KM_UNSUPPORTED);
  CHECK(table.from_config(Component::host(), "{", toml, sizeof toml) == KM_ERROR_USER);
  CHECK(table.from_config(Component::host(), R"({"model_type": "gpt2"})", toml, 10) == KM_ERROR_HOST);
}

} // namespace
} // namespace kumiki::test
