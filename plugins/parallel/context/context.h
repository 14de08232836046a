// What the files of this folder share: the options, how the tokens are divided over the axis (Chunks says where a rank's
// rows stand), and what is done to the graph (tokens.cc, attention.cc).
#pragma once

#include <set>

#include "plugins/parallel/graph_view.h"

namespace kumiki::parallel {

struct ContextOptions {
  const km_host* host = nullptr;
  int64_t bucket = 0; // bytes
  bool again = false; // backward shifts keys and values once more, in place of keeping them
};

// The tokens of a sequence in 2 · ranks equal chunks, of which rank r has the chunks r and 2 · ranks - 1 - r.
class Chunks {
 public:
  Chunks(int64_t tokens, int64_t ranks, int64_t rank)
      : chunk_(tokens / (2 * ranks)), ranks_(ranks), first_(rank * chunk_), second_((2 * ranks - 1 - rank) * chunk_) {}

  int64_t ranks() const { return ranks_; }
  int64_t chunk() const { return chunk_; } // tokens of one
  // Where row t of a rank's 2 · chunk rows stands in the sequence.
  int64_t position(int64_t row) const { return row < chunk_ ? first_ + row : second_ + row - chunk_; }
  int64_t second() const { return second_; } // position of row `chunk`

 private:
  int64_t chunk_, ranks_, first_, second_;
};

// Tells what depends on positions where its tokens will stand; gives the inputs, which are to be divided. Throws Failure,
// with the degrees that would do, where the tokens do not divide.
std::set<km_value> place_tokens(GraphView& graph, const km_axis& axis);

// Each attention becomes one part for each rank's keys, and a merge of them; keys and values go round. Both while shapes
// are still those of whole sequences: inputs are divided last.
void divide_attention(GraphView& graph, const km_axis& axis, bool again);

// After autodiff: gradients of keys go home as soon as they are made, beside the next part.
void start_shifts_early(GraphView& graph, const km_axis& axis);

} // namespace kumiki::parallel
