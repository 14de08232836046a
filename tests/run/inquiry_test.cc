// Hosts ask each other what their ranks do: boards of two or more hosts in one process, with notes that are kept in a list.
#include <catch2/catch.hpp>

#include <unistd.h>

#include <cstring>
#include <deque>
#include <memory>

#include "core/run/inquiry.h"

using namespace kumiki;

namespace {

constexpr double kLimit = 16; // questions every second, looks every half
constexpr int64_t kSecond = 1'000'000'000;

struct Post {
  struct Letter {
    uint32_t from;
    std::vector<unsigned char> bytes;
  };
  std::vector<std::deque<Letter>> to;
  uint32_t sent = 0;
};
struct Mailbox {
  Post* post;
  uint32_t rank;
};

km_status send(void* self, uint32_t to, const void* bytes, uint32_t count) {
  const Mailbox& box = *static_cast<Mailbox*>(self);
  const auto* begin = static_cast<const unsigned char*>(bytes);
  box.post->to[to].push_back({box.rank, {begin, begin + count}});
  ++box.post->sent;
  return KM_OK;
}

km_status receive(void* self, void* bytes, uint32_t* count, uint32_t* from) {
  const Mailbox& box = *static_cast<Mailbox*>(self);
  auto& letters = box.post->to[box.rank];
  *count = 0;
  if (letters.empty()) return KM_OK;
  *from = letters.front().from;
  *count = static_cast<uint32_t>(letters.front().bytes.size());
  std::memcpy(bytes, letters.front().bytes.data(), *count);
  letters.pop_front();
  return KM_OK;
}

// Hosts of `each` ranks; a rank that is stopped has no turn.
struct Hosts {
  Hosts(uint32_t count, uint32_t each) : each_(each) {
    static int made = 0;
    const uint32_t ranks = count * each;
    post.to.resize(ranks);
    for (uint32_t r = 0; r < ranks; ++r) host_of.push_back(r / each * each);
    for (uint32_t h = 0; h < count; ++h) {
      boards.push_back(
          std::make_unique<Board>("test-" + std::to_string(getpid()) + "-" + std::to_string(++made), each, ranks));
      boards[h]->hide();
      REQUIRE(boards[h]->lines() == each);
      for (uint32_t i = 0; i < each; ++i) {
        Board::Line& line = boards[h]->line(i);
        line.rank = h * each + i;
        line.process = 1000 + h * each + i;
        line.beat = now;
      }
    }
    boxes.resize(ranks);
    const km_comm_notes notes = {sizeof(km_comm_notes), 0, send, receive};
    for (uint32_t r = 0; r < ranks; ++r) {
      boxes[r] = {&post, r};
      inquiries.push_back(std::make_unique<Inquiry>(board(r), line(r), host_of, notes, &boxes[r]));
    }
    stopped.resize(ranks);
  }
  Board& board(uint32_t rank) { return *boards[rank / each_]; }
  Board::Line& line(uint32_t rank) { return board(rank).line(rank % each_); }
  void pass(int seconds) {
    for (int i = 0; i < 2 * seconds; ++i) {
      now += kSecond / 2;
      for (uint32_t r = 0; r < inquiries.size(); ++r) {
        if (stopped[r]) continue;
        line(r).beat = now;
        inquiries[r]->turn(kLimit, now);
      }
    }
  }
  const uint32_t each_;
  int64_t now = 1000 * kSecond;
  Post post;
  std::vector<uint32_t> host_of;
  std::vector<std::unique_ptr<Board>> boards;
  std::vector<Mailbox> boxes;
  std::vector<std::unique_ptr<Inquiry>> inquiries;
  std::vector<bool> stopped;
};

} // namespace

TEST_CASE("nothing is sent while nobody waits long") {
  Hosts hosts(3, 2);
  hosts.pass(100);
  CHECK(hosts.post.sent == 0);
}

TEST_CASE("what other hosts' ranks do is on the board of the host that asks, for all its ranks") {
  Hosts hosts(3, 2);
  Board::Line& far = hosts.line(4);
  far.step = 12;
  far.op = KM_COMM_ALL_GATHER;
  far.group = 77;
  far.number = 5;
  far.bytes = 640;
  far.groups[1].group = 77;
  far.groups[1].number = 5;
  far.waiting = hosts.now - 3 * kSecond;
  hosts.line(0).waiting = hosts.line(1).waiting = hosts.now;
  hosts.pass(3);
  const Board::Line& copy = hosts.board(1).copy(4);
  CHECK(copy.rank == 4);
  CHECK(copy.process == 1004);
  CHECK(copy.step == 12);
  CHECK(copy.op == KM_COMM_ALL_GATHER);
  CHECK(copy.group == 77);
  CHECK(copy.number == 5);
  CHECK(copy.bytes == 640);
  CHECK(copy.groups[1].group == 77);
  CHECK(copy.groups[1].number == 5);
  CHECK(copy.waiting != 0);
  CHECK(hosts.now - copy.heard <= 2 * kSecond);
  CHECK(copy.heard - copy.beat <= kSecond);
}

TEST_CASE("one rank of a host asks, whatever their number: some notes for each pair of hosts") {
  for (const uint32_t each : {1u, 4u, 20u}) {
    Hosts hosts(4, each);
    for (uint32_t r = 0; r < 4 * each; ++r) hosts.line(r).waiting = hosts.now;
    hosts.pass(1);
    CAPTURE(each);
    CHECK(hosts.post.sent > 0);
    CHECK(hosts.post.sent <= 2 * 4 * 3 * 2); // a question and an answer, at most two rounds
  }
}

TEST_CASE("a stopped rank is answered for by others of its host, which say how long it is silent") {
  Hosts hosts(2, 3);
  hosts.stopped[3] = hosts.stopped[4] = true; // the first to be asked are among them
  hosts.line(0).waiting = hosts.now;
  hosts.pass(12);
  const Board::Line &stopped = hosts.board(0).copy(3), &alive = hosts.board(0).copy(5);
  CHECK(hosts.now - stopped.heard <= 3 * kSecond);
  CHECK(stopped.heard - stopped.beat >= 8 * kSecond);
  CHECK(alive.heard - alive.beat <= kSecond);
}

TEST_CASE("of a host of which all ranks are stopped nothing is heard") {
  Hosts hosts(3, 2);
  hosts.stopped[2] = hosts.stopped[3] = true;
  hosts.line(0).waiting = hosts.now;
  hosts.pass(8);
  CHECK(hosts.board(0).copy(2).heard == 0);
  CHECK(hosts.board(0).copy(3).heard == 0);
  CHECK(hosts.board(0).copy(4).heard != 0);
}

TEST_CASE("where the rank that asks for its host is stopped, the next one asks") {
  Hosts hosts(2, 2);
  hosts.line(0).waiting = hosts.line(1).waiting = hosts.now;
  hosts.stopped[0] = true;
  hosts.pass(8);
  CHECK(hosts.now - hosts.board(0).copy(2).heard <= 2 * kSecond);
}

TEST_CASE("hosts of more ranks than a note holds answer in several") {
  Hosts hosts(2, 50);
  hosts.line(0).waiting = hosts.now;
  hosts.pass(3);
  for (uint32_t r = 50; r < 100; ++r) {
    CAPTURE(r);
    CHECK(hosts.board(0).copy(r).process == 1000 + r);
  }
}

TEST_CASE("notes that are none of ours, or cut short, change nothing") {
  Hosts hosts(2, 1);
  const unsigned char strange[] = {1, 2, 3, 4, 5, 6, 7, 8, 9};
  Mailbox box{&hosts.post, 1};
  REQUIRE(send(&box, 0, strange, sizeof strange) == KM_OK);
  REQUIRE(send(&box, 0, strange, 3) == KM_OK);
  const uint32_t head[] = {0x6b6d6131, 2}; // an answer of two lines, without them
  REQUIRE(send(&box, 0, head, sizeof head) == KM_OK);
  hosts.pass(2);
  CHECK(hosts.board(0).copy(1).heard == 0);
}
