// The strategies of a run: the mesh that [[parallel]] describes for so many ranks, the opened components of kind "parallel",
// and their rewrites in the order of their levels. Floor: plan.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/graph/graph.h"
#include "core/plugin/options.h"
#include "core/plugin/registry.h"
#include "kumiki/parallel.h"

namespace kumiki {

// An entry of a schedule as a strategy lists it: `part` of `stage` with micro-batch `micro`.
struct PartEntry {
  Part part = Part::kForward;
  int32_t stage = 0;
  int32_t micro = 0;
};

// Which tokens of each sequence a rank reads: of 2 · degree equal chunks those with the numbers index and
// 2 · degree - 1 - index (KM_PARALLEL_TOKENS).
struct TokenShare {
  int64_t degree = 1;
  int64_t index = 0;
};

class Strategies {
 public:
  // Degrees that are left out take what remains of the ranks: at most one may. Ranks that no axis covers form a `data`
  // axis. Throws Error, at the place in the file, where the degrees do not multiply to `ranks`.
  Strategies(Host& host, Registry& registry, const Config& config, int64_t rank, int64_t ranks);
  ~Strategies();
  Strategies(const Strategies&) = delete;
  Strategies& operator=(const Strategies&) = delete;

  const std::vector<Axis>& axes() const { return axes_; } // innermost first, degree above 1
  bool alone() const { return axes_.empty(); }
  int64_t rank() const { return rank_; }
  int64_t ranks() const { return ranks_; }
  // How many ranks read samples of their own, and which of them this is.
  int64_t batch_degree() const { return batch_degree_; }
  int64_t batch_index() const { return batch_index_; }
  const TokenShare& token_share() const { return token_share_; } // in training and evaluation
  // The axis of the strategy that gives stages; -1: none.
  int32_t pipeline_axis() const { return pipeline_axis_; }
  bool is_pipeline(const Axis& axis) const { // of a graph, where another may have been split
    return pipeline_axis_ >= 0 && axes_[static_cast<size_t>(pipeline_axis_)].name == axis.name;
  }
  // Its coordinate: stage s belongs to the rank whose coordinate is s mod degree. 0 and 1 without a pipeline.
  int64_t pipeline_coordinate() const {
    return pipeline_axis_ < 0 ? 0 : axes_[static_cast<size_t>(pipeline_axis_)].coordinate;
  }
  int64_t pipeline_degree() const { return pipeline_axis_ < 0 ? 1 : axes_[static_cast<size_t>(pipeline_axis_)].degree; }
  bool owns(int32_t stage) const { return stage == kEveryStage || stage % pipeline_degree() == pipeline_coordinate(); }
  // "tensor 2 x pipeline 2 x data 2"; empty on one rank.
  std::string text() const;

  void rewrite_forward(Graph& graph) const;
  void rewrite_training(Graph& graph) const;
  // The list of one coordinate of the pipeline; without one all micro-batches in order.
  // Where the weight part of each micro-batch comes right behind its backward part it is left out: they run as one.
  std::vector<PartEntry> schedule(int32_t stages, int32_t micro_batches, bool training, int64_t coordinate) const;

  // The ranks of this rank's group along `axes` ("data,context"; with "pipeline{0,3}" the coordinates 0 and 3 of it; with
  // "tensor%2" and "tensor/2" a block of 2 of its ranks, and those that stand alike in all blocks), rising by the index in
  // the group.
  std::vector<uint32_t> group(const std::string& axes) const;

 private:
  struct Strategy {
    std::string title;
    km_parallel_strategy table{};
    void* self = nullptr;
    km_axis axis{};
    std::string name; // of the axis; outlives it
  };
  void check_inputs(const Graph& graph) const;
  void call(Graph& graph, km_status (*km_parallel_strategy::*function)(void*, km_graph*, const km_axis*)) const;

  Host& host_;
  int64_t rank_, ranks_;
  std::vector<Axis> axes_;
  std::vector<std::unique_ptr<Strategy>> strategies_; // by level
  int64_t batch_degree_ = 1, batch_index_ = 0;
  TokenShare token_share_;
  int32_t pipeline_axis_ = -1;
  const Strategy* pipeline_ = nullptr;
  std::vector<size_t> batch_axes_;
};

} // namespace kumiki
