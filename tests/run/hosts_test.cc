// Ranks that pretend to be on two hosts: one that does not come to a message is named by those of the other host.
#include <catch2/catch.hpp>

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <thread>

#include "core/run/launch.h"
#include "tests/config/temp_folder.h"

using namespace kumiki;

namespace {

struct Outcome {
  int code = -1;
  std::string output;
};

// What each rank does; the process ends as the ranks end it.
Outcome run(uint32_t hosts, const RankBody& body) {
  const TempFolder folder;
  const std::string output = folder / "output";
  const std::string config =
      folder.write("tiny.toml",
                   "[run]\nsteps = 1\nsequence = 8\nmicro_batch = 1\nglobal_batch = 4\nthreads = 1\n"
                   "[model]\nuse = \"gpt\"\nlayers = 1\nwidth = 16\nheads = 2\n"
                   "[optimizer]\nuse = \"adamw\"\nlearning_rate = 1e-3\n"
                   "[[data]]\nuse = \"synthetic\"\nvocabulary = 32\n");
  const std::vector<std::string> sets = {"comm.use=threads", "comm.ranks=4", "comm.hosts=" + std::to_string(hosts)};
  ::setenv("KUMIKI_PLUGINS", "plugins", 0);
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    const int file = open(output.c_str(), O_CREAT | O_WRONLY | O_TRUNC, 0600);
    if (file < 0 || dup2(file, STDOUT_FILENO) < 0 || dup2(file, STDERR_FILENO) < 0) _exit(99);
    int code = 99;
    try {
      code = run_ranks(config, sets, body);
    } catch (const std::exception& error) {
      std::fprintf(stderr, "%s\n", error.what());
    }
    std::fflush(nullptr);
    _exit(code);
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  std::stringstream text;
  text << std::ifstream(output).rdbuf();
  return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, text.str()};
}

bool says(const Outcome& outcome, const std::string& text) { return outcome.output.find(text) != std::string::npos; }

} // namespace

TEST_CASE("ranks that pretend to be on hosts divide them evenly and end as one host does") {
  for (const uint32_t hosts : {1u, 2u, 3u, 4u}) {
    const Outcome outcome = run(hosts, [](const Config&, Registry&, Communicator* communicator) {
      for (int i = 0; i < 50; ++i) communicator->barrier();
      const km_rank_info& place = communicator->place();
      return place.local_rank + place.host == place.rank && place.local_rank < place.local_size ? 0 : 7;
    });
    CAPTURE(hosts, outcome.output);
    CHECK(outcome.code == 0);
  }
}

TEST_CASE("a rank of the other host that computes for long is named, with step and last message") {
  const Outcome outcome = run(2, [](const Config&, Registry&, Communicator* communicator) {
    const uint32_t rank = communicator->place().rank;
    communicator->set_time_limit(rank == 0 ? 8 : 1000); // so that rank 0, of the first host, is the one that speaks
    communicator->set_step(rank == 3 ? 6 : 7);
    communicator->barrier();
    if (rank == 3) std::this_thread::sleep_for(std::chrono::minutes(4));
    communicator->barrier();
    return 0;
  });
  CAPTURE(outcome.output);
  CHECK(outcome.code == 86);
  CHECK(says(outcome, "kumiki: rank 0 of 4: step 7: all_reduce of 8 bytes among ranks 0,1,2,3 (collective "));
  CHECK(says(outcome, ") is not complete after 8 s: rank 3 (process "));
  CHECK(says(outcome, " has not come to it; it is at step 6, its last message was all_reduce "));
}
