#include "core/base/clock.h"

#include <chrono>
#include <thread>

namespace kumiki {
namespace {

class RealClock : public Clock {
 public:
  double seconds() override {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
  }
  int64_t unix_seconds() override {
    const auto now = std::chrono::system_clock::now().time_since_epoch();
    return std::chrono::duration_cast<std::chrono::seconds>(now).count();
  }
  void sleep(double seconds) override {
    if (seconds > 0) std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
  }
};

} // namespace

Clock& real_clock() {
  static RealClock clock;
  return clock;
}

} // namespace kumiki
