#include "split.h"

#include <charconv>
#include <cmath>

#include "boundary.h"
#include "kumiki/data.h"

namespace kumiki::data {

std::array<double, 3> parse_split(const std::string& text) {
  std::array<double, 3> shares{};
  size_t count = 0;
  double sum = 0;
  const char* at = text.data();
  const char* const end = at + text.size();
  while (true) {
    while (at < end && *at == ' ') ++at;
    double share = 0;
    const auto [next, error] = std::from_chars(at, end, share);
    if (error != std::errc() || !std::isfinite(share) || share < 0 || count == shares.size())
      fail_user("split = \"%s\" is not one to three shares of training, validation and test: write e.g. \"98,2,0\"",
                text.c_str());
    shares[count++] = share;
    sum += share;
    at = next;
    while (at < end && *at == ' ') ++at;
    if (at == end) break;
    if (*at++ != ',') fail_user("split = \"%s\": shares are separated by commas: write e.g. \"98,2,0\"", text.c_str());
  }
  if (sum <= 0) fail_user("split = \"%s\": all shares are zero", text.c_str());
  for (double& share : shares) share /= sum;
  return shares;
}

Part part_of(const std::array<double, 3>& shares, uint32_t split, int64_t count) {
  // Sums and rounding (half to even) in the order of Megatron-core, so that bounds agree to the last document.
  double before = 0;
  for (uint32_t i = 0; i < split; ++i) before += shares[i];
  const double after = before + shares[split];
  const auto bound = [count](double share) {
    const auto index = static_cast<int64_t>(std::nearbyint(share * static_cast<double>(count)));
    return index < 0 ? 0 : index > count ? count : index;
  };
  return {bound(before), bound(after)};
}

const char* split_name(uint32_t split) {
  return split == KM_SPLIT_TRAIN ? "training" : split == KM_SPLIT_VALIDATION ? "validation" : "test";
}

} // namespace kumiki::data
