// The components of this plugin behind the C table km_metrics: each takes steps and events; the ABI boundary is here.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "boundary.h"
#include "kumiki/metrics.h"

namespace kumiki::metrics {

class Sink {
 public:
  virtual ~Sink() = default;
  // Throws Failure. Both from the main thread.
  virtual void step(const km_metric* metrics, uint32_t count) = 0;
  virtual void event(int64_t step, const std::string& kind, const std::string& text) = 0;
};

using MakeSink = std::unique_ptr<Sink> (*)(const km_options& options, const km_run_info& run);

struct SinkInstance {
  const km_host* host;
  std::unique_ptr<Sink> sink;
};

// The table of the component that `make` makes.
template <MakeSink make>
constexpr km_metrics sink_table() {
  constexpr auto open = [](const km_host* host, const km_options* options, const km_run_info* run, void** self) {
    return guarded(host, [&] {
      auto it = std::make_unique<SinkInstance>();
      it->host = host;
      it->sink = make(*options, *run);
      *self = it.release();
    });
  };
  constexpr auto close = [](void* self) { delete static_cast<SinkInstance*>(self); };
  constexpr auto step = [](void* self, const km_metric* metrics, uint32_t count) {
    auto& it = *static_cast<SinkInstance*>(self);
    return guarded(it.host, [&] { it.sink->step(metrics, count); });
  };
  constexpr auto event = [](void* self, int64_t step, const char* kind, const char* text) {
    auto& it = *static_cast<SinkInstance*>(self);
    return guarded(it.host, [&] { it.sink->event(step, kind, text); });
  };
  return {sizeof(km_metrics), 0, open, close, step, event};
}

// The value of a key, or `otherwise`.
inline double value_of(const km_metric* metrics, uint32_t count, const char* key, double otherwise) {
  for (uint32_t i = 0; i < count; ++i)
    if (km_same_text(metrics[i].key, key)) return metrics[i].value;
  return otherwise;
}

std::unique_ptr<Sink> make_console(const km_options& options, const km_run_info& run);
std::unique_ptr<Sink> make_jsonl(const km_options& options, const km_run_info& run);
std::unique_ptr<Sink> make_tensorboard(const km_options& options, const km_run_info& run);

} // namespace kumiki::metrics
