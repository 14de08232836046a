// A small transformer block as strategies would write it over a mesh: divided over tensor, with or without its
// sequence, and over data, with whole parameters or flat ones that are gathered. Tests compare its layouts with each
// other.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "core/graph/graph.h"

namespace kumiki::test {

constexpr int64_t kBatch = 6, kTokens = 4, kWidth = 7, kInner = 12, kVocabulary = 11; // 11: nothing divides it
constexpr uint32_t kTensorLevel = 20, kDataLevel = 40;

enum class Gather { kNone, kHead, kBody };
struct Layout {
  int64_t tensor = 1, data = 1;
  bool sequence = false;
  Gather gather = Gather::kNone;
  bool again = false; // what can be computed again is
};

std::vector<Axis> axes_of(const Layout& layout);
// The parameters and their whole shapes.
const std::map<std::string, Shape>& shapes();
// The forward graph, with inputs "tokens", "targets" and outputs "loss", "tokens". The graph has its axes already.
void build_block(Graph& graph, const Layout& layout);
// Differentiates it, reduces in the tail what is still partial, and makes again what is marked.
void finish(Graph& graph);

} // namespace kumiki::test
