#include "tensor.h"

namespace kumiki::parallel {
namespace {

int64_t last_dimension(const GraphView& graph, km_value id) {
  const km_tensor tensor = graph.value(id).tensor;
  return tensor.dims[tensor.rank - 1];
}

void check_heads(const GraphView& graph, const NodeView& attention, int64_t degree) {
  const int64_t width = graph.i64(attention.id, "head_width");
  const int64_t heads = last_dimension(graph, attention.inputs[0]) / width;
  const int64_t key_heads = last_dimension(graph, attention.inputs[1]) / width;
  const auto fits = [&](int64_t d) { return heads % d == 0 && key_heads % d == 0; };
  if (fits(degree)) return;
  fail_user("degree " + std::to_string(degree) + " does not divide the " + std::to_string(heads) + " heads" +
            (key_heads == heads ? "" : " and " + std::to_string(key_heads) + " key heads") + " of attention in layer " +
            std::to_string(attention.layer) + ": degrees that do are " + degrees_that(heads, fits));
}

void check_tokens(const GraphView& graph, const NodeView& embedding, int64_t degree) {
  const int64_t tokens = graph.value(embedding.outputs[0]).tensor.dims[1];
  if (tokens % degree == 0) return;
  fail_user("sequence = true divides the " + std::to_string(tokens) + " tokens of a sequence, but degree " +
            std::to_string(degree) + " does not divide them: degrees that do are " +
            degrees_that(tokens, [&](int64_t d) { return tokens % d == 0; }));
}

} // namespace

void check_limits(const GraphView& graph, const km_axis& axis, bool sequence) {
  for (const NodeView& node : graph.nodes()) {
    if (node.op == "attention") check_heads(graph, node, axis.degree);
    if (node.op == "embedding" && sequence) check_tokens(graph, node, axis.degree);
  }
}

} // namespace kumiki::parallel
