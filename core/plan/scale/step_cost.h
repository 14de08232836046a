// StepCost: how long a step of a plan takes on a machine: the longer of its arithmetic and its traffic with memory. In:
// steps of a plan and the graph that it was made from. Out: seconds. Floor: plan.
#pragma once

#include <string>

#include "core/plan/plan.h"
#include "core/plan/scale/machine.h"

namespace kumiki {

class StepCost {
 public:
  StepCost(const Machine& machine, const Graph& graph) : machine_(machine), graph_(graph) {}
  // Of what is computed; 0 for messages. max(flops / (peak · efficiency), bytes / (bandwidth · efficiency)) + overhead.
  double seconds(const Step& step) const;
  // "matmul", "matmul_skinny", "attention", "attention_backward", "projection", "elementwise".
  std::string op_class(const Step& step) const;
  // The smallest of M, N, K of a product; 0 for other ops.
  double smallest(const Step& step) const;

 private:
  // Of the peak, that a step of class `of` reaches.
  double share(const Step& step, const std::string& of) const;
  bool in_bf16(const Step& step) const;
  const Machine& machine_;
  const Graph& graph_;
};

} // namespace kumiki
