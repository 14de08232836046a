// From a strategy's list of parts to entries of a schedule: slots, and which entry of a segment is the first and the last.
// And a run of all ranks' lists beforehand, which finds those that would wait for each other for ever.
#include <map>
#include <set>

#include "core/base/error.h"
#include "core/plan/plan.h"

namespace kumiki {
namespace {

std::string name_of(const PartEntry& e) {
  const char* part = e.part == Part::kForward ? "forward" : e.part == Part::kBackward ? "backward" : "weight";
  return std::string(part) + " of stage " + std::to_string(e.stage) + ", micro-batch " + std::to_string(e.micro);
}

int32_t find_segment(const Plan& plan, const PartEntry& e) {
  for (size_t i = 0; i < plan.body.size(); ++i)
    if (plan.body[i].stage == e.stage && plan.body[i].part == e.part) return static_cast<int32_t>(i);
  return -1;
}

// How many parts a micro-batch of a stage has: what its slot is kept for.
int32_t parts_of(const Plan& plan, int32_t stage) {
  int32_t n = 0;
  for (const Segment& s : plan.body) n += s.stage == stage;
  return n;
}

} // namespace

std::vector<ScheduleEntry> make_schedule(const Plan& plan, int32_t micro_batches, const Strategies* strategies) {
  std::vector<ScheduleEntry> schedule;
  schedule.push_back({Phase::kHead, 0, 0, 0, true, true, false});
  if (plan.body.size() == 1 && (!strategies || strategies->pipeline_axis() < 0)) {
    for (int32_t m = 0; m < micro_batches; ++m)
      schedule.push_back({Phase::kBody, 0, m, 0, m == 0, m + 1 == micro_batches, false});
  } else {
    bool training = false;
    int32_t stages = 0;
    for (const Segment& s : plan.body) training |= s.part != Part::kForward;
    stages = plan.stages;
    std::map<int32_t, std::set<int32_t>> free;                               // by stage
    std::map<std::pair<int32_t, int32_t>, std::pair<int32_t, int32_t>> held; // (stage, micro): slot, parts done
    std::map<int32_t, int32_t> runs;                                         // by segment
    std::vector<PartEntry> entries =
        strategies->schedule(stages, micro_batches, training, strategies->pipeline_coordinate());
    // The plan may keep them apart because a step of more micro-batches has to.
    bool apart = false, planned_apart = false;
    for (const PartEntry& e : entries) apart |= e.part == Part::kWeight;
    for (const Segment& s : plan.body) planned_apart |= s.part == Part::kWeight;
    if (planned_apart && !apart)
      for (size_t i = 0; i < entries.size(); ++i)
        if (entries[i].part == Part::kBackward) {
          PartEntry weight = entries[i];
          weight.part = Part::kWeight;
          entries.insert(entries.begin() + static_cast<std::ptrdiff_t>(++i), weight);
        }
    for (const PartEntry& e : entries) {
      const int32_t segment = find_segment(plan, e);
      if (segment < 0 || e.micro < 0 || e.micro >= micro_batches)
        throw Error("schedule", "there is no " + name_of(e) + " on this rank");
      const std::pair<int32_t, int32_t> key{e.stage, e.micro};
      ScheduleEntry entry;
      entry.segment = segment;
      entry.micro = e.micro;
      if (e.part == Part::kForward) {
        std::set<int32_t>& slots = free[e.stage];
        if (slots.empty() && runs[segment] == 0)
          for (int32_t i = 0; i < plan.slots_of(e.stage); ++i) slots.insert(i);
        if (held.count(key) || slots.empty())
          throw Error("schedule",
                      name_of(e) + ": " + (held.count(key) ? "twice" : "more at once than was planned for"));
        entry.slot = *slots.begin();
        entry.opens = true;
        slots.erase(slots.begin());
        held[key] = {entry.slot, 1};
      } else {
        if (!held.count(key)) throw Error("schedule", name_of(e) + " comes before its forward");
        entry.slot = held[key].first;
        ++held[key].second;
      }
      if (held[key].second == parts_of(plan, e.stage)) {
        free[e.stage].insert(held[key].first);
        held.erase(key);
      }
      entry.first = runs[segment] == 0;
      entry.last = ++runs[segment] == micro_batches;
      schedule.push_back(entry);
    }
    for (size_t i = 0; i < plan.body.size(); ++i)
      if (runs[static_cast<int32_t>(i)] != micro_batches)
        throw Error("schedule", "a part of stage " + std::to_string(plan.body[i].stage) + " runs " +
                                    std::to_string(runs[static_cast<int32_t>(i)]) + " times, not once for each of " +
                                    std::to_string(micro_batches) + " micro-batches");
  }
  schedule.push_back({Phase::kTail, 0, 0, 0, true, true, false});
  return schedule;
}

void check_schedules(const Strategies& strategies, int32_t stages, int32_t micro_batches, bool training) {
  const int64_t degree = strategies.pipeline_degree();
  std::vector<std::vector<PartEntry>> lists;
  for (int64_t c = 0; c < degree; ++c) lists.push_back(strategies.schedule(stages, micro_batches, training, c));
  std::vector<size_t> at(lists.size(), 0);
  std::set<std::pair<int32_t, int32_t>> forward, backward; // done
  for (bool moved = true; moved;) {
    moved = false;
    for (size_t c = 0; c < lists.size(); ++c)
      while (at[c] < lists[c].size()) {
        const PartEntry& e = lists[c][at[c]];
        const bool ready = e.part == Part::kForward
                               ? e.stage == 0 || forward.count({e.stage - 1, e.micro})
                               : forward.count({e.stage, e.micro}) &&
                                     (e.stage == stages - 1 || backward.count({e.stage + 1, e.micro})) &&
                                     (e.part == Part::kBackward || backward.count({e.stage, e.micro}));
        if (!ready) break;
        if (e.part == Part::kForward) forward.insert({e.stage, e.micro});
        if (e.part == Part::kBackward) backward.insert({e.stage, e.micro});
        ++at[c];
        moved = true;
      }
  }
  for (size_t c = 0; c < lists.size(); ++c)
    if (at[c] < lists[c].size())
      throw Error("schedule", "coordinate " + std::to_string(c) + " of the pipeline waits for ever: its entry " +
                                  std::to_string(at[c]) + ", " + name_of(lists[c][at[c]]) +
                                  ", needs what nobody makes before");
}

} // namespace kumiki
