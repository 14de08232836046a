#include "core/run/profile.h"

#include <algorithm>
#include <cstdio>

namespace kumiki {

std::string profile_table(const Executor& executor) {
  std::vector<ProfileRow> sorted;
  double sum = 0;
  for (const ProfileRow& row : executor.profile_rows()) {
    if (row.calls == 0) continue;
    sorted.push_back(row);
    sum += row.seconds;
  }
  std::sort(sorted.begin(), sorted.end(),
            [](const ProfileRow& a, const ProfileRow& b) { return a.seconds > b.seconds; });
  std::string text;
  char line[320];
  std::snprintf(line, sizeof line, "%7s %10s %6s %9s %8s  %-10s %s\n", "calls", "ms", "share", "GFLOP/s", "GB/s", "by",
                "op");
  text += line;
  const char* phases[] = {"", "head", "body", "tail"};
  for (const ProfileRow& row : sorted) {
    const double calls = static_cast<double>(row.calls);
    std::snprintf(line, sizeof line, "%7lld %10.2f %5.1f%% %9.1f %8.1f  %-10s %s %s (%s)\n",
                  static_cast<long long>(row.calls), row.seconds * 1e3, 100 * row.seconds / sum,
                  row.flops * calls / row.seconds * 1e-9, row.bytes * calls / row.seconds * 1e-9, row.member.c_str(),
                  row.op.c_str(), row.shape.c_str(), phases[static_cast<int>(row.phase)]);
    text += line;
  }
  std::snprintf(line, sizeof line, "%7s %10.2f, and %.2f ms (%.2f %%) outside of kernels\n", "sum", sum * 1e3,
                executor.overhead_seconds() * 1e3, 100 * executor.overhead_seconds() / executor.run_seconds());
  return text + line;
}

} // namespace kumiki
