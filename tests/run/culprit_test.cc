// Who is blamed for a message that does not end, from planted boards: a rank that is stopped before one that is late, a host
// that does not answer, and nobody where all came.
#include <catch2/catch.hpp>

#include "core/run/culprit.h"

using namespace kumiki;

namespace {

constexpr uint64_t kData = 77, kTensor = 78; // hashes of groups
constexpr double kSilent = 5, kAnswer = 45;

bool says(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

// Ranks 1 … 7, two on a host, seen from rank 0: all are waiting in collective 12 of the group of all data ranks.
std::vector<RankState> all_waiting() {
  std::vector<RankState> all;
  for (uint32_t r = 1; r < 8; ++r) {
    RankState s;
    s.rank = r;
    s.process = 100 + r;
    s.host = r / 2 * 2;
    if (s.host != 0) s.host_name = "host" + std::to_string(r / 2);
    s.waiting = 70;
    s.step = 9;
    s.op = KM_COMM_ALL_REDUCE;
    s.bytes = 4096;
    s.group = kData;
    s.number = 12;
    s.groups = {{kTensor, 500}, {kData, 12}};
    all.push_back(s);
  }
  return all;
}

const Awaited kAwaited = {kData, 12, {2, 4, 6}};

} // namespace

TEST_CASE("where all came, nobody is blamed but the network") {
  const auto all = all_waiting();
  CHECK(find_culprit(kAwaited, all, kSilent, kAnswer).kind == Culprit::kNobody);
  CHECK(says(describe(find_culprit(kAwaited, all, kSilent, kAnswer)), "the network does not deliver"));
}

TEST_CASE("a rank that has gone on to another group has come all the same") {
  auto all = all_waiting();
  all[3].group = kTensor; // rank 4: its last message is another one, after number 12
  all[3].number = 501;
  CHECK(find_culprit(kAwaited, all, kSilent, kAnswer).kind == Culprit::kNobody);
  all[3].groups[1].second = 11;
  const Culprit culprit = find_culprit(kAwaited, all, kSilent, kAnswer);
  REQUIRE(culprit.rank);
  CHECK(culprit.rank->rank == 4);
}

TEST_CASE("a member that is late and waits for nothing is named with host, step and last message") {
  auto all = all_waiting();
  all[3].groups[1].second = all[3].number = 11;
  all[3].waiting = 0;
  all[3].step = 8;
  all[1].groups[1].second = 11; // rank 2 is late too, but waits itself
  const Culprit culprit = find_culprit(kAwaited, all, kSilent, kAnswer);
  CHECK(culprit.kind == Culprit::kNotCome);
  REQUIRE(culprit.rank);
  CHECK(culprit.rank->rank == 4);
  const std::string text = describe(culprit);
  CHECK(says(text, "rank 4 (process 104 on host2) has not come to it"));
  CHECK(says(text, "step 8, its last message was all_reduce 11 of a group of 4096 bytes"));
}

TEST_CASE("a rank that is stopped is blamed before others that are late, and where it is no member too") {
  for (const uint32_t stopped : {6u, 5u}) {
    auto all = all_waiting();
    all[stopped - 1].silent = 61;
    all[1].groups[1].second = 11; // rank 2: late, because it waits for the other
    all[3].groups[1].second = 11; // rank 4: late, and not known to wait
    all[3].waiting = 0;
    const Culprit culprit = find_culprit(kAwaited, all, kSilent, kAnswer);
    CHECK(culprit.kind == Culprit::kSilent);
    REQUIRE(culprit.rank);
    CHECK(culprit.rank->rank == stopped);
    CHECK(says(describe(culprit), "has given no sign of life for 61 s"));
  }
}

TEST_CASE("a silence that is short is none") {
  auto all = all_waiting();
  all[5].silent = kSilent;
  all[5].unanswered = kAnswer;
  CHECK(find_culprit(kAwaited, all, kSilent, kAnswer).kind == Culprit::kNobody);
}

TEST_CASE("a host that does not answer is named with the rank that is waited for") {
  for (const double unanswered : {-1.0, 50.0}) {
    auto all = all_waiting();
    for (const size_t i : {3u, 4u}) all[i].unanswered = unanswered; // ranks 4 and 5
    const Culprit culprit = find_culprit(kAwaited, all, kSilent, kAnswer);
    CHECK(culprit.kind == Culprit::kHostSilent);
    REQUIRE(culprit.rank);
    CHECK(culprit.rank->rank == 4);
    const std::string text = describe(culprit);
    CHECK(says(text, "rank 4 (process 104 on host2) does not answer, and nobody on its host does"));
    CHECK(says(text, "4, 5"));
    CHECK(says(text, unanswered < 0 ? "has not answered since" : "when it answered last, 50 s ago, it was at step 9"));
  }
}

TEST_CASE("a late member that waits itself is named where nobody is known to be stopped") {
  auto all = all_waiting();
  all[1].groups[1].second = 11;
  const Culprit culprit = find_culprit(kAwaited, all, kSilent, kAnswer);
  CHECK(culprit.kind == Culprit::kWaitsItself);
  CHECK(says(describe(culprit), "rank 2 (process 102 on host1) has not come to it: it waits for others itself"));
}

TEST_CASE("of hosts that cannot be asked nothing is said but that") {
  auto all = all_waiting();
  for (RankState& r : all)
    if (r.host != 0) r.asked = false;
  const Culprit culprit = find_culprit(kAwaited, all, kSilent, kAnswer);
  CHECK(culprit.kind == Culprit::kUnknown);
  CHECK(says(describe(culprit), "of ranks 2, 4, 6 on other hosts nothing is known"));
}

TEST_CASE("of a send or receive the peer is looked at alone") {
  auto all = all_waiting();
  for (RankState& r : all) r.waiting = 0;
  const Culprit culprit = find_culprit({kTensor, 0, {3}}, all, kSilent, kAnswer);
  CHECK(culprit.kind == Culprit::kNotCome);
  REQUIRE(culprit.rank);
  CHECK(culprit.rank->rank == 3);
}
