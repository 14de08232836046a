// pause(): tells the processor that a thread spins. Floor: base.
#pragma once

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace kumiki {

inline void pause() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

} // namespace kumiki
