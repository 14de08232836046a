// Text from a model: prefill in chunks and decode token by token, with a key-value cache, so that n tokens cost n forward
// passes of one token. Floor: run.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/run/engine.h"
#include "core/run/executor.h"

namespace kumiki {

struct GenerateOptions {
  int64_t tokens = 200;     // at most; ends at the end-of-document token
  double temperature = 0.8; // 0: the likeliest token
  int64_t top_k = 40;       // 0: all
  uint64_t seed = 1;
};

class Generator {
 public:
  // Plans the graphs; their leaves join the store (before Store::finish). The caches hold run.sequence tokens.
  Generator(Engine& engine, Store& store);

  // After Store::finish. Continues the prompt; `each` (may be null) gets pieces of text as soon as they are whole characters.
  // Beyond run.sequence tokens the older half of the context is forgotten. Throws Error.
  std::string run(const std::string& prompt, const GenerateOptions& options,
                  const std::function<void(const std::string&)>& each);
  // The logits [vocabulary] after the tokens; the caches hold them then.
  const std::vector<float>& logits_after(const std::vector<int32_t>& tokens);
  const Graph& graph() const { return *decode_.graph; }

 private:
  struct Mode {
    std::unique_ptr<Graph> graph;
    Plan plan;
    std::unique_ptr<Executor> executor;
    std::unique_ptr<Staging> staging;
  };
  void plan(Mode& mode, uint32_t which, int64_t tokens);
  void pass(Mode& mode, const int32_t* tokens, int64_t n);
  void feed(const int32_t* tokens, int64_t n);

  Engine& engine_;
  Store& store_;
  int64_t capacity_;
  int64_t chunk_;
  Mode prefill_, decode_;
  Mode* ready_ = nullptr; // whose head has run last
  int64_t past_ = 0;      // tokens in the caches
  std::vector<float> logits_;
};

} // namespace kumiki
