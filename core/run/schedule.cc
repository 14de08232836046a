#include "core/run/schedule.h"

#include <algorithm>
#include <cmath>

namespace kumiki {

double learning_rate(const OptimizerSettings& settings, int64_t step, int64_t steps) {
  const double peak = settings.learning_rate;
  const ScheduleSettings& s = settings.schedule;
  if (step <= s.warmup) return peak * static_cast<double>(step) / static_cast<double>(s.warmup);
  const auto line = [&](int64_t begin) {
    const double whole = static_cast<double>(std::max<int64_t>(1, steps - begin));
    return std::clamp(static_cast<double>(step - begin) / whole, 0.0, 1.0);
  };
  if (s.use == "cosine")
    return s.minimum + (peak - s.minimum) * 0.5 * (1 + std::cos(3.14159265358979323846 * line(s.warmup)));
  if (s.use == "linear") return peak + (s.minimum - peak) * line(s.warmup);
  if (s.use == "wsd" && s.decay > 0) {
    const int64_t begin = std::max(s.warmup, steps - s.decay);
    if (step > begin) return peak + (s.minimum - peak) * line(begin);
  }
  return peak;
}

int64_t global_batch(const GlobalBatch& settings, int64_t tokens, int64_t unit) {
  if (settings.tokens <= 0 || tokens >= settings.tokens) return settings.end;
  const double grown = static_cast<double>(tokens) / static_cast<double>(settings.tokens);
  const double sequences =
      static_cast<double>(settings.start) + static_cast<double>(settings.end - settings.start) * grown;
  return std::max(unit, static_cast<int64_t>(sequences) / unit * unit);
}

} // namespace kumiki
