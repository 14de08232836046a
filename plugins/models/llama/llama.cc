// llama: Llama 1 and 2 (Touvron et al. 2023) and what is built alike: RMSNorm before each branch (Zhang and Sennrich
// 2019), rotary positions (Su et al. 2021), SwiGLU (Shazeer 2020), grouped key heads (Ainslie et al. 2023), no biases.
#include <cinttypes>
#include <cmath>
#include <initializer_list>
#include <memory>
#include <string>

#include "kumiki/plugin.h"
#include "llama.h"

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

// One build: adds parameters and nodes to the graph.
class Builder {
 public:
  Builder(const Model& model, const km_model_shape& shape, const km_graph_service& service, km_graph* graph)
      : model_(model),
        shape_(shape),
        service_(service),
        graph_(graph),
        vocabulary_(model.vocabulary_for(shape.vocabulary)) {
    if (shape_.mode != KM_MODE_TRAIN)
      past_ = service_.step_scalar(graph_, "past");
    else if (shape_.segments)
      segments_ = service_.input(graph_, "segments");
  }

  void build() {
    km_value tokens = service_.input(graph_, "tokens");
    km_value embedding = matrix("embedding.weight", vocabulary_, model_.width, KM_ROLE_VOCABULARY);
    km_value x = node("embedding", {tokens, embedding});
    for (int64_t layer = 0; layer < model_.layers; ++layer) {
      service_.set_layer(graph_, static_cast<int32_t>(layer));
      prefix_ = "layers." + std::to_string(layer) + ".";
      x = node("add", {x, attention(norm(x, "attention.norm"))});
      x = node("add", {x, mlp(norm(x, "mlp.norm"))});
    }
    service_.set_layer(graph_, -1);
    prefix_.clear();
    x = norm(x, "norm");
    if (shape_.mode != KM_MODE_TRAIN) x = node("last_token", {x});
    km_value head = model_.tied ? embedding : matrix("head.weight", vocabulary_, model_.width, KM_ROLE_VOCABULARY);
    km_value logits = node("matmul", {x, head}, {km_i64("transpose_b", 1)});
    if (shape_.mode != KM_MODE_TRAIN) {
      service_.set_output(graph_, "logits", logits);
      return;
    }
    km_value results[KM_MAX_OUTPUTS] = {};
    km_value inputs[] = {logits, service_.input(graph_, "targets")};
    service_.add_node(graph_, "cross_entropy", inputs, 2, nullptr, 0, results);
    service_.set_output(graph_, "loss", results[0]);
    service_.set_output(graph_, "tokens", results[1]);
  }

 private:
  km_value attention(km_value x) {
    const int64_t key_width = model_.key_heads * model_.head_width();
    km_value q = turned(linear(x, "attention.query.weight", model_.width, model_.width, KM_ROLE_COLUMN));
    km_value k = turned(linear(x, "attention.key.weight", model_.width, key_width, KM_ROLE_COLUMN_KV));
    km_value v = linear(x, "attention.value.weight", model_.width, key_width, KM_ROLE_COLUMN_KV);
    km_attribute head_width = km_i64("head_width", model_.head_width());
    km_value mixed = past_       ? node("attention", {q, cached(k, "key_cache"), cached(v, "value_cache"), past_},
                                        {head_width, km_string("mask", "cached")})
                     : segments_ ? node("attention", {q, k, v, segments_}, {head_width, km_string("mask", "segments")})
                                 : node("attention", {q, k, v}, {head_width, km_string("mask", "causal")});
    return linear(mixed, "attention.output.weight", model_.width, model_.width, KM_ROLE_ROW);
  }

  km_value mlp(km_value x) {
    km_value gate = linear(x, "mlp.gate.weight", model_.width, model_.feed_forward, KM_ROLE_COLUMN);
    km_value up = linear(x, "mlp.up.weight", model_.width, model_.feed_forward, KM_ROLE_COLUMN);
    return linear(node("swiglu", {gate, up}), "mlp.down.weight", model_.feed_forward, model_.width, KM_ROLE_ROW);
  }

  km_value turned(km_value x) {
    km_attribute head_width = km_i64("head_width", model_.head_width()), base = km_f64("base", model_.rope_base);
    return past_ ? node("rope", {x, past_}, {head_width, base}) : node("rope", {x}, {head_width, base});
  }

  // The state `name` with the rows of `x` put in at `past`. Keys are kept already turned.
  km_value cached(km_value x, const char* name) {
    km_tensor tensor = {KM_F32, 3, 0, 0, {shape_.batch, shape_.capacity, model_.key_heads * model_.head_width()}};
    km_value state = service_.add_state(graph_, 0, (prefix_ + name).c_str(), &tensor);
    km_value now = node("cache_append", {state, x, past_});
    service_.assign(graph_, state, now);
    return now;
  }

  km_value norm(km_value x, const std::string& name) {
    km_tensor tensor = {KM_F32, 1, 0, 0, {model_.width}};
    km_value weight = parameter(name + ".weight", tensor, KM_ROLE_REPLICATED, KM_INIT_ONE, 0, 0);
    return node("rmsnorm", {x, weight}, {km_f64("epsilon", model_.epsilon)});
  }

  km_value linear(km_value x, const char* name, int64_t in, int64_t out, uint32_t role) {
    return node("matmul", {x, matrix(name, out, in, role)}, {km_i64("transpose_b", 1)});
  }

  km_value matrix(const char* name, int64_t rows, int64_t columns, uint32_t role) {
    // Branch ends begin smaller, so that the residual stream does not grow with depth (Radford et al. 2019, 2.3).
    const double branches = 2.0 * static_cast<double>(model_.layers);
    const double std = model_.init_std / (role == KM_ROLE_ROW ? std::sqrt(branches) : 1.0);
    km_tensor tensor = {KM_F32, 2, 0, 0, {rows, columns}};
    return parameter(name, tensor, role, KM_INIT_NORMAL, std, 1);
  }

  km_value parameter(const std::string& name, const km_tensor& tensor, uint32_t role, uint32_t init, double std,
                     uint32_t decay) {
    std::string whole = prefix_ + name;
    km_parameter p = {sizeof p, role, whole.c_str(), tensor, init, decay, std};
    return service_.add_parameter(graph_, &p);
  }

  km_value node(const char* op, std::initializer_list<km_value> inputs,
                std::initializer_list<km_attribute> attributes = {}) {
    return service_.add_node(graph_, op, inputs.begin(), static_cast<uint32_t>(inputs.size()), attributes.begin(),
                             static_cast<uint32_t>(attributes.size()), nullptr);
  }

  const Model& model_;
  const km_model_shape& shape_;
  const km_graph_service& service_;
  km_graph* graph_;
  int64_t vocabulary_;
  km_value past_ = 0;     // prefill and decode
  km_value segments_ = 0; // where the data keeps documents apart
  std::string prefix_;    // "layers.3."
};

km_status check(const Model& model) {
  const km_host* host = model.host;
  if (model.width % model.heads != 0)
    return host->fail(host, KM_ERROR_USER,
                      "model llama: width %" PRId64 " is not a multiple of heads %" PRId64 ": set width to %" PRId64
                      ", or choose heads that divide it",
                      model.width, model.heads, (model.width / model.heads + 1) * model.heads);
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

km_status check(const Model& model, const km_model_shape& shape) {
  if (shape.vocabulary > model.vocabulary_for(shape.vocabulary))
    return model.host->fail(model.host, KM_ERROR_USER,
                            "model llama: vocabulary %" PRId64 " is smaller than the data's, %" PRId64
                            ": set model.vocabulary to at least that, or leave it out",
                            model.vocabulary, shape.vocabulary);
  return KM_OK;
}

km_status open(const km_host* host, const km_options* options, void** self) {
  return guarded(host, [&] {
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
    if (km_status status = check(*model); status != KM_OK) return status;
    *self = model.release();
    return km_status{KM_OK};
  });
}

void close(void* self) { delete static_cast<Model*>(self); }

km_status build(void* self, const km_model_shape* shape, km_graph* graph) {
  const Model& model = *static_cast<const Model*>(self);
  return guarded(model.host, [&]() -> km_status {
    if (km_status status = check(model, *shape); status != KM_OK) return status;
    const auto* service = static_cast<const km_graph_service*>(model.host->service(model.host, KM_GRAPH_SERVICE));
    if (service == nullptr) return model.host->fail(model.host, KM_ERROR_HOST, "no service %s", KM_GRAPH_SERVICE);
    Builder(model, *shape, *service, graph).build();
    return KM_OK;
  });
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
