// The machine file of doctor: figures that were measured come back as the planner's.
#include <catch2/catch.hpp>

#include "core/base/error.h"
#include "core/cli/doctor_file.h"
#include "core/plan/scale/machine.h"

namespace kumiki {
namespace {

// Messages of 2 ranks that take latency + bytes / bandwidth on each link.
NetworkFacts network(double latency, double bytes_per_second) {
  NetworkFacts facts;
  facts.ranks = facts.ranks_of_host = 2;
  facts.overlap = 0.4;
  for (const double bytes : {4e3, 1e5, 8e6})
    for (const uint32_t op : {KM_COMM_SEND, KM_COMM_ALL_REDUCE, KM_COMM_ALL_GATHER}) {
      const HockneyPoint p = hockney_point({op, bytes, 1}, 2);
      facts.samples.push_back({op, bytes, p.rounds * latency + p.moved / bytes_per_second});
    }
  return facts;
}

MachineFacts facts() {
  MachineFacts facts;
  facts.processor = "A \"quoted\" processor";
  facts.instructions = "AVX";
  facts.ranks = 2;
  facts.cores = 1;
  facts.f32_flops = 1e11;
  facts.bytes_per_second = 1e10;
  facts.memory_bytes = 4e9;
  facts.rates.step_overhead = 2e-6;
  facts.rates.samples = {{"matmul", 64, 2e10, 0, 1, 1},    {"matmul", 128, 3e10, 0, 1, 1},
                         {"matmul", 768, 8e10, 0, 1, 1},   {"matmul", 768, 8e10, 0, 1, 1},
                         {"attention", 0, 5e10, 0, 1, 1},  {"attention_backward", 0, 4e10, 0, 1, 1},
                         {"projection", 0, 1e12, 0, 1, 1}, {"elementwise", 0, 0, 5e9, 1, 1}};
  facts.network = network(1e-5, 2e9);
  return facts;
}

TEST_CASE("the machine file of doctor is read back with the figures that were measured") {
  const Machine machine = parse_machine(machine_text(facts()), "measured.toml");
  CHECK(machine.name == "A \"quoted\" processor");
  CHECK(machine.nodes == 1);
  CHECK(machine.ranks_per_node == 2);
  CHECK(machine.f32_flops == Approx(1e11));
  CHECK(machine.bytes_per_second == Approx(1e10));
  CHECK(machine.memory_bytes == Approx(4e9));
  CHECK(machine.step_overhead == Approx(2e-6));
  CHECK(machine.product_share(64) == Approx(0.2));
  CHECK(machine.product_share(128) == Approx(0.3));
  CHECK(machine.product_share(1024) == Approx(0.8));
  CHECK(machine.efficiency.at("attention") == Approx(0.5));
  CHECK(machine.efficiency.at("attention_backward") == Approx(0.4));
  CHECK(machine.efficiency.at("projection") == 1); // above the peak: the peak was measured too low
  CHECK(machine.efficiency.at("elementwise") == Approx(0.5));
  REQUIRE(machine.network.size() == 1);
  CHECK(machine.network[0].latency == Approx(1e-5).epsilon(1e-2));
  CHECK(machine.network[0].bytes_per_second == Approx(2e9).epsilon(1e-2));
  CHECK(machine.network[0].overlap == Approx(0.4));
}

TEST_CASE("one process alone writes a machine without a network") {
  MachineFacts alone = facts();
  alone.ranks = 1;
  alone.cores = 4;
  alone.network = {};
  const Machine machine = parse_machine(machine_text(alone), "measured.toml");
  CHECK(machine.cores == 4);
  CHECK(machine.ranks_per_node == 1);
  CHECK(machine.for_ranks(4).cores == 1);
}

TEST_CASE("latency and bandwidth are found again in times made of them, and a latency below 0 is 0") {
  std::vector<HockneyPoint> points;
  for (const NetworkSample& sample : network(3e-5, 1e8).samples) points.push_back(hockney_point(sample, 2));
  const Hockney fit = fit_hockney(points);
  CHECK(fit.latency == Approx(3e-5));
  CHECK(fit.bytes_per_second == Approx(1e8));
  // Slower by the byte the larger they are: a line through them meets 0 bytes below 0 s.
  const Hockney bent = fit_hockney({{1, 1e3, 1e-6}, {1, 1e6, 2e-3}});
  CHECK(bent.latency == 0);
  CHECK(bent.bytes_per_second > 0);
  CHECK_THROWS_AS(fit_hockney({{1, 0, 1e-6}, {2, 0, 2e-6}}), Error);
}

} // namespace
} // namespace kumiki
