/* Functions in C that the test of the graph service calls. */
#ifndef KUMIKI_TESTS_GRAPH_SERVICE_AUTHOR_H
#define KUMIKI_TESTS_GRAPH_SERVICE_AUTHOR_H

#include "kumiki/graph.h"

#ifdef __cplusplus
extern "C" {
#endif

/* embedding, a product with the tied table, cross entropy; gives the logits. */
km_value author_build(const km_graph_service* service, km_graph* graph);
/* How many nodes apply `op`. */
uint32_t author_count(const km_graph_service* service, km_graph* graph, const char* op);

#ifdef __cplusplus
}
#endif
#endif
