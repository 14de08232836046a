// All ranks of a layout in one process: each has its graph and memory of its own, and they go through their lists in
// turns. Collectives and transfers meet here; sums go in the order of the ranks, so that a run has the same bits each
// time. Ranks that wait for each other for ever are an error that says where each stands.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "tests/parallel/layout.h"

namespace kumiki::test {

struct ModelSpec {
  std::string plugin;                         // "gpt", "llama"
  std::map<std::string, std::string> options; // of the model
  int64_t vocabulary = 11, tokens = 8, micro_batch = 2;
  bool segments = false; // attention stays within documents
};

class World {
 public:
  // Training: samples of one step, the same for any layout: `samples` must be a multiple of micro_batch x data degree.
  // `after` as of make_training_graph.
  World(const ModelSpec& model, const Layout& layout, int64_t samples, Update update, const Mesh::After& after = {});
  // Evaluation ("loss" and "tokens" of the batch) or one call of generation (mode prefill or decode).
  World(const ModelSpec& model, const Layout& layout, uint32_t mode, int64_t samples, int64_t tokens, int64_t capacity);
  ~World();

  void step(); // number 1, 2, …

  // Whole tensors, put together of the parts; throws where two ranks hold the same part with other bits.
  using Tensors = std::map<std::string, std::vector<float>>;
  Tensors parameters() const;
  Tensors gradients() const; // summed over micro-batches and ranks, of the last step
  // An output ("loss", "gradient_norm", "logits"); throws where ranks differ.
  std::vector<float> output(const std::string& name) const;
  // Bytes of all values that a rank holds as parameters and optimizer states.
  int64_t stored_bytes(int64_t rank) const;
  int64_t kept_bytes(int64_t rank) const; // of activations that a micro-batch's forward part leaves for backward
  const Graph& graph(int64_t rank) const;

  void set_tokens(int64_t past, const std::vector<int32_t>& tokens); // of generation

 private:
  struct Rank;
  struct Item;
  struct Meeting;
  void add_ranks(const ModelSpec& model, uint32_t mode, int64_t tokens, int64_t capacity,
                 const std::function<void(Graph&, const Mesh&)>& finish);
  void make_list(Rank& rank) const;
  void fill(Rank& rank);
  bool advance(Rank& rank);
  bool meet(Rank& rank, const Item& item);
  std::vector<size_t> group(const Rank& rank, const Node& node) const;
  void compute(Rank& rank, const Node& node, int32_t micro);
  Tensors collect(const std::function<ValueId(const Graph&, ValueId)>& of) const;

  Layout layout_;
  int64_t micro_batch_ = 0, samples_ = 0;
  int32_t micros_ = 1;
  int64_t step_ = 0, past_ = 0;
  int64_t vocabulary_ = 0;
  std::vector<int32_t> given_tokens_;
  bool training_ = false;
  std::unique_ptr<Component> kernels_;
  std::vector<std::unique_ptr<Rank>> ranks_;
  std::map<std::string, Meeting> meetings_;
};

// The largest difference of two tensors' elements, by the largest magnitude of the first.
double difference(const std::vector<float>& expected, const std::vector<float>& got);

} // namespace kumiki::test
