// What composed optimizers in this folder share: an Update adds the nodes of one parameter's update in few words, and
// open_as makes an instance. In: the arguments of km_optimizer::update. Out: nodes and assigns in the graph's tail. Errors
// of single calls are kept by the graph service, which fails the whole update with the first.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <new>

#include "kumiki/optimizer.h"

namespace kumiki::optimizers {

class Update {
 public:
  Update(const km_graph_service& service, km_graph* graph, km_value parameter, km_value gradient)
      : service_(service), graph_(graph), parameter_(parameter), gradient_(gradient) {
    info_.struct_size = sizeof info_;
    service_.value_info(graph, parameter, &info_);
  }

  // Of the parameter. The strings in it are valid until the graph changes.
  const km_value_info& info() const { return info_; }
  km_value parameter() const { return parameter_; }
  km_value raw_gradient() const { return gradient_; } // summed, not yet scaled

  // The true gradient: averaged over tokens and clipped.
  km_value gradient() const { return op("multiply", {gradient_, scalar("gradient_scale")}); }
  km_value scalar(const char* name) const { return service_.step_scalar(graph_, name); }
  km_value constant(double value) const { return service_.constant(graph_, value); }
  // A state of the parameter's shape, zero at the start.
  km_value state(const char* name) const { return service_.add_state(graph_, parameter_, name, &info_.tensor); }

  // Adds a node and returns its first output; `outputs` (KM_MAX_OUTPUTS of them) gets all where it is given.
  km_value op(const char* name, std::initializer_list<km_value> inputs,
              std::initializer_list<km_attribute> attributes = {}, km_value* outputs = nullptr) const {
    return service_.add_node(graph_, name, inputs.begin(), static_cast<uint32_t>(inputs.size()), attributes.begin(),
                             static_cast<uint32_t>(attributes.size()), outputs);
  }
  km_value scaled(km_value x, double factor) const { return op("scale", {x}, {km_f64("factor", factor)}); }
  // share · a + (1 − share) · b
  km_value mix(km_value a, km_value b, double share) const {
    return op("add", {scaled(a, share), scaled(b, 1 - share)});
  }
  // direction + decay · parameter, where the model marks the parameter for decay.
  km_value decayed(km_value direction, double decay) const {
    return info_.decay && decay > 0 ? op("add", {direction, scaled(parameter_, decay)}) : direction;
  }

  void assign(km_value state, km_value value) const { service_.assign(graph_, state, value); }
  // parameter ← parameter − rate · direction
  void descend(km_value direction, km_value rate) const {
    assign(parameter_, op("subtract", {parameter_, op("multiply", {direction, rate})}));
  }

 private:
  const km_graph_service& service_;
  km_graph* graph_;
  km_value parameter_, gradient_;
  km_value_info info_ = {};
};

// What every optimizer here keeps; its own numbers are added by inheritance.
struct Instance {
  const km_host* host = nullptr;
  const km_graph_service* service = nullptr;
};

// km_optimizer::open: makes a T (an Instance) and lets read(instance) fill it from the options; its status is ours.
template <typename T, typename Read>
km_status open_as(const km_host* host, void** self, Read read) {
  T instance;
  instance.host = host;
  instance.service = static_cast<const km_graph_service*>(host->service(host, KM_GRAPH_SERVICE));
  if (instance.service == nullptr) return host->fail(host, KM_ERROR_HOST, "no service %s", KM_GRAPH_SERVICE);
  if (const km_status status = read(instance); status != KM_OK) return status;
  T* made = new (std::nothrow) T(instance);
  if (made == nullptr) return host->fail(host, KM_ERROR_SYSTEM, "optimizer: out of memory");
  *self = made;
  return KM_OK;
}

} // namespace kumiki::optimizers
