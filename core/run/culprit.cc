#include "core/run/culprit.h"

#include <algorithm>

namespace kumiki {
namespace {

std::string whole_seconds(double seconds) { return std::to_string(static_cast<int64_t>(seconds)) + " s"; }

std::string name_of(const RankState& rank) {
  return "rank " + std::to_string(rank.rank) + " (process " + std::to_string(rank.process) +
         (rank.host_name.empty() ? "" : " on " + rank.host_name) + ")";
}

std::string last_message(const RankState& rank) {
  return op_name(rank.op) + (rank.number ? " " + std::to_string(rank.number) + " of a group" : "") + " of " +
         std::to_string(rank.bytes) + " bytes";
}

std::string place_of(const RankState& rank) {
  return "at step " + std::to_string(rank.step) + ", its last message was " + last_message(rank);
}

std::string list_of(const std::vector<const RankState*>& ranks) {
  std::string text;
  for (size_t i = 0; i < ranks.size() && i < 8; ++i) text += (i ? ", " : "") + std::to_string(ranks[i]->rank);
  return text + (ranks.size() > 8 ? ", …" : "");
}

// Whether a rank has started the collective. Of sends and receives the board keeps no count: where the last message of the
// rank was in the same group, it is taken to have come.
bool has_come(const RankState& rank, const Awaited& awaited) {
  if (awaited.number != 0)
    for (const auto& [group, number] : rank.groups)
      if (group == awaited.group) return number >= awaited.number;
  if (awaited.number != 0 && rank.all_groups) return false;
  return rank.group == awaited.group && rank.number >= awaited.number;
}

bool is_member(const RankState& rank, const Awaited& awaited) {
  return std::binary_search(awaited.members.begin(), awaited.members.end(), rank.rank);
}

} // namespace

const std::string& op_name(uint32_t op) {
  static const std::string names[] = {"nothing",    "all_reduce", "reduce_scatter", "all_gather",
                                      "all_to_all", "broadcast",  "send",           "recv"};
  return names[op <= KM_COMM_RECV ? op : 0];
}

Culprit find_culprit(const Awaited& awaited, const std::vector<RankState>& all, double silent_limit,
                     double answer_limit) {
  const auto answers = [&](const RankState& r) { return r.unanswered >= 0 && r.unanswered <= answer_limit; };
  const auto silent = [&](const RankState& r) { return r.asked && answers(r) && r.silent > silent_limit; };
  const auto host_silent = [&](const RankState& r) { return r.asked && !answers(r); };
  const auto late = [&](const RankState& r) { return r.asked && answers(r) && !has_come(r, awaited); };
  const auto first = [&](bool members, auto is) -> const RankState* {
    for (const RankState& r : all)
      if ((!members || is_member(r, awaited)) && is(r)) return &r;
    return nullptr;
  };
  const auto every = [&](bool members, auto is) {
    std::vector<const RankState*> out;
    for (const RankState& r : all)
      if ((!members || is_member(r, awaited)) && is(r)) out.push_back(&r);
    return out;
  };
  // Who is stopped is the one, a member before others: late members may wait for it in a message of their own. Else a
  // member that is late and waits for nothing, else one that is late.
  for (const bool members : {true, false}) {
    if (const RankState* r = first(members, silent)) return {Culprit::kSilent, r, {}};
    if (const RankState* r = first(members, host_silent)) return {Culprit::kHostSilent, r, every(false, host_silent)};
  }
  if (const RankState* r = first(true, [&](const RankState& each) { return late(each) && each.waiting == 0; }))
    return {Culprit::kNotCome, r, {}};
  if (const RankState* r = first(true, late)) return {Culprit::kWaitsItself, r, {}};
  const std::vector<const RankState*> unknown = every(true, [](const RankState& r) { return !r.asked; });
  if (!unknown.empty()) return {Culprit::kUnknown, nullptr, unknown};
  return {};
}

std::string describe(const Culprit& culprit) {
  switch (culprit.kind) {
    case Culprit::kSilent:
      return name_of(*culprit.rank) + " has given no sign of life for " + whole_seconds(culprit.rank->silent) +
             ": stopped, or its machine is; it is " + place_of(*culprit.rank);
    case Culprit::kHostSilent: {
      const RankState& rank = *culprit.rank;
      const std::string known = rank.unanswered < 0 ? "it has not answered since this message is waited for"
                                                    : "when it answered last, " + whole_seconds(rank.unanswered) +
                                                          " ago, it was " + place_of(rank);
      return name_of(rank) +
             " does not answer, and nobody on its host does: stopped, or the machine or its network is; " + known +
             ". Ranks on hosts that do not answer: " + list_of(culprit.hostless);
    }
    case Culprit::kNotCome: return name_of(*culprit.rank) + " has not come to it; it is " + place_of(*culprit.rank);
    case Culprit::kWaitsItself:
      return name_of(*culprit.rank) + " has not come to it: it waits for others itself, since " +
             whole_seconds(culprit.rank->waiting) + "; it is " + place_of(*culprit.rank);
    case Culprit::kUnknown: return "of ranks " + list_of(culprit.hostless) + " on other hosts nothing is known here";
    case Culprit::kNobody: break;
  }
  return "all ranks of the group came to it: the network does not deliver";
}

} // namespace kumiki
