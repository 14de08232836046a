// Threads that serve another one. Floor: base.
#pragma once

#include <csignal>
#include <thread>
#include <utility>

namespace kumiki {

// Calls `make` with all signals blocked, which threads that it starts inherit: those that end a run belong to the thread
// that drives it. One that comes meanwhile waits for the caller. [any]
template <typename Make>
auto without_signals(Make&& make) {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  struct Restore {
    const sigset_t* mask;
    ~Restore() { pthread_sigmask(SIG_SETMASK, mask, nullptr); }
  } restore{&before};
  return make();
}

// Starts a thread that no signal interrupts. [any]
template <typename Body>
std::thread start_thread(Body&& body) {
  return without_signals([&] { return std::thread(std::forward<Body>(body)); });
}

} // namespace kumiki
