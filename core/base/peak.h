// What this machine can do at most, measured: multiply-adds by a loop of independent FMAs in registers, memory bandwidth
// by a triad. In: the cores to use, all at once. Out: operations and bytes a second, the best of three rounds. Floor: base.
#pragma once

#include <string>
#include <vector>

namespace kumiki {

// The instructions of the loop: "AVX-512", "AVX2", "SVE 512" (bits), "NEON"; "none" where this program knows none of
// the processor's, and then f32_peak gives 0. [any]
std::string peak_instructions();

// f32 numbers in a vector of that loop; 0 where there is none. [any]
int f32_lanes();

// Cycles a second of a core that computes, from additions that wait for one another, one a cycle. 0 on processors other
// than aarch64, where more than one such addition may be done in a cycle. About 0.1 s. [any]
double clock_hertz(int core);

// f32 operations a second, a multiply-add counted as two, of all `cores` together. About 0.2 s. [any]
double f32_peak(const std::vector<int>& cores);

// The same of products in bf16 with sums in f32; 0 where the processor (or this program) has none in vectors. [any]
double bf16_peak(const std::vector<int>& cores);

// Bytes a second of a[i] = b[i] + s · c[i], the two reads and the write counted, of all `cores` together. The arrays take
// about 1.2 GB in all, which is far more than caches hold. Throws std::bad_alloc. [any]
double memory_peak(const std::vector<int>& cores);

} // namespace kumiki
