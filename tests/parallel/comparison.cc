#include "tests/parallel/comparison.h"

#include <catch2/catch.hpp>
#include <cmath>

namespace kumiki::test {

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

} // namespace kumiki::test
