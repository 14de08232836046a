// One rank of the tests of comm "mpi", to be started by mpirun. Arguments: the plugin, then what to do:
//   all | all_checked | check | latency | abort | short | truncate | again
// "mpi_suite: … passed" comes from rank 0; a broken promise ends the job with exit code 1.
#include <unistd.h>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include <chrono>
#include <stdexcept>
#include <thread>

#include "tests/comm/suite.h"

namespace kumiki::test {
namespace {

// What a send and a recv of different sizes say to the receiver.
void test_sizes(Rank& rank, uint64_t sent, uint64_t received) {
  km_group* const group = rank.group({0, 1});
  if (!group) return;
  const Buffer buffer(KM_F32, 64);
  const bool sends = rank.rank() == 0;
  km_message m = message(sends ? KM_COMM_SEND : KM_COMM_RECV, KM_F32, group, sends ? sent : received, buffer.address(),
                         buffer.address());
  m.peer = sends ? 1 : 0;
  std::string text;
  const km_status status = rank.status_of(m, &text);
  if (!sends) rank.check(status != KM_OK && !text.empty(), "sizes that differ were not found");
  if (!sends) std::fprintf(stderr, "receiver: %s\n", text.c_str());
}

int run(const std::string& file, const std::string& what) {
  std::map<std::string, std::string> options;
  if (what == "check" || what == "all_checked") options["check"] = "true";
  if (what == "latency") options["latency"] = "0.2";
  const CommPlugin plugin(file, "mpi", options);
  uint32_t here = 0;
  if (plugin.table().ranks_here(test_host(), plugin.options(), &here) != KM_OK || here != 1) return 2;
  // The core opens it on a thread of its own.
  int code = 0;
  std::thread thread([&] {
    void* self = nullptr;
    if (plugin.table().open(test_host(), plugin.options(), &self) != KM_OK) {
      std::fprintf(stderr, "open: %s\n", last_error().c_str());
      code = 3;
      return;
    }
    Rank rank(plugin.table(), self);
    const uint32_t me = rank.rank(), size = rank.size();
    rank.check(rank.place().local_rank == me && rank.place().local_size == size && rank.place().host == 0,
               "the ranks of one host are local");
    if (what == "all" || what == "all_checked") test_all(rank);
    if (what == "check") test_differences_are_named(rank);
    if (what == "latency") test_latency(rank, 0.2);
    if (what == "short") test_sizes(rank, 3, 5);
    if (what == "truncate") test_sizes(rank, 5, 3);
    if (what == "abort" && me + 1 == size) plugin.table().abort(self, 86, "step 7: all_reduce 12 does not end");
    if (what == "abort") {
      km_group* const group = rank.group({0, size - 1});
      if (group) { // waits for the one that is gone
        const Buffer buffer(KM_F32, 4);
        rank.run({message(KM_COMM_ALL_REDUCE, KM_F32, group, 4, buffer.address(), buffer.address())});
      }
    }
    plugin.table().close(self);
    if (what == "again") {
      if (plugin.table().open(test_host(), plugin.options(), &self) != KM_ERROR_USER) code = 4;
    }
    if (code == 0 && me == 0) std::printf("mpi_suite: %s with %u ranks passed\n", what.c_str(), size);
  });
  thread.join();
  return code;
}

} // namespace
} // namespace kumiki::test

int main(int count, char** arguments) {
  if (count != 3) return 2;
  try {
    return kumiki::test::run(arguments[1], arguments[2]);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 2;
  }
}
