// The parts that every command that computes needs, in the order in which they must be made and unmade: host, pool, kernel
// chain, data, model. Floor: run.
#pragma once

#include <memory>
#include <vector>

#include "core/plan/build.h"
#include "core/run/executor.h"
#include "core/run/feed.h"
#include "core/run/pool.h"

namespace kumiki {

class Engine {
 public:
  struct Options {
    bool data = true;                     // open [[data]] (split train)
    int64_t vocabulary = 0;               // without data: of the checkpoint
    std::string without_kernels;          // leave this member out of the chain (tests)
    Communicator* communicator = nullptr; // the other ranks; null: there are none, or this is a plan of
    int64_t rank = 0, ranks = 1;          // one of so many
    std::vector<int> cores = {};          // to compute on; empty: those of the rank's place on its host
  };
  Engine(Registry& registry, const Config& config, const Options& options);

  const Config& config() const { return config_; }
  Registry& registry() { return registry_; }
  Host& host() { return host_; }
  Pool& pool() { return *pool_; }
  KernelChain& chain() { return *chain_; }
  Feed* feed() { return feed_.get(); }
  const Model& model() const { return *model_; }
  const Strategies& strategies() const { return *strategies_; }
  Communicator* communicator() { return communicator_; }
  bool first_rank() const { return strategies_->rank() == 0; }
  // The model's graph as this rank has it: built, and rewritten by the strategies.
  std::unique_ptr<Graph> build(const km_model_shape& shape) const;
  // Makes the groups that a plan's messages need: all ranks, for the same plans in the same order.
  Links links(const Plan& plan);
  int64_t vocabulary() const { return vocabulary_; }
  bool bf16() const { return config_.run().compute == "bf16"; }
  TrainingOptions training_options() const;

  // What build is asked for; tokens 0 = run.sequence.
  km_model_shape shape(uint32_t mode, int64_t batch, int64_t tokens = 0, int64_t capacity = 0) const;
  std::unique_ptr<Optimizer> open_optimizer();
  // [kernels] select = "fastest": times the candidates; `choices` has what an earlier run chose, and gets what this one does.
  void choose_fastest(std::map<std::string, std::string>* choices);

 private:
  Registry& registry_;
  const Config& config_;
  Host host_;
  Communicator* communicator_;
  std::unique_ptr<Pool> pool_;
  std::unique_ptr<KernelChain> chain_;
  std::unique_ptr<Strategies> strategies_;
  std::unique_ptr<Feed> feed_;
  std::unique_ptr<Model> model_;
  int64_t vocabulary_ = 0;
};

} // namespace kumiki
