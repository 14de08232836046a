#include "core/run/initial.h"

#include <algorithm>

#include "core/base/hash.h"
#include "core/base/philox.h"

namespace kumiki {
namespace {

constexpr int64_t kChunk = 1 << 16; // elements of one task

struct Draws {
  uint64_t seed = 0;
  uint64_t purpose = 0;
  double std = 0;
  int64_t first = 0; // element that out[0] is
  int64_t elements = 0;
  float* out = nullptr;
};

// Elements 2k and 2k+1 are the two values of one block.
void draw(void* context, uint32_t task, uint32_t) {
  const Draws& d = *static_cast<const Draws*>(context);
  const Philox philox(d.seed, d.purpose);
  const int64_t begin = task * kChunk, end = std::min(d.elements, begin + kChunk);
  for (int64_t i = begin; i < end; i += 2) {
    const Philox::Pair pair = Philox::normals(philox.block(static_cast<uint64_t>(d.first + i) / 2));
    d.out[i] = static_cast<float>(d.std * pair.first);
    if (i + 1 < end) d.out[i + 1] = static_cast<float>(d.std * pair.second);
  }
}

} // namespace

void initialize_parameters(const Graph& graph, uint64_t seed, Store& store, Pool& pool) {
  constexpr int64_t kStage = kChunk * 64; // elements that are made before they are copied to the device
  std::vector<float> stage;
  for (ValueId id : graph.parameters()) {
    const Value& v = graph.value(id);
    const int64_t elements = v.type.elements();
    const km_address address = store.leaf(v.name);
    for (int64_t first = 0; first < elements; first += kStage) {
      const int64_t n = std::min(kStage, elements - first);
      stage.assign(static_cast<size_t>(n), v.init == KM_INIT_ONE ? 1.0f : 0.0f);
      if (v.init == KM_INIT_NORMAL) {
        Draws draws = {seed, xxh3(v.name), v.init_std, first, n, stage.data()};
        pool.run(static_cast<uint32_t>((n + kChunk - 1) / kChunk), draw, &draws);
      }
      store.device().upload(address + static_cast<uint64_t>(first) * sizeof(float), stage.data(),
                            static_cast<uint64_t>(n) * sizeof(float));
    }
  }
}

} // namespace kumiki
