#include "tests/parallel/collectives.h"

#include <algorithm>
#include <stdexcept>

namespace kumiki::test {
namespace {

using Group = std::vector<std::vector<Numbers32>>;

Numbers32 reduced(const Group& inputs, size_t i, bool maximum) {
  std::vector<double> sum(inputs[0][i].begin(), inputs[0][i].end());
  for (size_t r = 1; r < inputs.size(); ++r) {
    if (inputs[r][i].size() != sum.size()) throw std::runtime_error("ranks reduce tensors of different sizes");
    for (size_t e = 0; e < sum.size(); ++e)
      sum[e] = maximum ? std::max<double>(sum[e], inputs[r][i][e]) : sum[e] + inputs[r][i][e];
  }
  return {sum.begin(), sum.end()};
}

// Elements before, of, and behind dimension `dim`.
struct Split {
  int64_t outer = 1, extent = 1, inner = 1;
};
Split split_at(const Shape& shape, size_t dim) {
  Split s;
  for (size_t d = 0; d < shape.size(); ++d) (d < dim ? s.outer : d == dim ? s.extent : s.inner) *= shape[d];
  return s;
}

// Copies rows [begin, begin + count) of dimension `dim`, all of `part`, into or out of `whole`.
void copy_part(Numbers32& whole, int64_t whole_extent, Numbers32& part, int64_t begin, int64_t count, const Split& s,
               bool into_whole) {
  for (int64_t o = 0; o < s.outer; ++o)
    for (int64_t e = 0; e < count * s.inner; ++e) {
      float& a = whole[static_cast<size_t>((o * whole_extent + begin) * s.inner + e)];
      float& b = part[static_cast<size_t>(o * count * s.inner + e)];
      (into_whole ? a : b) = into_whole ? b : a;
    }
}

Numbers32 gathered(const Group& inputs, const std::vector<std::vector<Shape>>& shapes, size_t dim) {
  int64_t extent = 0;
  for (const auto& shape : shapes) extent += shape[0][dim];
  const Split s = split_at(shapes[0][0], dim);
  Numbers32 whole(static_cast<size_t>(s.outer * extent * s.inner));
  int64_t begin = 0;
  for (size_t r = 0; r < inputs.size(); ++r) {
    Numbers32 part = inputs[r][0];
    copy_part(whole, extent, part, begin, shapes[r][0][dim], s, true);
    begin += shapes[r][0][dim];
  }
  return whole;
}

Numbers32 slice(Numbers32 whole, const Shape& shape, size_t dim, int64_t ranks, int64_t index) {
  const Split s = split_at(shape, dim);
  const int64_t begin = part_begin(s.extent, ranks, index), end = part_begin(s.extent, ranks, index + 1);
  Numbers32 part(static_cast<size_t>(s.outer * (end - begin) * s.inner));
  copy_part(whole, s.extent, part, begin, end - begin, s, false);
  return part;
}

} // namespace

Group run_collective(const Node& node, const Group& inputs, const std::vector<std::vector<Shape>>& shapes) {
  const int64_t ranks = static_cast<int64_t>(inputs.size());
  Group outputs(inputs.size());
  const auto to_all = [&](const Numbers32& one) {
    for (auto& out : outputs) out.push_back(one);
  };
  if (node.op == "all_reduce") {
    for (size_t i = 0; i < node.inputs.size(); ++i) to_all(reduced(inputs, i, node.text("reduce", "sum") == "max"));
  } else if (node.op == "all_gather") {
    to_all(gathered(inputs, shapes, static_cast<size_t>(node.i64("dim"))));
  } else if (node.op == "flat_gather") {
    Numbers32 whole;
    for (const auto& in : inputs) whole.insert(whole.end(), in[0].begin(), in[0].end());
    to_all(whole);
  } else if (node.op == "reduce_scatter") {
    const Numbers32 sum = reduced(inputs, 0, false);
    for (int64_t r = 0; r < ranks; ++r)
      outputs[static_cast<size_t>(r)].push_back(
          slice(sum, shapes[0][0], static_cast<size_t>(node.i64("dim")), ranks, r));
  } else if (node.op == "ring_shift") {
    const int64_t by = node.i64("by", 1);
    for (int64_t r = 0; r < ranks; ++r)
      outputs[static_cast<size_t>(r)].push_back(inputs[static_cast<size_t>(((r - by) % ranks + ranks) % ranks)][0]);
  } else if (node.op == "flat_scatter") {
    for (size_t i = 0; i < node.inputs.size(); ++i) {
      const Numbers32 sum = reduced(inputs, i, false);
      const int64_t n = static_cast<int64_t>(sum.size());
      for (int64_t r = 0; r < ranks; ++r)
        outputs[static_cast<size_t>(r)].emplace_back(sum.begin() + part_begin(n, ranks, r),
                                                     sum.begin() + part_begin(n, ranks, r + 1));
    }
  } else {
    throw std::runtime_error(node.op + " is no collective op that the tests know");
  }
  return outputs;
}

} // namespace kumiki::test
