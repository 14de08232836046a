// llama: Llama 1 and 2 (Touvron et al. 2023) and what is built alike: RMSNorm before each branch (Zhang and Sennrich
// 2019), rotary positions (Su et al. 2021), SwiGLU (Shazeer 2020), grouped key heads (Ainslie et al. 2023), no biases.
#include <cinttypes>
#include <memory>
#include <string>

#include "kumiki/plugin.h"
#include "llama.h"
#include "plugins/models/transformer/builder.h"

namespace kumiki::llama {
namespace {

const km_option kOptions[] = {
    {"layers", KM_OPTION_I64, 0, "12", 1, 10000, nullptr, "transformer layers"},
    {"width", KM_OPTION_I64, 0, "768", 2, 1e6, nullptr, "width of the residual stream; a multiple of 2 x heads"},
    {"heads", KM_OPTION_I64, 0, "12", 1, 1e5, nullptr, "query heads"},
    {"key_heads", KM_OPTION_I64, 0, "0", 0, 1e5, nullptr,
     "key and value heads, each shared by heads / key_heads queries; 0 = heads"},
    {"feed_forward", KM_OPTION_I64, 0, "0", 0, 1e7, nullptr,
     "inner width of the MLP; 0 = 8/3 x width, rounded up to a multiple of 256"},
    {"vocabulary", KM_OPTION_I64, 0, "0", 0, 1e8, nullptr, "rows of the embedding; 0 = as many as the data has tokens"},
    {"tied", KM_OPTION_BOOL, 0, "false", 0, 0, nullptr, "the output head is the embedding"},
    {"rope_base", KM_OPTION_F64, 0, "10000", 1, 1e12, nullptr, "base of the rotary angles"},
    {"init_std", KM_OPTION_F64, 0, "0.02", 0, 10, nullptr,
     "standard deviation of initial weights; at a branch's end divided by sqrt(2 x layers)"},
    {"epsilon", KM_OPTION_F64, 0, "1e-5", 0, 1, nullptr, "added to the mean square in RMSNorm"},
};

// The forward graph of one mode.
class Forward {
 public:
  Forward(const Model& model, models::Builder& builder) : model_(model), b_(builder) {}

  void build() {
    const int64_t rows = models::vocabulary_rows(model_.vocabulary, b_.shape().vocabulary, kUsualVocabulary);
    const km_value embedding = b_.matrix("embedding.weight", rows, model_.width, KM_ROLE_VOCABULARY);
    km_value x = b_.node("embedding", {b_.input("tokens"), embedding});
    for (int64_t layer = 0; layer < model_.layers; ++layer) {
      b_.layer(layer);
      x = b_.node("add", {x, attention(norm(x, "attention.norm.weight"))});
      x = b_.node("add", {x, mlp(norm(x, "mlp.norm.weight"))});
    }
    b_.layer(-1);
    x = norm(x, "norm.weight");
    b_.finish(x, model_.tied ? embedding : b_.matrix("head.weight", rows, model_.width, KM_ROLE_VOCABULARY));
  }

 private:
  km_value attention(km_value x) {
    const int64_t width = model_.width, key_width = model_.key_heads * model_.head_width();
    const km_value q = rotated(linear(x, "attention.query.weight", width, width, KM_ROLE_COLUMN));
    const km_value k = rotated(linear(x, "attention.key.weight", width, key_width, KM_ROLE_COLUMN_KV));
    const km_value v = linear(x, "attention.value.weight", width, key_width, KM_ROLE_COLUMN_KV);
    const km_value mixed = b_.attention(q, k, v, model_.head_width(), key_width);
    return linear(mixed, "attention.output.weight", width, width, KM_ROLE_ROW);
  }

  km_value mlp(km_value x) {
    const km_value gate = linear(x, "mlp.gate.weight", model_.width, model_.feed_forward, KM_ROLE_COLUMN);
    const km_value up = linear(x, "mlp.up.weight", model_.width, model_.feed_forward, KM_ROLE_COLUMN);
    return linear(b_.node("swiglu", {gate, up}), "mlp.down.weight", model_.feed_forward, model_.width, KM_ROLE_ROW);
  }

  km_value rotated(km_value x) {
    return b_.at_position("rope", {x}, {km_i64("head_width", model_.head_width()), km_f64("base", model_.rope_base)});
  }

  km_value norm(km_value x, const char* name) {
    const km_value weight = b_.vector(name, model_.width, KM_ROLE_REPLICATED, KM_INIT_ONE);
    return b_.node("rmsnorm", {x, weight}, {km_f64("epsilon", model_.epsilon)});
  }

  km_value linear(km_value x, const char* name, int64_t in, int64_t out, uint32_t role) {
    return b_.node("matmul", {x, b_.matrix(name, out, in, role)}, {km_i64("transpose_b", 1)});
  }

  const Model& model_;
  models::Builder& b_;
};

km_status check(const Model& model) {
  const km_host* host = model.host;
  const km_status status = models::check_heads(host, "llama", model.width, model.heads);
  if (status != KM_OK) return status;
  if (model.head_width() % 2 != 0)
    return host->fail(host, KM_ERROR_USER,
                      "model llama: a head is %" PRId64 " wide (width %" PRId64 " / heads %" PRId64
                      "), but rotary positions turn pairs: choose width and heads so that it is even",
                      model.head_width(), model.width, model.heads);
  if (model.key_heads > model.heads || model.heads % model.key_heads != 0)
    return host->fail(host, KM_ERROR_USER,
                      "model llama: heads %" PRId64 " is not a multiple of key_heads %" PRId64
                      ": choose key_heads that divide heads (0 = as many as heads)",
                      model.heads, model.key_heads);
  return KM_OK;
}

km_status open(const km_host* host, const km_options* options, void** self) {
  return models::guarded(host, [&]() -> km_status {
    auto model = std::make_unique<Model>();
    model->host = host;
    model->layers = km_option_i64(options, "layers");
    model->width = km_option_i64(options, "width");
    model->heads = km_option_i64(options, "heads");
    model->key_heads = km_option_i64(options, "key_heads");
    if (model->key_heads == 0) model->key_heads = model->heads;
    model->feed_forward = km_option_i64(options, "feed_forward");
    if (model->feed_forward == 0) model->feed_forward = (8 * model->width / 3 + 255) / 256 * 256;
    model->vocabulary = km_option_i64(options, "vocabulary");
    model->tied = km_option_i64(options, "tied") != 0;
    model->rope_base = km_option_f64(options, "rope_base");
    model->init_std = km_option_f64(options, "init_std");
    model->epsilon = km_option_f64(options, "epsilon");
    const km_status status = check(*model);
    if (status == KM_OK) *self = model.release();
    return status;
  });
}

void close(void* self) { delete static_cast<Model*>(self); }

km_status build(void* self, const km_model_shape* shape, km_graph* graph) {
  return models::build_graph<Forward>(*static_cast<const Model*>(self), "llama", *shape, graph);
}

const km_model kModel = {sizeof(km_model), 0, open, close, build, describe, from_config};
const km_component kComponents[] = {{"model", "llama", KM_MODEL_VERSION, sizeof kOptions / sizeof *kOptions, &kModel,
                                     kOptions, "Llama: RMSNorm, rotary positions, SwiGLU, grouped key heads"}};
const km_plugin kPlugin = {
    sizeof(km_plugin),    KM_ABI_MINOR,      "llama", "0.1.0", "Kumiki", "Apache-2.0", kComponents, 1,
    sizeof(km_component), sizeof(km_option), 0};

} // namespace
} // namespace kumiki::llama

KM_PLUGIN(kumiki::llama::kPlugin)
