// What the collective ops compute (docs/ops.md, "Communication"), for all ranks of a group at once.
#pragma once

#include <cstdint>
#include <vector>

#include "core/graph/graph.h"

namespace kumiki::test {

using Numbers32 = std::vector<float>;

// inputs[r][i]: input i of the group's rank r. Gives outputs[r][i]. shapes[r][i]: of the inputs. Sums in double, in the
// order of the ranks.
std::vector<std::vector<Numbers32>> run_collective(const Node& node, const std::vector<std::vector<Numbers32>>& inputs,
                                                   const std::vector<std::vector<Shape>>& shapes);

} // namespace kumiki::test
