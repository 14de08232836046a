#include "core/run/trace.h"

#include <cstdio>

#include "core/base/quote.h"

namespace kumiki {
namespace {

std::string name_track(int64_t rank, int track, const char* name) {
  char text[160];
  std::snprintf(text, sizeof text,
                "{\"name\":\"thread_name\",\"ph\":\"M\",\"pid\":%lld,\"tid\":%d,\"args\":{\"name\":\"%s\"}}",
                static_cast<long long>(rank), track, name);
  return text;
}

} // namespace

std::string trace_text(const std::vector<TraceEvent>& events, int64_t rank, int64_t origin) {
  char text[256];
  std::snprintf(text, sizeof text,
                "{\"name\":\"process_name\",\"ph\":\"M\",\"pid\":%lld,\"args\":{\"name\":\"rank %lld\"}}",
                static_cast<long long>(rank), static_cast<long long>(rank));
  std::string out = text;
  out += ",\n" + name_track(rank, 0, "compute") + ",\n" + name_track(rank, 1, "messages");
  for (const TraceEvent& e : events) {
    std::snprintf(text, sizeof text, "\",\"ph\":\"X\",\"pid\":%lld,\"tid\":%d,\"ts\":%.3f,\"dur\":%.3f",
                  static_cast<long long>(rank), static_cast<int>(e.track), static_cast<double>(e.begin - origin) * 1e-3,
                  static_cast<double>(e.end - e.begin) * 1e-3);
    out += ",\n{\"name\":\"" + escaped(*e.name) + text;
    if (e.track == TraceEvent::kMessages) out += ",\"args\":{\"bytes\":" + std::to_string(e.bytes) + "}";
    out += "}";
  }
  return out;
}

std::string trace_file(const std::vector<std::string>& ranks) {
  std::string out = "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n";
  for (size_t i = 0; i < ranks.size(); ++i) out += (i ? ",\n" : "") + ranks[i];
  return out + "\n]}\n";
}

} // namespace kumiki
