// Faults as a strategy could make them, planted into the rewritten graph of one rank: each is refused before anything
// runs, with a message that names the node and the axis (or stage).
#include <algorithm>
#include <catch2/catch.hpp>

#include "core/base/error.h"
#include "tests/parallel/specs.h"

namespace kumiki::test {
namespace {

using Match = std::function<bool(const Graph&, const Node&)>;

NodeId find(const Graph& graph, const std::string& op, const Match& match = {}) {
  for (const NodeId id : graph.order())
    if (graph.node(id).op == op && (!match || match(graph, graph.node(id)))) return id;
  throw std::runtime_error("the graph has no such " + op);
}
bool in_layer(const Graph&, const Node& node) { return node.layer == 1; }
bool is_maximum(const Graph&, const Node& node) { return node.text("reduce") == "max"; }
bool is_tail(const Graph&, const Node& node) { return node.phase == Phase::kTail; }

// Takes a node out: who reads it reads what it reads, whatever the types.
void drop(Graph& graph, NodeId id) {
  const ValueId in = graph.node(id).inputs[0], out = graph.node(id).outputs[0];
  for (const NodeId user : graph.users(out))
    for (size_t i = 0; i < graph.node(user).inputs.size(); ++i)
      if (graph.node(user).inputs[i] == out) graph.replace_input(user, i, in);
  for (auto& [parameter, gradient] : graph.gradients())
    if (gradient == out) gradient = in;
  graph.erase(id);
}

ValueId parameter(const Graph& graph, const std::string& name) {
  const ValueId id = graph.find(name);
  REQUIRE(id != 0);
  return id;
}

// Makes the leaf whole again.
void undivide(Graph& graph, ValueId leaf) {
  Value& value = graph.value(leaf);
  value.type.shape = value.logical_shape;
  value.placements.clear();
  value.logical_shape = value.box_shape = value.box_offset = {};
  value.flat_begin = 0;
  value.flat_end = -1;
}

struct Fault {
  const char* what;
  ModelSpec model;
  Layout layout;
  const char* behind; // of which rewrite
  std::function<void(Graph&)> plant;
  std::vector<std::string> said; // what the message names
};

std::vector<Fault> faults() {
  const Layout tensor_data = with(tensor(2), data(2, 0));
  return {
      {"the sum behind a row layer left out",
       gpt(),
       tensor(2),
       "tensor forward",
       [](Graph& g) { drop(g, find(g, "all_reduce", in_layer)); },
       {"axis tensor", "bias_add", "partial", "layer 1"}},
      {"the sum behind a row layer left out, without a bias",
       llama(true),
       tensor(2),
       "tensor forward",
       [](Graph& g) { drop(g, find(g, "all_reduce", in_layer)); },
       {"axis tensor", "add(", "partial", "layer 1"}},
      {"a sum too many",
       gpt(),
       tensor(2),
       "tensor forward",
       [](Graph& g) {
         const NodeId id = find(g, "all_reduce", in_layer);
         const ValueId sum = g.node(id).outputs[0];
         g.stand_after(id);
         const ValueId twice = g.add1("all_reduce", {sum}, {{"axes", std::string("tensor")}});
         g.replace_uses(sum, twice, g.value(twice).producer);
       },
       {"axis tensor", "all_reduce", "reduced twice", "layer 1"}},
      {"the input of column layers not marked as such",
       gpt(),
       tensor(2),
       "tensor forward",
       [](Graph& g) { drop(g, find(g, "replicate", in_layer)); },
       {"axis tensor", "add(", "partial", "layer 1"}},
      {"a column layer divided by its inputs",
       gpt(),
       tensor(2),
       "tensor forward",
       [](Graph& g) {
         const ValueId weight = parameter(g, "layers.1.mlp.up.weight");
         undivide(g, weight);
         g.shard(weight, 1, 0);
       },
       {"matmul", "layer 1"}},
      {"a row layer divided by its outputs",
       gpt(),
       tensor(2),
       "tensor forward",
       [](Graph& g) {
         const ValueId weight = parameter(g, "layers.1.attention.output.weight");
         undivide(g, weight);
         g.shard(weight, 0, 0);
       },
       {"matmul", "layer 1"}},
      {"tokens gathered along another dimension",
       gpt(),
       tensor(2, true),
       "tensor forward",
       [](Graph& g) { g.node(find(g, "all_gather", in_layer)).attributes["dim"] = int64_t{2}; },
       {"all_gather", "layer 1"}},
      {"a gradient that stays partial",
       gpt(),
       data(2, 0),
       "data training",
       [](Graph& g) {
         const NodeId id = find(g, "all_reduce", is_tail);
         for (auto& [p, gradient] : g.gradients())
           if (gradient == g.node(id).outputs[0]) gradient = g.node(id).inputs[0];
       },
       {"axis data", "partial", "sum_squares"}},
      {"a bias added before the sum",
       gpt(),
       tensor(2),
       "tensor forward",
       [](Graph& g) {
         const NodeId sum = find(g, "all_reduce", in_layer);
         const ValueId partial = g.node(sum).inputs[0], whole = g.node(sum).outputs[0];
         const NodeId bias = g.users(whole).at(0);
         REQUIRE(g.node(bias).op == "bias_add");
         g.replace_input(bias, 0, partial);
         g.stand_after(bias);
         const ValueId late = g.add1("all_reduce", {g.node(bias).outputs[0]}, {{"axes", std::string("tensor")}});
         g.replace_uses(g.node(bias).outputs[0], late, g.value(late).producer);
         g.erase(sum);
       },
       {"axis tensor", "bias_add", "layer 1"}},
      {"a sum over the wrong axis",
       gpt(),
       tensor_data,
       "tensor forward",
       [](Graph& g) { g.node(find(g, "all_reduce", in_layer)).attributes["axes"] = std::string("data"); },
       {"axis data", "all_reduce", "layer 1"}},
      {"a weight divided whose reader needs all of it",
       gpt(),
       tensor(2),
       "tensor forward",
       [](Graph& g) { g.shard(parameter(g, "layers.1.mlp.norm.weight"), 0, 0); },
       {"layernorm", "layer 1"}},
      {"the maximum of the logits not reduced",
       gpt(),
       tensor(2),
       "tensor forward",
       [](Graph& g) { drop(g, find(g, "all_reduce", is_maximum)); },
       {"axis tensor", "row_exp_pick", "maximum"}},
      {"the gradient of a norm in a divided residual stream not summed",
       gpt(),
       tensor(2, true),
       "tensor training",
       [](Graph& g) {
         ValueId& gradient = g.gradients().at(parameter(g, "layers.1.mlp.norm.weight"));
         const Node& sum = g.node(g.value(gradient).producer);
         for (size_t i = 0; i < sum.outputs.size(); ++i)
           if (sum.outputs[i] == gradient) {
             gradient = sum.inputs[i];
             break;
           }
       },
       {"axis tensor", "partial", "sum_squares"}},
      {"a gradient not summed over the parts of a sequence",
       gpt(),
       context(2),
       "context training",
       [](Graph& g) {
         ValueId& gradient = g.gradients().at(parameter(g, "layers.1.mlp.up.weight"));
         const Node& sum = g.node(g.value(gradient).producer);
         gradient = sum.inputs[static_cast<size_t>(std::find(sum.outputs.begin(), sum.outputs.end(), gradient) -
                                                   sum.outputs.begin())];
       },
       {"axis context", "partial", "sum_squares"}},
      {"attention over divided tokens left as it is",
       gpt(),
       context(2),
       "context forward",
       [](Graph& g) {
         const Node& part = g.node(find(g, "attention_part", in_layer));
         g.stand_before(part.id);
         const auto out = g.add("attention", {part.inputs[0], part.inputs[1], part.inputs[2]},
                                {{"head_width", part.i64("head_width")}});
         g.stand_at_end();
         const NodeId merge = find(g, "attention_merge", in_layer);
         for (size_t i = 0; i < 2; ++i) g.replace_uses(g.node(merge).outputs[i], out[i]);
       },
       {"axis context", "attention", "sharded(1)", "layer 1"}},
      {"the positions of divided tokens counted from 0",
       llama(true),
       context(2),
       "context forward",
       [](Graph& g) { g.node(find(g, "rope", in_layer)).attributes.erase("offset"); },
       {"axis context", "rope", "offset", "layer 1"}},
      {"keys sent around another ring",
       gpt(),
       with(tensor(2), context(2)),
       "context forward",
       [](Graph& g) { g.node(find(g, "ring_shift", in_layer)).attributes["axes"] = std::string("tensor"); },
       {"has gone around a ring along tensor", "attention_part", "layer 1"}},
      {"a parameter read without its gather",
       gpt(),
       data(2, 1),
       "data forward",
       [](Graph& g) { drop(g, find(g, "flat_gather", in_layer)); },
       {"layernorm", "layer 1"}},
      {"the dropout of a divided residual stream drawn as if it were whole",
       gpt(),
       tensor(2, true),
       "tensor forward",
       [](Graph& g) { g.node(find(g, "dropout", in_layer)).attributes.erase("offset"); },
       {"axis tensor", "dropout", "offset", "layer 1"}},
      {"a value of another stage read without a transfer",
       gpt(),
       pipeline(2, "1f1b"),
       "pipeline forward",
       [](Graph& g) { drop(g, find(g, "transfer")); },
       {"stage 1", "stage 0", "transfer"}},
      {"the gradients of tied copies not summed",
       gpt(),
       pipeline(2, "1f1b"),
       "pipeline training",
       [](Graph& g) {
         const Node& sum = g.node(find(g, "add_stages"));
         size_t i = 0;
         for (auto& [p, gradient] : g.gradients())
           if (gradient == sum.outputs[0]) gradient = sum.inputs[i++];
       },
       {"embedding.weight", "add_stages"}},
  };
}

std::string refusal(const Fault& fault) {
  const Component model("plugins/models/transformer/" + fault.model.plugin + "/" + fault.model.plugin + ".so", "model",
                        fault.model.options);
  const Mesh mesh(fault.layout, 0);
  Graph graph;
  graph.cursor.origin = "model " + fault.model.plugin;
  ModelShape shape;
  shape.batch = fault.model.micro_batch;
  shape.tokens = fault.model.tokens;
  shape.vocabulary = fault.model.vocabulary;
  build_model(model, graph, shape);
  graph.cursor = {};
  bool planted = false;
  try {
    make_training_graph(graph, mesh, Update::kAdamw, [&](const std::string& behind, Graph& g) {
      if (behind != fault.behind) return;
      fault.plant(g);
      planted = true;
    });
  } catch (const Error& error) {
    if (planted) return error.what();
    throw;
  }
  REQUIRE(planted);
  return "";
}

} // namespace

TEST_CASE("each planted fault is refused before the run, by a message that names the node and the axis") {
  for (const Fault& fault : faults()) {
    const std::string message = refusal(fault);
    INFO(fault.what << ": " << message);
    CHECK(!message.empty());
    for (const std::string& part : fault.said) {
      INFO("must name: " << part);
      CHECK(message.find(part) != std::string::npos);
    }
  }
}

TEST_CASE("the same graphs without a fault are taken") {
  for (Fault fault : faults()) {
    fault.plant = [](Graph&) {};
    INFO(fault.layout.text());
    CHECK(refusal(fault).empty());
  }
}

} // namespace kumiki::test
