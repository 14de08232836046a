// The component `console`: what it writes to standard output, on a file and on a terminal.
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cmath>
#include <cstdio>
#include <functional>

#include "tests/metrics/metrics_sink.h"

namespace kumiki::test {
namespace {

// Standard output leads to `file` as long as this lives.
class Redirected {
 public:
  explicit Redirected(int file) {
    std::fflush(stdout);
    kept_ = dup(STDOUT_FILENO);
    dup2(file, STDOUT_FILENO);
  }
  ~Redirected() {
    std::fflush(stdout);
    dup2(kept_, STDOUT_FILENO);
    close(kept_);
  }
  Redirected(const Redirected&) = delete;
  Redirected& operator=(const Redirected&) = delete;

 private:
  int kept_;
};

std::string written(const std::function<void()>& act) {
  const TemporaryFolder folder;
  const std::string path = folder.write("out", "");
  const int file = open(path.c_str(), O_WRONLY);
  {
    const Redirected redirected(file);
    act();
  }
  close(file);
  return read_file(path);
}

std::string written_to_terminal(const std::function<void()>& act) {
  const int terminal = posix_openpt(O_RDWR | O_NOCTTY);
  REQUIRE((terminal >= 0 && grantpt(terminal) == 0 && unlockpt(terminal) == 0));
  const int file = open(ptsname(terminal), O_WRONLY | O_NOCTTY);
  REQUIRE(file >= 0);
  {
    const Redirected redirected(file);
    act();
  }
  close(file);
  // What was written comes in pieces, when the kernel finds the time, and then an error: nobody can write any more.
  std::string text;
  char piece[4096];
  for (ssize_t count; (count = read(terminal, piece, sizeof piece)) > 0;)
    text.append(piece, static_cast<size_t>(count));
  close(terminal);
  return text;
}

void three_steps(const std::map<std::string, std::string>& options) {
  MetricsSink sink("console", "/", 1, 4000, options);
  sink.event(0, "start", "gpt-300m");
  for (int step = 1; step <= 3; ++step)
    sink.step({{"step", step},
               {"loss", 10.0 / step},
               {"learning_rate", 3e-4},
               {"grad_norm", 1.25},
               {"tokens", step * 1e6},
               {"tokens_per_second", 12345.0},
               {"flops_per_second", 1.5e12},
               {"step_seconds", 2.0},
               {"data_seconds", 0.1}});
  sink.step({{"step", 3}, {"eval_loss", 3.5}, {"eval_bits_per_byte", 1.25}});
}

} // namespace

TEST_CASE("a step is one line, and so are evaluations and events; no bar where there is no terminal") {
  CHECK(written([] { three_steps({}); }) ==
        "step    0/4000  start: gpt-300m\n"
        "step    1/4000  loss 10.0000  lr 3.000e-04  norm 1.250  12.3k tokens/s  1.500 TFLOP/s  left 2h 13m\n"
        "step    2/4000  loss 5.0000  lr 3.000e-04  norm 1.250  12.3k tokens/s  1.500 TFLOP/s  left 2h 13m\n"
        "step    3/4000  loss 3.3333  lr 3.000e-04  norm 1.250  12.3k tokens/s  1.500 TFLOP/s  left 2h 13m\n"
        "step    3/4000  eval loss 3.5000  1.2500 bits/byte\n");
}

TEST_CASE("every = 2 leaves lines out, but not the first, the last and evaluations") {
  const std::string text = written([] { three_steps({{"every", "2"}}); });
  CHECK(text.find("step    1/") != std::string::npos);
  CHECK(text.find("step    2/") != std::string::npos);
  CHECK(text.find("step    3/4000  loss") == std::string::npos);
  CHECK(text.find("step    3/4000  eval") != std::string::npos);
}

TEST_CASE("a loss that is no number is shown as it is, what was not measured is left out") {
  const std::string text = written([] {
    MetricsSink sink("console", "/", 1, 10);
    sink.step({{"step", 10}, {"loss", NAN}, {"step_seconds", 0.5}});
  });
  CHECK(text == "step 10/10  loss nan  left 0s\n");
}

TEST_CASE("on a terminal a bar with the time left stands below the lines, and is gone at the end") {
  const std::string text = written_to_terminal([] { three_steps({}); });
  const std::string erase = "\r\033[K";
  CHECK(text.find("] "
                  "  0.0 %  left ?") == std::string::npos);
  CHECK(text.find("...]   0.1 %  left 2h 13m" + erase) != std::string::npos);
  CHECK(text.substr(text.size() - erase.size()) == erase);
  CHECK(text.find("[....") != std::string::npos);
  CHECK(written_to_terminal([] { three_steps({{"bar", "never"}}); }).find('\033') == std::string::npos);
  CHECK(written([] { three_steps({{"bar", "always"}}); }).find(erase) != std::string::npos);
}

TEST_CASE("the time left follows the steps, not the first one, which warms up") {
  const std::string text = written([] {
    MetricsSink sink("console", "/", 1, 102);
    sink.step({{"step", 1}, {"step_seconds", 500.0}});
    sink.step({{"step", 2}, {"step_seconds", 1.0}});
    sink.step({{"step", 3}, {"step_seconds", 3.0}});
  });
  CHECK(text == "step   1/102  left 14h 01m\nstep   2/102  left 1m 40s\nstep   3/102  left 3m 18s\n");
}

} // namespace kumiki::test
