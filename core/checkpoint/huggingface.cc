#include "core/checkpoint/huggingface.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <set>

#include "core/base/error.h"

namespace kumiki {
namespace {

Shape in_their_order(const ModelRow& row, const Shape& ours) {
  return row.transpose ? Shape{ours.at(1), ours.at(0)} : ours;
}

// Where part `row` lies in theirs: theirs is [outer, whole, inner], the part [outer, at..at+own, inner].
struct Place {
  int64_t outer = 1, own = 1, at = 0, whole = 1, inner = 1;
};
Place place_of(const MappedTensor& tensor, const std::vector<Shape>& shapes, size_t row) {
  const size_t dim = static_cast<size_t>(tensor.rows[row].dim);
  Place place;
  const Shape mine = in_their_order(tensor.rows[row], shapes[row]);
  if (mine.empty()) return place;
  for (size_t i = 0; i < dim; ++i) place.outer *= mine[i];
  for (size_t i = dim + 1; i < mine.size(); ++i) place.inner *= mine[i];
  place.own = mine[dim];
  place.whole = 0;
  for (size_t i = 0; i < tensor.rows.size(); ++i) {
    if (i == row) place.at = place.whole;
    place.whole += in_their_order(tensor.rows[i], shapes[i])[dim];
  }
  return place;
}

// out[column][row] = in[row][column], in blocks that stay in the cache.
void transpose(const float* in, int64_t rows, int64_t columns, float* out) {
  constexpr int64_t kBlock = 32;
  for (int64_t top = 0; top < rows; top += kBlock)
    for (int64_t left = 0; left < columns; left += kBlock)
      for (int64_t i = top; i < std::min(rows, top + kBlock); ++i)
        for (int64_t j = left; j < std::min(columns, left + kBlock); ++j) out[j * rows + i] = in[i * columns + j];
}

float from_half(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000) << 16;
  const uint32_t exponent = half >> 10 & 31, fraction = half & 1023;
  if (exponent == 0) {
    const float value = std::ldexp(static_cast<float>(fraction), -24);
    return sign ? -value : value;
  }
  return std::bit_cast<float>(sign | (exponent == 31 ? 255u : exponent + 112) << 23 | fraction << 13);
}

uint16_t to_bf16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if (std::isnan(value)) return static_cast<uint16_t>(bits >> 16 | 0x40); // stays NaN where its low bits are cut
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

} // namespace

std::vector<MappedTensor> group_rows(const std::vector<ModelRow>& rows) {
  std::vector<MappedTensor> tensors;
  std::map<std::string, size_t> index;
  std::set<std::string> ours;
  for (const ModelRow& row : rows) {
    if (!ours.insert(row.ours).second) throw Error(row.ours, "the model's table has two rows for this parameter");
    const auto [at, fresh] = index.emplace(row.theirs, tensors.size());
    if (fresh) tensors.push_back({row.theirs, {}});
    tensors[at->second].rows.push_back(row);
  }
  for (MappedTensor& tensor : tensors) {
    std::sort(tensor.rows.begin(), tensor.rows.end(),
              [](const ModelRow& a, const ModelRow& b) { return a.part < b.part; });
    for (size_t i = 0; i < tensor.rows.size(); ++i) {
      const ModelRow& row = tensor.rows[i];
      if (row.part != static_cast<int32_t>(i) || row.parts != static_cast<int32_t>(tensor.rows.size()) ||
          row.dim != tensor.rows[0].dim || row.dim < 0)
        throw Error(tensor.theirs, "the model's table does not give this tensor's parts one by one");
    }
  }
  return tensors;
}

Shape their_shape(const MappedTensor& tensor, const std::vector<Shape>& ours) {
  Shape whole;
  for (size_t i = 0; i < tensor.rows.size(); ++i) {
    const ModelRow& row = tensor.rows[i];
    const size_t dim = static_cast<size_t>(row.dim);
    if (row.transpose && ours[i].size() != 2)
      throw Error(row.ours, "only matrices are transposed, and its shape is " + shape_text(ours[i]));
    const Shape mine = in_their_order(row, ours[i]);
    if (dim >= std::max<size_t>(mine.size(), 1) || (mine.empty() && row.parts > 1))
      throw Error(row.ours, "its shape " + shape_text(ours[i]) + " has no dimension " + std::to_string(dim) +
                                " to be joined along");
    if (i == 0) {
      whole = mine;
      continue;
    }
    bool fits = mine.size() == whole.size();
    for (size_t d = 0; fits && d < mine.size(); ++d) fits = d == dim || mine[d] == whole[d];
    if (!fits)
      throw Error(row.ours,
                  "its shape " + shape_text(ours[i]) + " does not fit beside the other parts of " + tensor.theirs);
    whole[dim] += mine[dim];
  }
  return whole;
}

void join_parts(const MappedTensor& tensor, const std::vector<Shape>& shapes, const std::vector<const float*>& ours,
                float* theirs) {
  std::vector<float> turned;
  for (size_t i = 0; i < tensor.rows.size(); ++i) {
    const Place place = place_of(tensor, shapes, i);
    const float* part = ours[i];
    if (tensor.rows[i].transpose) {
      turned.resize(static_cast<size_t>(checked_elements(shapes[i])));
      transpose(part, shapes[i][0], shapes[i][1], turned.data());
      part = turned.data();
    }
    const int64_t run = place.own * place.inner;
    for (int64_t outer = 0; outer < place.outer; ++outer)
      std::copy_n(part + outer * run, run, theirs + (outer * place.whole + place.at) * place.inner);
  }
}

void take_part(const MappedTensor& tensor, const std::vector<Shape>& shapes, size_t row, const float* theirs,
               float* ours) {
  const Place place = place_of(tensor, shapes, row);
  const bool turn = tensor.rows[row].transpose;
  std::vector<float> turned(turn ? static_cast<size_t>(checked_elements(shapes[row])) : 0);
  float* part = turn ? turned.data() : ours;
  const int64_t run = place.own * place.inner;
  for (int64_t outer = 0; outer < place.outer; ++outer)
    std::copy_n(theirs + (outer * place.whole + place.at) * place.inner, run, part + outer * run);
  if (turn) transpose(part, shapes[row][1], shapes[row][0], ours);
}

void to_floats(uint32_t dtype, const void* from, int64_t elements, float* to) {
  const auto* bytes = static_cast<const unsigned char*>(from);
  const auto each = [&]<typename Bits>(Bits, auto convert) {
    for (int64_t i = 0; i < elements; ++i) {
      Bits bits;
      std::memcpy(&bits, bytes + static_cast<size_t>(i) * sizeof bits, sizeof bits);
      to[i] = convert(bits);
    }
  };
  switch (dtype) {
    case KM_F32: each(uint32_t{}, [](uint32_t bits) { return std::bit_cast<float>(bits); }); return;
    case KM_BF16:
      each(uint16_t{}, [](uint16_t bits) { return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16); });
      return;
    case KM_F16: each(uint16_t{}, from_half); return;
    case KM_F64:
      each(uint64_t{}, [](uint64_t bits) { return static_cast<float>(std::bit_cast<double>(bits)); });
      return;
    default: KM_CHECK(false, "a floating-point type");
  }
}

void from_floats(uint32_t dtype, const float* from, int64_t elements, void* to) {
  auto* bytes = static_cast<unsigned char*>(to);
  if (dtype == KM_F32) {
    if (elements > 0) std::memcpy(bytes, from, static_cast<size_t>(elements) * 4);
    return;
  }
  KM_CHECK(dtype == KM_BF16, "f32 or bf16");
  for (int64_t i = 0; i < elements; ++i) {
    const uint16_t bits = to_bf16(from[i]);
    std::memcpy(bytes + i * 2, &bits, 2);
  }
}

} // namespace kumiki
