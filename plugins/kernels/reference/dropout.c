/* dropout.c: random numbers by counter, and dropout on them. */
#include "ops.h"

void reference_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t word[4]) {
  uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3], k0 = key[0], k1 = key[1];
  for (int round = 0; round < 10; ++round) {
    uint64_t first = UINT64_C(0xD2511F53) * c0, second = UINT64_C(0xCD9E8D57) * c2;
    uint32_t next0 = (uint32_t)(second >> 32) ^ c1 ^ k0, next2 = (uint32_t)(first >> 32) ^ c3 ^ k1;
    c0 = next0, c1 = (uint32_t)second, c2 = next2, c3 = (uint32_t)first;
    k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
  }
  word[0] = c0, word[1] = c1, word[2] = c2, word[3] = c3;
}

km_status check_dropout(const km_host* host, const km_op* op, km_support* support) {
  REFERENCE_TRY(reference_check_counts(host, op, support, 3, 1, 0));
  REFERENCE_REQUIRE(op->inputs[0].dtype == KM_F32 && op->inputs[0].rank >= 1, "x must be f32 [batch, ...]");
  REFERENCE_REQUIRE(reference_same(&op->inputs[0], &op->outputs[0]), "y has not the shape of x");
  REFERENCE_REQUIRE(reference_is(&op->inputs[1], KM_I64, 0) && reference_is(&op->inputs[2], KM_I64, 0),
                    "seed and sample must be i64 []");
  double probability = km_attribute_f64(op, "probability", 0);
  REFERENCE_REQUIRE(probability >= 0 && probability < 1, "probability must be in [0, 1)");
  int64_t batch = op->inputs[0].dims[0], elements = batch ? km_elements(&op->inputs[0]) / batch : 0;
  REFERENCE_REQUIRE(reference_positions_fit(reference_positions_of(op, elements), INT64_MAX), "no such positions");
  support->in_place[0] |= 1u;
  return KM_OK;
}

km_status run_dropout(const reference_call* c) {
  const float* x = c->in[0];
  float* y = c->out[0];
  double probability = km_attribute_f64(c->op, "probability", 0);
  int64_t batch = c->op->inputs[0].dims[0], elements = batch ? km_elements(&c->op->inputs[0]) / batch : 0;
  reference_positions positions = reference_positions_of(c->op, elements);
  uint64_t seed = (uint64_t) * (const int64_t*)c->in[1], first_sample = (uint64_t) * (const int64_t*)c->in[2];
  uint32_t stream = (uint32_t)km_attribute_i64(c->op, "stream", 0);
  uint32_t key[2] = {(uint32_t)seed ^ stream, (uint32_t)(seed >> 32)};
  for (int64_t b = 0; b < batch; ++b) {
    uint64_t sample = first_sample + (uint64_t)b;
    for (int64_t e = 0; e < elements; ++e) {
      uint64_t number = (uint64_t)reference_position(positions, e), quad = number / 4;
      uint32_t counter[4] = {(uint32_t)quad, (uint32_t)(quad >> 32), (uint32_t)sample, (uint32_t)(sample >> 32)},
               word[4];
      reference_philox(counter, key, word);
      int kept = word[number % 4] >= probability * 4294967296.0;
      y[b * elements + e] = kept ? (float)(x[b * elements + e] / (1 - probability)) : 0.0f;
    }
  }
  return KM_OK;
}
