// One bit that is wrong on one of the ranks that hold the same weights ends the job, and is told by name: parameter,
// step and both ranks.
#include <catch2/catch.hpp>

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <exception>
#include <fstream>
#include <sstream>

#include "core/run/launch.h"
#include "core/run/trainer.h"
#include "tests/config/temp_folder.h"

using namespace kumiki;

namespace {

constexpr int kThrown = 99; // an exit code that kumiki does not have

struct Flip {
  std::string parameter; // "": none
  int64_t rank = 0, step = 0;
};

struct Outcome {
  int code = -1;
  std::string output;
};

void flip_lowest_bit(const Store& store, const std::string& name) {
  uint32_t first = 0;
  store.device().download(&first, store.leaf(name), sizeof first);
  first ^= 1;
  store.device().upload(store.leaf(name), &first, sizeof first);
}

// The child's whole life: ranks that are threads of it; what ends the job ends the process.
[[noreturn]] void train_in_child(const std::string& config, const std::vector<std::string>& sets, const Flip& flip,
                                 const std::string& output) {
  const int file = open(output.c_str(), O_CREAT | O_WRONLY | O_TRUNC, 0600);
  if (file < 0 || dup2(file, STDOUT_FILENO) < 0 || dup2(file, STDERR_FILENO) < 0) _exit(kThrown);
  TrainOptions options;
  options.after_step = [&](const Store& store, int64_t rank, int64_t step) {
    if (!flip.parameter.empty() && rank == flip.rank && step == flip.step) flip_lowest_bit(store, flip.parameter);
  };
  int code = kThrown;
  try {
    code = run_ranks(config, sets, [&](const Config& c, Registry& registry, Communicator* communicator) {
      return train(c, registry, options, communicator);
    });
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
  }
  std::fflush(nullptr);
  _exit(code);
}

Outcome train_with(const std::vector<std::string>& layout, const Flip& flip, int compare_every = 1) {
  const TempFolder folder;
  const std::string output = folder / "output";
  const std::string config =
      folder.write("tiny.toml",
                   "[run]\nsteps = 4\nsequence = 8\nmicro_batch = 1\nglobal_batch = 2\nthreads = 1\n"
                   "[model]\nuse = \"gpt\"\nlayers = 1\nwidth = 16\nheads = 2\n"
                   "[kernels]\nuse = [\"generic\"]\n"
                   "[optimizer]\nuse = \"adamw\"\nlearning_rate = 1e-3\n"
                   "[[data]]\nuse = \"synthetic\"\nvocabulary = 32\n");
  std::vector<std::string> sets = {"comm.use=threads", "run.output=" + (folder / "runs"),
                                   "run.compare_every=" + std::to_string(compare_every)};
  sets.insert(sets.end(), layout.begin(), layout.end());
  ::setenv("KUMIKI_PLUGINS", "plugins", 0);
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) train_in_child(config, sets, flip, output);
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  Outcome outcome;
  if (WIFEXITED(status)) outcome.code = WEXITSTATUS(status);
  std::stringstream text;
  text << std::ifstream(output).rdbuf();
  outcome.output = text.str();
  return outcome;
}

bool says(const Outcome& outcome, const std::string& text) { return outcome.output.find(text) != std::string::npos; }

const std::vector<std::string> kData = {"comm.ranks=2", "parallel.data.degree=2"};
const std::vector<std::string> kTensor = {"comm.ranks=2", "parallel.tensor.degree=2"};
const std::vector<std::string> kSquare = {"comm.ranks=4", "parallel.tensor.degree=2", "parallel.data.degree=2"};
// ZeRO keeps each element once along data; along tensor there are still two of some.
const std::vector<std::string> kZero = {"comm.ranks=4", "parallel.tensor.degree=2", "parallel.data.degree=2",
                                        "parallel.data.zero=1"};

} // namespace

TEST_CASE("ranks that hold the same weights train to the end") {
  for (const auto& layout : {kData, kTensor, kSquare, kZero}) {
    const Outcome outcome = train_with(layout, {});
    CAPTURE(layout, outcome.output);
    CHECK(outcome.code == 0);
    CHECK(!says(outcome, "differs"));
  }
}

TEST_CASE("a bit that flips on one rank ends the job, which names parameter, step and both ranks") {
  struct Case {
    std::vector<std::string> layout;
    Flip flip;
    const char *first, *other; // the ranks that are compared; the second speaks
  };
  const Case cases[] = {
      {kData, {"layers.0.mlp.up.weight", 1, 2}, "rank 0", "rank 1"},
      {kData, {"layers.0.mlp.up.weight", 0, 2}, "rank 0", "rank 1"}, // whose bit it is, two ranks cannot know
      {kTensor, {"norm.weight", 1, 2}, "rank 0", "rank 1"},          // whole on both; others are divided
      {kSquare, {"layers.0.mlp.up.weight", 3, 2}, "rank 1", "rank 3"},
      {kZero, {"norm.weight", 3, 2}, "rank 2", "rank 3"},
  };
  for (const Case& c : cases) {
    const Outcome outcome = train_with(c.layout, c.flip);
    CAPTURE(c.layout, c.flip.rank, outcome.output);
    CHECK(outcome.code == kExitDiverged);
    CHECK(says(outcome, "after step 2: " + c.flip.parameter + " differs between " + c.first));
    CHECK(says(outcome, std::string("kumiki: ") + c.other + " of "));
  }
}

TEST_CASE("weights are compared as often as run.compare_every says") {
  const Flip flip{"layers.0.mlp.up.weight", 1, 2};
  const Outcome late = train_with(kData, flip, 3);
  CAPTURE(late.output);
  CHECK(late.code == kExitDiverged);
  CHECK(says(late, "after step 3: "));
  CHECK(train_with(kData, flip, 0).code == 0);
}
