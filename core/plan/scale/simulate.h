// A step of a run, played through: the schedules of all coordinates of a pipeline side by side, each with a queue that
// computes and queues for messages, as the executor runs them. In: programs of operations with durations. Out: when
// each was done, and what was waited for. Ranks of one coordinate are alike, so one stands for all. Floor: plan.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/plan/plan.h"

namespace kumiki {

// A communication step of one coordinate.
struct SimMessage {
  enum class Kind : uint8_t {
    kLocal,  // among ranks of this coordinate, which all come to it at the same time
    kShared, // among several coordinates: begins when the last one comes
    kSend,
    kReceive,
  };
  Kind kind = Kind::kLocal;
  double seconds = 0;
  uint32_t axes = 0;            // index for sums: which axes it goes along
  uint32_t lane = 0;            // of kLocal and kShared: messages of one lane go one after another
  uint64_t key = 0;             // of kShared: which group
  std::vector<int32_t> members; // of kShared: coordinates
  int32_t peer = -1, tag = 0;   // of kSend, kReceive: the other coordinate
  bool slotted = true;          // one for each slot of its stage
  double overlap = 1;           // speed of what is computed meanwhile, as a share of its own
  std::string name;
};

struct SimOp {
  enum class Kind : uint8_t { kCompute, kStart, kAwait } kind = Kind::kCompute;
  double seconds = 0;
  uint32_t message = 0;
};

// Of one coordinate: what each entry of its schedule does.
struct SimProgram {
  struct Entry {
    uint32_t list = 0; // index into lists
    int32_t slot = 0;
    ScheduleEntry entry;
  };
  struct Part { // what a segment of the body is
    int32_t stage = 0;
    kumiki::Part part = kumiki::Part::kForward;
    bool merged = false; // all of a micro-batch
  };
  std::vector<Part> parts;
  std::vector<std::vector<SimOp>> lists;
  std::vector<Entry> entries;
  std::vector<SimMessage> messages; // by number of the communication step
  int32_t slots = 1;
  // What must have left a slot before another micro-batch takes it: sends, by segment of the body.
  std::vector<std::vector<uint32_t>> sends;
};

struct SimSpan {
  double begin = 0, end = 0;
  int32_t entry = -1;   // of what was computed: index into SimProgram::entries
  int32_t message = -1; // of a message: index into SimProgram::messages
};

struct SimTimes {
  double computed = 0;         // seconds
  double idle = 0;             // waited for other coordinates, up to the end of the step
  std::vector<double> message; // by axes: seconds of messages
  std::vector<double> exposed; // by axes: seconds in which nothing was computed because a message was under way
  double end = 0;
  std::vector<SimSpan> compute, communication; // in order; only where asked for
};

struct SimResult {
  double seconds = 0; // of the step
  std::vector<SimTimes> coordinates;
};

// Cores that all coordinates compute on together: each rank that computes gets one, or an equal share of them where there
// are fewer. What one leaves idle, others use.
struct SimCores {
  double cores = 0; // 0: each rank has its own
  double ranks = 1; // of each coordinate
};

// Throws Error where the coordinates wait for each other for ever.
SimResult simulate(const std::vector<SimProgram>& programs, uint32_t axes, bool spans, SimCores cores = {});

} // namespace kumiki
