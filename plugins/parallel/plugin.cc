// The plugin `parallel`: the built-in strategies in one table.
#include "components.h"

namespace kumiki::parallel {
namespace {

const km_component kComponents[] = {tensor_component(), context_component(), pipeline_component(), data_component(),
                                    recompute_component()};
const km_plugin kPlugin = {sizeof(km_plugin),
                           KM_ABI_MINOR,
                           "parallel",
                           "0.1.0",
                           "Kumiki",
                           "Apache-2.0",
                           kComponents,
                           sizeof kComponents / sizeof *kComponents,
                           sizeof(km_component),
                           sizeof(km_option),
                           0};

} // namespace
} // namespace kumiki::parallel

KM_PLUGIN(kumiki::parallel::kPlugin)
