// The models and layouts that the tests of this folder share.
#pragma once

#include <string>

#include "tests/parallel/world.h"

namespace kumiki::test {

inline ModelSpec gpt() {
  return {"gpt", {{"layers", "4"}, {"width", "16"}, {"heads", "4"}, {"feed_forward", "22"}, {"dropout", "0.1"}},
          11, // rows of the vocabulary: no degree divides them
          8,     1,
          false};
}
inline ModelSpec llama(bool tied) {
  return {"llama",
          {{"layers", "4"},
           {"width", "16"},
           {"heads", "4"},
           {"key_heads", "2"},
           {"feed_forward", "22"},
           {"tied", tied ? "true" : "false"}},
          11,
          8,
          1,
          false};
}

inline Layout tensor(int64_t degree, bool sequence = false) {
  Layout layout;
  layout.tensor = degree;
  layout.sequence = sequence;
  return layout;
}
inline Layout context(int64_t degree, bool again = false) {
  Layout layout;
  layout.context = degree;
  layout.again = again;
  return layout;
}
inline Layout data(int64_t degree, int64_t zero) {
  Layout layout;
  layout.data = degree;
  layout.zero = zero;
  return layout;
}
inline Layout pipeline(int64_t degree, const std::string& schedule, int64_t chunks = 0) {
  Layout layout;
  layout.pipeline = degree;
  layout.schedule = schedule;
  layout.chunks = chunks;
  return layout;
}
inline Layout recompute(const std::string& mode, int64_t layers = 0) {
  Layout layout;
  layout.recompute = mode;
  layout.recompute_layers = layers;
  return layout;
}
// Both together; what b leaves at one is a's.
inline Layout with(Layout a, const Layout& b) {
  if (b.tensor > 1) a.tensor = b.tensor, a.sequence = b.sequence;
  if (b.context > 1) a.context = b.context, a.again = b.again;
  if (b.pipeline > 1) a.pipeline = b.pipeline, a.schedule = b.schedule, a.chunks = b.chunks;
  if (b.data > 1) a.data = b.data, a.zero = b.zero;
  if (!b.recompute.empty()) a.recompute = b.recompute;
  return a;
}

} // namespace kumiki::test
