// Products in bf16: parameters, states and all other values stay f32, sums too; only what a product multiplies is cast.
// In: a graph after autodiff (or a forward graph). Out: the same graph with `cast` nodes. Floor: graph.
#pragma once

#include "core/graph/graph.h"

namespace kumiki {

// Puts a `cast` to bf16 before both operands of every matmul, matmul_bias and matmul_group of the body that takes
// f32; one cast a value, shared by its readers. The cast of a value that does not vary and that no node makes (a
// parameter) stands in the head: once a step. Others stand right behind the node that makes the value and take its
// layer, stage and part.
void use_bf16(Graph& graph);

} // namespace kumiki
