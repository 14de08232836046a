// What holds for operations together: their order, their bits, their faults.
#include "tests/comm/suite.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <thread>

namespace kumiki::test {
namespace {

std::vector<uint32_t> all_ranks(const Rank& rank) {
  std::vector<uint32_t> out;
  for (uint32_t r = 0; r < rank.size(); ++r) out.push_back(r);
  return out;
}

km_message to_peer(uint32_t op, km_group* group, uint32_t peer, int32_t tag, const Buffer& buffer) {
  km_message out = message(op, KM_F32, group, buffer.size(), buffer.address(), buffer.address());
  out.peer = static_cast<int32_t>(peer);
  out.tag = tag;
  return out;
}

Buffer constant(uint32_t dtype, uint64_t count, double value) {
  Buffer out(dtype, count);
  for (uint64_t i = 0; i < count; ++i) out.set(i, value);
  return out;
}

} // namespace

void test_many_outstanding(Rank& rank) {
  km_group* const group = rank.group(all_ranks(rank));
  constexpr uint32_t kMany = 100, kEach = 4;
  const uint32_t next = (rank.rank() + 1) % rank.size(), previous = (rank.rank() + rank.size() - 1) % rank.size();
  const double n = rank.size(), sum = n * (n - 1) / 2;
  std::vector<Buffer> buffers;
  std::vector<km_message> messages;
  messages.reserve(kEach * kMany); // they stay where they are until done
  std::vector<uint64_t> requests;
  for (uint32_t k = 0; k < kMany; ++k) {
    for (uint32_t b = 0; b < kEach; ++b) {
      // Of bf16, short ones and long ones by turns.
      const uint64_t count = b == 3 ? (k % 2 ? 5 : 20000) : 1 + k % 50;
      buffers.push_back(constant(b == 3 ? KM_BF16 : KM_F32, count, rank.rank() + k % 8));
    }
  }
  for (uint32_t k = 0; k < kMany; ++k) {
    const Buffer *b = &buffers[kEach * k], &wide = b[0], &narrow = b[3];
    messages.push_back(message(KM_COMM_ALL_REDUCE, KM_F32, group, wide.size(), wide.address(), wide.address()));
    messages.push_back(to_peer(KM_COMM_SEND, group, next, static_cast<int32_t>(k % 7), b[1]));
    messages.push_back(to_peer(KM_COMM_RECV, group, previous, static_cast<int32_t>(k % 7), b[2]));
    messages.push_back(message(KM_COMM_ALL_REDUCE, KM_BF16, group, narrow.size(), narrow.address(), narrow.address()));
  }
  for (const km_message& each : messages) requests.push_back(rank.start(each));
  // One at a time, and ranks begin at different ends: asking for one must move the others on.
  for (size_t i = 0; i < requests.size(); ++i) {
    const uint64_t request = requests[rank.rank() % 2 ? i : requests.size() - 1 - i];
    while (!rank.test(request)) std::this_thread::yield();
  }
  for (uint32_t k = 0; k < kMany; ++k) {
    const Buffer* const b = &buffers[kEach * k];
    rank.check(b[0].get(b[0].size() - 1) == sum + n * (k % 8), "a sum of many under way is wrong");
    rank.check(b[2].get(b[2].size() - 1) == previous + k % 8, "a message of many under way is wrong");
    rank.check(b[3].get(0) == sum + n * (k % 8) && b[3].get(b[3].size() - 1) == b[3].get(0),
               "a sum of bf16 of many under way is wrong");
  }
}

void test_sends(Rank& rank) {
  km_group* const group = rank.group(all_ranks(rank));
  constexpr uint64_t kLarge = 1 << 19;
  const uint32_t other = rank.rank() ^ 1;
  if (other < rank.size()) {
    const Buffer mine = constant(KM_F32, kLarge, rank.rank() + 5), theirs(KM_F32, kLarge);
    rank.run({to_peer(KM_COMM_SEND, group, other, 3, mine), to_peer(KM_COMM_RECV, group, other, 3, theirs)});
    rank.check(theirs == constant(KM_F32, kLarge, other + 5), "sends that cross bring other values");

    // Tags are matched out of order, messages of one tag in order.
    const Buffer a = constant(KM_F32, 9, 1), b = constant(KM_F32, 9, 2), c = constant(KM_F32, 9, 3);
    const Buffer x(KM_F32, 9), y(KM_F32, 9), z(KM_F32, 9);
    rank.run({to_peer(KM_COMM_SEND, group, other, 1, a), to_peer(KM_COMM_SEND, group, other, 2, b),
              to_peer(KM_COMM_SEND, group, other, 1, c), to_peer(KM_COMM_RECV, group, other, 2, x),
              to_peer(KM_COMM_RECV, group, other, 1, y), to_peer(KM_COMM_RECV, group, other, 1, z)});
    rank.check(x == b && y == a && z == c, "tags or the order of messages were mixed up");
  }
  // To oneself.
  const Buffer own = constant(KM_F32, 100, 8), back(KM_F32, 100);
  rank.run({to_peer(KM_COMM_RECV, group, rank.rank(), 0, back), to_peer(KM_COMM_SEND, group, rank.rank(), 0, own)});
  rank.check(back == own, "a message to oneself is another one");
}

void test_determinism(Rank& rank) {
  km_group* const group = rank.group(all_ranks(rank));
  constexpr uint64_t kCount = 50021;
  for (const uint32_t dtype : {KM_F32, KM_BF16, KM_F16}) {
    Buffer input(dtype, kCount);
    // Not exact in any order: sums depend on it.
    const double grain = dtype == KM_F32 ? 1.0 / 3 : 0.125;
    for (uint64_t i = 0; i < kCount; ++i)
      input.set(i, value_of(rank.rank(), i, dtype) * grain * (1 << (i + rank.rank()) % 7));
    const Buffer first(dtype, kCount), second(dtype, kCount);
    rank.run({message(KM_COMM_ALL_REDUCE, dtype, group, kCount, input.address(), first.address())});
    std::this_thread::sleep_for(std::chrono::milliseconds(3 * ((rank.rank() + dtype) % 3)));
    rank.run({message(KM_COMM_ALL_REDUCE, dtype, group, kCount, input.address(), second.address())});
    rank.check(first == second, "the same sum has other bits the second time");
    const Buffer everybody(dtype, kCount * rank.size());
    rank.run({message(KM_COMM_ALL_GATHER, dtype, group, kCount, first.address(), everybody.address())});
    for (uint32_t r = 0; r < rank.size(); ++r) {
      for (uint64_t i = 0; i < kCount; ++i) {
        if (everybody.get(r * kCount + i) != first.get(i)) rank.check(false, "ranks have other bits of one sum");
      }
    }
  }
}

void test_nan(Rank& rank) {
  km_group* const group = rank.group(all_ranks(rank));
  for (const uint32_t dtype : {KM_F32, KM_BF16, KM_F16, KM_F64}) {
    for (const uint32_t reduce : {KM_REDUCE_SUM, KM_REDUCE_MAX}) {
      Buffer buffer = constant(dtype, 4 * rank.size(), 2);
      buffer.set(2 * rank.rank(), std::numeric_limits<double>::quiet_NaN());
      km_message m = message(KM_COMM_ALL_REDUCE, dtype, group, buffer.size(), buffer.address(), buffer.address());
      m.reduce = reduce;
      rank.run({m});
      for (uint32_t r = 0; r < rank.size(); ++r) {
        rank.check(std::isnan(buffer.get(2 * r)) && !std::isnan(buffer.get(2 * r + 1)),
                   "a NaN was lost or made: dtype " + std::to_string(dtype) + ", reduce " + std::to_string(reduce));
      }
    }
  }
}

void test_refusals(Rank& rank) {
  km_group* const group = rank.group(all_ranks(rank));
  const Buffer buffer = constant(KM_F32, 4, 1), output(KM_F32, 4);
  const km_message good = message(KM_COMM_ALL_REDUCE, KM_F32, group, 4, buffer.address(), output.address());
  const auto refused = [&](const std::function<void(km_message&)>& spoil, const std::string& what) {
    km_message bad = good;
    spoil(bad);
    uint64_t request = 0;
    const km_status status = rank.table().start(rank.self(), &bad, &request);
    rank.check(status == KM_ERROR_HOST, what + " was not refused");
    rank.check(last_error().find(what) != std::string::npos, "the refusal of " + what + " says: " + last_error());
  };
  refused([](km_message& m) { m.op = 99; }, "op");
  refused([](km_message& m) { m.dtype = 99; }, "dtype");
  refused([](km_message& m) { m.reduce = 99; }, "reduction");
  refused([](km_message& m) { m.dtype = KM_U8; }, "u8");
  refused([](km_message& m) { m.outer = 2; }, "rows");
  refused([&](km_message& m) { m.op = KM_COMM_SEND, m.peer = static_cast<int32_t>(rank.size()); }, "member");
  refused([](km_message& m) { m.op = KM_COMM_BROADCAST, m.peer = -1; }, "member");
  refused([](km_message& m) { m.op = KM_COMM_RECV, m.tag = 32768; }, "tag");
  rank.run({good});
  rank.check(output.get(3) == rank.size(), "after refusals a sum is wrong");
  const std::vector<uint32_t> others = {rank.rank() + 1, rank.rank() + 2};
  km_group* none = nullptr;
  rank.check(rank.table().group(rank.self(), others.data(), 2, &none) == KM_ERROR_HOST && !none,
             "a group without the caller was not refused");
}

void test_sums_are_rounded_once(Rank& rank) {
  km_group* const group = rank.group(all_ranks(rank));
  for (const uint32_t dtype : {KM_BF16, KM_F16}) {
    for (const uint64_t count : {1, 33, 50001}) {
      // Each addend alone is half of the first one's last bit: it is lost where sums are rounded one by one.
      const double big = dtype == KM_BF16 ? 256 : 2048;
      const Buffer input = constant(dtype, count, rank.rank() == 0 ? big : 1), output(dtype, count);
      rank.run({message(KM_COMM_ALL_REDUCE, dtype, group, count, input.address(), output.address())});
      const double expected = 2 * std::nearbyint((big + rank.size() - 1) / 2); // to nearest even, in steps of 2
      rank.check(output.get(count - 1) == expected,
                 "a sum of dtype " + std::to_string(dtype) + " is " + std::to_string(output.get(count - 1)));
    }
  }
}

void test_differences_are_named(Rank& rank) {
  if (rank.size() < 2) return;
  km_group* const group = rank.group(all_ranks(rank));
  const Buffer input = constant(KM_F32, 8 * rank.size(), 1), output(KM_F32, 8 * rank.size());
  const uint32_t odd = rank.size() - 1; // the rank that differs
  const km_message good = message(KM_COMM_ALL_REDUCE, KM_F32, group, 8, input.address(), output.address());
  const std::vector<std::function<void(km_message&)>> spoils = {
      [](km_message& m) { m.count = 7; },
      [](km_message& m) { m.dtype = KM_I32; },
      [](km_message& m) { m.reduce = KM_REDUCE_MAX; },
      [](km_message& m) { m.op = KM_COMM_BROADCAST; },
      [](km_message& m) { m.op = KM_COMM_REDUCE_SCATTER; },
  };
  for (const auto& spoil : spoils) {
    km_message mine = good;
    if (rank.rank() == odd) spoil(mine);
    std::string text;
    const km_status status = rank.status_of(mine, &text);
    rank.check(status == KM_ERROR_HOST, "collectives that differ were not found");
    rank.check(text.find("rank " + std::to_string(odd) + " calls") != std::string::npos, "the error says: " + text);
    rank.run({good});
    rank.check(output.get(0) == rank.size(), "after an error a sum is wrong");
  }
  // Uneven counts that differ in one member's part; and the root of a broadcast.
  std::vector<uint64_t> counts(rank.size(), 2);
  counts[0] = rank.rank() == odd ? 3 : 2;
  km_message gather = message(KM_COMM_ALL_GATHER, KM_F32, group, 2, input.address(), output.address());
  gather.counts = counts.data();
  std::string text;
  rank.check(rank.status_of(gather, &text) == KM_ERROR_HOST, "counts that differ were not found");
  km_message broadcast = message(KM_COMM_BROADCAST, KM_F32, group, 2, input.address(), output.address());
  broadcast.peer = rank.rank() == odd ? 1 : 0;
  rank.check(rank.status_of(broadcast, &text) == KM_ERROR_HOST, "roots that differ were not found");
  // Many under way with one bad among them: the others are right.
  std::vector<km_message> several(5, good);
  if (rank.rank() == odd) several[2].count = 5;
  std::vector<uint64_t> requests(5);
  for (int i = 0; i < 5; ++i) requests[i] = rank.start(several[i]);
  for (int i = 4; i >= 0; --i) {
    uint32_t done = 0;
    km_status status = KM_OK;
    while (status == KM_OK && !done) status = rank.table().test(rank.self(), requests[i], &done);
    rank.check(i == 2 ? status == KM_ERROR_HOST : done == 1, "one bad collective spoiled another");
  }
}

void test_latency(Rank& rank, double seconds) {
  km_group* const group = rank.group(all_ranks(rank));
  const Buffer buffer = constant(KM_F32, 8, 1);
  const auto began = std::chrono::steady_clock::now();
  rank.run({message(KM_COMM_ALL_REDUCE, KM_F32, group, 8, buffer.address(), buffer.address())});
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - began;
  rank.check(took.count() >= seconds, "an operation was done before its latency was over");
}

void test_notes(Rank& rank) {
  const auto* notes = static_cast<const km_comm_notes*>(
      rank.table().ability ? rank.table().ability(rank.self(), KM_COMM_NOTES) : nullptr);
  rank.check(notes && KM_HAS(km_comm_notes, notes, receive), "there are no notes");
  constexpr uint32_t kEach = 5;
  const auto length = [](uint32_t from, uint32_t i) { return i + 1 == kEach ? KM_NOTE_BYTES : 1 + 7 * i + from; };
  const auto letter = [](uint32_t from, uint32_t i) { return static_cast<unsigned char>(16 * from + i); };
  for (uint32_t i = 0; i < kEach; ++i) {
    for (uint32_t to = 0; to < rank.size(); ++to) {
      std::vector<unsigned char> bytes(length(rank.rank(), i), letter(rank.rank(), i));
      rank.check(notes->send(rank.self(), to, bytes.data(), static_cast<uint32_t>(bytes.size())) == KM_OK,
                 "a note is not sent: " + last_error());
      std::fill(bytes.begin(), bytes.end(), static_cast<unsigned char>(0xee)); // a copy travels
    }
  }
  std::vector<uint32_t> come(rank.size());
  for (uint32_t all = 0; all < kEach * rank.size();) {
    std::vector<unsigned char> bytes(KM_NOTE_BYTES, 0xdd);
    uint32_t count = 0, from = 0;
    rank.check(notes->receive(rank.self(), bytes.data(), &count, &from) == KM_OK, "a note is lost: " + last_error());
    if (count == 0) {
      std::this_thread::yield();
      continue;
    }
    rank.check(from < rank.size() && count == length(from, come[from]), "a note of another length has come");
    for (uint32_t i = 0; i < count; ++i)
      rank.check(bytes[i] == letter(from, come[from]), "a note has other bytes or comes out of order");
    ++come[from];
    ++all;
  }
  unsigned char one = 1;
  rank.check(notes->send(rank.self(), rank.size(), &one, 1) == KM_ERROR_HOST, "a note to nobody is sent");
  rank.check(notes->send(rank.self(), 0, &one, KM_NOTE_BYTES + 1) == KM_ERROR_HOST, "a note that is too long is sent");
}

void test_all(Rank& rank) {
  test_all_operations(rank);
  test_many_outstanding(rank);
  test_sends(rank);
  test_determinism(rank);
  test_nan(rank);
  test_refusals(rank);
  test_sums_are_rounded_once(rank);
  test_notes(rank);
}

} // namespace kumiki::test
