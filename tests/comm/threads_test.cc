// comm "self" and "threads": what all comm components promise, and what only ranks in one process can.
#include <sys/wait.h>
#include <unistd.h>
#include <cstdlib>

#include <atomic>
#include <catch2/catch.hpp>
#include <chrono>
#include <set>
#include <thread>

#include "tests/comm/suite.h"

namespace kumiki::test {
namespace {

// The plugin's place in the build, unless said otherwise.
std::string plugin_file() {
  const char* const given = std::getenv("KUMIKI_TEST_COMM");
  return given ? given : "plugins/comm/threads/comm.so";
}

// Runs `body` as every rank of one world.
void as_ranks(uint32_t ranks, const std::string& check, const std::function<void(Rank&)>& body) {
  const CommPlugin plugin(plugin_file(), "threads", {{"ranks", std::to_string(ranks)}, {"check", check}});
  uint32_t here = 0;
  REQUIRE(plugin.table().ranks_here(test_host(), plugin.options(), &here) == KM_OK);
  REQUIRE(here == ranks);
  std::atomic<uint32_t> opened{0};
  std::vector<std::thread> threads;
  for (uint32_t r = 0; r < ranks; ++r) {
    threads.emplace_back([&] {
      void* self = nullptr;
      if (plugin.table().open(test_host(), plugin.options(), &self) != KM_OK) return;
      ++opened;
      Rank rank(plugin.table(), self);
      body(rank);
      plugin.table().close(self);
    });
  }
  for (std::thread& thread : threads) thread.join();
  REQUIRE(opened == ranks);
}

TEST_CASE("self keeps the promises of comm with one rank") {
  const CommPlugin plugin(plugin_file(), "self", {});
  uint32_t here = 0;
  REQUIRE(plugin.table().ranks_here(test_host(), plugin.options(), &here) == KM_OK);
  REQUIRE(here == 1);
  void* self = nullptr;
  REQUIRE(plugin.table().open(test_host(), plugin.options(), &self) == KM_OK);
  Rank rank(plugin.table(), self);
  REQUIRE(rank.size() == 1);
  test_all(rank);
  plugin.table().close(self);
}

TEST_CASE("threads keeps the promises of comm with any number of ranks") {
  for (const uint32_t ranks : {1u, 2u, 3u, 4u, 8u}) {
    DYNAMIC_SECTION(ranks << " ranks") { as_ranks(ranks, "true", test_all); }
  }
  as_ranks(3, "false", test_all);
}

TEST_CASE("sums of bf16 and f16 are rounded once, after the last rank") {
  for (const uint32_t ranks : {2u, 3u, 5u}) as_ranks(ranks, "true", test_sums_are_rounded_once);
}

TEST_CASE("collectives that ranks call differently are an error that names the rank, on all ranks") {
  for (const uint32_t ranks : {2u, 3u, 8u}) as_ranks(ranks, "true", test_differences_are_named);
}

TEST_CASE("ranks are all different, and the next world begins anew") {
  for (const uint32_t ranks : {4u, 2u, 7u}) {
    std::mutex mutex;
    std::set<uint32_t> seen;
    as_ranks(ranks, "true", [&](Rank& rank) {
      const std::lock_guard lock(mutex);
      seen.insert(rank.rank());
      rank.check(rank.place().local_rank == rank.rank() && rank.place().local_size == ranks && rank.place().host == 0,
                 "all ranks are local");
    });
    REQUIRE(seen.size() == ranks);
    REQUIRE(*seen.rbegin() == ranks - 1);
  }
}

TEST_CASE("a send and a recv of different sizes are an error on both sides that names them") {
  as_ranks(2, "true", [](Rank& rank) {
    const std::vector<uint32_t> both = {0, 1};
    km_group* const group = rank.group(both);
    const Buffer buffer(KM_F32, 8);
    km_message m = message(rank.rank() == 0 ? KM_COMM_SEND : KM_COMM_RECV, KM_F32, group, 4 + rank.rank(),
                           buffer.address(), buffer.address());
    m.peer = static_cast<int32_t>(1 - rank.rank());
    std::string text;
    rank.check(rank.status_of(m, &text) == KM_ERROR_HOST, "sizes that differ were not found");
    rank.check(text.find("send of 4") != std::string::npos && text.find("recv of 5") != std::string::npos, text);
  });
}

TEST_CASE("one rank that asks finishes a collective for all that have started it") {
  as_ranks(3, "true", [](Rank& rank) {
    static std::atomic<bool> started[3], finished;
    if (rank.rank() == 0) finished = false;
    km_group* const group = rank.group({0, 1, 2});
    const Buffer buffer(KM_F32, 1 << 20), sum(KM_F32, 1 << 20);
    const km_message m = message(KM_COMM_ALL_REDUCE, KM_F32, group, buffer.size(), buffer.address(), sum.address());
    const uint64_t request = rank.start(m);
    started[rank.rank()] = true;
    if (rank.rank() == 0) {
      while (!rank.test(request)) std::this_thread::yield();
      finished = true;
    } else {
      while (!finished) std::this_thread::yield(); // asks for nothing meanwhile
      rank.check(rank.test(request), "what another rank finished is not done");
    }
  });
}

TEST_CASE("abort names the rank and ends the process with the exit code") {
  int pipe_ends[2];
  REQUIRE(pipe(pipe_ends) == 0);
  const CommPlugin plugin(plugin_file(), "self", {});
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    dup2(pipe_ends[1], 2);
    void* self = nullptr;
    if (plugin.table().open(test_host(), plugin.options(), &self) != KM_OK) _exit(1);
    plugin.table().abort(self, 86, "step 7: all_reduce 12 does not end");
    _exit(2);
  }
  close(pipe_ends[1]);
  std::string text(4096, '\0');
  const ssize_t bytes = read(pipe_ends[0], text.data(), text.size());
  text.resize(bytes > 0 ? static_cast<size_t>(bytes) : 0);
  close(pipe_ends[0]);
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  REQUIRE(WIFEXITED(status));
  REQUIRE(WEXITSTATUS(status) == 86);
  REQUIRE(text == "kumiki: rank 0 of 1: step 7: all_reduce 12 does not end\n");
}

} // namespace
} // namespace kumiki::test
