// Every layout computes what one rank does: loss, gradients and weights of three steps, on the reference kernels.
#include <catch2/catch.hpp>
#include <cmath>
#include <cstdlib>

#include "tests/parallel/specs.h"

namespace kumiki::test {
namespace {

constexpr int64_t kSamples = 8; // of one step
constexpr int kSteps = 3;
// f32 everywhere, sums in double inside the kernels: what is left is the order of sums between kernels.
constexpr double kTolerance = 1e-5;

struct Results {
  std::vector<double> loss, norm;
  World::Tensors gradients, weights;
};

Results run(const ModelSpec& model, const Layout& layout, Update update) {
  World world(model, layout, kSamples, update);
  Results results;
  for (int i = 0; i < kSteps; ++i) {
    world.step();
    results.loss.push_back(world.output("loss")[0] / world.output("tokens")[0]);
    results.norm.push_back(world.output("gradient_norm")[0]);
    if (i == 0) results.gradients = world.gradients();
  }
  results.weights = world.parameters();
  return results;
}

// The gradient of a key bias is zero but for rounding: softmax does not change when one number is added to all scores.
// Adam makes whole steps of that noise.
bool is_noise(const std::string& parameter) { return parameter.find("attention.key.bias") != std::string::npos; }

void check_equal(const Results& expected, const Results& got) {
  for (int i = 0; i < kSteps; ++i) {
    const size_t s = static_cast<size_t>(i);
    CHECK(std::fabs(got.loss[s] - expected.loss[s]) <= kTolerance * expected.loss[s]);
    CHECK(std::fabs(got.norm[s] - expected.norm[s]) <= kTolerance * expected.norm[s]);
  }
  REQUIRE(got.weights.size() == expected.weights.size());
  for (const auto& [name, weights] : expected.weights) {
    INFO(name);
    if (is_noise(name)) continue;
    CHECK(difference(expected.gradients.at(name), got.gradients.at(name)) <= kTolerance);
    CHECK(difference(weights, got.weights.at(name)) <= kTolerance);
  }
}

void check_layouts(const ModelSpec& model, Update update, const std::vector<Layout>& layouts) {
  const Results expected = run(model, {}, update);
  CHECK(expected.loss[2] < expected.loss[0] + 1); // it trains, and does not diverge
  for (const Layout& layout : layouts) {
    INFO(model.plugin << ": " << layout.text());
    Results got;
    REQUIRE_NOTHROW(got = run(model, layout, update));
    check_equal(expected, got);
  }
}

std::vector<ModelSpec> models() { return {gpt(), llama(false), llama(true)}; }

} // namespace

TEST_CASE("tensor parallel training equals that of one rank, with and without sequence parallelism") {
  for (const ModelSpec& model : models()) {
    const std::vector<Layout> layouts = {tensor(2), tensor(2, true), tensor(4), tensor(4, true)}; // llama: 2 key heads
    check_layouts(model, Update::kAdamw, layouts);
  }
}

TEST_CASE("ranks that share key heads train as one rank does, alone and with each other strategy") {
  for (const char* key_heads : {"1", "2"}) {
    ModelSpec model = llama(false);
    model.options["heads"] = "8";
    model.options["key_heads"] = key_heads;
    std::vector<Layout> layouts;
    for (const bool sequence : {false, true}) {
      layouts.insert(layouts.end(), {tensor(4, sequence), tensor(8, sequence)});
      for (int64_t zero = 0; zero <= 3; ++zero) layouts.push_back(with(tensor(4, sequence), data(2, zero)));
      layouts.push_back(with(tensor(4, sequence), pipeline(2, "1f1b")));
      layouts.push_back(with(tensor(4, sequence), recompute("full")));
      layouts.push_back(with(with(tensor(4, sequence), pipeline(2, "zero_bubble")), data(2, 2)));
      layouts.back().data_innermost = true; // what stands around the axis that is split
    }
    check_layouts(model, Update::kAdamw, layouts);
  }
}

TEST_CASE("data parallel training equals that of one rank, at all levels of ZeRO") {
  for (const ModelSpec& model : models()) {
    std::vector<Layout> layouts;
    for (const int64_t degree : {2, 4})
      for (int64_t zero = 0; zero <= 3; ++zero) layouts.push_back(data(degree, zero));
    check_layouts(model, Update::kAdamw, layouts);
  }
}

TEST_CASE("a parameter with fewer elements than ranks stays whole under ZeRO, and equals that of one rank") {
  ModelSpec narrow = gpt();
  narrow.options["feed_forward"] = "2";
  std::vector<Layout> layouts;
  for (int64_t zero = 1; zero <= 3; ++zero) {
    layouts.push_back(data(4, zero));
    layouts.push_back(with(tensor(2), data(2, zero))); // a bias of one element on each rank
    const World world(narrow, layouts.back(), kSamples, Update::kAdamw);
    const Graph& graph = world.graph(0);
    CHECK(graph.value(graph.find("layers.0.mlp.up.bias")).flat_end == -1);
    CHECK(graph.value(graph.find("layers.0.mlp.down.bias")).flat_end == 8);
  }
  check_layouts(narrow, Update::kAdamw, layouts);
}

TEST_CASE("pipeline training equals that of one rank, in all schedules") {
  for (const ModelSpec& model : models())
    check_layouts(model, Update::kAdamw,
                  {pipeline(2, "gpipe"), pipeline(2, "1f1b"), pipeline(2, "zero_bubble"), pipeline(2, "interleaved", 2),
                   pipeline(4, "gpipe"), pipeline(4, "1f1b"), pipeline(4, "zero_bubble")});
}

TEST_CASE("context parallel training equals that of one rank, in all company") {
  std::vector<Layout> layouts = {context(2), context(4), context(2, true), context(4, true)};
  for (const Layout& c : {context(2), context(2, true)}) {
    for (const bool sequence : {false, true}) layouts.push_back(with(c, tensor(2, sequence)));
    for (const char* schedule : {"1f1b", "zero_bubble"}) layouts.push_back(with(c, pipeline(2, schedule)));
    layouts.push_back(with(c, pipeline(2, "interleaved", 2)));
    for (int64_t zero = 0; zero <= 3; ++zero) layouts.push_back(with(c, data(2, zero)));
    for (const char* mode : {"selective", "full"}) layouts.push_back(with(c, recompute(mode)));
  }
  layouts.push_back(with(context(4), tensor(2, true)));
  for (const int64_t zero : {0, 1}) {
    layouts.push_back(with(with(with(tensor(2, true), context(2)), pipeline(2, "1f1b")), data(2, zero)));
    layouts.push_back(with(layouts.back(), recompute("full")));
    layouts.back().data_innermost = true;
  }
  for (ModelSpec model : models()) {
    model.tokens = 16; // chunks of 4 and 2 tokens
    check_layouts(model, Update::kAdamw, layouts);
  }
  for (ModelSpec model : {gpt(), llama(false)}) {
    model.micro_batch = 2;
    model.segments = true;
    check_layouts(model, Update::kAdamw, {context(2), context(4), with(context(2), tensor(2, true))});
  }
}

TEST_CASE("twenty steps of context parallel training equal those of one rank") {
  const int steps = std::getenv("KUMIKI_SANITIZER") ? kSteps : 20; // minutes in such a build
  for (ModelSpec model : {gpt(), llama(true)}) {
    model.tokens = 16;
    World one(model, {}, kSamples, Update::kSgd);
    World two(model, with(tensor(2, true), context(2)), kSamples, Update::kSgd),
        four(model, context(4), kSamples, Update::kSgd);
    for (int step = 0; step < steps; ++step)
      for (World* world : {&one, &two, &four}) world->step();
    const double loss = one.output("loss")[0];
    for (const World* world : {&two, &four}) {
      CHECK(std::fabs(world->output("loss")[0] - loss) <= kTolerance * loss);
      const World::Tensors weights = world->parameters();
      for (const auto& [name, expected] : one.parameters()) {
        INFO(name);
        if (!is_noise(name)) CHECK(difference(expected, weights.at(name)) <= kTolerance);
      }
    }
  }
}

TEST_CASE("recomputation changes no bit") {
  for (const ModelSpec& model : models()) {
    const Results expected = run(model, {}, Update::kAdamw);
    for (const Layout& layout : {recompute("none"), recompute("selective"), recompute("full"), recompute("full", 2)}) {
      INFO(model.plugin << ": " << layout.text());
      const Results got = run(model, layout, Update::kAdamw);
      CHECK(got.loss == expected.loss);
      CHECK(got.norm == expected.norm);
      CHECK(got.weights == expected.weights);
    }
  }
}

TEST_CASE("each pair of strategies equals one rank") {
  const std::vector<Layout> tensors = {tensor(2), tensor(2, true)};
  const std::vector<Layout> datas = {data(2, 0), data(2, 1), data(2, 2), data(2, 3)};
  const std::vector<Layout> pipelines = {pipeline(2, "1f1b"), pipeline(2, "interleaved", 2),
                                         pipeline(2, "zero_bubble")};
  std::vector<Layout> layouts;
  for (const Layout& t : tensors) {
    for (const Layout& d : datas) layouts.push_back(with(t, d));
    for (const Layout& p : pipelines) layouts.push_back(with(t, p));
    layouts.push_back(with(t, recompute("full")));
  }
  for (const Layout& d : datas) {
    for (const Layout& p : pipelines) layouts.push_back(with(d, p));
    layouts.push_back(with(d, recompute("full")));
  }
  for (const Layout& p : pipelines) layouts.push_back(with(p, recompute("full")));
  check_layouts(gpt(), Update::kAdamw, layouts);
  check_layouts(llama(false), Update::kSgd, layouts);
  check_layouts(llama(true), Update::kAdamw, layouts);
}

TEST_CASE("tensor, pipeline and data on eight ranks equal one rank") {
  std::vector<Layout> layouts;
  for (int64_t zero = 0; zero <= 3; ++zero)
    for (const Layout& p :
         {pipeline(2, "gpipe"), pipeline(2, "1f1b"), pipeline(2, "interleaved", 2), pipeline(2, "zero_bubble")})
      layouts.push_back(with(with(tensor(2, zero % 2 == 1), p), data(2, zero)));
  layouts.push_back(with(layouts.back(), recompute("full")));
  layouts.push_back(with(layouts.front(), recompute("selective")));
  check_layouts(gpt(), Update::kAdamw, layouts);
  check_layouts(llama(true), Update::kAdamw, layouts);
}

TEST_CASE("the order of the axes in the mesh and several samples in a micro-batch change nothing; nor do documents") {
  for (ModelSpec model : {gpt(), llama(false)}) {
    model.micro_batch = 2;
    model.segments = true;
    std::vector<Layout> layouts;
    for (const int64_t zero : {1, 3})
      for (const bool sequence : {false, true}) {
        layouts.push_back(with(with(tensor(2, sequence), pipeline(2, "1f1b")), data(2, zero)));
        layouts.back().data_innermost = true;
        layouts.push_back(layouts.back());
        layouts.back().pipeline = 1;
      }
    check_layouts(model, Update::kAdamw, layouts);
  }
}

TEST_CASE("these comparisons see a gradient that is counted twice, and one that is off by a ten-thousandth") {
  const Results expected = run(gpt(), {}, Update::kAdamw);
  // A wrong factor is what placements cannot tell.
  const auto factor = [](double by) {
    return [by](const std::string& behind, Graph& graph) {
      if (behind != "data training") return;
      const ValueId weight = graph.find("layers.2.mlp.up.weight");
      const ValueId gradient = graph.gradients().at(weight);
      graph.cursor.phase = Phase::kTail;
      graph.gradients()[weight] = graph.add1("scale", {gradient}, {{"factor", by}});
      graph.cursor = {};
    };
  };
  for (const double by : {1.0, 2.0, 1.0 + 1e-4}) {
    World world(gpt(), data(2, 0), kSamples, Update::kAdamw, factor(by));
    world.step();
    const double off =
        difference(expected.gradients.at("layers.2.mlp.up.weight"), world.gradients().at("layers.2.mlp.up.weight"));
    CHECK((off <= kTolerance) == (by == 1.0));
  }
}

TEST_CASE("the same layout twice gives the same bits") {
  const Layout layout = with(with(tensor(2, true), pipeline(2, "1f1b")), data(2, 2));
  const Results a = run(gpt(), layout, Update::kAdamw), b = run(gpt(), layout, Update::kAdamw);
  CHECK(a.loss == b.loss);
  CHECK(a.norm == b.norm);
  CHECK(a.weights == b.weights);
}

} // namespace kumiki::test
