// The cut: between layers only, what stands before the first layer goes with it, what stands behind the last with that.
#include <algorithm>
#include <limits>
#include <map>

#include "pipeline.h"

namespace kumiki::parallel {
namespace {

// Seconds that a byte takes, in FLOPs: machines from a laptop to a GPU do some ten to a hundred FLOPs in the time of
// one byte of memory. Only the share of norms and losses beside the products depends on it.
constexpr double kFlopsPerByte = 16;

class Cut {
 public:
  Cut(GraphView& graph, int64_t stages) : graph_(graph), stages_(stages), nodes_(graph.nodes()) {}

  void make() {
    graph_.set_stages(static_cast<int32_t>(stages_));
    const std::vector<int32_t> units = units_of_nodes();
    const std::vector<int32_t> stage_of_unit = balanced_stages(costs(units), stages_);
    for (size_t i = 0; i < nodes_.size(); ++i) {
      nodes_[i].stage = stage_of_unit[static_cast<size_t>(units[i])];
      graph_.set_node_stage(nodes_[i].id, nodes_[i].stage);
      for (const km_value output : nodes_[i].outputs) made_on_[output] = nodes_[i].stage;
      first_of_stage_.try_emplace(nodes_[i].stage, nodes_[i].id);
    }
    for (const NodeView& node : nodes_)
      for (uint32_t i = 0; i < node.inputs.size(); ++i) {
        const km_value here = on_stage(node.inputs[i], node.stage);
        if (here != node.inputs[i]) graph_.replace_input(node.id, i, here);
      }
  }

 private:
  // Layers are units; the rest belongs to the layer before it, at the start to the first one.
  std::vector<int32_t> units_of_nodes() {
    std::map<int32_t, int32_t> unit_of_layer;
    for (const NodeView& node : nodes_)
      if (node.layer >= 0) unit_of_layer.try_emplace(node.layer, static_cast<int32_t>(unit_of_layer.size()));
    layers_ = unit_of_layer.size();
    if (layers_ < static_cast<size_t>(stages_))
      fail_user(std::to_string(stages_) + " stages (degree x chunks) need as many layers, but the model has " +
                std::to_string(layers_) + ": choose a smaller degree, or fewer chunks");
    std::vector<int32_t> units;
    int32_t unit = 0;
    for (const NodeView& node : nodes_) {
      if (node.layer >= 0) {
        const int32_t now = unit_of_layer[node.layer];
        if (now < unit)
          throw Failure(KM_ERROR_PLUGIN, "layer " + std::to_string(node.layer) +
                                             " has nodes behind those of a later layer: no cut between layers");
        unit = now;
      }
      units.push_back(unit);
    }
    return units;
  }

  std::vector<double> costs(const std::vector<int32_t>& units) const {
    std::vector<double> costs(layers_, 0.0);
    for (size_t i = 0; i < nodes_.size(); ++i) {
      double flops = 0, bytes = 0;
      graph_.cost(nodes_[i].id, &flops, &bytes);
      costs[static_cast<size_t>(units[i])] += flops + kFlopsPerByte * bytes;
    }
    return costs;
  }

  // What a node of `stage` reads in place of `value`.
  km_value on_stage(km_value value, int32_t stage) {
    if (const auto made = made_on_.find(value); made != made_on_.end()) return carried(value, made->second, stage);
    const km_value_info info = graph_.value(value);
    if (info.kind == KM_VALUE_PARAMETER) return parameter_on(value, stage);
    if (info.kind == KM_VALUE_STATE)
      graph_.set_value_stage(value, stage);
    else
      graph_.set_value_stage(value, KM_EVERY_STAGE);
    return value;
  }

  // An activation goes on from stage to stage, one transfer each, whoever else reads it there.
  km_value carried(km_value value, int32_t from, int32_t to) {
    if (from > to)
      throw Failure(KM_ERROR_PLUGIN,
                    "a node of stage " + std::to_string(to) + " reads what stage " + std::to_string(from) + " makes");
    for (int32_t stage = from + 1; stage <= to; ++stage) {
      km_value& there = carried_[{value, stage}];
      if (there == 0) {
        const km_value here = stage == from + 1 ? value : carried_.at({value, stage - 1});
        graph_.before(first_of_stage_.at(stage));
        there = graph_.add1("transfer", {here}, {km_i64("from", stage - 1), km_i64("to", stage)});
      }
    }
    return from == to ? value : carried_.at({value, to});
  }

  // Its first reader's stage has the parameter; on another stage (tied weights) there is a copy.
  km_value parameter_on(km_value parameter, int32_t stage) {
    const auto [home, is_first] = homes_.try_emplace(parameter, stage);
    if (is_first) graph_.set_value_stage(parameter, stage);
    if (home->second == stage) return parameter;
    km_value& copy = copies_[{parameter, stage}];
    if (copy == 0) copy = graph_.add_tied_copy(parameter, stage);
    return copy;
  }

  GraphView& graph_;
  const int64_t stages_;
  std::vector<NodeView> nodes_;
  size_t layers_ = 0;
  std::map<int32_t, km_node> first_of_stage_;
  std::map<km_value, int32_t> made_on_, homes_;
  std::map<std::pair<km_value, int32_t>, km_value> carried_, copies_; // by value and stage
};

} // namespace

std::vector<int32_t> balanced_stages(const std::vector<double>& costs, int64_t stages) {
  const size_t n = costs.size(), count = static_cast<size_t>(stages);
  constexpr double kNever = std::numeric_limits<double>::infinity();
  std::vector<double> sums(n + 1, 0.0);
  for (size_t i = 0; i < n; ++i) sums[i + 1] = sums[i] + costs[i];
  // best[s][i]: of the cuts of the first i units into s stages, by `join` of the costs of the stages.
  std::vector<std::vector<size_t>> begins;
  const auto solve = [&](double most, auto&& join) {
    std::vector<std::vector<double>> best(count + 1, std::vector<double>(n + 1, kNever));
    begins.assign(count + 1, std::vector<size_t>(n + 1, 0));
    best[0][0] = 0;
    for (size_t s = 1; s <= count; ++s)
      for (size_t i = s; i <= n; ++i)
        for (size_t begin = s - 1; begin < i; ++begin) {
          const double cost = sums[i] - sums[begin];
          if (best[s - 1][begin] == kNever || cost > most) continue;
          const double whole = join(best[s - 1][begin], cost);
          if (whole < best[s][i]) best[s][i] = whole, begins[s][i] = begin;
        }
    return best[count][n];
  };
  const double dearest = solve(kNever, [](double a, double b) { return std::max(a, b); });
  solve(dearest * (1 + 1e-12), [](double a, double b) { return a + b * b; });
  std::vector<int32_t> stage_of(n);
  size_t end = n;
  for (size_t s = count; s > 0; --s) {
    const size_t begin = begins[s][end];
    std::fill(stage_of.begin() + static_cast<std::ptrdiff_t>(begin),
              stage_of.begin() + static_cast<std::ptrdiff_t>(end), static_cast<int32_t>(s - 1));
    end = begin;
  }
  return stage_of;
}

void cut_into_stages(GraphView& graph, int64_t stages) { Cut(graph, stages).make(); }

} // namespace kumiki::parallel
