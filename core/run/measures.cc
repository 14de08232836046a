#include "core/run/measures.h"

#include "core/base/log.h"

namespace kumiki {

Measures::Measures(Host& host, Registry& registry, const Config& config, const km_run_info& run) {
  std::vector<ComponentUse> uses = config.metrics();
  if (uses.empty()) uses.push_back({"metrics", "console", Table("metrics.console"), {}});
  bool jsonl = false;
  for (const ComponentUse& use : uses) jsonl |= use.name == "jsonl";
  if (!jsonl) uses.push_back({"metrics", "jsonl", Table("metrics.jsonl"), {}});
  for (const ComponentUse& use : uses) {
    const Component& component = registry.find("metrics", use.name);
    Sink sink;
    sink.title = component.title();
    sink.table = table_of<km_metrics>(component, "metrics", KM_METRICS_VERSION);
    const OptionValues options(component, use.options);
    check(sink.table.open(host.abi(), options.get(), &run, &sink.self), sink.title, "open");
    sinks_.push_back(sink);
  }
}

Measures::~Measures() {
  for (Sink& sink : sinks_)
    if (sink.self) sink.table.close(sink.self);
}

void Measures::failed(Sink& sink) {
  const std::string why = Host::take_error();
  log_warning(sink.title + " fails and is left out from here on" + (why.empty() ? "" : ": " + why));
  sink.table.close(sink.self);
  sink.self = nullptr;
}

void Measures::step(const std::vector<km_metric>& metrics) {
  for (Sink& sink : sinks_)
    if (sink.self && sink.table.step(sink.self, metrics.data(), static_cast<uint32_t>(metrics.size())) != KM_OK)
      failed(sink);
}

void Measures::event(int64_t step, const char* kind, const std::string& text) {
  for (Sink& sink : sinks_)
    if (sink.self && sink.table.event && sink.table.event(sink.self, step, kind, text.c_str()) != KM_OK) failed(sink);
}

} // namespace kumiki
