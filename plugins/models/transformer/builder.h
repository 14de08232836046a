// What transformer models in this folder share: a Builder that adds parameters and nodes in few words, knows the three
// modes (train, prefill, decode) and closes the graph with loss or logits. In: the shape and the graph of km_model::build.
// Out: nodes in the graph. Errors of single calls are kept by the graph service, which fails the whole build with the first.
#pragma once

#include <cinttypes>
#include <cmath>
#include <cstdint>
#include <exception>
#include <initializer_list>
#include <string>

#include "kumiki/model.h"

namespace kumiki::models {

// Nothing is thrown across the ABI: runs `body` and turns an exception into a status.
template <typename Body>
km_status guarded(const km_host* host, Body body) {
  try {
    return body();
  } catch (const std::exception& error) {
    return host->fail(host, KM_ERROR_PLUGIN, "model: %s", error.what());
  }
}

// The rows of the embedding: what the user gave, else what the data has, else `usual`.
inline int64_t vocabulary_rows(int64_t given, int64_t of_data, int64_t usual) {
  return given > 0 ? given : of_data > 0 ? of_data : usual;
}

// An error where the user's vocabulary is too small for the data.
inline km_status check_vocabulary(const km_host* host, const char* model, int64_t given, int64_t of_data) {
  if (given == 0 || given >= of_data) return KM_OK;
  return host->fail(host, KM_ERROR_USER,
                    "model %s: vocabulary %" PRId64 " is smaller than the data's, %" PRId64
                    ": set model.vocabulary to at least that, or leave it out",
                    model, given, of_data);
}

// An error where heads do not divide the width.
inline km_status check_heads(const km_host* host, const char* model, int64_t width, int64_t heads) {
  if (width % heads == 0) return KM_OK;
  return host->fail(host, KM_ERROR_USER,
                    "model %s: width %" PRId64 " is not a multiple of heads %" PRId64 ": set width to %" PRId64
                    ", or choose heads that divide it",
                    model, width, heads, (width / heads + 1) * heads);
}

class Builder {
 public:
  // init_std: of weights; those at the end of a branch get init_std / √(2 · layers).
  Builder(const km_graph_service& service, km_graph* graph, const km_model_shape& shape, double init_std,
          int64_t layers)
      : service_(service),
        graph_(graph),
        shape_(shape),
        init_std_(init_std),
        branches_(2.0 * static_cast<double>(layers)),
        past_(training() ? 0 : service.step_scalar(graph, "past")),
        segments_(training() && shape.segments ? service.input(graph, "segments") : 0) {}

  const km_model_shape& shape() const { return shape_; }
  bool training() const { return shape_.mode == KM_MODE_TRAIN; }
  km_value input(const char* name) { return service_.input(graph_, name); }

  // Parameters and nodes from here on belong to this layer: "layers.3." goes before names. -1: outside the layers.
  void layer(int64_t number) {
    service_.set_layer(graph_, static_cast<int32_t>(number));
    prefix_ = number < 0 ? "" : "layers." + std::to_string(number) + ".";
  }

  km_value node(const char* op, std::initializer_list<km_value> inputs,
                std::initializer_list<km_attribute> attributes = {}) {
    return service_.add_node(graph_, op, inputs.begin(), static_cast<uint32_t>(inputs.size()), attributes.begin(),
                             static_cast<uint32_t>(attributes.size()), nullptr);
  }

  // A normally distributed weight [rows, columns] that decays. Branch ends (role row) begin smaller, so that the residual
  // stream does not grow with depth (Radford et al. 2019, section 2.3).
  km_value matrix(const std::string& name, int64_t rows, int64_t columns, uint32_t role) {
    const double std = init_std_ / (role == KM_ROLE_ROW ? std::sqrt(branches_) : 1.0);
    const km_tensor tensor = {KM_F32, 2, 0, 0, {rows, columns}};
    return parameter(name, {sizeof(km_parameter), role, nullptr, tensor, KM_INIT_NORMAL, 1, std});
  }

  // A vector that begins as zeros or ones and does not decay.
  km_value vector(const std::string& name, int64_t elements, uint32_t role, uint32_t init) {
    const km_tensor tensor = {KM_F32, 1, 0, 0, {elements}};
    return parameter(name, {sizeof(km_parameter), role, nullptr, tensor, init, 0, 0});
  }

  // `op` at the positions of these tokens: where a cache stands before them, `past` is one more input.
  km_value at_position(const char* op, std::initializer_list<km_value> inputs,
                       std::initializer_list<km_attribute> attributes = {}) {
    km_value all[KM_MAX_INPUTS] = {};
    uint32_t count = 0;
    for (km_value value : inputs) all[count++] = value;
    if (past_) all[count++] = past_;
    return service_.add_node(graph_, op, all, count, attributes.begin(), static_cast<uint32_t>(attributes.size()),
                             nullptr);
  }

  // Causal attention of q [batch, tokens, heads · head_width] on k and v [batch, tokens, key_width]: on the cache's tokens
  // too in prefill and decode, within documents where the data keeps them apart.
  km_value attention(km_value q, km_value k, km_value v, int64_t head_width, int64_t key_width) {
    const km_attribute width = km_i64("head_width", head_width);
    if (past_) {
      k = cached(k, "key_cache", key_width);
      v = cached(v, "value_cache", key_width);
      return node("attention", {q, k, v, past_}, {width, km_string("mask", "cached")});
    }
    if (segments_) return node("attention", {q, k, v, segments_}, {width, km_string("mask", "segments")});
    return node("attention", {q, k, v}, {width, km_string("mask", "causal")});
  }

  // Training only: each call draws its own numbers.
  km_value dropout(km_value x, double probability) {
    if (!training() || probability <= 0) return x;
    const km_value seed = service_.step_scalar(graph_, "seed"), sample = service_.step_scalar(graph_, "sample");
    return node("dropout", {x, seed, sample}, {km_f64("probability", probability), km_i64("stream", ++streams_)});
  }

  // The outputs: "logits" of the last token in prefill and decode, else "loss" and "tokens". head is [vocabulary, width].
  void finish(km_value x, km_value head) {
    if (!training()) x = node("last_token", {x});
    const km_value logits = node("matmul", {x, head}, {km_i64("transpose_b", 1)});
    if (!training()) {
      service_.set_output(graph_, "logits", logits);
      return;
    }
    const km_value inputs[] = {logits, input("targets")};
    km_value results[KM_MAX_OUTPUTS] = {};
    service_.add_node(graph_, "cross_entropy", inputs, 2, nullptr, 0, results);
    service_.set_output(graph_, "loss", results[0]);
    service_.set_output(graph_, "tokens", results[1]);
  }

 private:
  km_value parameter(const std::string& name, km_parameter p) {
    const std::string whole = prefix_ + name;
    p.name = whole.c_str();
    return service_.add_parameter(graph_, &p);
  }

  // The state `name` with the rows of x put in at `past`.
  km_value cached(km_value x, const char* name, int64_t width) {
    const km_tensor tensor = {KM_F32, 3, 0, 0, {shape_.batch, shape_.capacity, width}};
    const km_value state = service_.add_state(graph_, 0, (prefix_ + name).c_str(), &tensor);
    const km_value now = node("cache_append", {state, x, past_});
    service_.assign(graph_, state, now);
    return now;
  }

  const km_graph_service& service_;
  km_graph* graph_;
  const km_model_shape& shape_;
  double init_std_, branches_;
  km_value past_;     // 0 in training
  km_value segments_; // 0 unless the data keeps documents apart
  int64_t streams_ = 0;
  std::string prefix_;
};

// km_model::build of model `name`: what all models check, then Forward(model, builder).build(). Model has host, vocabulary,
// init_std and layers.
template <typename Forward, typename Model>
km_status build_graph(const Model& model, const char* name, const km_model_shape& shape, km_graph* graph) {
  const km_host* host = model.host;
  return guarded(host, [&]() -> km_status {
    const km_status status = check_vocabulary(host, name, model.vocabulary, shape.vocabulary);
    if (status != KM_OK) return status;
    const auto* service = static_cast<const km_graph_service*>(host->service(host, KM_GRAPH_SERVICE));
    if (service == nullptr) return host->fail(host, KM_ERROR_HOST, "no service %s", KM_GRAPH_SERVICE);
    Builder builder(*service, graph, shape, model.init_std, model.layers);
    Forward(model, builder).build();
    return KM_OK;
  });
}

} // namespace kumiki::models
