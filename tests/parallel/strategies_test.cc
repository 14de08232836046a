// What strategies divide, what that saves, and what they refuse.
#include <catch2/catch.hpp>
#include <set>

#include "tests/parallel/specs.h"

namespace kumiki::test {
namespace {

World trained(const ModelSpec& model, const Layout& layout) { return World(model, layout, 8, Update::kAdamw); }

size_t count(const Graph& graph, const std::string& op, Phase phase) {
  size_t n = 0;
  for (const NodeId id : graph.order()) n += graph.node(id).op == op && graph.node(id).phase == phase;
  return n;
}

std::vector<int64_t> layers_of_stages(const Graph& graph) {
  std::vector<std::set<int32_t>> layers(static_cast<size_t>(graph.stages()));
  for (const NodeId id : graph.order()) {
    const Node& node = graph.node(id);
    if (node.phase == Phase::kBody && node.part == Part::kForward && node.layer >= 0 && node.op != "transfer")
      layers[static_cast<size_t>(node.stage)].insert(node.layer);
  }
  std::vector<int64_t> counts;
  for (const auto& of_stage : layers) counts.push_back(static_cast<int64_t>(of_stage.size()));
  return counts;
}

} // namespace

TEST_CASE("heads that do not divide are refused, with the degrees that do") {
  ModelSpec six = gpt();
  six.options["width"] = "24";
  six.options["heads"] = "6";
  CHECK_THROWS_WITH(trained(six, tensor(4)), Catch::Contains("degree 4 does not fit the 6 heads") &&
                                                 Catch::Contains("degrees that do are 1, 2, 3, 6"));
  ModelSpec grouped = llama(true); // 12 heads over 8 ranks, and 3 key heads that neither divide nor are divided by 2
  grouped.options["width"] = "48";
  grouped.options["heads"] = "12";
  grouped.options["key_heads"] = "3";
  for (const int64_t degree : {2, 8})
    CHECK_THROWS_WITH(trained(grouped, tensor(degree)), Catch::Contains("12 heads and 3 key heads") &&
                                                            Catch::Contains("degrees that do are 1, 3, 6, 12"));
}

TEST_CASE("key heads that ranks share lie whole on each, and their gradients are summed once a step over those ranks") {
  const World world(llama(false), with(tensor(4), data(2, 0)), 8, Update::kAdamw);
  for (size_t rank = 0; rank < 8; ++rank) {
    const Graph& graph = world.graph(rank);
    const Value& key = graph.value(graph.find("layers.1.attention.key.weight"));
    CHECK(key.type.shape == Shape{4, 16}); // one of two heads of width 4
    CHECK(key.box_offset == Shape{rank % 4 < 2 ? 0 : 4, 0});
    const Node& sum = graph.node(graph.value(graph.gradients().at(key.id)).producer);
    CHECK(sum.op == "all_reduce");
    CHECK(sum.phase == Phase::kTail);
    size_t sums = 0;
    for (const NodeId id : graph.order()) sums += graph.node(id).text("axes") == "tensor%2";
    CHECK(sums == 1); // keys and values of four layers
  }
}

TEST_CASE("tokens that do not divide are refused with sequence = true, and only then") {
  ModelSpec nine = gpt();
  nine.tokens = 9;
  CHECK_THROWS_WITH(trained(nine, tensor(2, true)),
                    Catch::Contains("9 tokens") && Catch::Contains("degrees that do are 1, 3, 9"));
  CHECK_NOTHROW(trained(nine, tensor(2)));
}

TEST_CASE("tokens that twice the degree does not divide are refused by context, with the degrees that do") {
  ModelSpec spec = gpt();
  spec.tokens = 12;
  CHECK_THROWS_WITH(trained(spec, context(4)), Catch::Contains("cuts the 12 tokens of a sequence in 8 chunks") &&
                                                   Catch::Contains("degrees that do are 1, 2, 3, 6"));
  CHECK_THROWS_WITH(trained(spec, with(tensor(4, true), context(2))),
                    Catch::Contains("6 tokens, which do not divide by the 4 ranks along tensor") &&
                        Catch::Contains("degrees that do are 1, 3"));
  spec.tokens = 9;
  CHECK_THROWS_WITH(trained(spec, context(2)), Catch::Contains("run.sequence must be even"));
}

TEST_CASE("around the ring all ranks have the same work in each rotation, half of what a whole mask would be") {
  ModelSpec spec = llama(false);
  spec.tokens = 32;
  for (const int64_t degree : {2, 4, 8}) {
    const World world = trained(spec, context(degree));
    std::vector<double> expected;
    for (int64_t rank = 0; rank < degree; ++rank) {
      std::vector<double> flops;
      const Graph& graph = world.graph(rank);
      for (const NodeId id : graph.order())
        if (graph.node(id).op.starts_with("attention_part")) flops.push_back(cost(graph, graph.node(id)).flops);
      if (rank == 0) expected = flops;
      CHECK(flops == expected);
    }
    CHECK(expected.size() == static_cast<size_t>(4 * 2 * degree));
    // 2 · 2 · width for each pair of a query and a key: the own part sees about half, each of the others half.
    const double tokens = static_cast<double>(spec.tokens / degree);
    CHECK(expected[1] == 4 * 16 * tokens * tokens / 2);
  }
}

TEST_CASE("keys are on their way before the part in front of theirs, and their gradients as soon as they are made") {
  const World world = trained(gpt(), context(4));
  const Graph& graph = world.graph(1);
  size_t forward = 0, backward = 0;
  for (const NodeId id : graph.order()) {
    const Node& node = graph.node(id);
    if (node.op == "attention_part" && node.part == Part::kForward) {
      const NodeId producer = graph.value(node.inputs[1]).producer;
      if (graph.node(producer).op != "ring_shift") continue;
      NodeId between = graph.next(producer);
      while (graph.node(between).op != "attention_part") between = graph.next(between);
      CHECK(between != id);
      ++forward;
    }
    if (node.op == "ring_shift" && node.part == Part::kBackward) {
      NodeId before = 0;
      for (NodeId at = graph.next(0); at != id; at = graph.next(at))
        if (graph.node(at).op != "ring_shift") before = at;
      CHECK(graph.value(node.inputs[0]).producer == before);
      ++backward;
    }
  }
  CHECK(forward == 4 * 3);      // layers, rotations
  CHECK(backward == 4 * 3 * 2); // keys and values
}

TEST_CASE("context keeps less, and still less if backward fetches keys again") {
  ModelSpec spec = gpt();
  spec.tokens = 32;
  const auto kept = [&](const Layout& layout) { return trained(spec, layout).kept_bytes(0); };
  CHECK(kept(context(2)) < kept({}));
  CHECK(kept(context(4)) < kept(context(2)));
  CHECK(kept(context(4, true)) < kept(context(4)));
}

TEST_CASE("more stages than layers are refused, and chunks without interleaved") {
  CHECK_THROWS_WITH(trained(gpt(), pipeline(8, "1f1b")), Catch::Contains("8 stages") && Catch::Contains("has 4"));
  CHECK_THROWS_WITH(trained(gpt(), pipeline(2, "1f1b", 2)), Catch::Contains("chunks = 2"));
  CHECK_THROWS_WITH(trained(gpt(), pipeline(2, "interleaved", 1)), Catch::Contains("chunks = 1"));
}

TEST_CASE("tensor parallelism costs two sums forward and two backward in each layer") {
  const World world = trained(gpt(), tensor(2));
  // Four layers; the embedding's; two of the loss (maximum; sums), and backward the sum before the head.
  CHECK(count(world.graph(0), "all_reduce", Phase::kBody) == 4 * 4 + 1 + 2 + 1);
  const World divided = trained(gpt(), tensor(2, true));
  CHECK(count(divided.graph(0), "reduce_scatter", Phase::kBody) == 4 * 4 + 1 + 1);
  // Gathers: two forward, two backward for the derivatives of the sums, two again for the gradients of weights.
  CHECK(count(divided.graph(0), "all_gather", Phase::kBody) == 4 * 6 + 1 + 1 + 1);
}

TEST_CASE("each level of ZeRO divides what it says") {
  const int64_t whole = trained(gpt(), data(2, 0)).stored_bytes(0);
  for (int64_t zero = 1; zero <= 3; ++zero) {
    const World world = trained(gpt(), data(2, zero));
    CHECK(world.stored_bytes(0) + world.stored_bytes(1) == whole); // no parameter here is too small
    const Graph& graph = world.graph(0);
    CHECK((count(graph, "flat_gather", Phase::kHead) > 0) == (zero < 3));
    CHECK((count(graph, "flat_gather", Phase::kBody) > 0) == (zero == 3));
    CHECK((count(graph, "flat_scatter", Phase::kTail) > 0) == (zero == 1));
    CHECK((count(graph, "flat_scatter", Phase::kBody) > 0) == (zero >= 2));
  }
}

TEST_CASE("gradients are reduced in buckets of so many bytes, in the order in which backward makes them") {
  Layout layout = data(2, 0);
  layout.bucket = int64_t{1} << 30;
  const World large = trained(gpt(), layout);
  layout.bucket = 1;
  const World small = trained(gpt(), layout);
  const size_t parameters = large.graph(0).parameters().size();
  const auto sums = [](const World& world) { // of gradients
    std::set<NodeId> nodes;
    for (const auto& [parameter, gradient] : world.graph(0).gradients())
      nodes.insert(world.graph(0).value(gradient).producer);
    return nodes.size();
  };
  CHECK(sums(small) == parameters);
  CHECK(sums(large) == (parameters + KM_MAX_OUTPUTS - 1) / KM_MAX_OUTPUTS);
  const Graph& graph = large.graph(0);
  NodeId last = 0;
  for (const NodeId id : graph.order()) {
    const Node& node = graph.node(id);
    if (node.op != "all_reduce" || node.phase != Phase::kTail || node.origin != "parallel data") continue;
    for (const ValueId input : node.inputs) {
      const NodeId made = graph.value(input).producer;
      if (last) CHECK(graph.precedes(last, made));
      last = made;
    }
  }
  CHECK(last != 0);
}

TEST_CASE("recomputation keeps less: selective without attention, full without what lies inside the layers") {
  const int64_t all = trained(gpt(), {}).kept_bytes(0),
                selective = trained(gpt(), recompute("selective")).kept_bytes(0),
                full = trained(gpt(), recompute("full")).kept_bytes(0),
                half = trained(gpt(), recompute("full", 2)).kept_bytes(0);
  CHECK(trained(gpt(), recompute("none")).kept_bytes(0) == all);
  CHECK(selective < all);
  CHECK(full < half);
  CHECK(half < all);
  CHECK(full < all / 2);
}

TEST_CASE("sequence parallelism keeps less than tensor parallelism alone") {
  CHECK(trained(gpt(), tensor(2, true)).kept_bytes(0) < trained(gpt(), tensor(2)).kept_bytes(0));
}

TEST_CASE("stages cost about the same: even where layers are all there is, fewer layers beside a large head") {
  ModelSpec model = llama(false);
  model.options["layers"] = "8";
  CHECK(layers_of_stages(trained(model, pipeline(4, "1f1b")).graph(0)) == std::vector<int64_t>{2, 2, 2, 2});
  CHECK(layers_of_stages(trained(model, pipeline(2, "interleaved", 2)).graph(0)) == std::vector<int64_t>{2, 2, 2, 2});
  model.vocabulary = 1000;
  const std::vector<int64_t> uneven = layers_of_stages(trained(model, pipeline(2, "1f1b")).graph(0));
  CHECK(uneven[0] + uneven[1] == 8);
  CHECK(uneven[0] > uneven[1]);
}

TEST_CASE("a value goes from stage to stage once, however many read it there") {
  const World world = trained(gpt(), pipeline(4, "1f1b"));
  CHECK(count(world.graph(0), "transfer", Phase::kBody) == 3 * 2);   // three cuts, there and back
  CHECK(count(world.graph(0), "add_stages", Phase::kTail) == 1 + 3); // the tied embedding; loss, tokens, norm
}

} // namespace kumiki::test
