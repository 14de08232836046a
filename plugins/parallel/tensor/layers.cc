// How the layers of a transformer are divided over the axis (Shoeybi et al. 2019): a column layer has some of the
// outputs of the whole, a row layer behind it some of the inputs, and one sum over the ranks makes the row layer's
// outputs whole. Backward needs a sum where a column layer's input came in: `replicate` stands there, whose derivative
// is that sum. With `sequence` (Korthikanti et al. 2022) the residual stream between a row layer and the next column
// layer is divided along the tokens: all_gather takes the place of `replicate`, reduce_scatter that of the sum.
// Where there are more ranks than key heads, neighbours share one: they hold the same weights of keys and values.
//
// Nodes are added while all types are still those of the whole model; leaves are divided last, and the core infers.
#include <map>
#include <set>

#include "tensor.h"

namespace kumiki::parallel {
namespace {

constexpr int32_t kTokens = 1; // dimension of [batch, tokens, width]

class Layers {
 public:
  Layers(GraphView& graph, const km_axis& axis, bool sequence, const KeyHeads& key_heads)
      : graph_(graph),
        axis_(axis),
        key_heads_(key_heads),
        sequence_(sequence && graph.training()),
        axes_(km_string("axes", axis.name)) {}

  void divide() {
    for (const NodeView& old : graph_.nodes()) {
      const NodeView node = graph_.node(old.id); // what it reads may have been replaced
      visit(node);
      follow(node);
    }
    for (const km_node node : replaced_) graph_.erase(node);
    check_readers();
    for (const km_value parameter : graph_.parameters()) divide_parameter(parameter);
    for (const km_value cache : caches_) divide_key_heads(cache, 2);
  }

 private:
  void visit(const NodeView& node) {
    if (node.op == "matmul")
      matmul(node);
    else if (node.op == "embedding")
      embedding(node);
    else if (node.op == "cross_entropy" && divided_logits_.count(node.inputs[0]))
      cross_entropy(node);
    else if (node.op == "cache_append")
      caches_.insert(node.inputs[0]);
    else if (node.op == "add_position" && divided_tokens_.count(node.inputs[0]))
      graph_.set_attribute(node.id, km_i64("offset", first_token()));
    else if (node.op == "dropout" && divided_tokens_.count(node.inputs[0]))
      graph_.set_attribute(node.id, km_i64("offset", first_token() * last_dimension(node.outputs[0])));
  }

  // What is made of tokens that are divided has them divided too, up to the all_gather.
  void follow(const NodeView& node) {
    for (const km_value input : graph_.node(node.id).inputs)
      if (divided_tokens_.count(input)) divided_tokens_.insert(node.outputs.begin(), node.outputs.end());
  }

  void matmul(const NodeView& node) {
    const uint32_t role = graph_.role(node.inputs[1]);
    if (role != KM_ROLE_COLUMN && role != KM_ROLE_COLUMN_KV && role != KM_ROLE_ROW && role != KM_ROLE_VOCABULARY)
      return;
    if (graph_.i64(node.id, "transpose_b") != 1 || graph_.i64(node.id, "transpose_a") != 0)
      throw Failure(KM_ERROR_PLUGIN, graph_.name(node.inputs[1]) +
                                         " is a weight [out, in] by its role, but its matmul has not transpose_b = 1");
    if (role == KM_ROLE_ROW) {
      close(node);
      return;
    }
    graph_.replace_input(node.id, 0, open(node, node.inputs[0]));
    if (role != KM_ROLE_VOCABULARY) return;
    divided_logits_.insert(node.outputs[0]);
    if (!graph_.training()) gather_logits(node);
  }

  // The input of column layers: whole on all ranks, and its gradient is summed. One for all that read the same value.
  km_value open(const NodeView& reader, km_value x) {
    km_value& opened = opened_[x];
    if (opened != 0) return opened;
    graph_.before(reader.id);
    if (!divided_tokens_.count(x)) return opened = graph_.add1("replicate", {x}, {axes_});
    opened = graph_.add1("all_gather", {x}, {axes_, km_i64("dim", kTokens)});
    graph_.mark_again(graph_.value(opened).producer); // backward gathers once more, in place of keeping the whole
    return opened;
  }

  // The partial sums that a node gives become whole, before anything reads them (a bias is added once).
  void close(const NodeView& node) {
    const km_value partial = node.outputs[0];
    graph_.after(node.id);
    if (!sequence_) {
      const km_value sum = graph_.add1("all_reduce", {partial}, {axes_, km_string("reduce", "sum")});
      graph_.replace(partial, sum, graph_.value(sum).producer);
      return;
    }
    tokens_ = graph_.value(partial).tensor.dims[kTokens];
    const km_value sum = graph_.add1("reduce_scatter", {partial}, {axes_, km_i64("dim", kTokens)});
    graph_.redirect(partial, sum, graph_.value(sum).producer);
    divided_tokens_.insert(sum);
  }

  // Each rank has some rows of the table: a token that is not among them gives zeros.
  void embedding(const NodeView& node) {
    const km_value table = node.inputs[1];
    if (graph_.role(table) != KM_ROLE_VOCABULARY) return;
    graph_.set_attribute(node.id, km_i64("offset", first_row(table)));
    close(node);
  }

  // Σ over the ranks of what each says about its part of the vocabulary: the maximum, then the sum of exponentials and
  // the target's logit.
  void cross_entropy(const NodeView& node) {
    const km_value logits = node.inputs[0], targets = node.inputs[1];
    const km_attribute offset = km_i64("offset", first_row(graph_.node(graph_.value(logits).producer).inputs[1]));
    graph_.before(node.id);
    const km_value own_max = graph_.add1("row_max", {logits}, {});
    const km_value max = graph_.add1("all_reduce", {own_max}, {axes_, km_string("reduce", "max")});
    const std::vector<km_value> own = graph_.add("row_exp_pick", {logits, targets, max}, {offset}, 2);
    const std::vector<km_value> sums = graph_.add("all_reduce", own, {axes_, km_string("reduce", "sum")}, 2);
    const std::vector<km_value> results =
        graph_.add("cross_entropy_parts", {logits, targets, max, sums[0], sums[1]}, {offset}, 2);
    for (size_t i = 0; i < results.size(); ++i) graph_.replace(node.outputs[i], results[i]);
    replaced_.push_back(node.id);
  }

  void gather_logits(const NodeView& node) {
    const km_value part = node.outputs[0];
    graph_.after(node.id);
    const km_tensor logits = graph_.value(part).tensor; // still whole: the table is divided at the end
    const km_value whole = graph_.add1(
        "all_gather", {part}, {axes_, km_i64("dim", logits.rank - 1), km_i64("whole", logits.dims[logits.rank - 1])});
    graph_.redirect(part, whole, graph_.value(whole).producer);
    graph_.set_output("logits", whole);
  }

  // Who reads a weight that is about to be divided must be one of those that were looked at above.
  void check_readers() const {
    for (const km_value parameter : graph_.parameters()) {
      if (dimension_of(parameter) < 0) continue;
      for (const km_node user : graph_.users(parameter)) {
        const std::string op = graph_.node(user).op;
        const bool brings_its_rule = op.find('.') != std::string::npos; // another vendor's: the core infers, or refuses
        if (op != "matmul" && op != "bias_add" && op != "embedding" && !brings_its_rule)
          throw Failure(KM_ERROR_USER,
                        "op " + op + " reads " + graph_.name(parameter) +
                            ", whose role says that it may be divided, but how that op takes a part of it "
                            "is not known: leave out the component that put " +
                            op + " there, or tensor");
      }
    }
  }

  // -1: it stays whole.
  int32_t dimension_of(km_value parameter) const {
    const km_value_info info = graph_.value(parameter);
    switch (info.role) {
      case KM_ROLE_COLUMN:
      case KM_ROLE_COLUMN_KV: return 0;
      case KM_ROLE_VOCABULARY: return 0;
      case KM_ROLE_ROW: return static_cast<int32_t>(info.tensor.rank) - 1;
      default: return -1;
    }
  }

  void divide_parameter(km_value parameter) {
    const int32_t dim = dimension_of(parameter);
    if (dim < 0) return;
    if (graph_.role(parameter) == KM_ROLE_COLUMN_KV)
      divide_key_heads(parameter, dim);
    else
      graph_.shard(parameter, axis_.index, dim);
  }

  void divide_key_heads(km_value leaf, int32_t dim) {
    if (key_heads_.shared < axis_.degree) graph_.shard(leaf, key_heads_.blocks, dim); // else all have the only one
  }

  int64_t last_dimension(km_value id) const {
    const km_tensor tensor = graph_.value(id).tensor;
    return tensor.dims[tensor.rank - 1];
  }
  int64_t first_row(km_value table) const {
    return part_begin(graph_.value(table).tensor.dims[0], axis_.degree, axis_.coordinate);
  }
  // Of this rank's part of the tokens.
  int64_t first_token() const { return part_begin(tokens_, axis_.degree, axis_.coordinate); }

  GraphView& graph_;
  const km_axis& axis_;
  const KeyHeads key_heads_;
  const bool sequence_;
  const km_attribute axes_;
  int64_t tokens_ = 0;                  // of a whole sequence: known once the first reduce_scatter stands
  std::map<km_value, km_value> opened_; // by the value: what column layers read in its place
  std::vector<km_node> replaced_;       // nobody reads them any more
  std::set<km_value> divided_tokens_, divided_logits_, caches_;
};

} // namespace

void divide_layers(GraphView& graph, const km_axis& axis, bool sequence, const KeyHeads& key_heads) {
  Layers(graph, axis, sequence, key_heads).divide();
}

} // namespace kumiki::parallel
