// The Hugging Face form of llama: transformers' LlamaForCausalLM, weights [out, in] as ours and rotary positions in the
// same half-split order.
#include <string>

#include "llama.h"
#include "plugins/models/transformer/hugging_face.h"

namespace kumiki::llama {
namespace {

using models::Json;
using models::or_usual;
using models::toml_line;

void say_rows(const Model& model, const km_model_text& text) {
  auto copy = [&](const std::string& ours, const std::string& theirs) {
    km_model_row r = {ours.c_str(), theirs.c_str(), KM_MAP_COPY, 0, 1, 0};
    text.row(text.sink, &r);
  };
  static const char* const kOfLayer[][2] = {{"attention.norm.weight", "input_layernorm.weight"},
                                            {"attention.query.weight", "self_attn.q_proj.weight"},
                                            {"attention.key.weight", "self_attn.k_proj.weight"},
                                            {"attention.value.weight", "self_attn.v_proj.weight"},
                                            {"attention.output.weight", "self_attn.o_proj.weight"},
                                            {"mlp.norm.weight", "post_attention_layernorm.weight"},
                                            {"mlp.gate.weight", "mlp.gate_proj.weight"},
                                            {"mlp.up.weight", "mlp.up_proj.weight"},
                                            {"mlp.down.weight", "mlp.down_proj.weight"}};
  copy("embedding.weight", "model.embed_tokens.weight");
  for (int64_t layer = 0; layer < model.layers; ++layer) {
    const std::string number = std::to_string(layer) + ".";
    for (auto& [ours, theirs] : kOfLayer) copy("layers." + number + ours, "model.layers." + number + theirs);
  }
  copy("norm.weight", "model.norm.weight");
  if (!model.tied) copy("head.weight", "lm_head.weight");
}

Json config_of(const Model& model, const km_model_shape& shape) {
  return {{"architectures", {"LlamaForCausalLM"}},
          {"model_type", "llama"},
          {"vocab_size", models::vocabulary_rows(model.vocabulary, shape.vocabulary, kUsualVocabulary)},
          {"max_position_embeddings", shape.sequence},
          {"hidden_size", model.width},
          {"intermediate_size", model.feed_forward},
          {"num_hidden_layers", model.layers},
          {"num_attention_heads", model.heads},
          {"num_key_value_heads", model.key_heads},
          {"head_dim", model.head_width()},
          {"hidden_act", "silu"},
          {"rms_norm_eps", model.epsilon},
          {"rope_theta", model.rope_base},
          {"attention_bias", false},
          {"mlp_bias", false},
          {"initializer_range", model.init_std},
          {"tie_word_embeddings", model.tied},
          {"bos_token_id", nullptr},
          {"eos_token_id", nullptr},
          {"torch_dtype", "float32"}};
}

// What rope_scaling (before transformers 5) or rope_parameters (since) says beyond the base: empty = nothing.
std::string refused_rope(const Json& config) {
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    auto found = config.find(key);
    if (found == config.end() || found->is_null()) continue;
    const auto older = or_usual<std::string>(*found, "type", "default");
    const auto type = or_usual<std::string>(*found, "rope_type", older);
    if (type != "default") return std::string(key) + " \"" + type + "\"";
    if (or_usual(*found, "partial_rotary_factor", 1.0) != 1.0) return std::string(key) + " partial_rotary_factor";
  }
  return "";
}

// What this model cannot do is refused by the name that config.json gives it: empty = nothing.
std::string refused(const Json& config) {
  const std::string activation = or_usual<std::string>(config, "hidden_act", "silu");
  if (activation != "silu" && activation != "swish") return "hidden_act \"" + activation + "\"";
  for (const char* key : {"attention_bias", "mlp_bias"})
    if (or_usual(config, key, false)) return std::string(key) + " = true";
  const int64_t width = or_usual<int64_t>(config, "hidden_size", 4096);
  const int64_t heads = or_usual<int64_t>(config, "num_attention_heads", 32);
  if (const int64_t head = or_usual<int64_t>(config, "head_dim", 0); head != 0 && head * heads != width)
    return "head_dim = " + std::to_string(head) + " (hidden_size " + std::to_string(width) + " / num_attention_heads " +
           std::to_string(heads) + " is another)";
  return refused_rope(config);
}

double rope_base(const Json& config) {
  auto parameters = config.find("rope_parameters");
  if (parameters != config.end() && parameters->is_object() && parameters->contains("rope_theta"))
    return parameters->at("rope_theta").get<double>();
  return or_usual(config, "rope_theta", 10000.0);
}

std::string to_toml(const Json& config) {
  std::string out = "use = \"llama\"\n";
  const int64_t heads = or_usual<int64_t>(config, "num_attention_heads", 32);
  out += toml_line("layers", or_usual<int64_t>(config, "num_hidden_layers", 32));
  out += toml_line("width", or_usual<int64_t>(config, "hidden_size", 4096));
  out += toml_line("heads", heads);
  out += toml_line("key_heads", or_usual<int64_t>(config, "num_key_value_heads", heads));
  out += toml_line("feed_forward", or_usual<int64_t>(config, "intermediate_size", 11008));
  out += toml_line("vocabulary", or_usual<int64_t>(config, "vocab_size", 32000));
  out += toml_line("tied", or_usual(config, "tie_word_embeddings", false));
  out += toml_line("rope_base", rope_base(config));
  out += toml_line("init_std", or_usual(config, "initializer_range", 0.02));
  out += toml_line("epsilon", or_usual(config, "rms_norm_eps", 1e-6));
  out += "# run.sequence up to " + std::to_string(or_usual<int64_t>(config, "max_position_embeddings", 2048)) +
         " is what it was made for\n";
  return out;
}

} // namespace

km_status describe(void* self, const km_model_shape* shape, const km_model_text* text) {
  return models::describe_model(*static_cast<const Model*>(self), *shape, *text, say_rows, config_of);
}

km_status from_config(const km_host* host, const char* json, char* toml, uint64_t capacity) {
  return models::read_config(host, json, "llama", refused, to_toml, toml, capacity);
}

} // namespace kumiki::llama
