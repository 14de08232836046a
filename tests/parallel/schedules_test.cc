// The lists of the pipeline's schedules: complete, in an order that runs, with the idle time that the literature says.
#include <catch2/catch.hpp>
#include <map>
#include <set>

#include "tests/parallel/specs.h"

namespace kumiki::test {
namespace {

using Lists = std::vector<std::vector<Mesh::Entry>>; // by coordinate

Lists lists_of(const Layout& layout, int32_t micro_batches, bool training = true) {
  Lists lists;
  const int32_t chunks = layout.schedule == "interleaved" ? static_cast<int32_t>(layout.chunks) : 1;
  for (int64_t r = 0; r < layout.pipeline; ++r)
    lists.push_back(Mesh(layout, r).schedule(static_cast<int32_t>(layout.pipeline) * chunks, micro_batches, training));
  return lists;
}

// Time until all lists are done, where a part of one micro-batch on one rank's share of the model takes one, and B and
// W side by side are one part of two; -1 if the lists wait for each other for ever.
double time_of(const Lists& lists, int32_t stages) {
  const double part = static_cast<double>(lists.size()) / stages;
  std::map<std::tuple<uint32_t, int32_t, int32_t>, double> done; // by part, stage, micro-batch
  std::vector<double> clock(lists.size(), 0);
  std::vector<size_t> at(lists.size(), 0);
  const auto ready = [&](const Mesh::Entry& e) {
    std::vector<std::tuple<uint32_t, int32_t, int32_t>> needs;
    if (e.part == KM_PART_FORWARD && e.stage > 0) needs.emplace_back(KM_PART_FORWARD, e.stage - 1, e.micro);
    if (e.part == KM_PART_BACKWARD) needs.emplace_back(KM_PART_FORWARD, e.stage, e.micro);
    if (e.part == KM_PART_BACKWARD && e.stage + 1 < stages) needs.emplace_back(KM_PART_BACKWARD, e.stage + 1, e.micro);
    if (e.part == KM_PART_WEIGHT) needs.emplace_back(KM_PART_BACKWARD, e.stage, e.micro);
    double when = 0;
    for (const auto& need : needs) {
      const auto found = done.find(need);
      if (found == done.end()) return -1.0;
      when = std::max(when, found->second);
    }
    return when;
  };
  for (bool moved = true; moved;) {
    moved = false;
    for (size_t r = 0; r < lists.size(); ++r)
      while (at[r] < lists[r].size()) {
        const Mesh::Entry& e = lists[r][at[r]];
        const double when = ready(e);
        if (when < 0) break;
        clock[r] = std::max(clock[r], when) + part;
        ++at[r];
        if (e.part == KM_PART_BACKWARD && at[r] < lists[r].size() && lists[r][at[r]].part == KM_PART_WEIGHT &&
            lists[r][at[r]].stage == e.stage && lists[r][at[r]].micro == e.micro) {
          clock[r] += part;
          done[{KM_PART_WEIGHT, e.stage, e.micro}] = clock[r];
          ++at[r];
        }
        done[{e.part, e.stage, e.micro}] = clock[r];
        moved = true;
      }
  }
  for (size_t r = 0; r < lists.size(); ++r)
    if (at[r] < lists[r].size()) return -1;
  return *std::max_element(clock.begin(), clock.end());
}

// The most micro-batches (of one chunk) whose activations a rank holds at a time.
size_t most_under_way(const std::vector<Mesh::Entry>& list) {
  std::set<std::pair<int32_t, int32_t>> held;
  size_t most = 0;
  for (const Mesh::Entry& e : list) {
    if (e.part == KM_PART_FORWARD) held.insert({e.stage, e.micro});
    if (e.part == KM_PART_WEIGHT) held.erase({e.stage, e.micro});
    most = std::max(most, held.size());
  }
  return most;
}

std::vector<Layout> all_schedules(int64_t degree) {
  return {pipeline(degree, "gpipe"), pipeline(degree, "1f1b"), pipeline(degree, "interleaved", 2),
          pipeline(degree, "interleaved", 3), pipeline(degree, "zero_bubble")};
}

} // namespace

TEST_CASE("each schedule lists each part of each micro-batch once, and the lists of all ranks run to their end") {
  for (const int64_t degree : {2, 3, 4, 8})
    for (const Layout& layout : all_schedules(degree))
      for (const int32_t micros : {1, 2, 3, 4, 8, 12, 24}) {
        if (layout.schedule == "interleaved" && micros > degree && micros % degree) continue;
        INFO(layout.text() << ", " << micros << " micro-batches");
        const int32_t stages = static_cast<int32_t>(degree * (layout.chunks ? layout.chunks : 1));
        for (const bool training : {true, false}) {
          const Lists lists = lists_of(layout, micros, training);
          std::set<std::tuple<uint32_t, int32_t, int32_t>> seen;
          size_t entries = 0;
          for (size_t r = 0; r < lists.size(); ++r)
            for (const Mesh::Entry& e : lists[r]) {
              CHECK(e.stage % degree == static_cast<int64_t>(r));
              seen.insert({e.part, e.stage, e.micro});
              ++entries;
            }
          CHECK(entries == seen.size());
          CHECK(entries == static_cast<size_t>(stages * micros * (training ? 3 : 1)));
          CHECK(time_of(lists, stages) >= 0);
        }
      }
}

TEST_CASE("a rank that starts with the backward part of what it has not seen is found to wait for ever") {
  Lists lists = lists_of(pipeline(4, "1f1b"), 8);
  std::swap(lists[1][0], lists[1].back());
  CHECK(time_of(lists, 4) < 0);
}

TEST_CASE("idle time is as published: gpipe and 1f1b alike, interleaved and zero bubble less") {
  struct Case {
    int64_t degree;
    int32_t micros;
    double busy, gpipe, one_f_one_b, interleaved, zero_bubble;
  };
  for (const Case& c : {Case{4, 8, 24, 33, 33, 28.5, 27}, Case{8, 16, 48, 69, 69, 58.5, 55}}) {
    const int32_t stages = static_cast<int32_t>(c.degree);
    CHECK(time_of(lists_of(pipeline(c.degree, "gpipe"), c.micros), stages) == Approx(c.gpipe));
    CHECK(time_of(lists_of(pipeline(c.degree, "1f1b"), c.micros), stages) == Approx(c.one_f_one_b));
    CHECK(time_of(lists_of(pipeline(c.degree, "interleaved", 2), c.micros), 2 * stages) == Approx(c.interleaved));
    CHECK(time_of(lists_of(pipeline(c.degree, "zero_bubble"), c.micros), stages) == Approx(c.zero_bubble));
    CHECK(c.one_f_one_b == Approx(c.busy + 3 * static_cast<double>(c.degree - 1))); // (P - 1)(F + B + W)
  }
}

TEST_CASE("1f1b holds no more micro-batches than stages lie ahead; gpipe holds all") {
  const Lists gpipe = lists_of(pipeline(4, "gpipe"), 12), one_f_one_b = lists_of(pipeline(4, "1f1b"), 12);
  for (size_t r = 0; r < 4; ++r) {
    CHECK(most_under_way(gpipe[r]) == 12);
    CHECK(most_under_way(one_f_one_b[r]) == 4 - r);
  }
  for (const auto& list : lists_of(pipeline(4, "zero_bubble"), 12)) CHECK(most_under_way(list) == 4);
}

TEST_CASE("interleaved with fewer micro-batches than stages of a chunk is faster than 1f1b, too") {
  for (const int32_t micros : {5, 7}) {
    const double plain = time_of(lists_of(pipeline(8, "1f1b"), micros), 8);
    CHECK(time_of(lists_of(pipeline(8, "interleaved", 2), micros), 16) < plain);
    CHECK(time_of(lists_of(pipeline(8, "interleaved", 4), micros), 32) < plain);
  }
}

TEST_CASE("interleaved refuses micro-batches that are no multiple of the degree, and says what to change") {
  CHECK_THROWS_WITH(lists_of(pipeline(4, "interleaved", 2), 6), Catch::Contains("multiple of the degree, 4") &&
                                                                    Catch::Contains("a step has 6") &&
                                                                    Catch::Contains("run.global_batch"));
}

} // namespace kumiki::test
