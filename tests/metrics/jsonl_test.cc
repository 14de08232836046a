// The component `jsonl`: lines, numbers, and what a run that goes on finds and leaves.
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cmath>
#include <cstdlib>
#include <random>

#include "tests/metrics/metrics_sink.h"

namespace kumiki::test {

TEST_CASE("a step is a line at once, keys in the order given, numbers shortest, what is no number null") {
  const TemporaryFolder folder;
  const std::string path = folder.path() + "/metrics.jsonl";
  MetricsSink sink("jsonl", folder.path());
  sink.step({{"step", 1}, {"loss", 10.125}, {"learning_rate", 3e-4}, {"grad_norm", NAN}, {"tokens", 1048576}});
  CHECK(read_file(path) ==
        "{\"step\":1,\"loss\":10.125,\"learning_rate\":3e-04,\"grad_norm\":null,\"tokens\":1048576}\n");
  sink.step({{"step", 2}, {"loss", INFINITY}, {"flops_per_second", 1.5e300}, {"a\"b\\\n", -0.0}});
  sink.event(2, "checkpoint", "written");
  sink.step({{"step", 1e6}, {"eval_loss", -INFINITY}, {"x", 9007199254740993.0}});
  const std::string text = read_file(path);
  CHECK(text.substr(text.find('\n') + 1) ==
        "{\"step\":2,\"loss\":null,\"flops_per_second\":1.5e+300,\"a\\\"b\\\\\\u000a\":-0}\n"
        "{\"step\":1000000,\"eval_loss\":null,\"x\":9007199254740992}\n");
}

TEST_CASE("numbers read back as the same double") {
  const TemporaryFolder folder;
  MetricsSink sink("jsonl", folder.path());
  const uint64_t seed = std::random_device()();
  INFO("seed " << seed);
  std::mt19937_64 random(seed);
  std::vector<double> values;
  for (int i = 0; i < 300; ++i)
    values.push_back(std::ldexp(static_cast<double>(random()), static_cast<int>(random() % 1900) - 1000));
  for (const double value : values) sink.step({{"step", 1}, {"x", value}});
  const std::string text = read_file(folder.path() + "/metrics.jsonl");
  size_t at = 0;
  for (const double value : values) {
    at = text.find("\"x\":", at) + 4;
    CHECK(std::strtod(text.c_str() + at, nullptr) == value);
  }
}

TEST_CASE("a run that goes on cuts off later steps and a half-written line, and goes on behind the rest") {
  const TemporaryFolder folder;
  const std::string early = "{\"step\":1,\"loss\":5}\n{\"step\":2,\"loss\":4}\n{\"step\":2,\"eval_loss\":4.5}\n";
  struct Case {
    std::string later;
    int64_t first_step;
    std::string kept;
  };
  const std::string third = "{\"step\":3,\"loss\":3}\n";
  const std::vector<Case> cases = {
      {third + "{\"step\":4,\"loss\":2}\n{\"step\":4,\"loss\":", 3, early},
      {third, 4, early + third},
      {third + "{\"step\":4,\"lo", 5, early + third},
      {"{", 3, early},
      {third + "{\"step\":10,\"loss\":3}\n", 10, early + third},
      {third, 1, ""},
      {"", 3, early},
  };
  for (const Case& c : cases) {
    const std::string path = folder.write("metrics.jsonl", early + c.later);
    MetricsSink sink("jsonl", folder.path(), c.first_step, 100);
    REQUIRE(sink.status() == KM_OK);
    CHECK(read_file(path) == c.kept);
    sink.step({{"step", static_cast<double>(c.first_step)}});
    CHECK(read_file(path) == c.kept + "{\"step\":" + std::to_string(c.first_step) + "}\n");
  }
}

TEST_CASE("a run that goes on without a file starts one") {
  const TemporaryFolder folder;
  MetricsSink sink("jsonl", folder.path(), 7);
  REQUIRE(sink.status() == KM_OK);
  sink.step({{"step", 7}});
  CHECK(read_file(folder.path() + "/metrics.jsonl") == "{\"step\":7}\n");
}

TEST_CASE("a file that is something else is left as it is, and said with its line") {
  const TemporaryFolder folder;
  const std::string text = "{\"step\":1}\nhello\n{\"step\":3}\n", path = folder.write("metrics.jsonl", text);
  MetricsSink sink("jsonl", folder.path(), 3);
  CHECK(sink.status() == KM_ERROR_USER);
  CHECK(sink.error() == path + ":2: is not a line of this run's metrics; move the file away, or mend the line");
  CHECK(read_file(path) == text);
}

TEST_CASE("a disk that is full is an error of the system") {
  const TemporaryFolder folder;
  REQUIRE(symlink("/dev/full", (folder.path() + "/metrics.jsonl").c_str()) == 0);
  MetricsSink sink("jsonl", folder.path());
  if (sink.status() == KM_OK) sink.step({{"step", 1}});
  CHECK(sink.status() == KM_ERROR_SYSTEM);
  CHECK(sink.error().find("metrics.jsonl: cannot be") != std::string::npos);
}

} // namespace kumiki::test
