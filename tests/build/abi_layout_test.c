/* Nothing that a plugin built with ABI 0.1 reads or writes has moved: the offset of each struct's last field of that version,
 * and the size of the structs that never grow (they lie in arrays without a stride). A later version adds lines for its own
 * last fields and leaves these as they are. The offsets are those of LP64 (x86-64, aarch64). */
#include "kumiki/base.h"
#include "kumiki/comm.h"
#include "kumiki/data.h"
#include "kumiki/device.h"
#include "kumiki/graph.h"
#include "kumiki/kernels.h"
#include "kumiki/metrics.h"
#include "kumiki/model.h"
#include "kumiki/optimizer.h"
#include "kumiki/parallel_for.h"
#include "kumiki/plugin.h"
#include "kumiki/rewrite.h"

#define LAST_FIELD(type, field, offset) _Static_assert(offsetof(type, field) == (offset), #type "." #field " has moved")
#define FIXED_SIZE(type, bytes) _Static_assert(sizeof(type) == (bytes), #type " has another size")

_Static_assert(sizeof(void*) == 8 && sizeof(size_t) == 8, "these offsets are those of LP64");

/* kumiki/base.h */
LAST_FIELD(km_tensor, dims, 16);
FIXED_SIZE(km_tensor, 80);
LAST_FIELD(km_attribute, value, 16);
FIXED_SIZE(km_attribute, 24);
LAST_FIELD(km_op, attributes, 40);
LAST_FIELD(km_option, help, 48);
LAST_FIELD(km_option_value, string_list, 56);
FIXED_SIZE(km_option_value, 64);
LAST_FIELD(km_options, values, 8);
LAST_FIELD(km_host, service, 48);

/* kumiki/comm.h */
LAST_FIELD(km_message, output, 64);
LAST_FIELD(km_rank_info, reserved, 20);
LAST_FIELD(km_rank_info, host, 24);
LAST_FIELD(km_comm, ability, 72);
LAST_FIELD(km_comm_notes, receive, 16);

/* kumiki/data.h */
LAST_FIELD(km_data_context, vocabulary, 24);
LAST_FIELD(km_data_info, tokens, 24);
LAST_FIELD(km_batch, segments, 24);
LAST_FIELD(km_data, ability, 40);
LAST_FIELD(km_tokenizer, end_of_document, 32);

/* kumiki/device.h */
LAST_FIELD(km_device_info, memory_bytes, 16);
LAST_FIELD(km_device, fill, 96);

/* kumiki/graph.h */
LAST_FIELD(km_parameter, init_std, 104);
LAST_FIELD(km_value_info, varies, 116);
LAST_FIELD(km_node_info, reserved, 52);
LAST_FIELD(km_graph_service, before, 152);
LAST_FIELD(km_graph_service, split_axis, 280);

/* kumiki/kernels.h */
LAST_FIELD(km_support, prepack_format, 176);
LAST_FIELD(km_request, op, 8);
LAST_FIELD(km_kernels, ability, 64);

/* kumiki/metrics.h */
LAST_FIELD(km_run_info, parameters, 40);
LAST_FIELD(km_metric, value, 8);
FIXED_SIZE(km_metric, 16);
LAST_FIELD(km_metrics, event, 32);

/* kumiki/model.h */
LAST_FIELD(km_model_shape, reserved, 52);
LAST_FIELD(km_model_row, dim, 28);
LAST_FIELD(km_model_text, sink, 24);
LAST_FIELD(km_model, from_config, 40);

/* kumiki/optimizer.h */
LAST_FIELD(km_optimizer, update, 24);

/* kumiki/parallel_for.h */
LAST_FIELD(km_parallel, barrier, 32);

/* kumiki/plugin.h */
LAST_FIELD(km_component, summary, 40);
LAST_FIELD(km_plugin, reserved, 60);

/* kumiki/rewrite.h */
LAST_FIELD(km_rewrite, training, 16);
LAST_FIELD(km_op_rules, placement, 32);

/* The compiler did the work. */
int main(void) { return 0; }
