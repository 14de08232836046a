// From a model component to graphs that are ready to plan: forward graph, vendors' rewrites, autodiff, precision, norm and
// update, fusion, in the one order of docs/architecture.md section 2. Floor: plan.
#pragma once

#include <memory>
#include <string>

#include "core/graph/graph.h"
#include "core/plan/chain.h"
#include "core/plan/strategies.h"
#include "core/plugin/options.h"
#include "core/plugin/registry.h"
#include "kumiki/model.h"
#include "kumiki/optimizer.h"

namespace kumiki {

// An opened component of kind "model".
class Model {
 public:
  Model(Host& host, const Component& component, const OptionValues& options);
  ~Model();
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;

  const km_model& table() const { return table_; }
  void* self() const { return self_; }
  const std::string& title() const { return title_; }
  // Builds one graph; vendors' forward rewrites of the chain are applied. Shapes are those of the whole model: the
  // strategies' forward rewrites come next.
  std::unique_ptr<Graph> build(const km_model_shape& shape, const KernelChain& chain) const;

 private:
  km_model table_{};
  void* self_ = nullptr;
  std::string title_;
};

// An opened component of kind "optimizer".
class Optimizer {
 public:
  Optimizer(Host& host, const Component& component, const OptionValues& options);
  ~Optimizer();
  Optimizer(const Optimizer&) = delete;
  Optimizer& operator=(const Optimizer&) = delete;
  // Adds the update of one parameter at the graph's cursor.
  void update(Graph& graph, ValueId parameter, ValueId gradient) const;
  const std::string& title() const { return title_; }
  bool whole_matrix() const { return table_.update_kind == KM_UPDATE_WHOLE_MATRIX; }

 private:
  km_optimizer table_{};
  void* self_ = nullptr;
  std::string title_;
};

struct TrainingOptions {
  bool bf16 = false;
  bool fuse = true;
  double clip = 0;
};

// Turns a forward graph, after the strategies' forward rewrites, into a training graph: outputs "loss", "tokens" (sums over
// micro-batches and ranks), "gradient_norm".
void make_training_graph(Graph& graph, const Optimizer& optimizer, KernelChain& chain, const Strategies& strategies,
                         const TrainingOptions& options);
// Turns a forward graph into an evaluation graph: no dropout, no gradients; outputs "loss", "tokens" as above.
void make_evaluation_graph(Graph& graph, KernelChain& chain, const TrainingOptions& options);
// Turns a prefill or decode graph into one that is ready to plan.
void make_generation_graph(Graph& graph, KernelChain& chain, const TrainingOptions& options);

// FLOPs of one forward and backward pass of a forward graph as the field counts them: 6 for each weight of a product and
// token, and attention in full, 12 · layers · width · tokens² ("causal": half of that part).
struct ModelFlops {
  double full = 0;
  double causal = 0;
};
ModelFlops training_flops(const Graph& forward);

} // namespace kumiki
