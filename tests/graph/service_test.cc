// The graph through the ABI: what a plugin can do, and what wrong calls answer.
#include <catch2/catch.hpp>
#include <string>

#include "core/graph/graph.h"
#include "tests/graph/service_author.h"

namespace kumiki::test {
namespace {

const km_graph_service& service() { return *graph_service(); }

struct Built {
  Graph graph;
  km_graph* abi = to_abi(&graph);
  km_value logits = 0;
  Built() {
    for (const char* name : {"tokens", "targets"}) graph.declare_input(name, Type{KM_I32, {2, 5}});
    take_service_error();
    logits = author_build(&service(), abi);
  }
};

} // namespace

TEST_CASE("a model built in C is a graph that can be differentiated") {
  Built built;
  CHECK(take_service_error().empty());
  built.graph.check();
  CHECK(author_count(&service(), built.abi, "matmul") == 1);
  autodiff(built.graph);
  built.graph.check();
  CHECK(author_count(&service(), built.abi, "matmul") == 3);
  CHECK(service().mode(built.abi) == KM_MODE_TRAIN);
}

TEST_CASE("nodes and values can be read") {
  Built built;
  km_value_info value = {};
  value.struct_size = sizeof value;
  REQUIRE(service().value_info(built.abi, built.logits, &value) == KM_OK);
  CHECK(value.kind == KM_VALUE_ACTIVATION);
  CHECK(value.tensor.rank == 3);
  CHECK(value.tensor.dims[2] == 11);
  CHECK(value.layer == 1);
  CHECK(value.varies == 1);
  km_node_info node = {};
  node.struct_size = sizeof node;
  REQUIRE(service().node_info(built.abi, value.producer, &node) == KM_OK);
  CHECK(std::string(node.op) == "matmul");
  CHECK(node.n_inputs == 2);
  CHECK(node.outputs[0] == built.logits);
  km_attribute attribute = {};
  CHECK(service().attribute(built.abi, value.producer, "transpose_b", &attribute) == KM_OK);
  CHECK(attribute.value.i64 == 1);
  CHECK(service().attribute(built.abi, value.producer, "dtype", &attribute) == KM_UNSUPPORTED);
  km_node users[1] = {0};
  CHECK(service().users(built.abi, node.inputs[1], users, 1) == 2);
  CHECK(users[0] == service().next_node(built.abi, 0));
  km_value_info table = {};
  table.struct_size = sizeof table;
  REQUIRE(service().value_info(built.abi, node.inputs[1], &table) == KM_OK);
  CHECK(std::string(table.name) == "embedding.weight");
  CHECK(table.role == KM_ROLE_VOCABULARY);
  CHECK(table.decay == 1);
  CHECK(take_service_error().empty());
}

TEST_CASE("a shorter struct of an older plugin is filled as far as it goes") {
  Built built;
  struct {
    km_value_info info;
  } room;
  std::fill_n(reinterpret_cast<unsigned char*>(&room), sizeof room, 0xab);
  room.info.struct_size = offsetof(km_value_info, producer);
  REQUIRE(service().value_info(built.abi, built.logits, &room.info) == KM_OK);
  CHECK(room.info.struct_size == offsetof(km_value_info, producer));
  CHECK(room.info.tensor.rank == 3);
  CHECK(room.info.producer == 0xababababu);
}

TEST_CASE("a rewrite through the service keeps the graph true") {
  Built built;
  km_value_info info = {};
  info.struct_size = sizeof info;
  REQUIRE(service().value_info(built.abi, built.logits, &info) == KM_OK);
  const km_node matmul = info.producer;
  const ValueId x = built.graph.node(matmul).inputs[0];
  REQUIRE(service().before(built.abi, matmul) == KM_OK);
  const km_attribute factor = km_f64("factor", 0.5);
  const km_value half = service().add_node(built.abi, "scale", &x, 1, &factor, 1, nullptr);
  REQUIRE(service().replace_uses(built.abi, x, half, built.graph.value(half).producer) == KM_OK);
  REQUIRE(service().before(built.abi, 0) == KM_OK);
  CHECK(built.graph.node(matmul).inputs[0] == half);
  CHECK(built.graph.value(half).layer == 1);
  const km_attribute other = km_f64("factor", 0.25);
  CHECK(service().set_attribute(built.abi, built.graph.value(half).producer, &other) == KM_OK);
  CHECK(built.graph.node(built.graph.value(half).producer).f64("factor") == 0.25);
  REQUIRE(service().replace_uses(built.abi, half, x, 0) == KM_OK);
  CHECK(service().erase(built.abi, built.graph.value(half).producer) == KM_OK);
  CHECK(take_service_error().empty());
  built.graph.check();
}

TEST_CASE("wrong calls answer with a status, change nothing, and leave a message") {
  Built built;
  const std::string text = to_text(built.graph);
  const auto failed = [&](bool refused, const std::string& words) {
    CHECK(refused);
    const std::string error = take_service_error();
    INFO(error);
    CHECK(error.find(words) != std::string::npos);
    CHECK(to_text(built.graph) == text);
  };
  const km_value two[] = {built.logits, 999};
  failed(service().add_node(built.abi, "add", two, 2, nullptr, 0, nullptr) == 0, "add_node: add: input 1 is no value");
  failed(service().add_node(built.abi, "multyply", two, 1, nullptr, 0, nullptr) == 0, "did you mean \"multiply\"");
  failed(service().add_node(built.abi, nullptr, two, 1, nullptr, 0, nullptr) == 0, "the op is NULL");
  failed(service().add_node(built.abi, "add", nullptr, 2, nullptr, 0, nullptr) == 0, "NULL");
  failed(service().add_node(built.abi, "accumulate", two, 1, nullptr, 0, nullptr) == 0, "planner's own");
  km_attribute bad = {"dtype", 17, 0, {0}};
  failed(service().add_node(built.abi, "cast", two, 1, &bad, 1, nullptr) == 0, "unknown type 17");
  failed(service().input(built.abi, "labels") == 0, "there is no input \"labels\"");
  failed(service().step_scalar(built.abi, "epoch") == 0, "there is no step scalar \"epoch\"");
  failed(service().assign(built.abi, built.logits, built.logits) != KM_OK, "only a state or a parameter");
  failed(service().set_output(built.abi, "loss", built.logits) != KM_OK, "must be f32[]");
  const NodeId first = service().next_node(built.abi, 0);
  failed(service().erase(built.abi, first) != KM_OK, "can't be erased");
  failed(service().before(built.abi, 12345) != KM_OK, "node 12345 is not of this graph");
  failed(service().replace_uses(built.abi, built.logits, built.graph.find("tokens"), 0) != KM_OK,
         "can't be replaced by");
  const km_attribute wrong = km_i64("transpose_b", 0);
  const NodeId matmul = built.graph.value(built.logits).producer;
  failed(service().set_attribute(built.abi, matmul, &wrong) != KM_OK, "the sum runs over 8 of a, but 11 of b");
  km_value_info info = {};
  failed(service().value_info(built.abi, built.logits, &info) != KM_OK, "struct_size");
  info.struct_size = sizeof info;
  failed(service().value_info(built.abi, 0, &info) != KM_OK, "value 0 is not of this graph");
  km_parameter parameter = {};
  failed(service().add_parameter(built.abi, &parameter) == 0, "struct_size");
  parameter.struct_size = sizeof parameter;
  parameter.name = "w";
  failed(service().add_parameter(built.abi, &parameter) == 0, "parameter w: unknown role 0");
  parameter.role = KM_ROLE_ROW;
  parameter.init = KM_INIT_ZERO;
  parameter.tensor.dtype = KM_F32;
  parameter.tensor.rank = 1;
  failed(service().add_parameter(built.abi, &parameter) == 0, "dimensions must be at least 1");
  failed(service().next_node(nullptr, 0) == 0, "the graph is NULL");
}

TEST_CASE("the first of several errors is kept") {
  Built built;
  service().input(built.abi, "one");
  service().input(built.abi, "two");
  CHECK(take_service_error().find("\"one\"") != std::string::npos);
  CHECK(take_service_error().empty());
}

TEST_CASE("segments that the data does not have are 0, and no error") {
  Built built;
  CHECK(service().input(built.abi, "segments") == 0);
  CHECK(take_service_error().empty());
}

} // namespace kumiki::test
