/* kumiki/metrics.h: components of kind "metrics" receive what a run measured, on the first rank. */
#ifndef KUMIKI_METRICS_H
#define KUMIKI_METRICS_H

#include "kumiki/base.h"

#ifdef __cplusplus
extern "C" {
#endif

#define KM_METRICS_VERSION 1u

typedef struct km_run_info {
  uint32_t struct_size;
  uint32_t reserved;
  const char* name;
  const char* folder;   /* runs/NAME, exists */
  int64_t first_step;   /* 1, or the step after the checkpoint: what was written of later steps is to be cut off */
  int64_t steps;        /* the run's last step */
  int64_t parameters;
} km_run_info;

/* Keys are "step", "loss", "learning_rate", "grad_norm", "tokens" (of the whole run so far), "tokens_per_second",
 * "flops_per_second", "step_seconds", "data_seconds", "comm_seconds", and of evaluations "eval_loss",
 * "eval_bits_per_byte". */
typedef struct km_metric {
  const char* key;
  double value;
} km_metric;

typedef struct km_metrics {
  uint32_t struct_size;
  uint32_t reserved;
  km_status (*open)(const km_host* host, const km_options* options, const km_run_info* run, void** self); /* [main] */
  void (*close)(void* self);
  /* One step, or one evaluation (has "eval_loss"); "step" comes first. [main] */
  km_status (*step)(void* self, const km_metric* metrics, uint32_t n);
  /* A word on what happens: kind "start", "checkpoint", "sample", "stop", "notice". [main] */
  km_status (*event)(void* self, int64_t step, const char* kind, const char* text);
} km_metrics;

#ifdef __cplusplus
}
#endif
#endif
