// Every layout computes what one rank does: loss, gradients and weights of three steps, on the reference kernels. What the
// tests of that share.
#pragma once

#include <string>
#include <vector>

#include "tests/parallel/specs.h"

namespace kumiki::test {

inline constexpr int64_t kSamples = 8; // of one step
inline constexpr int kSteps = 3;
// f32 everywhere, sums in double inside the kernels: what is left is the order of sums between kernels.
inline constexpr double kTolerance = 1e-5;

struct Results {
  std::vector<double> loss, norm;
  World::Tensors gradients, weights;
};

Results run(const ModelSpec& model, const Layout& layout, Update update);

// The gradient of a key bias is zero but for rounding: softmax does not change when one number is added to all scores.
// Adam makes whole steps of that noise.
bool is_noise(const std::string& parameter);

void check_equal(const Results& expected, const Results& got);
// Each layout against one rank.
void check_layouts(const ModelSpec& model, Update update, const std::vector<Layout>& layouts);

// All that differ in what strategies look at.
std::vector<ModelSpec> models();

} // namespace kumiki::test
