// Times of messages: they grow with bytes and ranks, shrink with bandwidth, and are what the formulas say.
#include <catch2/catch.hpp>
#include <numeric>

#include "core/plan/scale/network.h"
#include "kumiki/comm.h"

namespace kumiki {
namespace {

Machine two_levels(double inner = 100e9, double outer = 10e9) {
  Machine machine;
  machine.network = {{"node", 4, 1e-6, inner, 1, 0}, {"far", 0, 2e-6, outer, 1, 0}};
  return machine;
}

std::vector<uint32_t> ranks(uint32_t n, uint32_t stride = 1) {
  std::vector<uint32_t> list(n);
  for (uint32_t i = 0; i < n; ++i) list[i] = i * stride;
  return list;
}

constexpr uint32_t kCollectives[] = {KM_COMM_ALL_REDUCE, KM_COMM_REDUCE_SCATTER, KM_COMM_ALL_GATHER, KM_COMM_ALL_TO_ALL,
                                     KM_COMM_BROADCAST};

TEST_CASE("a large all_reduce of n ranks moves 2 (n - 1) / n of its bytes") {
  const Machine machine = two_levels();
  const Network network(machine);
  for (const uint32_t n : {2u, 3u, 4u}) {
    const double share = 2.0 * (n - 1) / n;
    CHECK(network.collective(KM_COMM_ALL_REDUCE, network.place(ranks(n)), 1e9) ==
          Approx(share * 1e9 / 100e9).epsilon(0.01));
  }
  for (const uint32_t n : {2u, 16u, 288u}) // one rank a node
    CHECK(network.collective(KM_COMM_ALL_REDUCE, network.place(ranks(n, 4)), 1e10) ==
          Approx(2.0 * (n - 1) / n * 1e10 / 10e9).epsilon(0.01));
}

TEST_CASE("more bytes, less bandwidth and more ranks never make a message faster") {
  for (const auto algorithm : {Machine::Algorithm::kFastest, Machine::Algorithm::kRing, Machine::Algorithm::kTree})
    for (const uint32_t op : kCollectives)
      for (const uint32_t stride : {1u, 2u, 4u, 64u}) {
        double before_ranks = 0;
        for (const uint32_t n : {1u, 2u, 4u, 8u, 64u, 1024u}) {
          double before = 0;
          for (const double bytes : {0.0, 1.0, 1e3, 1e6, 1e9}) {
            Machine machine = two_levels(), slower = two_levels(50e9, 9e9);
            machine.collectives = slower.collectives = algorithm;
            const Network fast(machine), slow(slower);
            const double seconds = fast.collective(op, fast.place(ranks(n, stride)), bytes);
            CHECK(seconds >= before);
            CHECK(slow.collective(op, slow.place(ranks(n, stride)), bytes) >= seconds);
            before = seconds;
          }
          CHECK(before >= before_ranks);
          before_ranks = before;
        }
      }
}

TEST_CASE("ranks of one node are nearer, and what they share is shared") {
  Machine machine = two_levels();
  const Network network(machine);
  CHECK(network.send(0, 3, 1e6) < network.send(0, 4, 1e6));
  CHECK(network.level_between(5, 7) == 0);
  CHECK(network.level_between(3, 4) == 1);
  const double alone = network.send(0, 4, 1e6);
  machine.network[1].shared = 20e9; // four ranks a node: 5 each
  CHECK(network.send(0, 4, 1e6) == Approx(2 * alone).epsilon(0.02));
}

TEST_CASE("a group over several nodes uses the links within them, too") {
  Machine machine = two_levels();
  const Network network(machine);
  const double staged = network.collective(KM_COMM_ALL_REDUCE, network.place(ranks(16)), 1e9);
  machine.collectives = Machine::Algorithm::kRing;
  CHECK(staged < network.collective(KM_COMM_ALL_REDUCE, network.place(ranks(16)), 1e9));
}

} // namespace
} // namespace kumiki
