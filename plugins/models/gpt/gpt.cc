// gpt: GPT-2 and GPT-3 (Radford et al. 2019, Brown et al. 2020): learned positions, LayerNorm before each branch, GELU
// in its tanh form, biases, output head tied to the embedding. All is said in plain ops; fusion is the core's work.
#include <cinttypes>
#include <cmath>
#include <initializer_list>
#include <memory>
#include <string>

#include "gpt.h"
#include "kumiki/plugin.h"

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
    km_value positions = matrix("position.weight", shape_.sequence, model_.width, KM_ROLE_REPLICATED);
    km_value x = node("embedding", {tokens, embedding});
    x = past_ ? node("add_position", {x, positions, past_}) : node("add_position", {x, positions});
    x = drop(x);
    for (int64_t layer = 0; layer < model_.layers; ++layer) {
      service_.set_layer(graph_, static_cast<int32_t>(layer));
      prefix_ = "layers." + std::to_string(layer) + ".";
      x = node("add", {x, drop(attention(norm(x, "attention.norm")))});
      x = node("add", {x, drop(mlp(norm(x, "mlp.norm")))});
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
    km_value q = linear(x, "attention.query", model_.width, model_.width, KM_ROLE_COLUMN);
    km_value k = linear(x, "attention.key", model_.width, model_.width, KM_ROLE_COLUMN);
    km_value v = linear(x, "attention.value", model_.width, model_.width, KM_ROLE_COLUMN);
    km_attribute head_width = km_i64("head_width", model_.width / model_.heads);
    km_value mixed = past_       ? node("attention", {q, cached(k, "key_cache"), cached(v, "value_cache"), past_},
                                        {head_width, km_string("mask", "cached")})
                     : segments_ ? node("attention", {q, k, v, segments_}, {head_width, km_string("mask", "segments")})
                                 : node("attention", {q, k, v}, {head_width, km_string("mask", "causal")});
    return linear(mixed, "attention.output", model_.width, model_.width, KM_ROLE_ROW);
  }

  km_value mlp(km_value x) {
    km_value hidden = node("gelu", {linear(x, "mlp.up", model_.width, model_.feed_forward, KM_ROLE_COLUMN)});
    return linear(hidden, "mlp.down", model_.feed_forward, model_.width, KM_ROLE_ROW);
  }

  // The state `name` with the rows of `x` put in at `past`.
  km_value cached(km_value x, const char* name) {
    km_tensor tensor = {KM_F32, 3, 0, 0, {shape_.batch, shape_.capacity, model_.width}};
    km_value state = service_.add_state(graph_, 0, (prefix_ + name).c_str(), &tensor);
    km_value now = node("cache_append", {state, x, past_});
    service_.assign(graph_, state, now);
    return now;
  }

  km_value drop(km_value x) {
    if (shape_.mode != KM_MODE_TRAIN || model_.dropout <= 0) return x;
    km_value seed = service_.step_scalar(graph_, "seed"), sample = service_.step_scalar(graph_, "sample");
    return node("dropout", {x, seed, sample}, {km_f64("probability", model_.dropout), km_i64("stream", ++streams_)});
  }

  km_value norm(km_value x, const std::string& name) {
    km_value weight = vector(name + ".weight", model_.width, KM_ROLE_REPLICATED, KM_INIT_ONE);
    km_value bias = vector(name + ".bias", model_.width, KM_ROLE_REPLICATED, KM_INIT_ZERO);
    return node("layernorm", {x, weight, bias}, {km_f64("epsilon", model_.epsilon)});
  }

  km_value linear(km_value x, const std::string& name, int64_t in, int64_t out, uint32_t role) {
    km_value weight = matrix(name + ".weight", out, in, role);
    // A row-parallel product is a partial sum; its bias is added once, after the sum: replicated.
    km_value bias = vector(name + ".bias", out, role == KM_ROLE_ROW ? KM_ROLE_REPLICATED : role, KM_INIT_ZERO);
    return node("bias_add", {node("matmul", {x, weight}, {km_i64("transpose_b", 1)}), bias});
  }

  km_value matrix(const std::string& name, int64_t rows, int64_t columns, uint32_t role) {
    // Branch ends begin smaller, so that the residual stream does not grow with depth (Radford et al. 2019, 2.3).
    const double branches = 2.0 * static_cast<double>(model_.layers);
    const double std = model_.init_std / (role == KM_ROLE_ROW ? std::sqrt(branches) : 1.0);
    km_tensor tensor = {KM_F32, 2, 0, 0, {rows, columns}};
    return parameter(name, tensor, role, KM_INIT_NORMAL, std, 1);
  }

  km_value vector(const std::string& name, int64_t elements, uint32_t role, uint32_t init) {
    km_tensor tensor = {KM_F32, 1, 0, 0, {elements}};
    return parameter(name, tensor, role, init, 0, 0);
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
  int64_t streams_ = 0;   // dropouts so far: each draws its own numbers
  std::string prefix_;    // "layers.3."
};

km_status check(const Model& model) {
  if (model.width % model.heads != 0)
    return model.host->fail(model.host, KM_ERROR_USER,
                            "model gpt: width %" PRId64 " is not a multiple of heads %" PRId64 ": set width to %" PRId64
                            ", or choose heads that divide it",
                            model.width, model.heads, (model.width / model.heads + 1) * model.heads);
  return KM_OK;
}

km_status check(const Model& model, const km_model_shape& shape) {
  const int64_t longest = shape.mode == KM_MODE_TRAIN ? shape.tokens : shape.capacity;
  if (longest > shape.sequence)
    return model.host->fail(model.host, KM_ERROR_USER,
                            "model gpt: %" PRId64 " tokens asked for, but the position table has %" PRId64
                            " rows (run.sequence): ask for fewer, or train with a longer run.sequence",
                            longest, shape.sequence);
  if (shape.vocabulary > model.vocabulary_for(shape.vocabulary))
    return model.host->fail(model.host, KM_ERROR_USER,
                            "model gpt: vocabulary %" PRId64 " is smaller than the data's, %" PRId64
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
    model->feed_forward = km_option_i64(options, "feed_forward");
    if (model->feed_forward == 0) model->feed_forward = 4 * model->width;
    model->vocabulary = km_option_i64(options, "vocabulary");
    model->dropout = km_option_f64(options, "dropout");
    model->tied = km_option_i64(options, "tied") != 0;
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
const km_component kComponents[] = {{"model", "gpt", KM_MODEL_VERSION, sizeof kOptions / sizeof *kOptions, &kModel,
                                     kOptions, "GPT-2 and GPT-3: learned positions, LayerNorm, GELU, biases"}};
const km_plugin kPlugin = {
    sizeof(km_plugin),    KM_ABI_MINOR,      "gpt", "0.1.0", "Kumiki", "Apache-2.0", kComponents, 1,
    sizeof(km_component), sizeof(km_option), 0};

} // namespace
} // namespace kumiki::gpt

KM_PLUGIN(kumiki::gpt::kPlugin)
