// Evaluation: the loss of the forward graph on a split, in nats per token and, where the data can tell, in bits per byte.
// Floor: run.
#pragma once

#include "core/run/engine.h"
#include "core/run/executor.h"

namespace kumiki {

struct Evaluation {
  double loss = 0;          // mean over real tokens, natural logarithm
  double bits_per_byte = 0; // 0 if the data has no tokenizer
  int64_t tokens = 0;
};

class Evaluator {
 public:
  // Plans the graph; its leaves join the store (before Store::finish).
  Evaluator(Engine& engine, Store& store, std::unique_ptr<Graph> forward, uint32_t split);
  // After Store::finish. `batches` micro-batches from the first sample on; 0 = one epoch.
  Evaluation run(int64_t batches);
  const Graph& graph() const { return *graph_; }

 private:
  Engine& engine_;
  Store& store_;
  std::unique_ptr<Graph> graph_;
  Plan plan_;
  std::unique_ptr<Executor> executor_;
  std::unique_ptr<Feed> feed_;
  std::vector<uint32_t> bytes_of_token_;
};

// Puts rows of a batch into a micro-batch of a staging: of each the tokens that are this rank's.
void stage_rows(Staging& staging, int32_t micro, const BatchRows& rows, int64_t row, int64_t n, int64_t sequence,
                const TokenShare& share = {});

} // namespace kumiki
