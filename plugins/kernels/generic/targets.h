/* Which instruction sets the SIMD files of this folder are compiled for. Included before any header of Highway.
 *
 * On x86-64 these are AVX2 and AVX-512 (AVX3), chosen when the program runs; open() refuses older processors.
 * Highway's own baseline (SSE2) would double the compile time for machines that nobody trains on, and AVX3_DL adds
 * nothing to f32. Elsewhere Highway's own choice stands. */
#ifndef KUMIKI_PLUGINS_KERNELS_GENERIC_TARGETS_H
#define KUMIKI_PLUGINS_KERNELS_GENERIC_TARGETS_H

#if defined(__x86_64__)
#define HWY_BASELINE_TARGETS HWY_AVX2
#ifndef HWY_DISABLED_TARGETS
#define HWY_DISABLED_TARGETS HWY_AVX3_DL
#endif
#endif

#endif
