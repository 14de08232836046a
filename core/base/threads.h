// Threads that serve another one. Floor: base.
#pragma once

#include <csignal>
#include <thread>
#include <utility>

namespace kumiki {

// Starts a thread that no signal interrupts: those that end a run belong to the thread that drives it. They are blocked
// before the thread begins, so that there is no moment in which it could take one; one that comes meanwhile waits for the
// caller. [any]
template <typename Body>
std::thread start_thread(Body&& body) {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  struct Restore {
    const sigset_t* mask;
    ~Restore() { pthread_sigmask(SIG_SETMASK, mask, nullptr); }
  } restore{&before};
  return std::thread(std::forward<Body>(body));
}

} // namespace kumiki
