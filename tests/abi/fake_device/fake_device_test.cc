/* The fake device keeps the promises of kumiki/device.h; the core's tests stand on it. */
#include <unistd.h>

#include <catch2/catch.hpp>
#include <fstream>
#include <sstream>

#include "kumiki/device.h"
#include "tests/abi/fake_device/gate.h"
#include "tests/ops/runner.h"

namespace kumiki::test {
namespace {

struct Device {
  TestHost host;
  KernelsPlugin plugin{host, "tests/abi/fake_device/fake_device.so"};
  void* self = plugin.self();
  const km_kernels& kernels = plugin.table();
  const km_device& table = *static_cast<const km_device*>(kernels.ability(self, KM_DEVICE_ABILITY));
  const fake_gates& gates = *static_cast<const fake_gates*>(kernels.ability(self, FAKE_GATE_ABILITY));
  std::vector<km_queue*> queues;
  std::vector<km_event*> events;
  std::vector<km_address> memory;

  km_queue* queue() {
    queues.emplace_back();
    REQUIRE(table.queue_create(self, &queues.back()) == KM_OK);
    return queues.back();
  }
  km_event* event() {
    events.emplace_back();
    REQUIRE(table.event_create(self, &events.back()) == KM_OK);
    return events.back();
  }
  km_address allocate(uint64_t bytes) {
    memory.emplace_back();
    REQUIRE(table.allocate(self, bytes, KM_MEMORY_DEVICE, &memory.back()) == KM_OK);
    return memory.back();
  }
  fake_gate* shut(km_queue* q) {
    fake_gate* gate = nullptr;
    REQUIRE(gates.shut(self, q, &gate) == KM_OK);
    return gate;
  }
  void to_device(km_address to, const void* from, uint64_t bytes, km_queue* q) {
    REQUIRE(table.copy(self, to, reinterpret_cast<km_address>(from), bytes, KM_COPY_TO_DEVICE, q) == KM_OK);
  }
  void from_device(void* to, km_address from, uint64_t bytes, km_queue* q) {
    REQUIRE(table.copy(self, reinterpret_cast<km_address>(to), from, bytes, KM_COPY_FROM_DEVICE, q) == KM_OK);
  }
  void wait(km_queue* q) { REQUIRE(table.queue_wait(self, q) == KM_OK); }

  ~Device() {
    for (km_queue* q : queues) table.queue_destroy(self, q);
    for (km_event* e : events) table.event_destroy(self, e);
    for (km_address a : memory) table.release(self, a, KM_MEMORY_DEVICE);
  }
};

/* Would the kernel let this process read a byte there? */
bool readable(km_address address) {
  int ends[2];
  REQUIRE(pipe(ends) == 0);
  const bool good = write(ends[1], reinterpret_cast<const void*>(address), 1) == 1;
  close(ends[0]), close(ends[1]);
  return good;
}

/* The permissions of the mapping of exactly so many bytes, from the kernel's own list; "" if there is none. */
std::string permissions_of_mapping(uint64_t bytes) {
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    std::istringstream words(line);
    uint64_t first = 0, end = 0;
    char dash = 0;
    std::string permissions;
    words >> std::hex >> first >> dash >> end >> permissions;
    if (end - first == bytes) return permissions;
  }
  return "";
}

TEST_CASE("the host can read device memory neither at its address nor where it is") {
  Device d;
  const uint64_t bytes = 37 * 65536;
  const km_address address = d.allocate(bytes);
  CHECK(address % 256 == 0);
  CHECK_FALSE(readable(address));
  CHECK(permissions_of_mapping(bytes) == "---p");
  km_queue* q = d.queue();
  std::vector<char> host(bytes, 7);
  d.to_device(address, host.data(), bytes, q);
  d.wait(q);
  CHECK(permissions_of_mapping(bytes) == "---p");
}

TEST_CASE("copies and fills go where they should, also from the middle of memory") {
  Device d;
  km_queue* q = d.queue();
  const km_address a = d.allocate(1000), b = d.allocate(1000);
  std::vector<uint8_t> in(1000), out(1000, 0);
  for (size_t i = 0; i < in.size(); ++i) in[i] = static_cast<uint8_t>(i * 7);
  d.to_device(a, in.data(), 1000, q);
  REQUIRE(d.table.fill(d.self, b, 0x1ab, 1000, q) == KM_OK);
  REQUIRE(d.table.copy(d.self, b + 100, a + 300, 200, KM_COPY_WITHIN, q) == KM_OK);
  d.from_device(out.data(), b, 1000, q);
  d.wait(q);
  for (size_t i = 0; i < 1000; ++i) CHECK(int(out[i]) == (i >= 100 && i < 300 ? int(in[i + 200]) : 0xab));
}

TEST_CASE("new memory is full of NaN") {
  Device d;
  km_queue* q = d.queue();
  float out[2] = {0, 0};
  d.from_device(out, d.allocate(8), 8, q);
  d.wait(q);
  CHECK(out[0] != out[0]);
  CHECK(out[1] != out[1]);
}

TEST_CASE("a queue runs in order and apart from the caller and from other queues") {
  Device d;
  km_queue *a = d.queue(), *b = d.queue();
  const km_address x = d.allocate(4), y = d.allocate(4);
  int one = 1, two = 2, from_a = 0, from_b = 0;
  fake_gate* gate = d.shut(a);
  d.to_device(x, &one, 4, a);
  d.from_device(&from_a, x, 4, a);
  d.to_device(y, &two, 4, b);
  d.from_device(&from_b, y, 4, b);
  d.wait(b); /* though a stands still */
  CHECK(from_b == 2);
  CHECK(from_a == 0);
  d.gates.open(d.self, gate);
  d.wait(a);
  CHECK(from_a == 1);
}

TEST_CASE("a wait binds to the latest record at the time of the call") {
  Device d;
  km_queue *a = d.queue(), *b = d.queue();
  km_event* event = d.event();
  const km_address x = d.allocate(4);
  int values[] = {1, 2}, seen = 0;
  d.to_device(x, &values[0], 4, a);
  REQUIRE(d.table.event_record(d.self, event, a) == KM_OK);
  REQUIRE(d.table.event_wait(d.self, event, b) == KM_OK); /* bound to the first record ... */
  d.wait(a);
  fake_gate* gate = d.shut(a);
  d.to_device(x, &values[1], 4, a);
  REQUIRE(d.table.event_record(d.self, event, a) == KM_OK);
  d.from_device(&seen, x, 4, b);
  d.wait(b); /* ... so b does not stand still behind the second */
  CHECK(seen == 1);
  REQUIRE(d.table.event_wait(d.self, event, b) == KM_OK); /* bound to the second */
  d.from_device(&seen, x, 4, b);
  d.gates.open(d.self, gate);
  d.wait(b);
  CHECK(seen == 2);
}

TEST_CASE(
    "waiting for an event never recorded waits for nothing, and an event may be destroyed while it is waited for") {
  Device d;
  km_queue *a = d.queue(), *b = d.queue();
  REQUIRE(d.table.event_wait(d.self, d.event(), a) == KM_OK);
  d.wait(a);
  km_event* event = nullptr;
  REQUIRE(d.table.event_create(d.self, &event) == KM_OK);
  fake_gate* gate = d.shut(a);
  REQUIRE(d.table.event_record(d.self, event, a) == KM_OK);
  REQUIRE(d.table.event_wait(d.self, event, b) == KM_OK);
  d.table.event_destroy(d.self, event);
  d.gates.open(d.self, gate);
  d.wait(b);
}

/* Runs a problem on the device; gives the status of the wait. */
km_status run_on_device(Device& d, const Problem& p, const std::vector<Tensor>& inputs, std::vector<Tensor>& outputs) {
  km_queue *copies = d.queue(), *compute = d.queue();
  km_event *uploaded = d.event(), *computed = d.event();
  const km_op op = p.op();
  km_request request{};
  request.struct_size = sizeof request;
  request.op = &op;
  km_support support{};
  support.struct_size = sizeof support;
  km_kernel* kernel = nullptr;
  REQUIRE(d.kernels.query(d.self, &request, &support) == KM_OK);
  REQUIRE(d.kernels.create(d.self, &request, &kernel) == KM_OK);
  std::vector<km_address> buffers;
  for (const Tensor& input : inputs) {
    buffers.push_back(d.allocate(input.bytes.size()));
    d.to_device(buffers.back(), input.bytes.data(), input.bytes.size(), copies);
  }
  for (const km_tensor& output : p.outputs) buffers.push_back(d.allocate(km_bytes(&output)));
  REQUIRE(d.table.event_record(d.self, uploaded, copies) == KM_OK);
  REQUIRE(d.table.event_wait(d.self, uploaded, compute) == KM_OK);
  REQUIRE(d.kernels.run(d.self, kernel, buffers.data(), d.allocate(support.workspace_bytes), compute) == KM_OK);
  REQUIRE(d.table.event_record(d.self, computed, compute) == KM_OK);
  REQUIRE(d.table.event_wait(d.self, computed, copies) == KM_OK);
  for (size_t o = 0; o < p.outputs.size(); ++o) {
    const km_tensor& type = p.outputs[o];
    outputs.push_back(make_tensor(type.dtype, {type.dims, type.dims + type.rank}));
    d.from_device(outputs[o].bytes.data(), buffers[inputs.size() + o], outputs[o].bytes.size(), copies);
  }
  d.kernels.destroy(d.self, kernel);
  d.wait(copies);
  return d.table.queue_wait(d.self, compute);
}

TEST_CASE("ops give the bits of reference, with copies on a queue of their own") {
  Device d;
  TestHost host;
  KernelsPlugin reference(host, "plugins/kernels/reference/reference.so");
  for (const char* line : {"matmul a=33x65 b=50x65 transpose_b=1", "attention q=2x9x32 head_width=16",
                           "layernorm x=5x41 epsilon=1e-5", "projection_cross_entropy_train x=2x33x64 w=131x64"}) {
    Problem p;
    parse_problem(line, p);
    const auto inputs = random_inputs(p, 3, evaluate_with(reference));
    std::vector<Tensor> outputs;
    REQUIRE(run_on_device(d, p, inputs, outputs) == KM_OK);
    const auto expected = evaluate_with(reference)(p, inputs);
    INFO(line);
    for (size_t o = 0; o < expected.size(); ++o) CHECK(outputs[o].bytes == expected[o].bytes);
  }
}

TEST_CASE("the first error of a queue comes with the wait, once, with its text; events are still signalled") {
  Device d;
  TestHost host;
  KernelsPlugin reference(host, "plugins/kernels/reference/reference.so");
  Problem p;
  parse_problem("embedding tokens=1x2@17 table=17x3", p);
  std::vector<Tensor> outputs;
  CHECK(run_on_device(d, p, random_inputs(p, 3, evaluate_with(reference)), outputs) == KM_ERROR_USER);
  CHECK(TestHost::last_error().find("token 17") != std::string::npos);

  km_queue* q = d.queue();
  int value = 5, out = 0;
  const km_address x = d.allocate(4);
  d.to_device(x + 1, &value, 4, q); /* one byte too far */
  CHECK(d.table.queue_wait(d.self, q) == KM_ERROR_HOST);
  CHECK(TestHost::last_error().find("no device memory holds 4 bytes") != std::string::npos);
  d.to_device(x, &value, 4, q);
  d.from_device(&out, x, 4, q);
  d.wait(q);
  CHECK(out == 5);
}

TEST_CASE("device memory is finite, and comes back when it is released") {
  Device d;
  km_device_info info{};
  info.struct_size = sizeof info;
  REQUIRE(d.table.info(d.self, &info) == KM_OK);
  km_address address = 0;
  CHECK(d.table.allocate(d.self, info.memory_bytes + 1, KM_MEMORY_DEVICE, &address) == KM_ERROR_SYSTEM);
  for (int i = 0; i < 100; ++i) {
    REQUIRE(d.table.allocate(d.self, 1 << 20, KM_MEMORY_DEVICE, &address) == KM_OK);
    d.table.release(d.self, address, KM_MEMORY_DEVICE);
  }
  REQUIRE(d.table.allocate(d.self, 64, KM_MEMORY_PINNED, &address) == KM_OK);
  CHECK(readable(address));
  d.table.release(d.self, address, KM_MEMORY_PINNED);
}

} // namespace
} // namespace kumiki::test
