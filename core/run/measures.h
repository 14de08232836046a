// The metrics of a run: the [[metrics]] components and, always, jsonl (runs/NAME/metrics.jsonl). Floor: run.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "core/plugin/options.h"
#include "core/plugin/registry.h"
#include "kumiki/metrics.h"

namespace kumiki {

class Measures {
 public:
  // Without [[metrics]] in the configuration: console. Throws Error.
  Measures(Host& host, Registry& registry, const Config& config, const km_run_info& run);
  ~Measures();
  Measures(const Measures&) = delete;
  Measures& operator=(const Measures&) = delete;

  // Metrics that fail do not stop the training: one warning in the log, and the component is left out from then on.
  void step(const std::vector<km_metric>& metrics);
  void event(int64_t step, const char* kind, const std::string& text);

 private:
  struct Sink {
    std::string title;
    km_metrics table{};
    void* self = nullptr;
  };
  void failed(Sink& sink);
  std::vector<Sink> sinks_;
};

} // namespace kumiki
