#include "plugins/kernels/sve/attention/cut.h"

#include <algorithm>
#include <functional>
#include <limits>
#include <numeric>
#include <queue>

#include "plugins/kernels/sve/attention/attention.h"

namespace kumiki::sve {
namespace {

/* tools/a64fx/backward_cut.py makes the same choice. */
constexpr int64_t kMostTasks = 192; /* each run but the first has a dq of its own in the workspace */
/* What a query costs each run beside its pairs with keys: packing it and adding its dq, as long as so many pairs. */
constexpr double kQueryCost = 8.0;
constexpr double kWorthMore = 0.98;              /* more runs must shorten the time so much */
constexpr uint32_t kThreadsWeighed[] = {12, 48}; /* a memory group of an A64FX, and the chip */

struct Triangle {
  int64_t heads, queries, past;
  std::vector<int64_t> keys; /* the first of each block, and the end */
  std::vector<double> pairs; /* of a block of keys with the queries that see them */

  Triangle(int64_t heads_, int64_t queries_, int64_t count, int64_t past_)
      : heads(heads_), queries(queries_), past(past_) {
    for (int64_t b = 0; b <= key_blocks(count); ++b) keys.push_back(key_block_begin(b, count));
    for (size_t b = 0; b + 1 < keys.size(); ++b) {
      const double begin = static_cast<double>(keys[b]), width = static_cast<double>(keys[b + 1]) - begin;
      pairs.push_back(width * (static_cast<double>(queries) - (past > 0 ? 0.0 : begin + width / 2)));
    }
  }

  /* Runs of about the same pairs, at most `wanted`: a block is in the run where its middle lies. */
  std::vector<int64_t> begins(int64_t wanted) const {
    const double all = std::accumulate(pairs.begin(), pairs.end(), 0.0);
    double before = 0.0;
    std::vector<int64_t> result;
    int64_t last = -1;
    for (size_t b = 0; b < pairs.size(); ++b) {
      const auto run = static_cast<int64_t>((before + pairs[b] / 2) / all * static_cast<double>(wanted));
      if (b == 0 || run != last) result.push_back(static_cast<int64_t>(b));
      last = run;
      before += pairs[b];
    }
    result.push_back(static_cast<int64_t>(pairs.size()));
    return result;
  }

  std::vector<double> costs(const std::vector<int64_t>& begins) const {
    std::vector<double> result;
    Head head;
    head.past = past;
    for (size_t run = 0; run + 1 < begins.size(); ++run) {
      const int64_t rows = queries - first_query(head, keys[static_cast<size_t>(begins[run])]);
      double cost = kQueryCost * static_cast<double>(rows);
      for (int64_t b = begins[run]; b < begins[run + 1]; ++b) cost += pairs[static_cast<size_t>(b)];
      result.push_back(cost);
    }
    return result;
  }

  /* The time of these tasks of every head on so many threads: each goes to the thread that is free first. */
  double time(const std::vector<double>& sorted, uint32_t threads) const {
    std::priority_queue<double, std::vector<double>, std::greater<>> free;
    for (uint32_t i = 0; i < threads; ++i) free.push(0.0);
    double end = 0.0;
    for (const double cost : sorted)
      for (int64_t head = 0; head < heads; ++head) {
        const double done = free.top() + cost;
        free.pop();
        free.push(done);
        end = std::max(end, done);
      }
    return end;
  }
};

} // namespace

BackwardCut cut_backward(int64_t heads, int64_t queries, int64_t keys, int64_t past) {
  const Triangle triangle(heads, queries, keys, past);
  BackwardCut best;
  double best_time = std::numeric_limits<double>::infinity();
  const int64_t most = std::clamp<int64_t>(kMostTasks / heads, 1, key_blocks(keys) * 2);
  for (int64_t wanted = 1; wanted <= most; ++wanted) {
    std::vector<int64_t> begins = triangle.begins(wanted);
    const std::vector<double> costs = triangle.costs(begins);
    std::vector<int64_t> order(costs.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
      return costs[static_cast<size_t>(a)] > costs[static_cast<size_t>(b)];
    });
    std::vector<double> sorted;
    for (const int64_t run : order) sorted.push_back(costs[static_cast<size_t>(run)]);
    double time = 0.0;
    for (const uint32_t threads : kThreadsWeighed) time += triangle.time(sorted, threads);
    if (time >= kWorthMore * best_time) continue;
    best_time = time;
    best = {std::move(begins), std::move(order)};
  }
  return best;
}

} // namespace kumiki::sve
