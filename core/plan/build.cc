#include "core/plan/build.h"

#include "core/base/error.h"
#include "core/graph/fusion.h"
#include "core/graph/precision.h"
#include "core/graph/recompute.h"
#include "core/plugin/host.h"

namespace kumiki {
namespace {

// What went wrong inside a plugin's call, if anything did: the graph service's own error says more than the status.
void check_call(km_status status, const std::string& title, const std::string& what) {
  if (const std::string text = take_service_error(); !text.empty()) throw Error(title, what + ": " + text);
  check(status, title, what);
}

void remove_dropout(Graph& graph) {
  const std::vector<NodeId> order = graph.order();
  for (NodeId id : order) {
    if (graph.node(id).op != "dropout") continue;
    graph.replace_uses(graph.node(id).outputs[0], graph.node(id).inputs[0]);
    graph.erase(id);
  }
}

// The axes along which a value is not the same on all ranks, as a communication op names them: outer first.
std::string spread_axes(const Graph& graph, ValueId value) {
  std::string axes;
  for (size_t i = graph.axes().size(); i-- > 0;)
    if (graph.placement(value, i).spread != Spread::kReplicated)
      axes += (axes.empty() ? "" : ",") + graph.axes()[i].name;
  return axes;
}

// Sums over ranks and stages, in the tail: what was partial is the same everywhere.
ValueId sum_over_ranks(Graph& graph, ValueId value) {
  graph.cursor.stage = graph.value(value).stage;
  if (const std::string axes = spread_axes(graph, value); !axes.empty())
    value = graph.add1("all_reduce", {value}, {{"axes", axes}, {"reduce", std::string("sum")}});
  graph.cursor.stage = kEveryStage;
  if (graph.stages() > 1 && graph.value(value).stage != kEveryStage) value = graph.add1("add_stages", {value});
  return value;
}

// "loss" and "tokens" become sums over the micro-batches and ranks.
void accumulate_outputs(Graph& graph) {
  for (const char* name : {"loss", "tokens"}) {
    const ValueId value = graph.output(name);
    if (value == 0) throw Error("model", std::string("set no output \"") + name + '"', "call set_output in build");
    graph.cursor = {};
    graph.cursor.origin = "core";
    graph.cursor.stage = graph.value(value).stage;
    const ValueId sum = graph.add1("accumulate", {value});
    graph.cursor.phase = Phase::kTail;
    graph.infer_all();
    graph.set_output(name, sum_over_ranks(graph, sum));
  }
  graph.cursor = {};
}

// `replicate` has done its work once autodiff has seen it.
void remove_replicate(Graph& graph) {
  const std::vector<NodeId> order = graph.order();
  for (NodeId id : order) {
    if (graph.node(id).op != "replicate") continue;
    graph.replace_uses(graph.node(id).outputs[0], graph.node(id).inputs[0]);
    graph.erase(id);
  }
}

void fuse_where_supported(Graph& graph, KernelChain& chain) {
  fuse(graph, [&chain](const Graph& g, const Candidate& candidate) {
    const Node& node = candidate.node;
    std::vector<km_tensor> inputs, outputs;
    std::vector<Type> types;
    for (ValueId in : node.inputs) {
      types.push_back(g.value(in).type);
      inputs.push_back(to_abi(types.back()));
    }
    for (const Type& type : g.rules(node.op).shape(node, types)) outputs.push_back(to_abi(type));
    OpRequest request(node.op, inputs, outputs, node.attributes, 0);
    if (!chain.supported(request)) return false;
    if (!candidate.addend_apart_needed) return true;
    return (chain.choose(request).support.flags & KM_SUPPORT_ADDEND_APART) != 0;
  });
}

void finish(Graph& graph, KernelChain& chain, const TrainingOptions& options) {
  graph.erase_dead();
  graph.check();
  chain.rewrite(graph, true);
  if (options.fuse) fuse_where_supported(graph, chain);
  graph.erase_dead();
  graph.cursor = {};
  graph.check();
}

// Σ g² over all parameters and ranks. What lies divided over the same axes is added up first, so that each set of axes needs
// one sum over ranks; a tied copy is no parameter of its own.
ValueId total_squares(Graph& graph) {
  std::map<std::pair<int32_t, std::string>, ValueId> sums; // by stage and axes
  for (ValueId parameter : graph.parameters()) {
    const Value& p = graph.value(parameter);
    if (p.tied_to) continue;
    graph.cursor.layer = p.layer;
    graph.cursor.stage = p.stage;
    const ValueId gradient = graph.gradients().at(parameter);
    const ValueId squares = graph.add1("sum_squares", {gradient});
    ValueId& sum = sums[{p.stage, spread_axes(graph, gradient)}];
    sum = sum == 0 ? squares : graph.add1("add", {sum, squares});
  }
  graph.cursor.layer = -1;
  std::map<int32_t, ValueId> by_stage;
  for (auto& [key, value] : sums) {
    const auto& [stage, axes] = key;
    graph.cursor.stage = stage;
    ValueId sum = value;
    if (!axes.empty()) sum = graph.add1("all_reduce", {sum}, {{"axes", axes}, {"reduce", std::string("sum")}});
    ValueId& total = by_stage[stage];
    total = total == 0 ? sum : graph.add1("add", {total, sum});
  }
  graph.cursor.stage = kEveryStage;
  if (graph.stages() == 1) return by_stage.empty() ? 0 : by_stage.begin()->second;
  std::vector<ValueId> totals;
  for (const auto& [stage, total] : by_stage) totals.push_back(total);
  return graph.add1("add_stages", totals);
}

// The tail: gradient norm over all parameters, the one factor for all gradients, then each parameter's update.
void add_update(Graph& graph, const Optimizer& optimizer, double clip) {
  graph.cursor = {};
  graph.cursor.phase = Phase::kTail;
  graph.cursor.origin = "core";
  const ValueId total = total_squares(graph);
  if (total == 0) throw Error("model", "has no parameter");
  graph.cursor.stage = graph.stages() > 1 ? kEveryStage : 0;
  const std::vector<ValueId> scale =
      graph.add("gradient_scale", {total, graph.output("tokens"), graph.step_scalar("loss_scale")}, {{"clip", clip}});
  graph.set_tail_scalar("gradient_scale", scale[0]);
  graph.set_tail_scalar("gradient_norm", scale[1]);
  graph.set_tail_scalar("apply", scale[2]);
  graph.set_tail_scalar("tokens", graph.output("tokens"));
  graph.set_output("gradient_norm", scale[1]);
  for (ValueId parameter : graph.parameters()) {
    const Value& p = graph.value(parameter);
    if (optimizer.whole_matrix() && p.type.shape != (p.logical_shape.empty() ? p.type.shape : p.logical_shape))
      throw Error(optimizer.title(), p.name + " is divided over ranks, but the update needs whole matrices",
                  "use parallel.data.zero = 0 and no tensor parallelism with it, or another optimizer");
    graph.cursor.layer = p.layer;
    graph.cursor.stage = p.stage;
    graph.cursor.origin = optimizer.title();
    optimizer.update(graph, parameter, graph.gradients().at(parameter));
  }
  graph.cursor = {};
}

} // namespace

Model::Model(Host& host, const Component& component, const OptionValues& options)
    : table_(table_of<km_model>(component, "model", KM_MODEL_VERSION)), title_(component.title()) {
  check(table_.open(host.abi(), options.get(), &self_), title_, "open");
}

Model::~Model() { table_.close(self_); }

std::unique_ptr<Graph> Model::build(const km_model_shape& shape, const KernelChain& chain) const {
  auto graph = std::make_unique<Graph>(shape.mode);
  chain.add_providers(*graph);
  const Type ids{KM_I32, {shape.batch, shape.tokens}};
  for (const char* name : {"tokens", "targets", "segments"}) graph->declare_input(name, ids);
  graph->cursor.origin = title_;
  check_call(table_.build(self_, &shape, to_abi(graph.get())), title_, "build");
  graph->cursor = {};
  graph->check();
  chain.rewrite(*graph, false);
  return graph;
}

Optimizer::Optimizer(Host& host, const Component& component, const OptionValues& options)
    : table_(table_of<km_optimizer>(component, "optimizer", KM_OPTIMIZER_VERSION)), title_(component.title()) {
  check(table_.open(host.abi(), options.get(), &self_), title_, "open");
}

Optimizer::~Optimizer() { table_.close(self_); }

void Optimizer::update(Graph& graph, ValueId parameter, ValueId gradient) const {
  check_call(table_.update(self_, to_abi(&graph), parameter, gradient), title_,
             "update of " + graph.value(parameter).name);
}

void make_training_graph(Graph& graph, const Optimizer& optimizer, KernelChain& chain, const Strategies& strategies,
                         const TrainingOptions& options) {
  autodiff(graph);
  graph.check();
  graph.infer_all();
  strategies.rewrite_training(graph);
  if (options.bf16) use_bf16(graph);
  accumulate_outputs(graph);
  recompute(graph);
  graph.infer_all();
  add_update(graph, optimizer, options.clip);
  graph.infer_all();
  resolve_norms(graph);
  remove_replicate(graph);
  graph.infer_all();
  check_final(graph);
  finish(graph, chain, options);
}

void make_evaluation_graph(Graph& graph, KernelChain& chain, const TrainingOptions& options) {
  remove_dropout(graph);
  remove_replicate(graph);
  if (options.bf16) use_bf16(graph);
  accumulate_outputs(graph);
  graph.infer_all();
  finish(graph, chain, options);
}

void make_generation_graph(Graph& graph, KernelChain& chain, const TrainingOptions& options) {
  remove_dropout(graph);
  remove_replicate(graph);
  if (options.bf16) use_bf16(graph);
  if (graph.stages() > 1) { // each rank draws the next token, from the logits that the last stage makes
    graph.cursor = {};
    graph.cursor.origin = "core";
    graph.cursor.stage = kEveryStage;
    graph.set_output("logits", graph.add1("add_stages", {graph.output("logits")}));
    graph.cursor = {};
  }
  graph.infer_all();
  finish(graph, chain, options);
}

ModelFlops training_flops(const Graph& forward) {
  double products = 0, attention = 0;
  for (NodeId id : forward.order()) {
    const Node& node = forward.node(id);
    if (node.op.starts_with("matmul")) products += cost(forward, node).flops;
    if (node.op == "attention") {
      const Shape& q = forward.value(node.inputs[0]).type.shape; // [batch, tokens, heads x head_width]
      const Shape& k = forward.value(node.inputs[1]).type.shape;
      attention += 4.0 * static_cast<double>(q[0] * q[1] * q[2]) * static_cast<double>(k[1]);
    }
  }
  return {3 * (products + attention), 3 * (products + attention / 2)};
}

} // namespace kumiki
