// A kernels component that stands for those of a machine which is not at hand: it takes every op, writes in place where
// one that goes over its elements once can, and runs none. In: requests of the planner. Out: what they need. Floor:
// plan.
#pragma once

#include "core/plugin/registry.h"

namespace kumiki {

// Component (kernels, "machine"), whose products and attention take `workspace_bytes` of scratch memory. It must
// outlive the chains that it is opened in.
class MachineKernels {
 public:
  explicit MachineKernels(uint64_t workspace_bytes);
  ~MachineKernels();
  MachineKernels(const MachineKernels&) = delete;
  MachineKernels& operator=(const MachineKernels&) = delete;
  const Component& component() const { return component_; }

 private:
  PluginInfo plugin_;
  Component component_;
  std::string workspace_;
};

} // namespace kumiki
