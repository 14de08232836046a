/* The table of functions behind the component `sve`: what plugin.cc hands to once it knows that the processor has SVE.
 * plugin.cc is the one file of this folder that is compiled without SVE. */
#ifndef KUMIKI_PLUGINS_KERNELS_SVE_COMPONENT_H
#define KUMIKI_PLUGINS_KERNELS_SVE_COMPONENT_H

#include "kumiki/kernels.h"

namespace kumiki::sve {

extern const km_kernels kSveKernels;

} // namespace kumiki::sve

#endif
