// What a rank did when, as a trace that Perfetto and chrome://tracing open: one track for what it computes, one for its
// messages. Kept in memory while steps run, written afterwards. Floor: run.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

namespace kumiki {

struct TraceEvent {
  enum Track : uint8_t { kCompute, kMessages };
  const std::string* name = nullptr; // lives as long as the executor or communicator that recorded it
  Track track = kCompute;
  int64_t begin = 0, end = 0; // nanoseconds of the steady clock
  uint64_t bytes = 0;         // of messages
};

inline int64_t trace_now() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

// The events of one rank as elements of "traceEvents", separated by commas; times from `origin` on.
std::string trace_text(const std::vector<TraceEvent>& events, int64_t rank, int64_t origin);
// The whole file, of the ranks' texts.
std::string trace_file(const std::vector<std::string>& ranks);

} // namespace kumiki
