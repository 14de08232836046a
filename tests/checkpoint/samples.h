// What the tests of checkpoints save: a small model with optimizer state whose every element says its tensor, place and
// step.
#pragma once

#include <cstring>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "core/base/clock.h"
#include "core/checkpoint/checkpoint.h"
#include "core/checkpoint/regions.h"

namespace kumiki {

// Time passes only by sleeping.
class ManualClock : public Clock {
 public:
  double seconds() override { return seconds_; }
  int64_t unix_seconds() override { return 1'700'000'000 + static_cast<int64_t>(seconds_); }
  void sleep(double seconds) override { seconds_ += seconds; }

 private:
  double seconds_ = 0;
};

struct Sample {
  std::string name;
  uint32_t dtype;
  Shape shape;
  std::vector<unsigned char> bytes;
};
using Samples = std::vector<Sample>;

inline Sample make_sample(const std::string& name, uint32_t dtype, const Shape& shape, uint32_t seed) {
  Sample sample{name, dtype, shape, {}};
  sample.bytes.resize(static_cast<size_t>(checked_elements(shape)) * km_dtype_bytes(dtype));
  std::mt19937 random(seed);
  for (unsigned char& byte : sample.bytes) byte = static_cast<unsigned char>(random());
  return sample;
}

inline Samples make_samples(uint32_t step) {
  return {
      make_sample("embedding.weight", KM_F32, {7, 4}, step * 100 + 1),
      make_sample("layers.0.query.weight", KM_F32, {6, 4}, step * 100 + 2),
      make_sample("layers.0.query.bias", KM_BF16, {5}, step * 100 + 3),
      make_sample("layers.0.query.weight/momentum", KM_F32, {6, 4}, step * 100 + 4),
      make_sample("embedding.weight/count", KM_I64, {}, step * 100 + 5),
      make_sample("empty", KM_F32, {0, 4}, 0),
  };
}

inline std::vector<Slice> whole_slices(const Samples& samples) {
  std::vector<Slice> slices;
  for (const Sample& sample : samples) {
    Slice slice;
    slice.name = sample.name;
    slice.dtype = sample.dtype;
    slice.logical_shape = sample.shape;
    slice.data = sample.bytes.data();
    slice.bytes = sample.bytes.size();
    slices.push_back(slice);
  }
  return slices;
}

inline RunState make_state(int64_t step) {
  RunState state;
  state.step = step;
  state.sample = step * 8;
  state.tokens = step * 8 * 1024;
  state.seed = 0xfedcba9876543210u;
  state.config_toml = "[run]\nname = \"試し\"\n";
  state.kernel_choices = {{"matmul f32 [4,4]", "generic"}};
  state.numbers = {{"loss_scale", 65536.0}, {"tenth", 0.1}};
  state.texts = {{"stream", std::string("\0\xff\x80 bytes", 9)}};
  return state;
}

inline bool holds(const CheckpointReader& reader, const Samples& samples) {
  bool same = reader.tensors().size() == samples.size();
  for (const Sample& sample : samples) {
    std::vector<unsigned char> out(sample.bytes.size() + 1, 0xaa);
    reader.read(sample.name, {}, {}, 0, -1, out.data());
    same = same && std::equal(sample.bytes.begin(), sample.bytes.end(), out.begin()) && out.back() == 0xaa;
  }
  return same;
}

} // namespace kumiki
