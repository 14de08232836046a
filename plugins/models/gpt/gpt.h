// What the two halves of the plugin share: the model's numbers, read from its options, and the lists that the component
// table points to. gpt.cc builds the graph, hugging_face.cc says the names and the config.json of transformers' GPT-2.
#pragma once

#include <cstdint>
#include <exception>

#include "kumiki/model.h"

namespace kumiki::gpt {

// One opened component: what `[model]` says. Lives from open to close.
struct Model {
  const km_host* host = nullptr;
  int64_t layers = 0;
  int64_t width = 0;
  int64_t heads = 0;
  int64_t feed_forward = 0; // never 0 here: 4 · width where the user gave none
  int64_t vocabulary = 0;   // 0: the data's
  double dropout = 0;
  bool tied = true;
  double init_std = 0;
  double epsilon = 0;

  // Rows of the embedding for data with `of_data` tokens (0: unknown).
  int64_t vocabulary_for(int64_t of_data) const {
    constexpr int64_t kGpt2Vocabulary = 50257;
    return vocabulary > 0 ? vocabulary : of_data > 0 ? of_data : kGpt2Vocabulary;
  }
};

// km_model::describe and km_model::from_config.
km_status describe(void* self, const km_model_shape* shape, const km_model_text* text);
km_status from_config(const km_host* host, const char* json, char* toml, uint64_t capacity);

// Nothing is thrown across the ABI: runs `body` and turns an exception into a status.
template <typename Body>
km_status guarded(const km_host* host, Body body) {
  try {
    return body();
  } catch (const std::exception& error) {
    return host->fail(host, KM_ERROR_PLUGIN, "gpt: %s", error.what());
  }
}

} // namespace kumiki::gpt
