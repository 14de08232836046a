/* The vector loops of cross entropy, on one thread. Rows are logits [vocabulary]; tiles are transposed logits [rows of the vocabulary, pitch]:
 * one token a column, so that maximum and sum need no horizontal steps. Columns come in whole vectors. */
#ifndef KUMIKI_PLUGINS_KERNELS_SVE_LOSS_LOSS_H
#define KUMIKI_PLUGINS_KERNELS_SVE_LOSS_LOSS_H

#include <cstdint>

namespace kumiki::sve {

float row_maximum(const float* x, int64_t n);
/* Σ e^(x − maximum). */
float row_sum_exp(const float* x, int64_t n, float maximum);
/* y = scale · e^(x − log_sum); y may be x. */
void row_gradient(const float* x, int64_t n, float log_sum, float scale, float* y);

/* For each column j < columns: maximum[j] = max over rows, sum[j] = Σ e^(x − maximum[j]). */
void tile_statistics(const float* tile, int64_t rows, int64_t columns, int64_t pitch, float* maximum, float* sum);

/* In place: x = scale[j] · e^(x − log_sum[j]). */
void tile_gradient(float* tile, int64_t rows, int64_t columns, int64_t pitch, const float* log_sum, const float* scale);

} // namespace kumiki::sve

#endif
