// Numbers as people read them on a console: 12.3k, 1h 23m.
#pragma once

#include <cmath>
#include <cstdio>
#include <string>

namespace kumiki::metrics {

// "999", "12.3k", "4.56M": three digits.
inline std::string readable_count(double value) {
  static constexpr const char* kUnits[] = {"", "k", "M", "G", "T", "P", "E"};
  size_t unit = 0;
  while (std::fabs(value) >= 999.5 && unit + 1 < sizeof kUnits / sizeof kUnits[0]) value /= 1000, ++unit;
  char text[48];
  const int decimals = std::fabs(value) >= 99.95 ? 0 : std::fabs(value) >= 9.995 ? 1 : 2;
  std::snprintf(text, sizeof text, "%.*f%s", decimals, value, kUnits[unit]);
  return text;
}

// "42s", "5m 03s", "1h 23m", "3d 04h"; "?" if it is not a time.
inline std::string readable_time(double seconds) {
  if (!(seconds >= 0) || seconds > 1e10) return "?";
  const auto whole = static_cast<long long>(seconds + 0.5);
  char text[48];
  if (whole < 60)
    std::snprintf(text, sizeof text, "%llds", whole);
  else if (whole < 3600)
    std::snprintf(text, sizeof text, "%lldm %02llds", whole / 60, whole % 60);
  else if (whole < 86400)
    std::snprintf(text, sizeof text, "%lldh %02lldm", whole / 3600, whole / 60 % 60);
  else
    std::snprintf(text, sizeof text, "%lldd %02lldh", whole / 86400, whole / 3600 % 24);
  return text;
}

} // namespace kumiki::metrics
