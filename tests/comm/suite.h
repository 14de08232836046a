// What every comm component promises, as functions of one rank: all ranks call the same ones in the same order. A broken
// promise ends the whole job.
#pragma once

#include "tests/comm/rank.h"

namespace kumiki::test {

// Every op, dtype, even and uneven counts, 1 and 3 rows, in the group of all, in halves and in strided groups.
void test_all_operations(Rank& rank);
// Hundreds of operations under way at once, each rank asking for them one by one in an order of its own.
void test_many_outstanding(Rank& rank);
// Large messages that cross: everybody sends first. Tags and order of arrival.
void test_sends(Rank& rank);
// The same inputs give the same bits twice, and the same on all ranks, whoever comes late.
void test_determinism(Rank& rank);
// A NaN is not lost in sums nor in maxima.
void test_nan(Rank& rank);
// Messages that cannot be right are refused by start, and harm nothing.
void test_refusals(Rank& rank);
// Sums of bf16 and f16 are rounded once, after the last member.
void test_sums_are_rounded_once(Rank& rank);
// Notes come whole, from everybody, in the order in which they were sent; where the component has them.
void test_notes(Rank& rank);
// All of the above.
void test_all(Rank& rank);

// Opened with check = true: collectives that differ are an error on all members that names the rank; then work goes on.
void test_differences_are_named(Rank& rank);
// Opened with latency = seconds: nothing is done earlier.
void test_latency(Rank& rank, double seconds);

} // namespace kumiki::test
