// The gradients that a step computes are the derivatives of the loss that it computes: finite differences, by the
// reference kernels, through autodiff, fusion, planning and accumulation over micro-batches.
#include <catch2/catch.hpp>

#include <algorithm>
#include <cmath>
#include <random>

#include "tests/run/rig.h"

using namespace kumiki;
using namespace kumiki::test;

namespace {

// (L(p + e·d) − L(p − e·d)) / 2e for a direction d of a parameter, from e and e/2 by Richardson's rule: the error of
// order e² cancels. The loss is an f32 sum: its last place, about 1e-5 here, divided by e is the noise of this.
double slope(Rig& rig, const std::string& name, const std::vector<float>& at, const std::vector<double>& direction,
             double e) {
  const auto loss_at = [&](double by) {
    std::vector<float> moved = at;
    for (size_t i = 0; i < at.size(); ++i) moved[i] += static_cast<float>(by * direction[i]);
    rig.set_parameter(name, moved);
    return rig.loss();
  };
  const auto central = [&](double h) { return (loss_at(h) - loss_at(-h)) / (2 * h); };
  const double whole = central(e), half = central(e / 2);
  rig.set_parameter(name, at);
  return (4 * half - whole) / 3;
}

} // namespace

TEST_CASE("gradients are finite differences of the loss") {
  for (const char* model : {"gpt dropout", "gpt untied", "llama"}) {
    Rig rig(tiny(model, "\"reference\"",
                 {"run.sequence=6", "run.micro_batch=1", "run.global_batch=2", "model.width=16", "model.heads=4",
                  "model.feed_forward=24"}));
    rig.stir(0.15);
    std::mt19937 random(3);
    rig.loss();
    std::vector<std::vector<float>> gradients;
    for (const std::string& name : rig.parameters()) gradients.push_back(rig.gradient(name));
    size_t large = 0;
    for (size_t p = 0; p < gradients.size(); ++p) {
      const std::string name = rig.parameters()[p];
      const std::vector<float> at = rig.parameter(name);
      const std::vector<float>& g = gradients[p];
      double norm = 0;
      for (float x : g) norm += static_cast<double>(x) * static_cast<double>(x);
      norm = std::sqrt(norm);
      CAPTURE(model, name, norm);
      // Along the gradient the slope is its length: all elements at once, far above the noise.
      if (norm > 0.05) {
        ++large;
        std::vector<double> direction;
        for (float x : g) direction.push_back(static_cast<double>(x) / norm);
        CHECK(slope(rig, name, at, direction, 0.01) == Approx(norm).epsilon(2e-3).margin(1e-3));
      }
      for (int draw = 0; draw < 3; ++draw) {
        const size_t i = std::uniform_int_distribution<size_t>(0, g.size() - 1)(random);
        std::vector<double> direction(g.size(), 0.0);
        direction[i] = 1;
        CAPTURE(i);
        CHECK(slope(rig, name, at, direction, 0.04) == Approx(static_cast<double>(g[i])).epsilon(2e-3).margin(1.5e-3));
      }
    }
    // Nearly all parameters matter; key biases of gpt do not (softmax does not see them).
    CAPTURE(model);
    CHECK(large + 4 >= gradients.size());
    CHECK(large > 10);
  }
}
