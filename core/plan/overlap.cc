#include "core/plan/overlap.h"

#include <algorithm>
#include <deque>
#include <set>
#include <tuple>

namespace kumiki {
namespace {

bool is_weight(const Node& node) { return node.part == Part::kWeight; }
bool is_product(const Node& node) { return node.op.starts_with("matmul"); }

// Backward's messages about activations: what comes next on the way back waits for them.
bool is_message(const Node& node) {
  return node.part == Part::kBackward &&
         (node.op == "all_reduce" || node.op == "all_gather" || node.op == "reduce_scatter");
}

bool reads_any(const Node& node, const std::set<ValueId>& values) {
  return std::any_of(node.inputs.begin(), node.inputs.end(), [&](ValueId in) { return values.count(in) != 0; });
}

// By place in the order: which stretch of nodes of one layer and part it is in. Nodes of W go with what stands before.
std::vector<size_t> runs_of(const Graph& graph, const std::vector<NodeId>& order) {
  std::vector<size_t> runs(order.size(), 0);
  std::tuple<int32_t, int32_t, Part> now;
  size_t run = 0;
  bool any = false;
  for (size_t i = 0; i < order.size(); ++i) {
    const Node& node = graph.node(order[i]);
    // Sums over micro-batches stand behind all layers; they belong to none.
    if (!is_weight(node) && node.op != "accumulate") {
      const std::tuple<int32_t, int32_t, Part> here{node.stage, node.layer, node.part};
      if (any && here != now) ++run;
      now = here, any = true;
    }
    runs[i] = run;
  }
  return runs;
}

class WeightsBesideMessages {
 public:
  WeightsBesideMessages(const Graph& graph, const std::vector<NodeId>& order)
      : graph_(graph), order_(order), runs_(runs_of(graph, order)) {}

  std::vector<NodeId> run() {
    find_waits();
    if (waits_.empty()) return order_;
    for (size_t i = 0; i < order_.size(); ++i) visit(i);
    emit_held(held_products());
    return std::move(out_);
  }

 private:
  // A node that is the first to read the result of a message, among those that go on with backward.
  struct Wait {
    size_t place = 0;
    std::set<ValueId> results;
    size_t fresh = 0; // products of W between the wait before and this one, that do not need these results
  };
  struct Held {
    NodeId node = 0;
    size_t run = 0;
  };

  void find_waits() {
    std::set<ValueId> open;
    size_t fresh = 0;
    for (size_t i = 0; i < order_.size(); ++i) {
      const Node& node = graph_.node(order_[i]);
      if (is_weight(node)) {
        fresh += is_product(node) && !reads_any(node, open);
        continue;
      }
      if (reads_any(node, open)) {
        waits_.push_back({i, {}, fresh});
        for (ValueId in : node.inputs)
          if (open.erase(in)) waits_.back().results.insert(in);
        fresh = 0;
      }
      if (is_message(node)) open.insert(node.outputs.begin(), node.outputs.end());
    }
  }

  void visit(size_t i) {
    const Node& node = graph_.node(order_[i]);
    if (next_ < waits_.size() && waits_[next_].place == i) {
      emit_held(share(), waits_[next_].results);
      ++next_;
    } else if (!held_.empty() && !may_wait(runs_[i])) {
      emit_held(held_products());
    }
    const bool needs_held = reads_any(node, held_values_);
    if (is_weight(node) && (needs_held || (is_product(node) && may_hold(i)))) {
      held_.push_back({node.id, runs_[i]});
      held_values_.insert(node.outputs.begin(), node.outputs.end());
      return;
    }
    if (needs_held) emit_held(held_products());
    emit(node);
  }

  // Whether a wait comes soon enough for what is held.
  bool may_wait(size_t run) const {
    return next_ < waits_.size() && runs_[waits_[next_].place] <= held_.front().run + 1 && run <= held_.front().run + 1;
  }
  bool may_hold(size_t i) const { return next_ < waits_.size() && runs_[waits_[next_].place] <= runs_[i] + 1; }

  size_t held_products() const {
    return static_cast<size_t>(
        std::count_if(held_.begin(), held_.end(), [this](const Held& h) { return is_product(graph_.node(h.node)); }));
  }

  // Of the products held, those for the next wait: it shares them with the waits behind it that bring none of their own.
  size_t share() const {
    if (held_.empty()) return 0;
    size_t waits = 1;
    while (next_ + waits < waits_.size() && waits_[next_ + waits].fresh == 0 &&
           runs_[waits_[next_ + waits].place] <= held_.front().run + 1)
      ++waits;
    return (held_products() + waits - 1) / waits;
  }

  // Writes the first `products` products held, and what only waits for them; what needs `awaited` stays.
  void emit_held(size_t products, std::set<ValueId> awaited = {}) {
    std::deque<Held> stay;
    for (const Held& held : held_) {
      const Node& node = graph_.node(held.node);
      const bool product = is_product(node);
      if (reads_any(node, awaited) || (product && products == 0)) {
        awaited.insert(node.outputs.begin(), node.outputs.end());
        stay.push_back(held);
        continue;
      }
      products -= product;
      for (ValueId out : node.outputs) held_values_.erase(out);
      emit(node);
    }
    held_.swap(stay);
  }

  void emit(const Node& node) {
    if (is_message(node) && !out_.empty() && only_weights_read(node) && may_precede(node, graph_.node(out_.back())))
      out_.insert(out_.end() - 1, node.id);
    else
      out_.push_back(node.id);
  }

  bool only_weights_read(const Node& node) const {
    for (ValueId out : node.outputs)
      for (NodeId user : graph_.users(out))
        if (!is_weight(graph_.node(user))) return false;
    return true;
  }

  static bool may_precede(const Node& node, const Node& before) {
    return !is_message(before) && !is_weight(before) &&
           std::none_of(node.inputs.begin(), node.inputs.end(), [&](ValueId in) {
             return std::find(before.outputs.begin(), before.outputs.end(), in) != before.outputs.end();
           });
  }

  const Graph& graph_;
  const std::vector<NodeId>& order_;
  const std::vector<size_t> runs_;
  std::vector<Wait> waits_;
  size_t next_ = 0; // the wait that comes next
  std::deque<Held> held_;
  std::set<ValueId> held_values_;
  std::vector<NodeId> out_;
};

} // namespace

std::vector<NodeId> weights_beside_messages(const Graph& graph, const std::vector<NodeId>& order) {
  return WeightsBesideMessages(graph, order).run();
}

std::vector<NodeId> gathers_ahead(const Graph& graph, const std::vector<NodeId>& order) {
  const std::vector<size_t> runs = runs_of(graph, order);
  const auto moves = [&](const Node& node) {
    const NodeId producer = graph.value(node.inputs[0]).producer;
    return node.op == "flat_gather" && node.i64("ahead") > 0 &&
           (producer == 0 || graph.node(producer).phase == Phase::kHead);
  };
  std::vector<std::vector<NodeId>> starts(order.empty() ? 0 : runs.back() + 1); // by run: the gathers before its first
  for (size_t i = 0; i < order.size(); ++i) {
    const Node& node = graph.node(order[i]);
    if (!moves(node)) continue;
    const size_t ahead = static_cast<size_t>(node.i64("ahead"));
    starts[runs[i] > ahead ? runs[i] - ahead : 0].push_back(node.id);
  }
  std::vector<NodeId> out;
  size_t begun = 0; // runs whose gathers were written
  for (size_t i = 0; i < order.size(); ++i) {
    for (; begun <= runs[i]; ++begun) out.insert(out.end(), starts[begun].begin(), starts[begun].end());
    if (!moves(graph.node(order[i]))) out.push_back(order[i]);
  }
  return out;
}

} // namespace kumiki
