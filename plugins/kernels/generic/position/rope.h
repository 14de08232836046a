/* Rotary position embedding of rows of heads, half-split order, on one thread. */
#ifndef KUMIKI_PLUGINS_KERNELS_GENERIC_POSITION_ROPE_H
#define KUMIKI_PLUGINS_KERNELS_GENERIC_POSITION_ROPE_H

#include <cstdint>

namespace kumiki::generic {

/* Turns one token's heads x [heads, width]: pair (i, i + width/2) by the angle whose cosine and sine stand at [i]. y
 * may be x. */
void rope_token(const float* x, const float* cosine, const float* sine, int64_t heads, int64_t width, float* y);

} // namespace kumiki::generic

#endif
