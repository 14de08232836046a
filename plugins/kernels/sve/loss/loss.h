/* The vector loops of projection_cross_entropy, on one thread, over tiles of transposed logits [rows of the vocabulary,
 * pitch]: one token a column, so that maximum and sum need no horizontal steps. Columns come in whole vectors. */
#ifndef KUMIKI_PLUGINS_KERNELS_SVE_LOSS_LOSS_H
#define KUMIKI_PLUGINS_KERNELS_SVE_LOSS_LOSS_H

#include <cstdint>

namespace kumiki::sve {

/* For each column j < columns: maximum[j] = max over rows, sum[j] = Σ e^(x − maximum[j]). */
void tile_statistics(const float* tile, int64_t rows, int64_t columns, int64_t pitch, float* maximum, float* sum);

/* In place: x = scale[j] · e^(x − log_sum[j]). */
void tile_gradient(float* tile, int64_t rows, int64_t columns, int64_t pitch, const float* log_sum, const float* scale);

} // namespace kumiki::sve

#endif
