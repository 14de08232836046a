// Which layouts of a run are fast on a machine: searches degrees, schedules, ZeRO, micro-batches and recomputation. A
// formula ranks all that are possible, the best are planned in full. Floor: plan.
#pragma once

#include <string>
#include <vector>

#include "core/plan/scale/plan_run.h"

namespace kumiki {

// One way to divide the ranks.
struct Candidate {
  int64_t tensor = 1, context = 1, pipeline = 1, data = 1;
  std::string schedule = "1f1b";
  int64_t chunks = 1; // stages of a rank
  int64_t zero = 0;
  int64_t micro_batch = 1;
  std::string recompute = "none";
  bool sequence = false;
  double estimate = 0; // seconds of a step, by formula
  double memory = 0;   // bytes of a rank, by formula
  // Arguments of --set that make it of any configuration.
  std::vector<std::string> sets() const;
};

struct Suggestion {
  Candidate candidate;
  Prediction prediction;
};

// All that divide what they have to divide, with estimates; fastest of those that may fit first.
std::vector<Candidate> candidates(const ModelShape& model, const Machine& machine, int64_t ranks);

// The best, planned in full and only those that fit, fastest first: at most `most`, out of `tries` plans.
// `count` (may be null): how many layouts are possible, and how many were planned.
struct SuggestCount {
  size_t possible = 0, planned = 0;
};
std::vector<Suggestion> suggest(Registry& registry, const std::string& config, const std::vector<std::string>& sets,
                                const Machine& machine, int64_t ranks, SuggestCount* count = nullptr, size_t most = 8,
                                size_t tries = 48);

std::string suggestions_table(const std::vector<Suggestion>& suggestions);
std::string suggestions_json(const std::vector<Suggestion>& suggestions);

} // namespace kumiki
