// A metrics component, open, for tests.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "tests/data/component_host.h"

namespace kumiki::test {

class MetricsSink {
 public:
  // Where open fails, status() and error() tell.
  MetricsSink(const std::string& component, const std::string& folder, int64_t first_step = 1, int64_t steps = 10,
              const std::map<std::string, std::string>& options = {})
      : component_(load_component(host_, "plugins/metrics/metrics.so", "metrics", component)),
        table_(*static_cast<const km_metrics*>(component_.table)) {
    const Options values(component_, options);
    const km_run_info run{sizeof(km_run_info), 0, "run", folder.c_str(), first_step, steps, 1000};
    keep(table_.open(host_.table(), values.get(), &run, &self_));
  }
  ~MetricsSink() { close(); }
  MetricsSink(const MetricsSink&) = delete;
  MetricsSink& operator=(const MetricsSink&) = delete;

  km_status status() const { return status_; }
  const std::string& error() const { return error_; }

  void step(const std::vector<std::pair<const char*, double>>& values) {
    std::vector<km_metric> metrics;
    for (const auto& [key, value] : values) metrics.push_back({key, value});
    keep(table_.step(self_, metrics.data(), static_cast<uint32_t>(metrics.size())));
  }
  void event(int64_t step, const char* kind, const char* text) { keep(table_.event(self_, step, kind, text)); }
  void close() {
    if (self_) table_.close(self_);
    self_ = nullptr;
  }

 private:
  void keep(km_status status) {
    status_ = status;
    if (status != KM_OK) error_ = ComponentHost::last_error();
  }

  ComponentHost host_;
  const km_component& component_;
  const km_metrics& table_;
  void* self_ = nullptr;
  km_status status_ = KM_OK;
  std::string error_;
};

} // namespace kumiki::test
