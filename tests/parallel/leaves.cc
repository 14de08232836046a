#include "tests/parallel/leaves.h"

namespace kumiki::test {
namespace {

// SplitMix64 (Steele et al. 2014).
uint64_t mixed(uint64_t z) {
  z += 0x9e3779b97f4a7c15;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

} // namespace

float initial_value(const Value& parameter, const std::string& name, int64_t element) {
  uint64_t h = 1;
  for (const char c : name) h = mixed(h + static_cast<unsigned char>(c));
  const double unit = static_cast<double>(mixed(h + static_cast<uint64_t>(element)) >> 11) / 9007199254740992.0;
  return static_cast<float>((parameter.init == KM_INIT_ONE ? 1.0 : 0.0) + 0.3 * (2 * unit - 1));
}

std::vector<int32_t> batch_of(const std::string& input, int64_t first_sample, const Shape& shape, int64_t vocabulary) {
  std::vector<int32_t> out;
  for (int64_t b = 0; b < shape[0]; ++b) {
    const uint64_t sample = static_cast<uint64_t>(first_sample + b);
    const int64_t ignored = static_cast<int64_t>(mixed(sample) % 5);
    for (int64_t t = 0; t < shape[1]; ++t) {
      if (input == "segments") {
        out.push_back(t < 3 + static_cast<int64_t>(sample % 2) ? 0 : 1); // two documents
        continue;
      }
      const int64_t at = input == "targets" ? t + 1 : t;
      const int32_t token =
          static_cast<int32_t>(mixed(sample * 1000 + static_cast<uint64_t>(at)) % static_cast<uint64_t>(vocabulary));
      out.push_back(input == "targets" && t < ignored ? -1 : token);
    }
  }
  return out;
}

} // namespace kumiki::test
