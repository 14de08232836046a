#include "core/plan/plan.h"

#include <algorithm>

#include "core/base/error.h"
#include "core/plan/planner.h"

namespace kumiki {

Plan Planner::make() {
  make_segments();
  order_nodes();
  find_last_uses();
  collect_leaves();
  choose_kernels();
  accumulators();
  assigns();
  store_values();
  packs();
  place_workspaces();
  place_all();
  emit();
  name_outputs();
  memory_rows();
  return std::move(plan_);
}

uint64_t scalar_offset(const std::string& name) {
  for (size_t i = 0; i < std::size(kStepScalars); ++i)
    if (name == kStepScalars[i]) return i * kScalarStride;
  throw Error("", "'" + name + "' is no step scalar");
}

uint64_t Plan::leaf_bytes() const {
  uint64_t bytes = 0;
  for (const Leaf& leaf : leaves) bytes += leaf.type.bytes();
  return bytes;
}

Plan make_plan(const Graph& graph, KernelChain& chain, const PlanOptions& options, const Strategies* strategies) {
  return Planner(graph, chain, options, strategies).make();
}

} // namespace kumiki
