// The Hugging Face form of gpt: transformers' GPT2LMHeadModel. Its linear layers ("Conv1D") keep weights as [in, out],
// and query, key and value side by side in one.
#include <initializer_list>
#include <stdexcept>
#include <string>
#include <utility>

#include "gpt.h"
#include "plugins/models/transformer/hugging_face.h"

namespace kumiki::gpt {
namespace {

using models::Json;
using models::or_usual;
using models::toml_line;

void say_rows(const Model& model, const km_model_text& text) {
  auto row = [&](const std::string& ours, const std::string& theirs, uint32_t how, int32_t part, int32_t parts,
                 int32_t dim) {
    km_model_row r = {ours.c_str(), theirs.c_str(), how, part, parts, dim};
    text.row(text.sink, &r);
  };
  auto copy = [&](const std::string& ours, const std::string& theirs) { row(ours, theirs, KM_MAP_COPY, 0, 1, 0); };
  auto linear = [&](const std::string& ours, const std::string& theirs, int32_t part = 0, int32_t parts = 1) {
    row(ours + ".weight", theirs + ".weight", KM_MAP_TRANSPOSE, part, parts, parts > 1 ? 1 : 0);
    row(ours + ".bias", theirs + ".bias", KM_MAP_COPY, part, parts, 0);
  };
  auto norm = [&](const std::string& ours, const std::string& theirs) {
    copy(ours + ".weight", theirs + ".weight");
    copy(ours + ".bias", theirs + ".bias");
  };
  copy("embedding.weight", "transformer.wte.weight");
  copy("position.weight", "transformer.wpe.weight");
  for (int64_t layer = 0; layer < model.layers; ++layer) {
    const std::string ours = "layers." + std::to_string(layer) + ".";
    const std::string theirs = "transformer.h." + std::to_string(layer) + ".";
    norm(ours + "attention.norm", theirs + "ln_1");
    linear(ours + "attention.query", theirs + "attn.c_attn", 0, 3);
    linear(ours + "attention.key", theirs + "attn.c_attn", 1, 3);
    linear(ours + "attention.value", theirs + "attn.c_attn", 2, 3);
    linear(ours + "attention.output", theirs + "attn.c_proj");
    norm(ours + "mlp.norm", theirs + "ln_2");
    linear(ours + "mlp.up", theirs + "mlp.c_fc");
    linear(ours + "mlp.down", theirs + "mlp.c_proj");
  }
  norm("norm", "transformer.ln_f");
  if (!model.tied) copy("head.weight", "lm_head.weight");
}

Json config_of(const Model& model, const km_model_shape& shape) {
  return {{"architectures", {"GPT2LMHeadModel"}},
          {"model_type", "gpt2"},
          {"vocab_size", models::vocabulary_rows(model.vocabulary, shape.vocabulary, kUsualVocabulary)},
          {"n_positions", shape.sequence},
          {"n_embd", model.width},
          {"n_layer", model.layers},
          {"n_head", model.heads},
          {"n_inner", model.feed_forward},
          {"activation_function", "gelu_new"},
          {"resid_pdrop", model.dropout},
          {"embd_pdrop", model.dropout},
          {"attn_pdrop", 0.0},
          {"layer_norm_epsilon", model.epsilon},
          {"initializer_range", model.init_std},
          {"tie_word_embeddings", model.tied},
          {"bos_token_id", nullptr},
          {"eos_token_id", nullptr},
          {"torch_dtype", "float32"}};
}

// What this model cannot do is refused by the name that config.json gives it: empty = nothing.
std::string refused(const Json& config) {
  const std::string activation = config.value("activation_function", "gelu_new");
  if (activation != "gelu_new" && activation != "gelu_pytorch_tanh")
    return "activation_function \"" + activation + "\"";
  for (auto [key, usual] : {std::pair{"scale_attn_weights", true},
                            {"scale_attn_by_inverse_layer_idx", false},
                            {"add_cross_attention", false}})
    if (config.value(key, usual) != usual) return std::string(key) + " = " + (usual ? "false" : "true");
  return "";
}

std::string to_toml(const Json& config) {
  std::string out = "use = \"gpt\"\n";
  out += toml_line("layers", or_usual<int64_t>(config, "n_layer", 12));
  out += toml_line("width", or_usual<int64_t>(config, "n_embd", 768));
  out += toml_line("heads", or_usual<int64_t>(config, "n_head", 12));
  out += toml_line("feed_forward", or_usual<int64_t>(config, "n_inner", 0));
  out += toml_line("vocabulary", or_usual<int64_t>(config, "vocab_size", 50257));
  out += toml_line("dropout", or_usual<double>(config, "resid_pdrop", 0.1));
  out += toml_line("tied", or_usual<bool>(config, "tie_word_embeddings", true));
  out += toml_line("init_std", or_usual<double>(config, "initializer_range", 0.02));
  out += toml_line("epsilon", or_usual<double>(config, "layer_norm_epsilon", 1e-5));
  out += "# run.sequence = " + std::to_string(or_usual<int64_t>(config, "n_positions", 1024)) +
         " is what its position table holds\n";
  return out;
}

} // namespace

km_status describe(void* self, const km_model_shape* shape, const km_model_text* text) {
  return models::describe_model(*static_cast<const Model*>(self), *shape, *text, say_rows, config_of);
}

km_status from_config(const km_host* host, const char* json, char* toml, uint64_t capacity) {
  return models::read_config(host, json, "gpt2", refused, to_toml, toml, capacity);
}

} // namespace kumiki::gpt
