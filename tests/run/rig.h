// What training is made of, in the hands of a test: a configuration goes in, and graph, plan, memory and executor come
// out, so that a test can set parameters, run parts of a step and read gradients. The plugins are data of the test.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/run/engine.h"
#include "core/run/executor.h"

namespace kumiki::test {

// A configuration of a tiny model. kernels: the members of the list; sets: more keys, "run.seed=3", which win.
Config tiny(const std::string& model, const std::string& kernels, const std::vector<std::string>& sets = {});
// [model] tables that a graph of all ops comes from: "gpt" (dropout 0), "gpt dropout" (0.1), "gpt untied", "llama" (two
// query heads share a key head).
std::string model_table(const std::string& name);

struct RigOptions {
  bool fuse = true;
  bool prepack = true;
  bool keep_gradients = false;
};

class Rig {
 public:
  // Parameters have their initial values. Throws Error.
  explicit Rig(const Config& config, const RigOptions& options = {});
  Rig(const Rig&) = delete;
  Rig& operator=(const Rig&) = delete;

  // The whole of the next step, update included; its loss per token.
  double step();
  // Head and body of the step that comes next: Σ loss over its tokens. Parameters stay as they are.
  double loss();
  std::vector<ScheduleEntry> schedule() const;
  // Puts the batch and the step scalars of the next step into staging().
  void stage();
  Executor& executor() { return *executor_; }
  Staging& staging() { return *staging_; }
  Engine& engine() { return *engine_; }
  Store& store() { return *store_; }
  const Graph& graph() const { return *graph_; }
  const Plan& plan() const { return plan_; }

  std::vector<std::string> parameters() const;
  std::vector<float> parameter(const std::string& name) const;
  void set_parameter(const std::string& name, const std::vector<float>& values);
  // After step (with keep_gradients) or loss: Σ over micro-batches and tokens, of a parameter.
  std::vector<float> gradient(const std::string& name) const;
  // Adds normal draws of so much standard deviation to all parameters: freshly made ones are so small that much of a
  // model is linear.
  void stir(double deviation);

 private:
  Config config_;
  std::unique_ptr<Registry> registry_;
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<Optimizer> optimizer_;
  std::unique_ptr<Graph> graph_;
  Plan plan_;
  std::unique_ptr<Store> store_;
  std::unique_ptr<Executor> executor_;
  std::unique_ptr<Staging> staging_;
  int64_t done_ = 0;
};

// Adds normal draws to all parameters in a store.
void stir(const Graph& graph, Store& store, double deviation);

} // namespace kumiki::test
