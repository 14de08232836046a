// Attention around the ring. Rank r has the chunks r and 2R-1-r of the tokens, in this order. In rotation s it has the keys
// and values of rank p = r - s (mod R) beside its own queries, and with a causal mask sees of them
//
//   s = 0   its own: causal as they lie, for within a chunk and between the two the order of rows is that of tokens
//   p < r   chunk p lies before both of its chunks, chunk 2R-1-p behind both: all queries see the first half of the keys
//   p > r   both chunks of p lie behind chunk r and before chunk 2R-1-r: the second half of the queries sees all keys
//
// so that every rotation is half of a square for all ranks, and none waits for another (Brandon et al. 2023 balance a ring
// by another order). Each part gives o and lse of its keys; attention_merge weighs them. Every rotation gets the keys
// straight from the rank that has them, so that backward needs no chain of messages to have one of them again.
#include <algorithm>

#include "context.h"

namespace kumiki::parallel {
namespace {

constexpr size_t kPartsOfMerge = KM_MAX_INPUTS / 2;

class Ring {
 public:
  Ring(GraphView& graph, const km_axis& axis, bool again)
      : graph_(graph), axis_(axis), again_(again), axes_(km_string("axes", axis.name)) {}

  void divide(const NodeView& node) {
    const std::string mask = graph_.text(node.id, "mask");
    const bool segments = mask == "segments";
    if (!segments && !mask.empty() && mask != "causal")
      throw Failure(KM_ERROR_PLUGIN, "attention with mask \"" + mask + "\" cannot be divided over tokens");
    graph_.before(node.id);
    std::vector<km_value> own = {node.inputs[1], node.inputs[2]};
    if (segments) own.push_back(node.inputs[3]);
    std::vector<km_value> parts, here = own;
    for (int64_t rotation = 0; rotation < axis_.degree; ++rotation) {
      // The next keys are on their way while this part is computed.
      const std::vector<km_value> next = rotation + 1 < axis_.degree ? shifted(own, rotation + 1) : own;
      const std::vector<km_value> part = add_part(node, here, rotation);
      parts.insert(parts.end(), part.begin(), part.end());
      here = next;
    }
    const std::vector<km_value> whole = merged(node, parts);
    for (size_t i = 0; i < 2; ++i) graph_.replace(node.outputs[i], whole[i]);
    graph_.erase(node.id);
  }

 private:
  std::vector<km_value> shifted(const std::vector<km_value>& own, int64_t by) {
    std::vector<km_value> there;
    for (const km_value value : own) {
      there.push_back(graph_.add1("ring_shift", {value}, {axes_, km_i64("by", by)}));
      if (again_) graph_.mark_again(graph_.value(there.back()).producer);
    }
    return there;
  }

  // o and lse. keys: k, v and maybe their segments.
  std::vector<km_value> add_part(const NodeView& node, const std::vector<km_value>& keys, int64_t rotation) {
    std::vector<km_value> inputs = {node.inputs[0], keys[0], keys[1]};
    if (keys.size() > 2) inputs.insert(inputs.end(), {node.inputs[3], keys[2]});
    std::vector<km_attribute> attributes = {axes_, km_i64("head_width", graph_.i64(node.id, "head_width"))};
    double scale = 0;
    if (graph_.f64(node.id, "scale", &scale)) attributes.push_back(km_f64("scale", scale));
    const int64_t rank = axis_.coordinate, other = (rank - rotation + axis_.degree) % axis_.degree;
    const int64_t chunk = graph_.value(node.inputs[0]).tensor.dims[1] / (2 * axis_.degree);
    if (other == rank)
      attributes.push_back(km_string("mask", "causal"));
    else if (other < rank)
      attributes.push_back(km_i64("keys", chunk));
    else
      attributes.push_back(km_i64("first", chunk));
    return graph_.add("attention_part", inputs, attributes, 2);
  }

  // A node has at most KM_MAX_INPUTS inputs: what is merged goes on as one part of the next merge.
  std::vector<km_value> merged(const NodeView& node, std::vector<km_value> parts) {
    for (;;) {
      const size_t end = std::min(parts.size(), 2 * kPartsOfMerge);
      const std::vector<km_value> some(parts.begin(), parts.begin() + static_cast<std::ptrdiff_t>(end));
      const std::vector<km_value> whole =
          graph_.add("attention_merge", some, {km_i64("head_width", graph_.i64(node.id, "head_width"))}, 2);
      parts.erase(parts.begin(), parts.begin() + static_cast<std::ptrdiff_t>(end));
      if (parts.empty()) return whole;
      parts.insert(parts.begin(), whole.begin(), whole.end());
    }
  }

  GraphView& graph_;
  const km_axis& axis_;
  const bool again_;
  const km_attribute axes_;
};

} // namespace

void divide_attention(GraphView& graph, const km_axis& axis, bool again) {
  Ring ring(graph, axis, again);
  for (const NodeView& node : graph.nodes())
    if (node.op == "attention") ring.divide(node);
}

void start_shifts_early(GraphView& graph, const km_axis& axis) {
  for (const NodeView& shift : graph.nodes()) {
    if (shift.op != "ring_shift" || shift.part != KM_PART_BACKWARD || graph.text(shift.id, "axes") != axis.name)
      continue;
    graph.after(graph.value(shift.inputs[0]).producer);
    const km_value early = graph.add1("ring_shift", {shift.inputs[0]},
                                      {km_string("axes", axis.name), km_i64("by", graph.i64(shift.id, "by"))});
    graph.replace(shift.outputs[0], early);
    graph.erase(shift.id);
  }
}

} // namespace kumiki::parallel
