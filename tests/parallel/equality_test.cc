// Strategies alone, in pairs and all together: each layout computes what one rank does.
#include <catch2/catch.hpp>
#include <cmath>

#include "tests/parallel/comparison.h"

namespace kumiki::test {

TEST_CASE("tensor parallel training equals that of one rank, with and without sequence parallelism") {
  for (const ModelSpec& model : models()) {
    const std::vector<Layout> layouts = {tensor(2), tensor(2, true), tensor(4), tensor(4, true)}; // llama: 2 key heads
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
