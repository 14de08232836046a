// Evaluation and generation get the forward rewrites only, and must give what one rank gives; so must what a layout
// saves.
#include <catch2/catch.hpp>
#include <cmath>

#include "tests/parallel/specs.h"

namespace kumiki::test {
namespace {

std::vector<Layout> layouts() {
  std::vector<Layout> all = {tensor(2),
                             tensor(2, true),
                             context(2),
                             context(4),
                             with(tensor(2, true), context(2)),
                             pipeline(2, "1f1b"),
                             pipeline(2, "interleaved", 2)};
  for (int64_t zero = 0; zero <= 3; ++zero) all.push_back(data(2, zero));
  all.push_back(with(with(tensor(2), pipeline(2, "zero_bubble")), data(2, 3)));
  return all;
}

// Logits of each token of a text that is given one by one, with caches.
std::vector<std::vector<float>> decoded(const ModelSpec& model, const Layout& layout) {
  World world(model, layout, KM_MODE_DECODE, layout.data, 1, 8);
  std::vector<std::vector<float>> logits;
  const std::vector<int32_t> text = {3, 1, 4, 1, 5};
  for (size_t i = 0; i < text.size(); ++i) {
    world.set_tokens(static_cast<int64_t>(i), {text[i]});
    world.step();
    logits.push_back(world.output("logits"));
  }
  return logits;
}

std::vector<float> prefilled(const ModelSpec& model, const Layout& layout) {
  World world(model, layout, KM_MODE_PREFILL, layout.data, 5, 8);
  world.set_tokens(0, {3, 1, 4, 1, 5});
  world.step();
  return world.output("logits");
}

} // namespace

TEST_CASE("evaluation in each layout equals that of one rank") {
  for (const ModelSpec& model : {gpt(), llama(false), llama(true)}) {
    World one(model, {}, KM_MODE_TRAIN, 8, model.tokens, 0);
    one.step();
    for (const Layout& layout : layouts()) {
      INFO(model.plugin << ": " << layout.text());
      World world(model, layout, KM_MODE_TRAIN, 8, model.tokens, 0);
      world.step();
      CHECK(world.output("tokens") == one.output("tokens"));
      CHECK(difference(one.output("loss"), world.output("loss")) <= 1e-6);
    }
  }
}

TEST_CASE("prefill and decode with caches in each layout give the logits of one rank") {
  for (const int64_t vocabulary : {11, 12}) // whole on each rank, or divided
    for (ModelSpec model : {gpt(), llama(false), llama(true)}) {
      model.vocabulary = vocabulary;
      const auto expected = decoded(model, {});
      CHECK(difference(expected.back(), prefilled(model, {})) <= 1e-5);
      for (const Layout& layout : layouts()) {
        INFO(model.plugin << ": " << layout.text());
        const auto got = decoded(model, layout);
        for (size_t i = 0; i < expected.size(); ++i) CHECK(difference(expected[i], got[i]) <= 1e-5);
        CHECK(difference(expected.back(), prefilled(model, layout)) <= 1e-5);
      }
      const auto got = decoded(model, tensor(4)); // llama has two key heads: ranks share them
      for (size_t i = 0; i < expected.size(); ++i) CHECK(difference(expected[i], got[i]) <= 1e-5);
    }
}

TEST_CASE("caches of keys and values are divided with the heads") {
  World whole(llama(true), {}, KM_MODE_DECODE, 1, 1, 8), half(llama(true), tensor(2), KM_MODE_DECODE, 1, 1, 8);
  for (const ValueId id : half.graph(0).states()) {
    const Value& cache = half.graph(0).value(id);
    const Shape& all = whole.graph(0).value(whole.graph(0).find(cache.name)).type.shape;
    CHECK(cache.type.shape == Shape{all[0], all[1], all[2] / 2});
  }
  CHECK(half.graph(0).states().size() == 8);
  const World shared(llama(true), tensor(4), KM_MODE_DECODE, 1, 1, 8); // as many parts as key heads
  for (const ValueId id : shared.graph(0).states()) {
    const Value& cache = shared.graph(0).value(id);
    CHECK(cache.type.shape == half.graph(0).value(half.graph(0).find(cache.name)).type.shape);
  }
}

} // namespace kumiki::test
