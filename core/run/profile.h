// What the executor measured, as a table for people. Floor: run.
#pragma once

#include <string>
#include <vector>

#include "core/run/executor.h"

namespace kumiki {

// Rows of the same op, shape and phase are one line: calls, milliseconds, share, GFLOP/s, GB/s. Sorted by time. Closes with
// what the executor spent outside of kernels.
std::string profile_table(const Executor& executor);

} // namespace kumiki
