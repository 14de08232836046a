// A Prediction for people and programs: a table, JSON, a picture of one step for the terminal, a Chrome trace. Floor:
// plan.
#pragma once

#include <string>

#include "core/plan/scale/predict.h"

namespace kumiki {

std::string report_table(const Prediction& prediction);
// The table of memory alone: one line for each coordinate of the pipeline.
std::string report_memory(const Prediction& prediction);
std::string report_json(const Prediction& prediction);
// One line of `width` characters for each coordinate: what its time is spent on, left to right. Needs spans.
std::string report_timeline(const Prediction& prediction, size_t width);
// The Trace Event Format that Perfetto and chrome://tracing read; a process for each coordinate, in it a track for what
// is computed and one for messages. Needs spans.
std::string report_trace(const Prediction& prediction);

// "12.3 GB", "1.20 s", "3.4 PFLOP/s": three or four digits with the unit's prefix.
std::string with_unit(double value, const char* unit);
std::string with_seconds(double seconds);

} // namespace kumiki
