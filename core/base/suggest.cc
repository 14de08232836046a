#include "core/base/suggest.h"

#include <algorithm>

namespace kumiki {

size_t edit_distance(std::string_view a, std::string_view b) {
  // Three rows of the table: the swap looks two rows back.
  std::vector<size_t> before(b.size() + 1), last(b.size() + 1), now(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) last[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    now[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      now[j] = std::min({last[j] + 1, now[j - 1] + 1, last[j - 1] + (a[i - 1] != b[j - 1])});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) now[j] = std::min(now[j], before[j - 2] + 1);
    }
    before.swap(last);
    last.swap(now);
  }
  return last[b.size()];
}

std::string nearest(std::string_view name, const std::vector<std::string>& names) {
  if (name.size() > 100) return "";
  std::string best;
  size_t least = std::max<size_t>(1, name.size() / 3) + 1;
  for (const std::string& candidate : names) {
    const size_t distance = edit_distance(name, candidate);
    if (distance < least) least = distance, best = candidate;
  }
  return best;
}

std::string suggestion(std::string_view name, const std::vector<std::string>& names) {
  if (names.empty()) return "";
  if (const std::string best = nearest(name, names); !best.empty()) return "did you mean \"" + best + "\"?";
  std::string all = "known: ";
  for (size_t i = 0; i < names.size(); ++i) all += (i ? ", " : "") + names[i];
  return all;
}

} // namespace kumiki
