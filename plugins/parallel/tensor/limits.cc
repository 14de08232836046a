#include "tensor.h"

namespace kumiki::parallel {
namespace {

int64_t last_dimension(const GraphView& graph, km_value id) {
  const km_tensor tensor = graph.value(id).tensor;
  return tensor.dims[tensor.rank - 1];
}

// How many ranks share a key head: 1 where each has its own. A rank must then have one key head only, since query heads
// of a rank find theirs by number.
uint32_t check_heads(const GraphView& graph, const NodeView& attention, int64_t degree) {
  const int64_t width = graph.i64(attention.id, "head_width");
  const int64_t heads = last_dimension(graph, attention.inputs[0]) / width;
  const int64_t key_heads = last_dimension(graph, attention.inputs[1]) / width;
  const auto fits = [&](int64_t d) { return heads % d == 0 && (key_heads % d == 0 || d % key_heads == 0); };
  if (fits(degree)) return static_cast<uint32_t>(key_heads % degree == 0 ? 1 : degree / key_heads);
  fail_user("degree " + std::to_string(degree) + " does not fit the " + std::to_string(heads) + " heads" +
            (key_heads == heads ? "" : " and " + std::to_string(key_heads) + " key heads") + " of attention in layer " +
            std::to_string(attention.layer) + ": degrees that do are " + degrees_that(heads, fits) +
            (key_heads == heads ? "" : " (they divide the heads, and divide the key heads or are a multiple of them)"));
}

void check_tokens(const GraphView& graph, const NodeView& embedding, int64_t degree) {
  const int64_t tokens = graph.value(embedding.outputs[0]).tensor.dims[1];
  if (tokens % degree == 0) return;
  fail_user("sequence = true divides the " + std::to_string(tokens) + " tokens of a sequence, but degree " +
            std::to_string(degree) + " does not divide them: degrees that do are " +
            degrees_that(tokens, [&](int64_t d) { return tokens % d == 0; }));
}

} // namespace

uint32_t check_limits(const GraphView& graph, const km_axis& axis, bool sequence) {
  uint32_t shared = 0;
  for (const NodeView& node : graph.nodes()) {
    if (node.op == "embedding" && sequence) check_tokens(graph, node, axis.degree);
    if (node.op != "attention") continue;
    const uint32_t here = check_heads(graph, node, axis.degree);
    if (shared != 0 && shared != here)
      fail_user("attention in layer " + std::to_string(node.layer) + " would have each key head on " +
                std::to_string(here) + " ranks, that of a layer before on " + std::to_string(shared) +
                ": take a degree that divides the key heads of all layers");
    shared = here;
  }
  return shared == 0 ? 1 : shared;
}

KeyHeads place_key_heads(GraphView& graph, const km_axis& axis, uint32_t shared) {
  if (shared == 1 || shared == axis.degree) return {shared, axis.index, axis.index};
  const auto [blocks, block] = graph.split_axis(axis.index, shared);
  return {shared, blocks, block};
}

} // namespace kumiki::parallel
