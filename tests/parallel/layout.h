// How a test spreads a model over ranks: the degrees and options of the strategies, and the graph of one rank, made by
// the strategies' own plugin in the order of the core's passes. What the core does besides (sums of outputs, the
// gradient norm, the update) is done here in the plainest way.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/graph/graph.h"
#include "kumiki/parallel.h"
#include "tests/models/component.h"

namespace kumiki::test {

struct Layout {
  int64_t tensor = 1;
  bool sequence = false;
  int64_t context = 1;
  bool again = false;
  int64_t pipeline = 1;
  std::string schedule = "1f1b";
  int64_t chunks = 0;
  int64_t data = 1;
  int64_t zero = 0;
  int64_t bucket = 4000;       // bytes: small, so that a tiny model has several
  bool data_innermost = false; // the mesh is data, context, pipeline, tensor, in place of tensor, context, pipeline, data
  std::string recompute;       // mode; empty: no such component
  int64_t recompute_layers = 0;

  int64_t ranks() const { return tensor * context * pipeline * data; }
  std::string text() const; // "tensor 2 sequence, data 2 zero 1"
};

// One component of kind "parallel" of the plugin, open.
class Strategy {
 public:
  Strategy(const std::string& name, const std::map<std::string, std::string>& options);
  ~Strategy();
  Strategy(const Strategy&) = delete;
  Strategy& operator=(const Strategy&) = delete;

  const km_parallel_strategy& table() const { return *table_; }
  void* self() const { return self_; }

 private:
  void* library_ = nullptr;
  const km_parallel_strategy* table_ = nullptr;
  void* self_ = nullptr;
};

// The strategies of one layout, by level, as one rank sees the mesh.
class Mesh {
 public:
  Mesh(const Layout& layout, int64_t rank);

  const std::vector<Axis>& axes() const { return axes_; }
  int64_t coordinate(const std::string& axis) const; // 0 without such an axis
  bool owns(int32_t stage) const;                    // stage s belongs to the coordinate s mod degree of the pipeline
  // Sets the axes and the placement of the inputs, then calls all strategies; infers and checks after each. `after`
  // (may be empty) sees the graph behind each strategy, before that.
  using After = std::function<void(const std::string& strategy, Graph&)>;
  void rewrite_forward(Graph& graph, const After& after = {}) const;
  void rewrite_training(Graph& graph, const After& after = {}) const;
  // Parts in the order of this rank (KM_PART_*, stage, micro-batch).
  struct Entry {
    uint32_t part;
    int32_t stage;
    int32_t micro;
  };
  std::vector<Entry> schedule(int32_t stages, int32_t micro_batches, bool training) const;

 private:
  struct Placed {
    std::string name;
    std::unique_ptr<Strategy> strategy;
    km_axis axis;
  };
  void call(Graph& graph, bool forward, const After& after) const;

  std::vector<Axis> axes_;
  std::vector<Placed> strategies_; // by level
};

enum class Update { kSgd, kAdamw };

// From the forward graph to what a step runs. `after` sees the graph behind each strategy ("tensor forward", "tensor
// training") and behind all of it ("update"), before it is inferred and checked.
void make_training_graph(Graph& graph, const Mesh& mesh, Update update, const Mesh::After& after = {});

// From the forward graph to what an evaluation or one call of generation runs.
void make_inference_graph(Graph& graph);

} // namespace kumiki::test
