#include "core/plan/scale/simulate.h"

#include <algorithm>
#include <map>
#include <tuple>

#include "core/base/error.h"

namespace kumiki {
namespace {

constexpr double kUnknown = -1;

// A transfer or a collective of several coordinates: known in time when all have come.
struct Meeting {
  double begin = kUnknown, end = kUnknown;
  std::vector<std::pair<int32_t, double>> came; // coordinate, time
};

struct Ticket {
  double begin = kUnknown, end = kUnknown; // of what is known at once
  int32_t meeting = -1;
  bool open = false;
};

class Simulation {
 public:
  Simulation(const std::vector<SimProgram>& programs, uint32_t axes, bool spans, SimCores cores)
      : programs_(programs), keep_spans_(spans), cores_(cores), ranks_(programs.size()) {
    for (size_t c = 0; c < programs.size(); ++c) {
      Rank& r = ranks_[c];
      r.times.message.assign(axes, 0);
      r.times.exposed.assign(axes, 0);
      r.tickets.resize(programs[c].messages.size() * static_cast<size_t>(programs[c].slots));
    }
  }

  SimResult run() {
    do {
      for (bool moved = true; moved;) {
        moved = false;
        for (size_t c = 0; c < ranks_.size(); ++c) moved |= advance(c);
      }
    } while (go_on());
    SimResult result;
    result.seconds = now_;
    for (size_t c = 0; c < ranks_.size(); ++c)
      if (!ranks_[c].finished)
        throw Error("schedule", "coordinate " + std::to_string(c) + " of the pipeline waits for ever, in entry " +
                                    std::to_string(ranks_[c].entry) + " of " +
                                    std::to_string(programs_[c].entries.size()));
    for (Rank& r : ranks_) {
      r.times.idle += now_ - r.times.end;
      result.coordinates.push_back(std::move(r.times));
    }
    return result;
  }

 private:
  static constexpr double kNever = 1e300;

  // A message that is under way, or will be.
  struct Flight {
    double begin = 0, end = 0, overlap = 1;
  };

  struct Rank {
    size_t entry = 0, op = 0;
    bool entered = false, finished = false;
    double left = 0; // seconds at full speed of what is being computed; 0: nothing is
    double began = 0;
    double speed = 1;
    double waits_since = kUnknown; // waits for a message
    double wakes = kNever;         // when it comes, where that is known
    std::vector<Ticket> tickets;
    std::vector<Flight> flights;
    std::map<uint32_t, double> lanes;
    std::map<int32_t, double> links; // by receiver: when the way of this coordinate's sends to it is free
    std::map<uint64_t, size_t> shared_calls;
    SimTimes times;
  };

  Ticket& ticket(size_t c, uint32_t message, int32_t slot) {
    const SimProgram& p = programs_[c];
    const int32_t at = p.messages[message].slotted ? slot : 0;
    return ranks_[c].tickets[message * static_cast<size_t>(p.slots) + static_cast<size_t>(at)];
  }

  // To the next moment at which something ends or begins. False: there is none.
  bool go_on() {
    double computing = 0;
    for (const Rank& r : ranks_)
      if (r.left > 0) computing += cores_.ranks;
    const double share = cores_.cores > 0 && computing > cores_.cores ? cores_.cores / computing : 1;
    double next = kNever;
    for (Rank& r : ranks_) {
      if (r.left > 0) next = std::min(next, settle_speed(r, share));
      if (r.waits_since != kUnknown) next = std::min(next, r.wakes);
    }
    if (next == kNever) return false;
    for (Rank& r : ranks_) {
      if (r.left <= 0) continue;
      // Whose end this moment is has nothing left, whatever rounding says.
      r.left = now_ + r.left / r.speed <= next ? 0 : r.left - (next - now_) * r.speed;
      if (r.left <= 0) finish_compute(r, next);
    }
    now_ = next;
    return true;
  }

  // How fast the rank computes from now on; gives until when that holds, or its work is done.
  double settle_speed(Rank& r, double share) {
    std::erase_if(r.flights, [this](const Flight& f) { return f.end <= now_; });
    r.speed = share;
    double until = kNever, slowest = 1;
    for (const Flight& f : r.flights) {
      until = std::min(until, f.begin > now_ ? f.begin : f.end);
      if (f.begin <= now_) slowest = std::min(slowest, f.overlap);
    }
    r.speed *= slowest;
    return r.speed > 0 ? std::min(until, now_ + r.left / r.speed) : until;
  }

  void finish_compute(Rank& r, double end) {
    r.left = 0;
    r.times.computed += end - r.began;
    ++r.op;
    if (!keep_spans_) return;
    std::vector<SimSpan>& spans = r.times.compute;
    const int32_t entry = static_cast<int32_t>(r.entry);
    if (!spans.empty() && spans.back().entry == entry && spans.back().end == r.began)
      spans.back().end = end;
    else
      spans.push_back({r.began, end, entry, -1});
  }

  // Goes on until the coordinate computes, or waits. True if it did anything.
  bool advance(size_t c) {
    Rank& r = ranks_[c];
    const SimProgram& p = programs_[c];
    if (r.finished || r.left > 0) return false;
    bool moved = false;
    while (r.entry < p.entries.size()) {
      const SimProgram::Entry& e = p.entries[r.entry];
      if (!r.entered) {
        if (!open(c, e)) return moved;
        r.entered = true;
        moved = true;
      }
      const std::vector<SimOp>& list = p.lists[e.list];
      for (; r.op < list.size(); ++r.op, moved = true) {
        const SimOp& op = list[r.op];
        if (op.kind == SimOp::Kind::kCompute) {
          if (op.seconds <= 0) continue;
          r.left = op.seconds;
          r.began = now_;
          return true;
        }
        if (!await(c, op.message, e.slot)) return moved;
        if (op.kind == SimOp::Kind::kStart) start(c, op.message, e.slot);
      }
      ++r.entry;
      r.op = 0;
      r.entered = false;
    }
    for (uint32_t m = 0; m < p.messages.size(); ++m)
      for (int32_t slot = 0; slot < p.slots; ++slot)
        if (!await(c, m, slot)) return moved;
    r.times.end = now_;
    return r.finished = true;
  }

  // What an entry needs before its first step: the sends of whoever had the slot before; before the tail all sends.
  bool open(size_t c, const SimProgram::Entry& e) {
    const SimProgram& p = programs_[c];
    if (e.entry.phase == Phase::kTail) {
      for (const std::vector<uint32_t>& sends : p.sends)
        for (const uint32_t m : sends)
          for (int32_t slot = 0; slot < p.slots; ++slot)
            if (!await(c, m, slot)) return false;
    } else if (e.entry.opens) {
      for (const uint32_t m : p.sends[static_cast<size_t>(e.entry.segment)])
        if (!await(c, m, e.slot)) return false;
    }
    return true;
  }

  // False: it is not there yet, and the coordinate waits.
  bool await(size_t c, uint32_t message, int32_t slot) {
    Ticket& t = ticket(c, message, slot);
    if (!t.open) return true;
    Rank& r = ranks_[c];
    double begin = t.begin, end = t.end;
    if (t.meeting >= 0) {
      const Meeting& meeting = meetings_[static_cast<size_t>(t.meeting)];
      begin = meeting.begin, end = meeting.end;
    }
    if (end == kUnknown || end > now_) {
      if (r.waits_since == kUnknown) r.waits_since = now_;
      r.wakes = end == kUnknown ? kNever : end;
      return false;
    }
    t = {};
    if (r.waits_since == kUnknown) return true;
    // Before a meeting began others were missing; a message of this coordinate's own stood behind another message.
    const SimMessage& m = programs_[c].messages[message];
    const double since = r.waits_since;
    const double under_way = m.kind == SimMessage::Kind::kLocal ? since : std::max(since, begin);
    r.times.idle += under_way - since;
    r.times.exposed[m.axes] += now_ - under_way;
    r.waits_since = kUnknown;
    r.wakes = kNever;
    return true;
  }

  void start(size_t c, uint32_t message, int32_t slot) {
    Rank& r = ranks_[c];
    const SimMessage& m = programs_[c].messages[message];
    Ticket& t = ticket(c, message, slot);
    t.open = true;
    if (m.kind == SimMessage::Kind::kLocal) {
      double& lane = r.lanes[m.lane];
      t.begin = std::max(now_, lane);
      t.end = lane = t.begin + m.seconds;
      note(c, message, t.begin, t.end);
    } else {
      t.meeting = meet(c, message);
    }
  }

  int32_t meet(size_t c, uint32_t message) {
    Rank& r = ranks_[c];
    const SimMessage& m = programs_[c].messages[message];
    const int32_t self = static_cast<int32_t>(c);
    std::vector<int32_t>& open =
        m.kind == SimMessage::Kind::kShared
            ? open_[{-1, m.key, static_cast<int32_t>(r.shared_calls[m.key]++)}]
            : open_[{m.kind == SimMessage::Kind::kSend ? self : m.peer,
                     static_cast<uint64_t>(m.kind == SimMessage::Kind::kSend ? m.peer : self), m.tag}];
    // The first that this coordinate has not come to.
    for (const int32_t index : open) {
      Meeting& meeting = meetings_[static_cast<size_t>(index)];
      if (std::any_of(meeting.came.begin(), meeting.came.end(), [&](const auto& one) { return one.first == self; }))
        continue;
      meeting.came.emplace_back(self, now_);
      messages_[static_cast<size_t>(index)].push_back(message);
      settle(index, m);
      if (meeting.end != kUnknown) std::erase(open, index);
      return index;
    }
    const int32_t index = static_cast<int32_t>(meetings_.size());
    meetings_.push_back({kUnknown, kUnknown, {{self, now_}}});
    messages_.push_back({message});
    open.push_back(index);
    return index;
  }

  void settle(int32_t index, const SimMessage& last) {
    Meeting& meeting = meetings_[static_cast<size_t>(index)];
    const bool shared = last.kind == SimMessage::Kind::kShared;
    if (meeting.came.size() < (shared ? last.members.size() : 2)) return;
    const std::vector<uint32_t>& numbers = messages_[static_cast<size_t>(index)];
    const auto message_of = [&](size_t i) -> const SimMessage& {
      return programs_[static_cast<size_t>(meeting.came[i].first)].messages[numbers[i]];
    };
    // Lanes of a collective are those of its members; a transfer goes over the way from its sender to its receiver,
    // whose messages keep their order.
    std::vector<double*> lanes;
    for (size_t i = 0; i < meeting.came.size(); ++i) {
      Rank& r = ranks_[static_cast<size_t>(meeting.came[i].first)];
      const SimMessage& own = message_of(i);
      meeting.begin = std::max(meeting.begin, meeting.came[i].second);
      if (shared) lanes.push_back(&r.lanes[own.lane]);
      if (own.kind == SimMessage::Kind::kSend) lanes.push_back(&r.links[own.peer]);
    }
    for (const double* lane : lanes) meeting.begin = std::max(meeting.begin, *lane);
    meeting.end = meeting.begin + last.seconds;
    for (double* lane : lanes) *lane = meeting.end;
    for (size_t i = 0; i < meeting.came.size(); ++i)
      note(static_cast<size_t>(meeting.came[i].first), numbers[i], meeting.begin, meeting.end);
  }

  void note(size_t c, uint32_t message, double begin, double end) {
    SimTimes& times = ranks_[c].times;
    const SimMessage& m = programs_[c].messages[message];
    times.message[m.axes] += end - begin;
    if (end > begin && m.overlap < 1) ranks_[c].flights.push_back({begin, end, m.overlap});
    if (keep_spans_ && end > begin) times.communication.push_back({begin, end, -1, static_cast<int32_t>(message)});
  }

  const std::vector<SimProgram>& programs_;
  const bool keep_spans_;
  const SimCores cores_;
  double now_ = 0;
  std::vector<Rank> ranks_;
  std::vector<Meeting> meetings_;
  std::vector<std::vector<uint32_t>> messages_; // by meeting: the number of each that came
  std::map<std::tuple<int32_t, uint64_t, int32_t>, std::vector<int32_t>> open_; // (from, to, tag), (-1, group, call)
};

} // namespace

SimResult simulate(const std::vector<SimProgram>& programs, uint32_t axes, bool spans, SimCores cores) {
  return Simulation(programs, axes, spans, cores).run();
}

} // namespace kumiki
