// gpt: GPT-2 and GPT-3 (Radford et al. 2019, Brown et al. 2020): learned positions, LayerNorm before each branch, GELU
// in its tanh form, biases, output head tied to the embedding. All is said in plain ops; fusion is the core's work.
#include <cinttypes>
#include <memory>
#include <string>

#include "gpt.h"
#include "kumiki/plugin.h"
#include "plugins/models/transformer/builder.h"

namespace kumiki::gpt {
namespace {

const km_option kOptions[] = {
    {"layers", KM_OPTION_I64, 0, "12", 1, 10000, nullptr, "transformer layers"},
    {"width", KM_OPTION_I64, 0, "768", 1, 1e6, nullptr, "width of the residual stream; a multiple of heads"},
    {"heads", KM_OPTION_I64, 0, "12", 1, 1e5, nullptr, "attention heads"},
    {"feed_forward", KM_OPTION_I64, 0, "0", 0, 1e7, nullptr, "inner width of the MLP; 0 = 4 x width"},
    {"vocabulary", KM_OPTION_I64, 0, "0", 0, 1e8, nullptr, "rows of the embedding; 0 = as many as the data has tokens"},
    {"dropout", KM_OPTION_F64, 0, "0.0", 0, 0.99, nullptr,
     "probability to drop, after the embedding and at each branch's end"},
    {"tied", KM_OPTION_BOOL, 0, "true", 0, 0, nullptr, "the output head is the embedding"},
    {"init_std", KM_OPTION_F64, 0, "0.02", 0, 10, nullptr,
     "standard deviation of initial weights; at a branch's end divided by sqrt(2 x layers)"},
    {"epsilon", KM_OPTION_F64, 0, "1e-5", 0, 1, nullptr, "added to the variance in LayerNorm"},
};

// The forward graph of one mode.
class Forward {
 public:
  Forward(const Model& model, models::Builder& builder) : model_(model), b_(builder) {}

  void build() {
    const int64_t rows = models::vocabulary_rows(model_.vocabulary, b_.shape().vocabulary, kUsualVocabulary);
    const km_value embedding = b_.matrix("embedding.weight", rows, model_.width, KM_ROLE_VOCABULARY);
    const km_value positions = b_.matrix("position.weight", b_.shape().sequence, model_.width, KM_ROLE_REPLICATED);
    km_value x = b_.at_position("add_position", {b_.node("embedding", {b_.input("tokens"), embedding}), positions});
    x = b_.dropout(x, model_.dropout);
    for (int64_t layer = 0; layer < model_.layers; ++layer) {
      b_.layer(layer);
      x = b_.node("add", {x, b_.dropout(attention(norm(x, "attention.norm")), model_.dropout)});
      x = b_.node("add", {x, b_.dropout(mlp(norm(x, "mlp.norm")), model_.dropout)});
    }
    b_.layer(-1);
    x = norm(x, "norm");
    b_.finish(x, model_.tied ? embedding : b_.matrix("head.weight", rows, model_.width, KM_ROLE_VOCABULARY));
  }

 private:
  km_value attention(km_value x) {
    const int64_t width = model_.width;
    const km_value q = linear(x, "attention.query", width, width, KM_ROLE_COLUMN);
    const km_value k = linear(x, "attention.key", width, width, KM_ROLE_COLUMN);
    const km_value v = linear(x, "attention.value", width, width, KM_ROLE_COLUMN);
    const km_value mixed = b_.attention(q, k, v, width / model_.heads, width);
    return linear(mixed, "attention.output", width, width, KM_ROLE_ROW);
  }

  km_value mlp(km_value x) {
    const km_value up = linear(x, "mlp.up", model_.width, model_.feed_forward, KM_ROLE_COLUMN);
    return linear(b_.node("gelu", {up}), "mlp.down", model_.feed_forward, model_.width, KM_ROLE_ROW);
  }

  km_value norm(km_value x, const std::string& name) {
    const km_value weight = b_.vector(name + ".weight", model_.width, KM_ROLE_REPLICATED, KM_INIT_ONE);
    const km_value bias = b_.vector(name + ".bias", model_.width, KM_ROLE_REPLICATED, KM_INIT_ZERO);
    return b_.node("layernorm", {x, weight, bias}, {km_f64("epsilon", model_.epsilon)});
  }

  km_value linear(km_value x, const std::string& name, int64_t in, int64_t out, uint32_t role) {
    const km_value weight = b_.matrix(name + ".weight", out, in, role);
    // A row-parallel product is a partial sum; its bias is added once, after the sum: replicated.
    const uint32_t bias_role = role == KM_ROLE_ROW ? KM_ROLE_REPLICATED : role;
    const km_value bias = b_.vector(name + ".bias", out, bias_role, KM_INIT_ZERO);
    return b_.node("bias_add", {b_.node("matmul", {x, weight}, {km_i64("transpose_b", 1)}), bias});
  }

  const Model& model_;
  models::Builder& b_;
};

km_status open(const km_host* host, const km_options* options, void** self) {
  return models::guarded(host, [&]() -> km_status {
    auto model = std::make_unique<Model>();
    model->host = host;
    model->layers = km_option_i64(options, "layers");
    model->width = km_option_i64(options, "width");
    model->heads = km_option_i64(options, "heads");
    model->feed_forward = km_option_i64(options, "feed_forward");
    if (model->feed_forward == 0) model->feed_forward = 4 * model->width;
    model->vocabulary = km_option_i64(options, "vocabulary");
    model->dropout = km_option_f64(options, "dropout");
    model->tied = km_option_i64(options, "tied") != 0;
    model->init_std = km_option_f64(options, "init_std");
    model->epsilon = km_option_f64(options, "epsilon");
    const km_status status = models::check_heads(host, "gpt", model->width, model->heads);
    if (status == KM_OK) *self = model.release();
    return status;
  });
}

void close(void* self) { delete static_cast<Model*>(self); }

km_status build(void* self, const km_model_shape* shape, km_graph* graph) {
  const Model& model = *static_cast<const Model*>(self);
  const int64_t longest = shape->mode == KM_MODE_TRAIN ? shape->tokens : shape->capacity;
  if (longest > shape->sequence)
    return model.host->fail(model.host, KM_ERROR_USER,
                            "model gpt: %" PRId64 " tokens asked for, but the position table has %" PRId64
                            " rows (run.sequence): ask for fewer, or train with a longer run.sequence",
                            longest, shape->sequence);
  return models::build_graph<Forward>(model, "gpt", *shape, graph);
}

const km_model kModel = {sizeof(km_model), 0, open, close, build, describe, from_config};
const km_component kComponents[] = {{"model", "gpt", KM_MODEL_VERSION, sizeof kOptions / sizeof *kOptions, &kModel,
                                     kOptions, "GPT-2 and GPT-3: learned positions, LayerNorm, GELU, biases"}};
const km_plugin kPlugin = {
    sizeof(km_plugin),    KM_ABI_MINOR,      "gpt", "0.1.0", "Kumiki", "Apache-2.0", kComponents, 1,
    sizeof(km_component), sizeof(km_option), 0};

} // namespace
} // namespace kumiki::gpt

KM_PLUGIN(kumiki::gpt::kPlugin)
