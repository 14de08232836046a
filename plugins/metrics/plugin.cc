// The plugin `metrics`: the built-in components of kind "metrics" in one table.
#include "kumiki/plugin.h"

#include "sink.h"

namespace kumiki::metrics {
namespace {

constexpr km_option kConsoleOptions[] = {
    {"every", KM_OPTION_I64, 0, "1", 1, 1e15, nullptr, "a line every so many steps"},
    {"bar", KM_OPTION_STRING, 0, "auto", 0, 0, "auto|always|never", "the bar with the time left; auto: on a terminal"},
};

constexpr km_metrics kConsole = sink_table<make_console>();
constexpr km_metrics kJsonLines = sink_table<make_jsonl>();
constexpr km_metrics kTensorBoard = sink_table<make_tensorboard>();

constexpr km_component kComponents[] = {
    {"metrics", "console", KM_METRICS_VERSION, sizeof kConsoleOptions / sizeof kConsoleOptions[0], &kConsole,
     kConsoleOptions, "a line a step on standard output, with a bar on a terminal"},
    {"metrics", "jsonl", KM_METRICS_VERSION, 0, &kJsonLines, nullptr,
     "metrics.jsonl in the run's folder, a line a step"},
    {"metrics", "tensorboard", KM_METRICS_VERSION, 0, &kTensorBoard, nullptr,
     "event files for TensorBoard in the run's folder"},
};

constexpr km_plugin kPlugin = {sizeof(km_plugin),
                               KM_ABI_MINOR,
                               "metrics",
                               "0.1.0",
                               "Kumiki",
                               "Apache-2.0",
                               kComponents,
                               sizeof kComponents / sizeof kComponents[0],
                               sizeof(km_component),
                               sizeof(km_option),
                               0};

} // namespace
} // namespace kumiki::metrics

KM_PLUGIN(kumiki::metrics::kPlugin)
