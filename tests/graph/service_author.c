/* What an author of a model writes, in C: a small model through the service alone. */
#include "tests/graph/service_author.h"

km_value author_build(const km_graph_service* service, km_graph* graph) {
  km_parameter parameter = {.struct_size = sizeof(km_parameter),
                            .role = KM_ROLE_VOCABULARY,
                            .name = "embedding.weight",
                            .tensor = {.dtype = KM_F32, .rank = 2, .dims = {11, 8}},
                            .init = KM_INIT_NORMAL,
                            .decay = 1,
                            .init_std = 0.02};
  km_value table = service->add_parameter(graph, &parameter);
  km_value inputs[] = {service->input(graph, "tokens"), table};
  km_value x = service->add_node(graph, "embedding", inputs, 2, NULL, 0, NULL);
  service->set_layer(graph, 1);
  km_attribute transpose = km_i64("transpose_b", 1);
  km_value operands[] = {x, table};
  km_value logits = service->add_node(graph, "matmul", operands, 2, &transpose, 1, NULL);
  km_value entropy[] = {logits, service->input(graph, "targets")};
  km_value outputs[2] = {0, 0};
  service->add_node(graph, "cross_entropy", entropy, 2, NULL, 0, outputs);
  service->set_output(graph, "loss", outputs[0]);
  service->set_output(graph, "tokens", outputs[1]);
  return logits;
}

uint32_t author_count(const km_graph_service* service, km_graph* graph, const char* op) {
  uint32_t count = 0;
  for (km_node node = service->next_node(graph, 0); node; node = service->next_node(graph, node)) {
    km_node_info info = {.struct_size = sizeof(km_node_info)};
    if (service->node_info(graph, node, &info) == KM_OK && km_same_text(info.op, op)) ++count;
  }
  return count;
}
