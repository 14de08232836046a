// One step as a Chrome trace and as a picture in the terminal.
#include <algorithm>
#include <array>
#include <cmath>
#include <nlohmann/json.hpp>

#include "core/plan/scale/report.h"

namespace kumiki {
namespace {

struct What {
  char letter;
  std::string name;
};

What what(const Prediction& p, size_t coordinate, const SimSpan& span) {
  const SimProgram& program = p.programs[coordinate];
  const SimProgram::Entry& e = program.entries[static_cast<size_t>(span.entry)];
  if (e.entry.phase == Phase::kHead) return {'h', "head"};
  if (e.entry.phase == Phase::kTail) return {'U', "update"};
  const SimProgram::Part& part = program.parts[static_cast<size_t>(e.entry.segment)];
  const std::string of = " of stage " + std::to_string(part.stage) + ", micro-batch " + std::to_string(e.entry.micro);
  if (part.merged) return {'B', "forward and backward of micro-batch " + std::to_string(e.entry.micro)};
  if (part.part == Part::kForward) return {'F', "forward" + of};
  if (part.part == Part::kBackward) return {'B', "backward" + of};
  return {'W', "gradients of weights" + of};
}

} // namespace

std::string report_timeline(const Prediction& p, size_t width) {
  std::string text =
      "one step, " + with_seconds(p.seconds) +
      "; F forward, B backward, W gradients of weights, U update, h head, ~ waiting for a message, . idle\n";
  const double cell = p.seconds / static_cast<double>(width);
  for (size_t c = 0; c < p.timeline.coordinates.size(); ++c) {
    const SimTimes& times = p.timeline.coordinates[c];
    // In each cell what takes most of it.
    std::vector<std::array<double, 256>> cells(width);
    const auto add = [&](double begin, double end, char letter) {
      for (size_t i = static_cast<size_t>(std::max(0.0, begin / cell)); i < width; ++i) {
        const double from = std::max(begin, static_cast<double>(i) * cell);
        const double to = std::min(end, static_cast<double>(i + 1) * cell);
        if (to <= from) break;
        cells[i][static_cast<unsigned char>(letter)] += to - from;
      }
    };
    for (const SimSpan& span : times.compute) add(span.begin, span.end, what(p, c, span).letter);
    std::vector<double> busy(width, 0);
    std::string line(width, '.');
    for (size_t i = 0; i < width; ++i) {
      for (const double seconds : cells[i]) busy[i] += seconds;
      const auto most = std::max_element(cells[i].begin(), cells[i].end());
      if (busy[i] >= 0.5 * cell) line[i] = static_cast<char>(most - cells[i].begin());
    }
    std::vector<double> messages(width, 0);
    for (const SimSpan& span : times.communication)
      for (size_t i = static_cast<size_t>(span.begin / cell); i < width; ++i) {
        const double from = std::max(span.begin, static_cast<double>(i) * cell);
        const double to = std::min(span.end, static_cast<double>(i + 1) * cell);
        if (to <= from) break;
        messages[i] += to - from;
      }
    for (size_t i = 0; i < width; ++i)
      if (line[i] == '.' && messages[i] >= 0.25 * cell) line[i] = '~';
    std::string number = std::to_string(c);
    number.insert(0, number.size() < 3 ? 3 - number.size() : 0, ' ');
    text += number + " |" + line + "|\n";
  }
  return text;
}

std::string report_trace(const Prediction& p) {
  using Json = nlohmann::json;
  Json events = Json::array();
  const auto name_track = [&](const char* kind, size_t process, int track, const std::string& name) {
    events.push_back({{"ph", "M"}, {"name", kind}, {"pid", process}, {"tid", track}, {"args", {{"name", name}}}});
  };
  const auto add = [&](size_t process, int track, const std::string& name, const SimSpan& span) {
    events.push_back({{"ph", "X"},
                      {"name", name},
                      {"pid", process},
                      {"tid", track},
                      {"ts", span.begin * 1e6},
                      {"dur", (span.end - span.begin) * 1e6}});
  };
  for (size_t c = 0; c < p.timeline.coordinates.size(); ++c) {
    const SimProgram& program = p.programs[c];
    name_track("process_name", c, 0, "rank " + std::to_string(p.memory[c].rank));
    name_track("thread_name", c, 0, "compute");
    name_track("thread_name", c, 1, "messages among ranks of a stage");
    name_track("thread_name", c, 2, "sends");
    name_track("thread_name", c, 3, "receives");
    for (const SimSpan& span : p.timeline.coordinates[c].compute) add(c, 0, what(p, c, span).name, span);
    for (const SimSpan& span : p.timeline.coordinates[c].communication) {
      const SimMessage& m = program.messages[static_cast<size_t>(span.message)];
      const int track = m.kind == SimMessage::Kind::kSend ? 2 : m.kind == SimMessage::Kind::kReceive ? 3 : 1;
      add(c, track, m.name, span);
    }
  }
  return Json{{"traceEvents", std::move(events)}, {"displayTimeUnit", "ms"}}.dump() + "\n";
}

} // namespace kumiki
