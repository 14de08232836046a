#include "core/run/initial.h"

#include <algorithm>

#include "core/base/hash.h"
#include "core/base/philox.h"

namespace kumiki {
namespace {

constexpr int64_t kChunk = 1 << 16; // elements of one task

// Which element of the whole tensor element e of this rank's part is.
class Elements {
 public:
  explicit Elements(const Value& v)
      : begin_(v.flat_begin), logical_(v.logical_shape), offset_(v.box_offset), box_(v.box_shape) {
    // From the dimension on that is the last to be cut, a row of the box lies in one piece.
    for (size_t d = logical_.size(); d-- > 0;) {
      row_ *= box_[d];
      if (box_[d] != logical_[d]) {
        cut_ = d;
        whole_ = false;
        break;
      }
    }
  }
  int64_t operator()(int64_t e) const {
    e += begin_;
    if (whole_) return e;
    int64_t row = e / row_, place = 0, stride = 1;
    for (size_t d = logical_.size(); d-- > cut_ + 1;) stride *= logical_[d];
    place = e % row_ + offset_[cut_] * stride;
    stride *= logical_[cut_];
    for (size_t d = cut_; d-- > 0;) {
      place += (row % box_[d] + offset_[d]) * stride;
      row /= box_[d];
      stride *= logical_[d];
    }
    return place;
  }
  // Elements from e on that lie next to each other in the whole tensor too.
  int64_t run(int64_t e) const { return whole_ ? INT64_MAX : row_ - (e + begin_) % row_; }

 private:
  int64_t begin_;
  Shape logical_, offset_, box_;
  int64_t row_ = 1;
  size_t cut_ = 0;
  bool whole_ = true;
};

struct Draws {
  uint64_t seed = 0;
  uint64_t purpose = 0;
  double std = 0;
  int64_t first = 0; // element of this rank's part that out[0] is
  int64_t elements = 0;
  float* out = nullptr;
  const Elements* number = nullptr;
};

// Elements 2k and 2k+1 of the whole tensor are the two values of one block.
void draw(void* context, uint32_t task, uint32_t) {
  const Draws& d = *static_cast<const Draws*>(context);
  const Philox philox(d.seed, d.purpose);
  const int64_t begin = task * kChunk, end = std::min(d.elements, begin + kChunk);
  for (int64_t i = begin; i < end;) {
    const int64_t run_end = std::min(end, i + std::min(d.number->run(d.first + i), end - i));
    for (int64_t e = (*d.number)(d.first + i); i < run_end;) {
      const Philox::Pair pair = Philox::normals(philox.block(static_cast<uint64_t>(e) / 2));
      if (e % 2 == 0) {
        d.out[i++] = static_cast<float>(d.std * pair.first);
        if (++e, i == run_end) break;
      }
      d.out[i++] = static_cast<float>(d.std * pair.second);
      ++e;
    }
  }
}

} // namespace

void initialize_parameters(const Graph& graph, uint64_t seed, Store& store, Pool& pool) {
  constexpr int64_t kStage = kChunk * 64; // elements that are made before they are copied to the device
  std::vector<float> stage;
  for (ValueId id : graph.parameters()) {
    const Value& v = graph.value(id);
    if (!store.has(v.name)) continue; // another stage's
    const int64_t elements = v.type.elements();
    const Elements number(v);
    const std::string& name = v.tied_to ? graph.value(v.tied_to).name : v.name;
    const km_address address = store.leaf(v.name);
    for (int64_t first = 0; first < elements; first += kStage) {
      const int64_t n = std::min(kStage, elements - first);
      stage.assign(static_cast<size_t>(n), v.init == KM_INIT_ONE ? 1.0f : 0.0f);
      if (v.init == KM_INIT_NORMAL) {
        Draws draws = {seed, xxh3(name), v.init_std, first, n, stage.data(), &number};
        pool.run(static_cast<uint32_t>((n + kChunk - 1) / kChunk), draw, &draws);
      }
      store.device().upload(address + static_cast<uint64_t>(first) * sizeof(float), stage.data(),
                            static_cast<uint64_t>(n) * sizeof(float));
    }
  }
}

} // namespace kumiki
