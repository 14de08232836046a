// The learning rate by step, and the global batch by tokens seen. Pure functions of the settings. Floor: run.
#pragma once

#include <cstdint>

#include "core/config/config.h"

namespace kumiki {

// Learning rate of step `step` (1 … steps). Warm-up is linear from peak/warmup; then:
//   constant  peak
//   cosine    from peak to minimum along half a cosine, reached at the last step (Loshchilov and Hutter 2017)
//   linear    from peak to minimum in a line
//   wsd       peak, then in the last `decay` steps a line down to minimum (warmup-stable-decay, Hu et al. 2024)
double learning_rate(const OptimizerSettings& settings, int64_t step, int64_t steps);

// Sequences of the update that begins after `tokens` tokens: a multiple of `unit`, growing linearly from start to end.
int64_t global_batch(const GlobalBatch& settings, int64_t tokens, int64_t unit);

} // namespace kumiki
