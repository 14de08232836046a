/* A component's functions that the adapters of this folder call: what differs between instruction sets. Each is called
 * for a range of rows or elements, on one thread of the pool. */
#ifndef KUMIKI_PLUGINS_KERNELS_HOST_FUNCTIONS_H
#define KUMIKI_PLUGINS_KERNELS_HOST_FUNCTIONS_H

#include "plugins/kernels/host/attention.h"
#include "plugins/kernels/host/elementwise.h"
#include "plugins/kernels/host/loss.h"
#include "plugins/kernels/host/norm.h"
#include "plugins/kernels/host/position.h"
#include "plugins/kernels/host/product.h"
#include "plugins/kernels/host/update.h"

namespace kumiki::kernels {

struct Functions {
  const AttentionFunctions* attention;
  const ElementwiseFunctions* elementwise;
  const LossFunctions* loss;
  const NormFunctions* norm;
  const PositionFunctions* position;
  const ProductFunctions* product;
  const UpdateFunctions* update;
};

} // namespace kumiki::kernels

#endif
