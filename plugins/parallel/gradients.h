// Sums of gradients over the ranks of an axis, once a step, several tensors together: what strategies share.
#pragma once

#include "graph_view.h"

namespace kumiki::parallel {

// A tensor that waits for its sum over the axis.
struct Waiting {
  km_value value = 0;
  km_value parameter = 0; // reduce_gradients
  km_node node = 0;       // merge_scatters of data: what makes it now
  bool late = false;      // made in the tail: it waits for a sum over other ranks first
};

// Cuts the tensors, in their order, into buckets of at most so many bytes, and of as many tensors as a node can have.
// What is made in the tail goes apart, so that it holds up nothing that backward is done with.
std::vector<std::vector<Waiting>> buckets_of(const GraphView& graph, const std::vector<Waiting>& all,
                                             uint64_t most_bytes);
std::vector<km_value> values_of(const std::vector<Waiting>& bucket);

// After autodiff: gradients that are still partial along the axis are summed in the tail, in buckets of at most so many
// bytes, in the order in which backward makes them. Asks for placements: before the rewrite changes anything.
void reduce_gradients(GraphView& graph, uint64_t bucket_bytes, const km_axis& axis);

inline constexpr km_option kBucketOption = {
    "bucket", KM_OPTION_I64, 0, "26214400", 1, 1e15, nullptr, "bytes of gradients that are reduced together, at most"};

} // namespace kumiki::parallel
