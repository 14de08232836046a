// The trainer: makes graphs, plans and memory for a configuration, then steps through it: data, executor, metrics,
// evaluation, checkpoints. Floor: run.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "core/plan/plan.h"
#include "core/plugin/registry.h"
#include "core/run/communicator.h"
#include "core/run/store.h"

namespace kumiki {

inline constexpr int kExitStopped = 85;  // stopped by a signal, a stop file or run.max_wall; a checkpoint was saved
inline constexpr int kExitDiverged = 87; // ranks that should hold the same weights do not
inline constexpr int kExitNumeric = 5;   // loss or gradients are not finite

struct TrainOptions {
  bool resume = false;
  bool fresh = false;   // remove the checkpoints of an earlier run of this name
  bool profile = false; // time each step of the plan; prints a table at the end
  bool trace = false;   // keep the times of the second to fourth step of this run: runs/NAME/trace.json
  // Called after each step, before weights are compared: tests do harm with it.
  std::function<void(const Store& store, int64_t rank, int64_t step)> after_step;
};

// Runs the configuration to its last step. Returns the exit code; throws Error.
//
// Stops early, after the step under way and with a checkpoint: on SIGUSR1, SIGINT, SIGTERM, when a file runs/NAME/stop
// appears, or after run.max_wall seconds. When the loss is not finite it stops with the weights as they were before that
// step, saved, and exit code 5.
// `communicator`: the other ranks of the run, which call train with the same configuration; null: there are none.
int train(const Config& config, Registry& registry, const TrainOptions& options, Communicator* communicator);

// How the training plan of a configuration is made: weights are packed once a step where more than one micro-batch uses them.
PlanOptions training_plan_options(const Config& config, const Strategies& strategies);

// runs/NAME of a configuration.
std::string run_folder(const Config& config);

} // namespace kumiki
