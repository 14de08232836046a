#include "core/plan/chain.h"

#include <algorithm>

#include "core/base/error.h"
#include "core/base/log.h"

namespace kumiki {
namespace {

struct AttributeText {
  std::string operator()(int64_t v) const { return std::to_string(v); }
  std::string operator()(double v) const {
    char buffer[32];
    std::snprintf(buffer, sizeof buffer, "%.17g", v);
    return buffer;
  }
  std::string operator()(const std::string& v) const { return v; }
  std::string operator()(const std::vector<int64_t>& v) const {
    std::string text = "[";
    for (size_t i = 0; i < v.size(); ++i) text += (i ? "," : "") + std::to_string(v[i]);
    return text + "]";
  }
};

} // namespace

// ---- OpRequest ----

OpRequest::OpRequest(const Graph& graph, const Node& node, uint32_t may_prepack)
    : name_(node.op), attributes_(node.attributes) {
  for (ValueId in : node.inputs) inputs_.push_back(to_abi(graph.value(in).type));
  for (ValueId out : node.outputs) outputs_.push_back(to_abi(graph.value(out).type));
  fill(may_prepack);
}

OpRequest::OpRequest(const std::string& op, std::vector<km_tensor> inputs, std::vector<km_tensor> outputs,
                     const Attributes& attributes, uint32_t may_prepack)
    : name_(op), inputs_(std::move(inputs)), outputs_(std::move(outputs)), attributes_(attributes) {
  fill(may_prepack);
}

void OpRequest::fill(uint32_t may_prepack) {
  abi_attributes_ = to_abi(attributes_);
  op_.struct_size = sizeof op_;
  op_.name = name_.c_str();
  op_.n_inputs = static_cast<uint32_t>(inputs_.size());
  op_.n_outputs = static_cast<uint32_t>(outputs_.size());
  op_.n_attributes = static_cast<uint32_t>(abi_attributes_.size());
  op_.inputs = inputs_.data();
  op_.outputs = outputs_.data();
  op_.attributes = abi_attributes_.data();
  request_.struct_size = sizeof request_;
  request_.may_prepack = may_prepack;
  request_.op = &op_;
}

std::string OpRequest::text() const {
  std::string text = name_;
  for (const km_tensor& t : inputs_) text += ' ' + to_text(from_abi(t));
  for (const auto& [name, value] : attributes_) text += ' ' + name + '=' + std::visit(AttributeText{}, value);
  return text;
}

// ---- KernelChain ----

// The rules of one op of one member, from "kumiki.op/1".
struct KernelChain::PluginRules {
  Host* host = nullptr;
  std::string member;
  void* self = nullptr;
  km_op_rules table{};
  std::map<std::string, OpRules> by_name;

  const OpRules* find(const std::string& op) {
    if (auto it = by_name.find(op); it != by_name.end()) return &it->second;
    if (!table.knows(self, op.c_str())) return nullptr;
    OpRules rules;
    rules.name = op;
    rules.shape = [this](const Node& node, const std::vector<Type>& inputs) { return shape(node, inputs); };
    if (table.derivative) {
      rules.derivative = [this](Graph& graph, const Node& node, size_t input, const std::vector<ValueId>& gradients) {
        ValueId result = 0;
        const km_status status = table.derivative(self, host->abi(), to_abi(&graph), node.id,
                                                  static_cast<uint32_t>(input), gradients.data(), &result);
        if (const std::string text = take_service_error(); !text.empty())
          throw Error("kernels " + member, "derivative of " + node.op + ": " + text);
        check(status, "kernels " + member, "derivative of an op");
        return result;
      };
    }
    if (table.placement) {
      rules.placement = [this](const Graph& graph, const Node& node, const std::vector<Placement>& inputs,
                               size_t output, size_t) { return placement(graph, node, inputs, output); };
    }
    return &by_name.emplace(op, std::move(rules)).first->second;
  }

  // A node and its inputs in ABI form; the km_op points into it.
  struct AbiNode {
    std::vector<km_tensor> inputs;
    std::vector<km_attribute> attributes;
    km_op op{};
    AbiNode(const Node& node, const std::vector<Type>& types) : attributes(to_abi(node.attributes)) {
      for (const Type& type : types) inputs.push_back(to_abi(type));
      op.struct_size = sizeof op;
      op.name = node.op.c_str();
      op.n_inputs = static_cast<uint32_t>(inputs.size());
      op.inputs = inputs.data();
      op.n_attributes = static_cast<uint32_t>(attributes.size());
      op.attributes = attributes.data();
    }
    AbiNode(const AbiNode&) = delete;
  };

  Placement placement(const Graph& graph, const Node& node, const std::vector<Placement>& inputs, size_t output) const {
    std::vector<Type> types;
    for (const ValueId input : node.inputs) types.push_back(graph.value(input).type);
    const AbiNode abi(node, types);
    std::vector<km_placement> in;
    for (const Placement& p : inputs) in.push_back({static_cast<uint32_t>(p.spread) + KM_REPLICATED, p.dim});
    km_placement result{};
    // The graph's inference says at which node and along which axis.
    if (table.placement(self, host->abi(), &abi.op, in.data(), static_cast<uint32_t>(output), &result) != KM_OK)
      throw Error("", Host::take_error());
    if (result.spread < KM_REPLICATED || result.spread > KM_PARTIAL_MAX)
      throw Error("kernels " + member,
                  "the placement rule of " + node.op + " gave a spread that is none: " + std::to_string(result.spread));
    return {static_cast<Spread>(result.spread - KM_REPLICATED), result.spread == KM_SHARDED ? result.dim : 0};
  }

  std::vector<Type> shape(const Node& node, const std::vector<Type>& inputs) const {
    const AbiNode abi(node, inputs);
    km_tensor out[KM_MAX_OUTPUTS] = {};
    uint32_t n = 0;
    check(table.shape(self, host->abi(), &abi.op, out, &n), "kernels " + member, "shape of " + node.op);
    if (n > KM_MAX_OUTPUTS) throw Error("kernels " + member, "the shape rule of " + node.op + " gave too many outputs");
    std::vector<Type> types;
    for (uint32_t i = 0; i < n; ++i) types.push_back(from_abi(out[i]));
    return types;
  }
};

KernelChain::KernelChain(Host& host, const std::vector<std::pair<const Component*, OptionValues>>& components)
    : host_(host) {
  std::string reasons;
  const km_device* device = nullptr;
  km_device device_table{};
  for (const auto& [component, options] : components) {
    Member member;
    member.name = component->name;
    member.plugin = component->plugin->name + " " + component->plugin->version;
    member.table = table_of<km_kernels>(*component, "kernels", KM_KERNELS_VERSION);
    const km_status status = member.table.open(host.abi(), options.get(), &member.self);
    if (status == KM_UNSUPPORTED) {
      const std::string why = Host::take_error();
      log_info("kernels " + member.name + " left out: " + (why.empty() ? "this machine cannot run it" : why));
      reasons += "\n  " + member.name + ": " + why;
      continue;
    }
    check(status, component->title(), "open");
    members_.push_back(member);
    const void* ability = member.table.ability ? member.table.ability(member.self, KM_DEVICE_ABILITY) : nullptr;
    if (ability) {
      if (device)
        throw Error("kernels " + member.name, "brings a second device; all kernels of a run share one",
                    "remove it from [kernels] use");
      device_table = ability_of<km_device>(ability);
      device = static_cast<const km_device*>(ability);
      device_ = make_plugin_device(member.name, member.self, device);
    }
  }
  if (members_.empty())
    throw Error("[kernels] use", "no component of the chain can run on this machine" + reasons,
                "add \"reference\", which runs anywhere");
  if (!device_) device_ = make_host_device();
  // A component without a device computes on the host; beside one that has its own it could not reach the memory.
  if (!device_->is_host()) {
    std::erase_if(members_, [&](Member& m) {
      const bool same = m.table.ability && m.table.ability(m.self, KM_DEVICE_ABILITY);
      if (!same) {
        log_info("kernels " + m.name + " left out: it computes on the host, the run on " + device_->name());
        m.table.close(m.self);
      }
      return !same;
    });
  }
  for (const Member& member : members_) {
    const void* ability = member.table.ability ? member.table.ability(member.self, KM_OP_ABILITY) : nullptr;
    if (!ability) continue;
    auto rules = std::make_unique<PluginRules>();
    rules->host = &host_;
    rules->member = member.name;
    rules->self = member.self;
    rules->table = ability_of<km_op_rules>(ability);
    rules_.push_back(std::move(rules));
  }
}

KernelChain::~KernelChain() {
  for (auto& [key, kernel] : kernels_) members_[kernel.first].table.destroy(members_[kernel.first].self, kernel.second);
  device_.reset();
  for (Member& member : members_) member.table.close(member.self);
}

bool KernelChain::supported(const OpRequest& request) const {
  for (const Member& member : members_) {
    km_support support{};
    support.struct_size = sizeof support;
    if (member.table.query(member.self, request.get(), &support) == KM_OK) return true;
    Host::take_error();
  }
  return false;
}

KernelChain::Choice KernelChain::choose(const OpRequest& request) {
  std::vector<Choice> able;
  std::string said;
  for (uint32_t i = 0; i < members_.size(); ++i) {
    Choice choice;
    choice.member = i;
    choice.support.struct_size = sizeof choice.support;
    const km_status status = members_[i].table.query(members_[i].self, request.get(), &choice.support);
    if (status == KM_OK) {
      able.push_back(choice);
      if (!pick) break;
      continue;
    }
    const std::string why = Host::take_error();
    said += "\n  " + members_[i].name + ": " + (why.empty() ? "does not know it" : why);
    if (status != KM_UNSUPPORTED) check(status, "kernels " + members_[i].name, "query of " + request.text());
  }
  if (able.empty())
    throw Error("[kernels] use", "nobody in the chain can run " + request.text() + said,
                "add a component that can; \"reference\" has every built-in op");
  const Choice choice = able[pick && able.size() > 1 ? pick(request, able) : 0];
  std::string& chosen = chosen_[request.op().name];
  const std::string& name = members_[choice.member].name;
  if (chosen.find(name) == std::string::npos) chosen += (chosen.empty() ? "" : ", ") + name;
  return choice;
}

km_kernel* KernelChain::create(const Choice& choice, const OpRequest& request) {
  const std::string key =
      std::to_string(choice.member) + ' ' + std::to_string(request.get()->may_prepack) + ' ' + request.text();
  if (auto it = kernels_.find(key); it != kernels_.end()) return it->second.second;
  km_kernel* kernel = nullptr;
  const Member& member = members_[choice.member];
  check(member.table.create(member.self, request.get(), &kernel), "kernels " + member.name, "create " + request.text());
  kernels_[key] = {choice.member, kernel};
  return kernel;
}

void KernelChain::add_providers(Graph& graph) const {
  for (const auto& rules : rules_) graph.add_provider([r = rules.get()](const std::string& op) { return r->find(op); });
}

void KernelChain::rewrite(Graph& graph, bool training) const {
  for (const Member& member : members_) {
    const void* ability = member.table.ability ? member.table.ability(member.self, KM_REWRITE_ABILITY) : nullptr;
    if (!ability) continue;
    const km_rewrite table = ability_of<km_rewrite>(ability);
    const auto function = training ? table.training : table.forward;
    if (!function) continue;
    const std::string title = "kernels " + member.name;
    graph.cursor = {};
    graph.cursor.origin = title;
    const km_status status = function(member.self, host_.abi(), to_abi(&graph));
    graph.cursor = {};
    if (const std::string text = take_service_error(); !text.empty()) throw Error(title, "rewrite: " + text);
    check(status, title, "rewrite");
    try {
      graph.check();
    } catch (const Error& error) {
      throw Error(title, std::string("left the graph wrong: ") + error.what());
    }
  }
}

} // namespace kumiki
