// Ranks that share key heads, and ranks that share sequences (context), in the company of each other strategy: each layout
// computes what one rank does.
#include <catch2/catch.hpp>
#include <cmath>
#include <cstdlib>

#include "tests/parallel/comparison.h"

namespace kumiki::test {

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

} // namespace kumiki::test
