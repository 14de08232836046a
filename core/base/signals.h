// The signals that end a run in good order: SIGUSR1, SIGINT, SIGTERM. They are kept from all threads and asked for between
// steps, so that nothing is ever interrupted by one. Floor: base.
#pragma once

#include <csignal>
#include <ctime>

namespace kumiki {

// Keeps them from the calling thread, and from those that it starts, as long as this lives. Threads that exist already
// have them blocked when start_thread made them.
class StopSignals {
 public:
  StopSignals() { pthread_sigmask(SIG_BLOCK, &set(), &before_); }
  ~StopSignals() {
    take(); // one that came at the very end has nothing left to stop
    pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;

  // The number of one that came to the process since the last call, to one of those who ask; 0: none.
  static int take() {
    const timespec now = {0, 0};
    const int signal = sigtimedwait(&set(), nullptr, &now);
    return signal > 0 ? signal : 0;
  }

 private:
  static const sigset_t& set() {
    static const sigset_t three = [] {
      sigset_t s;
      sigemptyset(&s);
      sigaddset(&s, SIGUSR1);
      sigaddset(&s, SIGINT);
      sigaddset(&s, SIGTERM);
      return s;
    }();
    return three;
  }
  sigset_t before_;
};

} // namespace kumiki
