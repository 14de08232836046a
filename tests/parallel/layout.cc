#include "tests/parallel/layout.h"

#include <dlfcn.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <stdexcept>

#include "core/graph/recompute.h"
#include "kumiki/plugin.h"

namespace kumiki::test {
namespace {

constexpr const char* kPlugin = "./plugins/parallel/parallel.so";

void infer_and_check(Graph& graph) {
  graph.infer_all();
  graph.check();
}

// The axes along which ranks hold different things, outer ones first, as an op names them.
std::string spread_axes(const Graph& graph, ValueId value) {
  std::string axes;
  for (size_t i = graph.axes().size(); i-- > 0;)
    if (graph.placement(value, i).spread != Spread::kReplicated)
      axes += (axes.empty() ? "" : ",") + graph.axes()[i].name;
  return axes;
}

ValueId all_reduced(Graph& graph, ValueId value, const std::string& axes) {
  if (axes.empty()) return value;
  return graph.add1("all_reduce", {value}, {{"axes", axes}, {"reduce", std::string("sum")}});
}

void stand_in_tail(Graph& graph, int32_t stage) {
  graph.cursor = {};
  graph.cursor.phase = Phase::kTail;
  graph.cursor.stage = stage;
  graph.cursor.origin = "core";
}

ValueId over_stages(Graph& graph, const std::vector<ValueId>& values) {
  stand_in_tail(graph, kEveryStage);
  if (graph.stages() > 1) return graph.add1("add_stages", values);
  ValueId sum = values[0];
  for (size_t i = 1; i < values.size(); ++i) sum = graph.add1("add", {sum, values[i]});
  return sum;
}

// Sums over micro-batches, ranks and stages.
void sum_outputs(Graph& graph) {
  for (const char* name : {"loss", "tokens"}) {
    const ValueId value = graph.output(name);
    graph.cursor = {};
    graph.cursor.origin = "core";
    graph.cursor.stage = graph.value(value).stage;
    const ValueId sum = graph.add1("accumulate", {value});
    graph.infer_all();
    stand_in_tail(graph, graph.value(value).stage);
    graph.set_output(name, over_stages(graph, {all_reduced(graph, sum, spread_axes(graph, sum))}));
  }
}

// Σ g² of all parameters, tied copies counted once.
ValueId total_squares(Graph& graph) {
  std::map<std::pair<int32_t, std::string>, ValueId> sums; // by stage and the axes that the gradient lies over
  for (const ValueId parameter : graph.parameters()) {
    if (graph.value(parameter).tied_to) continue;
    const int32_t stage = graph.value(parameter).stage;
    const ValueId gradient = graph.gradients().at(parameter);
    stand_in_tail(graph, stage);
    const ValueId squares = graph.add1("sum_squares", {gradient});
    ValueId& sum = sums[{stage, spread_axes(graph, gradient)}];
    sum = sum ? graph.add1("add", {sum, squares}) : squares;
  }
  std::map<int32_t, ValueId> by_stage;
  for (const auto& [key, sum] : sums) {
    stand_in_tail(graph, key.first);
    const ValueId whole = all_reduced(graph, sum, key.second);
    ValueId& total = by_stage[key.first];
    total = total ? graph.add1("add", {total, whole}) : whole;
  }
  std::vector<ValueId> totals;
  for (const auto& [stage, total] : by_stage) totals.push_back(total);
  return over_stages(graph, totals);
}

void add_sgd(Graph& graph, ValueId parameter, ValueId gradient) {
  const ValueId rate =
      graph.add1("multiply", {graph.step_scalar("learning_rate"), graph.step_scalar("gradient_scale")});
  graph.assign(parameter, graph.add1("subtract", {parameter, graph.add1("multiply", {gradient, rate})}));
}

void add_adamw(Graph& graph, ValueId parameter, ValueId gradient) {
  const Type type = graph.value(parameter).type;
  const double decay = graph.value(parameter).decay ? 0.1 : 0.0;
  const ValueId m = graph.add_state(parameter, "m", type), v = graph.add_state(parameter, "v", type);
  const std::vector<ValueId> next =
      graph.add("adamw_update",
                {parameter, gradient, m, v, graph.step_scalar("learning_rate"), graph.step_scalar("step"),
                 graph.step_scalar("gradient_scale"), graph.step_scalar("apply")},
                {{"beta1", 0.9}, {"beta2", 0.99}, {"epsilon", 1e-5}, {"weight_decay", decay}});
  graph.assign(parameter, next[0]);
  graph.assign(m, next[1]);
  graph.assign(v, next[2]);
}

void add_update(Graph& graph, Update update) {
  constexpr double kClip = 0.5; // below the norm of the tests' gradients: the factor is at work
  const ValueId total = total_squares(graph);
  stand_in_tail(graph, graph.stages() > 1 ? kEveryStage : 0);
  const std::vector<ValueId> scale =
      graph.add("gradient_scale", {total, graph.output("tokens"), graph.step_scalar("loss_scale")}, {{"clip", kClip}});
  graph.set_tail_scalar("gradient_scale", scale[0]);
  graph.set_tail_scalar("gradient_norm", scale[1]);
  graph.set_tail_scalar("apply", scale[2]);
  graph.set_tail_scalar("tokens", graph.output("tokens"));
  graph.set_output("gradient_norm", scale[1]);
  const std::vector<ValueId> parameters = graph.parameters();
  for (const ValueId parameter : parameters) {
    stand_in_tail(graph, graph.value(parameter).stage);
    (update == Update::kSgd ? add_sgd : add_adamw)(graph, parameter, graph.gradients().at(parameter));
  }
  graph.cursor = {};
}

void remove_replicate(Graph& graph) {
  const std::vector<NodeId> order = graph.order();
  for (const NodeId id : order) {
    if (graph.node(id).op != "replicate") continue;
    graph.replace_uses(graph.node(id).outputs[0], graph.node(id).inputs[0]);
    graph.erase(id);
  }
}

} // namespace

std::string Layout::text() const {
  std::string text;
  const auto say = [&](const std::string& more) { text += (text.empty() ? "" : ", ") + more; };
  if (tensor > 1) say("tensor " + std::to_string(tensor) + (sequence ? " sequence" : ""));
  if (context > 1) say("context " + std::to_string(context) + (again ? " again" : ""));
  if (pipeline > 1)
    say("pipeline " + std::to_string(pipeline) + " " + schedule + (chunks ? " " + std::to_string(chunks) : ""));
  if (data > 1) say("data " + std::to_string(data) + " zero " + std::to_string(zero));
  if (data_innermost) say("data innermost");
  if (!recompute.empty()) say("recompute " + recompute);
  return text.empty() ? "one rank" : text;
}

Strategy::Strategy(const std::string& name, const std::map<std::string, std::string>& options) {
  library_ = dlopen(kPlugin, RTLD_NOW | RTLD_LOCAL);
  if (library_ == nullptr) throw std::runtime_error(dlerror());
  const auto entry = reinterpret_cast<km_plugin_entry>(dlsym(library_, KM_PLUGIN_SYMBOL));
  const km_plugin* plugin = entry ? entry(Component::host()) : nullptr;
  if (plugin == nullptr) throw std::runtime_error(Component::take_error());
  const km_component* component = nullptr;
  for (uint32_t i = 0; i < plugin->component_count; ++i)
    if (name == plugin->components[i].name) component = &plugin->components[i];
  if (component == nullptr) throw std::runtime_error("no strategy " + name);
  table_ = static_cast<const km_parallel_strategy*>(component->table);
  std::vector<km_option_value> values;
  for (uint32_t i = 0; i < component->option_count; ++i) {
    const km_option& option = component->options[i];
    const auto given = options.find(option.name);
    km_option_value value = {};
    value.name = option.name;
    value.type = option.type;
    value.given = given != options.end();
    value.string = value.given ? given->second.c_str() : option.default_text ? option.default_text : "";
    value.i64 = option.type == KM_OPTION_BOOL ? std::strcmp(value.string, "true") == 0
                                              : std::strtoll(value.string, nullptr, 10);
    values.push_back(value);
  }
  const km_options all = {sizeof(km_options), static_cast<uint32_t>(values.size()), values.data()};
  if (table_->open(Component::host(), &all, &self_) == KM_OK) return;
  dlclose(library_);
  throw std::runtime_error(Component::take_error());
}

Strategy::~Strategy() {
  table_->close(self_);
  dlclose(library_);
}

Mesh::Mesh(const Layout& layout, int64_t rank) {
  using Options = std::map<std::string, std::string>;
  int64_t stride = 1;
  const auto add = [&](const char* name, int64_t degree, const Options& options) {
    auto strategy = std::make_unique<Strategy>(name, options);
    km_axis axis = {sizeof(km_axis), 1, 0, 0, name};
    if (degree > 1) {
      const int64_t coordinate = rank / stride % degree;
      axis.degree = static_cast<uint32_t>(degree);
      axis.coordinate = static_cast<uint32_t>(coordinate);
      axis.index = static_cast<uint32_t>(axes_.size());
      axes_.push_back({name, degree, coordinate, strategy->table().level});
      stride *= degree;
    }
    strategies_.push_back({name, std::move(strategy), axis});
  };
  const auto add_tensor = [&] {
    if (layout.tensor > 1) add("tensor", layout.tensor, {{"sequence", layout.sequence ? "true" : "false"}});
  };
  const auto add_data = [&] {
    if (layout.data > 1)
      add("data", layout.data, {{"zero", std::to_string(layout.zero)}, {"bucket", std::to_string(layout.bucket)}});
  };
  layout.data_innermost ? add_data() : add_tensor();
  if (layout.context > 1)
    add("context", layout.context,
        {{"again", layout.again ? "true" : "false"}, {"bucket", std::to_string(layout.bucket)}});
  if (layout.pipeline > 1)
    add("pipeline", layout.pipeline, {{"schedule", layout.schedule}, {"chunks", std::to_string(layout.chunks)}});
  layout.data_innermost ? add_tensor() : add_data();
  if (!layout.recompute.empty())
    add("recompute", 1, {{"mode", layout.recompute}, {"layers", std::to_string(layout.recompute_layers)}});
  std::stable_sort(strategies_.begin(), strategies_.end(), [](const Placed& a, const Placed& b) {
    return a.strategy->table().level < b.strategy->table().level;
  });
}

int64_t Mesh::coordinate(const std::string& name) const {
  for (const Axis& axis : axes_)
    if (axis.name == name) return axis.coordinate;
  return 0;
}

bool Mesh::owns(int32_t stage) const {
  if (stage == kEveryStage) return true;
  for (const Axis& axis : axes_)
    if (axis.name == "pipeline") return stage % axis.degree == axis.coordinate;
  return true;
}

void Mesh::call(Graph& graph, bool forward, const After& after) const {
  for (const Placed& placed : strategies_) {
    const km_parallel_strategy& table = placed.strategy->table();
    const auto function = forward ? table.rewrite_forward : table.rewrite_training;
    if (!function) continue;
    graph.cursor = {};
    graph.cursor.origin = "parallel " + placed.name;
    const km_status status = function(placed.strategy->self(), to_abi(&graph), &placed.axis);
    const std::string refused = take_service_error();
    const std::string said = Component::take_error();
    if (!refused.empty()) throw std::runtime_error(placed.name + ": " + refused);
    if (status != KM_OK) throw std::runtime_error(said);
    graph.cursor = {};
    if (after) after(placed.name + (forward ? " forward" : " training"), graph);
    infer_and_check(graph);
  }
}

void Mesh::rewrite_forward(Graph& graph, const After& after) const {
  graph.set_axes(axes_);
  for (const char* name : {"tokens", "targets", "segments"}) {
    const ValueId input = graph.find(name);
    if (input == 0 || graph.value(input).kind != ValueKind::kInput) continue;
    graph.value(input).placements.resize(axes_.size());
    if (graph.mode() != KM_MODE_TRAIN) continue; // generation: all ranks read the same text
    for (const Placed& placed : strategies_)
      if (placed.axis.degree > 1 && (placed.strategy->table().flags & KM_PARALLEL_BATCH))
        graph.value(input).placements[placed.axis.index] = {Spread::kSharded, 0};
  }
  infer_and_check(graph);
  call(graph, true, after);
}

void Mesh::rewrite_training(Graph& graph, const After& after) const { call(graph, false, after); }

std::vector<Mesh::Entry> Mesh::schedule(int32_t stages, int32_t micro_batches, bool training) const {
  std::vector<Entry> entries;
  for (const Placed& placed : strategies_) {
    if (!placed.strategy->table().schedule) continue;
    km_schedule view = {};
    view.struct_size = sizeof view;
    view.stages = static_cast<uint32_t>(stages);
    view.degree = placed.axis.degree;
    view.coordinate = placed.axis.coordinate;
    view.micro_batches = static_cast<uint32_t>(micro_batches);
    view.training = training;
    view.sink = &entries;
    view.emit = [](const km_schedule* schedule, uint32_t part, uint32_t stage, uint32_t micro) {
      static_cast<std::vector<Entry>*>(schedule->sink)
          ->push_back({part, static_cast<int32_t>(stage), static_cast<int32_t>(micro)});
    };
    if (placed.strategy->table().schedule(placed.strategy->self(), &view) != KM_OK)
      throw std::runtime_error(Component::take_error());
    return entries;
  }
  for (int32_t m = 0; m < micro_batches; ++m) {
    entries.push_back({KM_PART_FORWARD, 0, m});
    if (!training) continue;
    entries.push_back({KM_PART_BACKWARD, 0, m});
    entries.push_back({KM_PART_WEIGHT, 0, m});
  }
  return entries;
}

void make_inference_graph(Graph& graph) {
  const std::vector<NodeId> order = graph.order();
  for (const NodeId id : order) {
    if (graph.node(id).op != "dropout") continue;
    graph.replace_uses(graph.node(id).outputs[0], graph.node(id).inputs[0]);
    graph.erase(id);
  }
  remove_replicate(graph);
  if (graph.mode() == KM_MODE_TRAIN) sum_outputs(graph);
  infer_and_check(graph);
  check_final(graph);
}

void make_training_graph(Graph& graph, const Mesh& mesh, Update update, const Mesh::After& after) {
  mesh.rewrite_forward(graph, after);
  autodiff(graph);
  infer_and_check(graph);
  mesh.rewrite_training(graph, after);
  sum_outputs(graph);
  recompute(graph);
  infer_and_check(graph);
  add_update(graph, update);
  remove_replicate(graph);
  if (after) after("update", graph);
  infer_and_check(graph);
  check_final(graph);
}

} // namespace kumiki::test
