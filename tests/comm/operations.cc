// All operations with all dtypes and shapes, against values computed here.
#include <algorithm>

#include "tests/comm/suite.h"

namespace kumiki::test {
namespace {

constexpr uint32_t kDtypes[] = {KM_F32, KM_BF16, KM_F16, KM_F64, KM_I32, KM_I64, KM_U8};

struct Case {
  const std::vector<uint32_t>& ranks; // of the group
  uint32_t me;                        // index in it
  km_group* group;
  uint32_t dtype;
  uint64_t count; // the even part; uneven: member m has count + m, and the middle one nothing
  bool uneven;
  uint64_t outer;
  uint32_t salt;

  uint32_t members() const { return static_cast<uint32_t>(ranks.size()); }
  uint64_t part(uint32_t m) const { return !uneven ? count : m == members() / 2 && members() > 1 ? 0 : count + m; }
  uint64_t before(uint32_t m) const {
    uint64_t sum = 0;
    for (uint32_t i = 0; i < m; ++i) sum += part(i);
    return sum;
  }
  uint64_t row() const { return before(members()); }
  std::vector<uint64_t> counts() const {
    std::vector<uint64_t> out;
    for (uint32_t m = 0; m < members(); ++m) out.push_back(part(m));
    return out;
  }
  double input(uint32_t m, uint64_t i) const { return value_of(ranks[m], i, salt); }
  double reduced(uint64_t i, uint32_t reduce) const {
    double out = input(0, i);
    for (uint32_t m = 1; m < members(); ++m) {
      out = reduce == KM_REDUCE_SUM ? out + input(m, i) : std::max(out, input(m, i));
    }
    return out;
  }
  std::string text(const char* op) const {
    return std::string(op) + ": dtype " + std::to_string(dtype) + ", " + std::to_string(members()) +
           " members, count " + std::to_string(count) + (uneven ? " uneven" : "") + ", outer " + std::to_string(outer);
  }
};

Buffer filled(const Case& c, uint64_t count) {
  Buffer out(c.dtype, count);
  for (uint64_t i = 0; i < count; ++i) out.set(i, c.input(c.me, i));
  return out;
}

void expect(Rank& rank, const Case& c, const char* op, const Buffer& output,
            const std::function<double(uint64_t)>& expected) {
  rank.check(output.intact(), c.text(op) + ": wrote behind the end");
  for (uint64_t i = 0; i < output.size(); ++i) {
    if (output.get(i) == expected(i)) continue;
    rank.check(false, c.text(op) + ": element " + std::to_string(i) + " is " + std::to_string(output.get(i)) +
                          ", not " + std::to_string(expected(i)));
  }
}

void all_reduce(Rank& rank, const Case& c, uint32_t reduce, bool in_place) {
  const Buffer input = filled(c, c.count);
  Buffer output = in_place ? input : Buffer(c.dtype, c.count);
  km_message m = message(KM_COMM_ALL_REDUCE, c.dtype, c.group, c.count, in_place ? output.address() : input.address(),
                         output.address());
  m.reduce = reduce;
  rank.run({m});
  expect(rank, c, "all_reduce", output, [&](uint64_t i) { return c.reduced(i, reduce); });
}

void reduce_scatter(Rank& rank, const Case& c, uint32_t reduce) {
  const Buffer input = filled(c, c.outer * c.row());
  const Buffer output(c.dtype, c.outer * c.part(c.me));
  const std::vector<uint64_t> counts = c.counts();
  km_message m = message(KM_COMM_REDUCE_SCATTER, c.dtype, c.group, c.part(c.me), input.address(), output.address());
  m.counts = c.uneven ? counts.data() : nullptr;
  m.outer = c.outer;
  m.reduce = reduce;
  rank.run({m});
  const uint64_t own = c.part(c.me), before = c.before(c.me);
  expect(rank, c, "reduce_scatter", output,
         [&](uint64_t i) { return c.reduced(i / own * c.row() + before + i % own, reduce); });
}

void all_gather(Rank& rank, const Case& c) {
  const Buffer input = filled(c, c.outer * c.part(c.me));
  const Buffer output(c.dtype, c.outer * c.row());
  const std::vector<uint64_t> counts = c.counts();
  km_message m = message(KM_COMM_ALL_GATHER, c.dtype, c.group, c.part(c.me), input.address(), output.address());
  m.counts = c.uneven ? counts.data() : nullptr;
  m.outer = c.outer;
  rank.run({m});
  expect(rank, c, "all_gather", output, [&](uint64_t i) {
    uint64_t at = i % c.row();
    uint32_t source = 0;
    for (; at >= c.part(source); ++source) at -= c.part(source);
    return c.input(source, i / c.row() * c.part(source) + at);
  });
}

void all_to_all(Rank& rank, const Case& c) {
  const Buffer input = filled(c, c.count * c.members());
  const Buffer output(c.dtype, c.count * c.members());
  rank.run({message(KM_COMM_ALL_TO_ALL, c.dtype, c.group, c.count, input.address(), output.address())});
  expect(rank, c, "all_to_all", output,
         [&](uint64_t i) { return c.input(static_cast<uint32_t>(i / c.count), c.me * c.count + i % c.count); });
}

void broadcast(Rank& rank, const Case& c, bool same_buffer) {
  const uint32_t root = c.members() - 1;
  const Buffer input = filled(c, c.count);
  const Buffer output(c.dtype, c.count);
  const bool in_place = same_buffer && c.me == root;
  km_message m = message(KM_COMM_BROADCAST, c.dtype, c.group, c.count, c.me == root ? input.address() : 0,
                         in_place ? input.address() : output.address());
  m.peer = static_cast<int32_t>(root);
  rank.run({m});
  expect(rank, c, "broadcast", in_place ? input : output, [&](uint64_t i) { return c.input(root, i); });
}

void ring(Rank& rank, const Case& c) {
  const uint32_t next = (c.me + 1) % c.members(), previous = (c.me + c.members() - 1) % c.members();
  const Buffer input = filled(c, c.count);
  const Buffer output(c.dtype, c.count);
  km_message send = message(KM_COMM_SEND, c.dtype, c.group, c.count, input.address(), 0);
  send.peer = static_cast<int32_t>(next);
  km_message recv = message(KM_COMM_RECV, c.dtype, c.group, c.count, 0, output.address());
  recv.peer = static_cast<int32_t>(previous);
  send.tag = recv.tag = 32767;
  rank.run({send, recv});
  expect(rank, c, "send and recv", output, [&](uint64_t i) { return c.input(previous, i); });
}

void every_op(Rank& rank, Case c) {
  for (const uint32_t reduce : {KM_REDUCE_SUM, KM_REDUCE_MAX}) {
    if (c.dtype == KM_U8) break;
    if (c.outer == 1 && !c.uneven) all_reduce(rank, c, reduce, reduce == KM_REDUCE_MAX);
    reduce_scatter(rank, c, reduce);
  }
  all_gather(rank, c);
  if (c.outer != 1 || c.uneven) return;
  all_to_all(rank, c);
  broadcast(rank, c, c.count % 2 == 1);
  ring(rank, c);
}

} // namespace

void test_all_operations(Rank& rank) {
  std::vector<std::vector<uint32_t>> groups(6);
  for (uint32_t r = 0; r < rank.size(); ++r) {
    groups[0].push_back(r);
    groups[r < (rank.size() + 1) / 2 ? 1 : 2].push_back(r);
    groups[3 + r % 2].push_back(r);
    if (r % 3 == 1) groups[5].push_back(r);
  }
  uint32_t salt = 0;
  for (size_t g = 0; g < groups.size(); ++g) {
    const std::vector<uint32_t>& ranks = groups[g];
    km_group* const group = rank.group(ranks);
    salt = static_cast<uint32_t>(g + 1) * 1000; // the same on all ranks, whatever groups they were in
    if (!group) continue;
    const auto me = static_cast<uint32_t>(std::find(ranks.begin(), ranks.end(), rank.rank()) - ranks.begin());
    for (const uint32_t dtype : kDtypes) {
      for (const uint64_t count : {0, 1, 3, 17, 257}) {
        for (const uint64_t outer : {1, 3}) {
          for (const bool uneven : {false, true})
            every_op(rank, {ranks, me, group, dtype, count, uneven, outer, ++salt});
        }
      }
    }
  }
  // More than fits in any single piece of a component.
  km_group* const all = rank.group(groups[0]);
  salt = 0;
  for (const uint32_t dtype : {KM_F32, KM_BF16}) {
    for (const uint64_t outer : {1, 3}) {
      for (const bool uneven : {false, true})
        every_op(rank, {groups[0], rank.rank(), all, dtype, 70001, uneven, outer, ++salt});
    }
  }
}

} // namespace kumiki::test
