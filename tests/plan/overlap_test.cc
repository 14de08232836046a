// What is computed beside messages, read off the order of the steps of plans: gathers of ZeRO-3 a layer ahead, products of
// part W beside the sums and gathers of `tensor`, and the memory that it takes.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cstdlib>
#include <set>

#include "core/plan/overlap.h"
#include "core/run/trainer.h"
#include "tests/run/rig.h"

namespace kumiki::test {
namespace {

// The training plan of rank 0 of several.
struct Planned {
  Planned(const std::string& model, int64_t ranks, const std::vector<std::string>& sets, bool overlap = true)
      : config(tiny(model, "\"generic\", \"reference\"", sets)) {
    ::setenv("KUMIKI_PLUGINS", "plugins", 0);
    registry = std::make_unique<Registry>(config);
    Engine::Options options;
    options.ranks = ranks;
    engine = std::make_unique<Engine>(*registry, config, options);
    optimizer = engine->open_optimizer();
    graph = engine->build(engine->shape(KM_MODE_TRAIN, config.run().micro_batch));
    make_training_graph(*graph, *optimizer, engine->chain(), engine->strategies(), engine->training_options());
    PlanOptions plan_options = training_plan_options(config, engine->strategies());
    plan_options.overlap = overlap;
    plan = make_plan(*graph, engine->chain(), plan_options, &engine->strategies());
  }

  const Node* node(const Step& step) const { return step.node ? &graph->node(step.node) : nullptr; }

  Config config;
  std::unique_ptr<Registry> registry;
  std::unique_ptr<Engine> engine;
  std::unique_ptr<Optimizer> optimizer;
  std::unique_ptr<Graph> graph;
  Plan plan;
};

// Where one message of a segment starts, and the first step that awaits it.
struct Flight {
  const Node* node = nullptr;
  size_t start = 0, await = 0;
};

std::vector<Flight> flights(const Planned& p, const Segment& segment) {
  std::vector<Flight> found;
  for (size_t i = 0; i < segment.steps.size(); ++i) {
    if (segment.steps[i].comm == Step::kNoComm || segment.steps[i].last_only) continue;
    if (segment.steps[i].first.message.op == KM_COMM_SEND) continue; // awaited when its slot is used again
    Flight flight{p.node(segment.steps[i]), i, segment.steps.size()};
    for (size_t j = i + 1; j < segment.steps.size() && flight.await == segment.steps.size(); ++j) {
      const std::vector<uint32_t>& awaits = segment.steps[j].awaits;
      if (std::find(awaits.begin(), awaits.end(), segment.steps[i].comm) != awaits.end()) flight.await = j;
    }
    found.push_back(flight);
  }
  return found;
}

// Nothing awaits a result before the first step that reads it.
void check_awaited_by_first_reader(const Planned& p, const Segment& segment) {
  for (const Flight& flight : flights(p, segment)) {
    INFO(to_text(*p.graph, *flight.node));
    REQUIRE(flight.await < segment.steps.size());
    const Node* reader = p.node(segment.steps[flight.await]);
    if (!reader) continue; // awaited at the end of the segment
    CHECK(std::any_of(reader->inputs.begin(), reader->inputs.end(), [&](ValueId in) {
      return std::find(flight.node->outputs.begin(), flight.node->outputs.end(), in) != flight.node->outputs.end();
    }));
  }
}

// By layer: the first and the last step that computes part `part` of it.
std::map<int32_t, std::pair<size_t, size_t>> computed(const Planned& p, const Segment& segment, Part part) {
  std::map<int32_t, std::pair<size_t, size_t>> steps;
  for (size_t i = 0; i < segment.steps.size(); ++i) {
    const Node* node = p.node(segment.steps[i]);
    if (!node || node->part != part || segment.steps[i].first.kind != StepKind::kRun) continue;
    steps.emplace(node->layer, std::pair{i, i}).first->second.second = i;
  }
  return steps;
}

bool is_product_of_weights(const Node* node) {
  return node && node->part == Part::kWeight && node->op.starts_with("matmul");
}

size_t products_between(const Planned& p, const Segment& segment, const Flight& flight) {
  size_t n = 0;
  for (size_t i = flight.start + 1; i < flight.await; ++i) n += is_product_of_weights(p.node(segment.steps[i]));
  return n;
}

uint64_t row(const Plan& plan, const std::string& what) {
  for (const MemoryRow& one : plan.memory)
    if (one.what == what) return one.bytes;
  return 0;
}

std::vector<std::string> zero3(int prefetch) {
  return {"model.layers=4", "parallel.data.degree=2", "parallel.data.zero=3",
          "parallel.data.prefetch=" + std::to_string(prefetch)};
}

std::vector<std::string> tensor(bool sequence, std::vector<std::string> more = {}) {
  more.insert(more.end(), {"model.layers=4", "parallel.tensor.degree=2"});
  if (sequence) more.push_back("parallel.tensor.sequence=true");
  return more;
}

} // namespace

TEST_CASE("with zero = 3 the gathers of a layer start before the layer in front of it is computed, not earlier") {
  for (const char* model : {"gpt", "llama"}) {
    const Planned p(model, 2, zero3(1));
    const Segment& body = p.plan.body[0];
    check_awaited_by_first_reader(p, body);
    for (const Part part : {Part::kForward, Part::kBackward}) {
      auto layers = computed(p, body, part);
      const int32_t before = part == Part::kForward ? -1 : 1; // the layer that is computed in front of another
      size_t seen = 0;
      for (const Flight& flight : flights(p, body)) {
        const int32_t layer = flight.node->layer, last = part == Part::kForward ? 0 : 3;
        if (flight.node->op != "flat_gather" || flight.node->part != part || layer < 0 || layer == last) continue;
        INFO(model << ": " << to_text(*p.graph, *flight.node));
        CHECK(flight.start < layers.at(layer + before).first);
        if (layers.count(layer + 2 * before) && layer + 2 * before >= 0)
          CHECK(flight.start > layers.at(layer + 2 * before).second);
        CHECK(flight.await >= layers.at(layer).first);
        ++seen;
      }
      CHECK(seen > 20); // of three layers
    }
  }
}

TEST_CASE("prefetch = 0 starts each gather right before the step that reads it") {
  const Planned p("gpt", 2, zero3(0));
  const Segment& body = p.plan.body[0];
  for (const Flight& flight : flights(p, body)) {
    if (flight.node->op != "flat_gather") continue;
    INFO(to_text(*p.graph, *flight.node));
    for (size_t i = flight.start; i < flight.await; ++i) CHECK(body.steps[i].first.kind == StepKind::kComm);
  }
}

TEST_CASE("memory shows what is gathered ahead: of one more layer, whatever their number") {
  const auto most_gathered = [](const Planned& p) { // bytes that are whole at one time
    const Segment& body = p.plan.body[0];
    std::vector<int64_t> change(body.steps.size() + 1, 0);
    for (const Flight& flight : flights(p, body)) {
      if (flight.node->op != "flat_gather") continue;
      size_t last = flight.start;
      for (size_t i = flight.start; i < body.steps.size(); ++i)
        if (const Node* node = p.node(body.steps[i]))
          if (std::count(node->inputs.begin(), node->inputs.end(), flight.node->outputs[0])) last = i;
      const int64_t bytes = static_cast<int64_t>(p.graph->value(flight.node->outputs[0]).type.bytes());
      change[flight.start] += bytes;
      change[last + 1] -= bytes;
    }
    int64_t now = 0, most = 0;
    for (const int64_t c : change) most = std::max(most, now += c);
    return most;
  };
  constexpr int64_t kLayer = (4 * 32 * 32 + 2 * 32 * 128 + 9 * 32 + 128) * 4; // bytes of a layer of this model
  constexpr int64_t kTables = (40 + 16) * 32 * 4 + 2 * 32 * 4;
  for (const char* layers : {"model.layers=4", "model.layers=12"}) {
    std::vector<std::string> sets = zero3(1);
    sets.push_back(layers);
    const Planned p("gpt", 2, sets);
    CHECK(most_gathered(p) > kLayer);
    CHECK(most_gathered(p) <= 2 * kLayer + kTables);
    CHECK(row(p.plan, "gathered parameters") > 0);
  }
}

TEST_CASE("products of gradients of weights are computed while backward's sums over tensor go on") {
  for (const char* model : {"gpt", "llama"})
    for (const auto& more : std::vector<std::vector<std::string>>{{}, {"parallel.pipeline.degree=2"}}) {
      const Planned p(model, more.empty() ? 2 : 4, tensor(false, more));
      for (const Segment& body : p.plan.body) {
        size_t sums = 0;
        for (const Flight& flight : flights(p, body)) {
          if (flight.node->part != Part::kBackward || flight.node->op != "all_reduce") continue;
          INFO(model << ", stage " << body.stage << ": " << to_text(*p.graph, *flight.node));
          CHECK(products_between(p, body, flight) > 0);
          ++sums;
        }
        if (body.part == Part::kBackward || p.plan.body.size() == 1) CHECK(sums >= 4); // two of each layer
        check_awaited_by_first_reader(p, body);
      }
    }
}

TEST_CASE("with sequence the products go beside the scatters, and beside the gathers behind them") {
  for (const char* model : {"gpt", "llama"}) {
    const Planned p(model, 2, tensor(true));
    const Segment& body = p.plan.body[0];
    size_t messages = 0, beside = 0;
    for (const Flight& flight : flights(p, body)) {
      if (flight.node->part != Part::kBackward || flight.node->layer < 0) continue;
      INFO(model << ": " << to_text(*p.graph, *flight.node));
      if (flight.node->op == "reduce_scatter") CHECK(products_between(p, body, flight) > 0);
      // What W alone reads is under way while the product in front of it is computed.
      if (flight.node->op == "all_gather" && flight.node->origin == "recompute") {
        bool computes = false;
        for (size_t i = flight.start + 1; i < flight.await; ++i)
          computes |= body.steps[i].op == "matmul" && p.node(body.steps[i])->part == Part::kBackward;
        CHECK(computes);
      } else {
        ++messages;
        beside += products_between(p, body, flight) > 0;
      }
    }
    CHECK(messages == 16); // two scatters and two gathers of each layer
    CHECK(beside >= 14);
    check_awaited_by_first_reader(p, body);
  }
}

TEST_CASE("the order with overlap has the same nodes, each behind what it reads; peak memory hardly grows") {
  const std::vector<std::vector<std::string>> layouts = {
      tensor(false),
      tensor(true),
      tensor(true, {"parallel.recompute.mode=full"}),
      tensor(true, {"parallel.data.degree=2", "parallel.data.zero=3"}),
      tensor(true, {"parallel.data.degree=2", "parallel.data.zero=2"}),
      tensor(false, {"parallel.pipeline.degree=2", "parallel.pipeline.schedule=zero_bubble"})};
  for (const std::vector<std::string>& sets : layouts)
    for (const char* model : {"gpt", "llama"}) {
      const int64_t ranks = std::any_of(sets.begin(), sets.end(),
                                        [](const std::string& s) {
                                          return s == "parallel.data.degree=2" || s == "parallel.pipeline.degree=2";
                                        })
                                ? 4
                                : 2;
      INFO(model << " " << sets.front());
      const Planned p(model, ranks, sets), plain(model, ranks, sets, false);
      std::vector<NodeId> body;
      for (const NodeId id : p.graph->order())
        if (p.graph->node(id).phase == Phase::kBody) body.push_back(id);
      std::vector<NodeId> order = gathers_ahead(*p.graph, weights_beside_messages(*p.graph, body));
      std::set<NodeId> done;
      for (const NodeId id : order) {
        for (const ValueId in : p.graph->node(id).inputs) {
          const NodeId producer = p.graph->value(in).producer;
          if (producer && p.graph->node(producer).phase == Phase::kBody) REQUIRE(done.count(producer) == 1);
        }
        done.insert(id);
      }
      std::sort(order.begin(), order.end());
      std::sort(body.begin(), body.end());
      CHECK(order == body);
      const uint64_t gathered = row(p.plan, "gathered parameters");
      CHECK(static_cast<double>(p.plan.arena.live_peak) <=
            1.03 * static_cast<double>(plain.plan.arena.live_peak) + static_cast<double>(gathered));
    }
}

TEST_CASE("a rank alone, and part W on its own, keep the order of the graph") {
  const std::vector<std::string> zero_bubble = {"parallel.pipeline.degree=2", "parallel.pipeline.schedule=zero_bubble"};
  for (const auto& [ranks, sets] : {std::pair<int64_t, std::vector<std::string>>{1, {}}, {2, zero_bubble}}) {
    const Planned p("gpt", ranks, sets), plain("gpt", ranks, sets, false);
    CHECK(step_table(p.plan, p.engine->chain()) == step_table(plain.plan, plain.engine->chain()));
  }
}

} // namespace kumiki::test
