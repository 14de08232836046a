// Clock: the one source of time, so that tests can bring their own. Floor: base.
#pragma once

#include <cstdint>

namespace kumiki {

class Clock {
 public:
  virtual ~Clock() = default;
  virtual double seconds() = 0;           // since some fixed moment; never goes back. [any]
  virtual int64_t unix_seconds() = 0;     // since 1970-01-01 UTC. [any]
  virtual void sleep(double seconds) = 0; // of the calling thread. [any]
};

Clock& real_clock();

} // namespace kumiki
