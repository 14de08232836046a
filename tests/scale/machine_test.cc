// Machine files: what is wrong is named with its place, and the shipped ones load.
#include <catch2/catch.hpp>
#include <filesystem>
#include <string>

#include "core/base/error.h"
#include "core/plan/scale/machine.h"

namespace kumiki {
namespace {

const std::string kGood = "name = \"m\"\nf32_flops = 1e12\nbytes_per_second = 1e11\n";

std::string error_of(const std::string& text) {
  try {
    parse_machine(text, "m.toml");
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST_CASE("a machine file needs a name, f32_flops and bytes_per_second, and nothing else") {
  const Machine machine = parse_machine(kGood, "m.toml");
  CHECK(machine.f32_flops == 1e12);
  CHECK(machine.bf16_flops == 1e12);
  CHECK(machine.ranks_per_node == 1);
  CHECK(machine.network.size() == 1);
  for (const char* name : Machine::kClasses) CHECK(machine.efficiency.count(name) == 1);
  CHECK(error_of("f32_flops = 1\nbytes_per_second = 1\n").find("name") != std::string::npos);
  CHECK(error_of("name = \"m\"\nf32_flops = 1\n").find("bytes_per_second") != std::string::npos);
}

TEST_CASE("what is wrong in a machine file is named with line and column") {
  const struct {
    std::string text, place, what;
  } cases[] = {
      {kGood + "memory_byte = 1e9\n", "m.toml:4:1", "memory_byte"},
      {kGood + "memory_bytes = \"much\"\n", "m.toml:4:16", "memory_bytes"},
      {kGood + "memory_bytes = -1\n", "m.toml:4:16", "0 or more"},
      {kGood + "collectives = \"best\"\n", "m.toml:4:15", "collectives"},
      {kGood + "[efficiency]\nmatmul = 1.5\n", "m.toml:5:10", "share"},
      {kGood + "[efficiency]\nmatmull = 0.5\n", "m.toml:5:1", "matmull"},
      {kGood + "[efficiency]\nmatmul_below = { 512 = 1.5 }\n", "m.toml:5:24", "share"},
      {kGood + "[efficiency]\nmatmul_below = { 256 = 0.5 }\n", "m.toml:5:18", "above skinny_below"},
      {kGood + "[efficiency]\nmatmul_below = { wide = 0.5 }\n", "m.toml:5:18", "integer"},
      {kGood + "[[network]]\nname = \"a\"\nranks = 4\nbytes_per_second = 1e9\n", "m.toml:6:9", "last level"},
      {kGood + "[[network]]\nname = \"a\"\nbytes_per_second = 0\n", "m.toml:6:20", "above 0"},
      {kGood + "[[network]\n", "m.toml:4", ""},
      {"name = \"m\"\nf32_flops = 0\nbytes_per_second = 1\n", "m.toml:2:13", "above 0"},
  };
  for (const auto& c : cases) {
    const std::string error = error_of(c.text);
    INFO(c.text << "\n" << error);
    CHECK(error.find(c.place) == 0);
    CHECK(error.find(c.what) != std::string::npos);
  }
}

TEST_CASE("a product takes the rate of the narrowest class that its smallest dimension is in") {
  const Machine plain = parse_machine(kGood + "[efficiency]\nmatmul = 0.8\nmatmul_skinny = 0.4\n", "m.toml");
  CHECK(plain.product_share(255) == 0.4);
  CHECK(plain.product_share(256) == 0.8);
  const Machine finer = parse_machine(kGood +
                                          "[efficiency]\nmatmul = 0.8\nmatmul_skinny = 0.4\nskinny_below = 100\n"
                                          "matmul_below = { 1000 = 0.7, 300 = 0.6 }\n",
                                      "m.toml");
  const struct {
    double smallest, share;
  } cases[] = {{99, 0.4}, {100, 0.6}, {299, 0.6}, {300, 0.7}, {999, 0.7}, {1000, 0.8}};
  for (const auto& c : cases) CHECK(finer.product_share(c.smallest) == c.share);
}

TEST_CASE("other ranks per node share the same node") {
  const Machine machine = parse_machine(kGood +
                                            "ranks_per_node = 4\ncores = 12\nmemory_bytes = 7e9\n[[network]]\n"
                                            "name = \"node\"\nranks = 4\nbytes_per_second = 1e9\n[[network]]\n"
                                            "name = \"far\"\nbytes_per_second = 1e9\n",
                                        "m.toml");
  const Machine whole = machine.with_ranks_per_node(1);
  CHECK(whole.f32_flops == Approx(4 * machine.f32_flops));
  CHECK(whole.memory_bytes == Approx(28e9));
  CHECK(whole.cores == 48);
  CHECK(whole.network[0].ranks == 1);
  CHECK(whole.with_ranks_per_node(4).bytes_per_second == Approx(machine.bytes_per_second));
}

TEST_CASE("more ranks than cores share them at the rate of a whole core") {
  const Machine machine =
      parse_machine(kGood + "nodes = 1\nranks_per_node = 2\ncores = 1\nmemory_bytes = 8e9\n", "m.toml");
  CHECK(machine.for_ranks(1).cores == 2);
  CHECK(machine.for_ranks(1).f32_flops == Approx(2e12));
  CHECK(machine.for_ranks(2).ranks_of_core == 1);
  const Machine eight = machine.for_ranks(8);
  CHECK(eight.ranks_per_node == 8);
  CHECK(eight.cores == 1);
  CHECK(eight.ranks_of_core == 4);
  CHECK(eight.f32_flops == Approx(1e12));
  CHECK(eight.memory_bytes == Approx(2e9));
  CHECK(eight.with_ranks_per_node(2).f32_flops == Approx(1e12));
  CHECK(eight.with_ranks_per_node(1).f32_flops == Approx(2e12));
  CHECK(parse_machine(kGood, "m.toml").for_ranks(8).ranks_per_node == 1); // as many nodes as are asked for
}

TEST_CASE("the shipped machine files load, and a name that is none is answered with those that are") {
  size_t n = 0;
  for (const auto& entry : std::filesystem::directory_iterator("configs/machines")) {
    INFO(entry.path());
    CHECK(load_machine(entry.path().string()).f32_flops > 0);
    ++n;
  }
  CHECK(n >= 4);
  CHECK(find_machine("fugaku", {"configs/machines"}) == "configs/machines/fugaku.toml");
  try {
    find_machine("fugagu", {"configs/machines"});
    FAIL("found");
  } catch (const Error& error) {
    CHECK(std::string(error.what()).find("fugaku") != std::string::npos);
  }
}

} // namespace
} // namespace kumiki
