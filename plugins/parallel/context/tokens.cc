// What is divided along the tokens: the inputs, and by them all that is made of them; and where these tokens stand.
#include "context.h"

namespace kumiki::parallel {
namespace {

class Tokens {
 public:
  Tokens(GraphView& graph, const km_axis& axis) : graph_(graph), axis_(axis) {}

  std::set<km_value> place() {
    for (const NodeView& node : graph_.nodes()) {
      for (const km_value input : node.inputs) {
        if (graph_.value(input).kind == KM_VALUE_INPUT && inputs_.insert(input).second) look_at(input);
        if (inputs_.count(input) || divided_.count(input)) divided_.insert(node.outputs.begin(), node.outputs.end());
      }
      visit(node);
    }
    return inputs_;
  }

 private:
  void look_at(km_value input) {
    const km_tensor tensor = graph_.value(input).tensor;
    tokens_ = tensor.dims[1];
    const auto fits = [this](int64_t degree) { return tokens_ % (2 * degree) == 0; };
    if (fits(axis_.degree)) return;
    const std::string degrees = degrees_that(tokens_, fits);
    fail_user("degree " + std::to_string(axis_.degree) + " cuts the " + std::to_string(tokens_) +
              " tokens of a sequence in " + std::to_string(2 * axis_.degree) + " chunks, which are not equal: " +
              (degrees.empty() ? "run.sequence must be even" : "degrees that do are " + degrees));
  }

  void visit(const NodeView& node) {
    if (node.inputs.empty() || !divided_.count(node.inputs[0])) return;
    if (node.op == "rope" || node.op == "add_position")
      set_positions(node, 1);
    else if (node.op == "dropout")
      set_positions(node, elements_of_token(node.inputs[0]));
    else if (node.op == "reduce_scatter" && graph_.i64(node.id, "dim") == 1)
      check_parts(node);
  }

  // x has the rows of one coordinate of an inner axis, from its attribute offset on, or all: of this rank's rows, as many
  // in proportion. `unit`: of what attributes count, so many make a token.
  void set_positions(const NodeView& node, int64_t unit) {
    const Chunks chunks(tokens_, axis_.degree, axis_.coordinate);
    const int64_t row = graph_.i64(node.id, "offset") / unit / axis_.degree;
    const int64_t rows = graph_.value(node.inputs[0]).tensor.dims[1] / axis_.degree;
    graph_.set_attribute(node.id, km_i64("offset", chunks.position(row) * unit));
    const int64_t fold = chunks.chunk() - row; // rows of the first chunk
    if (fold <= 0 || fold >= rows) return;
    graph_.set_attribute(node.id, km_i64("fold", fold * unit));
    graph_.set_attribute(node.id, km_i64("fold_offset", chunks.second() * unit));
  }

  int64_t elements_of_token(km_value x) const {
    const km_tensor tensor = graph_.value(x).tensor;
    return km_elements(&tensor) / (tensor.dims[0] * tensor.dims[1]);
  }

  // tensor with sequence = true divides the tokens of this rank once more.
  void check_parts(const NodeView& node) const {
    const int64_t part = graph_.value(node.outputs[0]).tensor.dims[1];
    if (part % axis_.degree == 0) return;
    const int64_t inner = tokens_ / part;
    fail_user("degree " + std::to_string(axis_.degree) + " leaves each rank " + std::to_string(tokens_ / axis_.degree) +
              " tokens, which do not divide by the " + std::to_string(inner) + " ranks along " +
              graph_.text(node.id, "axes") + " (sequence = true): degrees that do are " +
              degrees_that(tokens_, [&](int64_t d) { return tokens_ % (2 * d) == 0 && tokens_ / d % inner == 0; }));
  }

  GraphView& graph_;
  const km_axis& axis_;
  int64_t tokens_ = 0; // of a whole sequence
  std::set<km_value> inputs_, divided_;
};

} // namespace

std::set<km_value> place_tokens(GraphView& graph, const km_axis& axis) { return Tokens(graph, axis).place(); }

} // namespace kumiki::parallel
