"""How plugins/kernels/sve/attention/cut.cc cuts the backward pass of attention: the same choice, for the model.

Flows in: heads of a rank, queries, keys, whether causal. Flows out: Cut.
"""
import functools
import heapq
from dataclasses import dataclass

BLOCK = 96  # queries, and keys at 512 bits
# As cut.cc has them.
MOST_TASKS, QUERY_COST, WORTH_MORE, THREADS_WEIGHED = 192, 8.0, 0.98, (12, 48)


@dataclass(frozen=True)
class Cut:
    """The cost of each run of a head's keys, in pairs of query and key; the longest first."""

    heads: int
    runs: tuple
    queries: int  # of all runs but the first of a head: rows of dq in the workspace

    def work(self):
        return self.heads * sum(self.runs)

    def busiest(self, cores):
        """Work of the core that has most, where each task goes to the core that is free first."""
        free = [0.0] * cores
        for run in self.runs:
            for _ in range(self.heads):
                heapq.heapreplace(free, free[0] + run)
        return max(free)


def block_cost(block, queries, keys, causal):
    begin = block * BLOCK
    count = min(keys, begin + BLOCK) - begin
    return count * (queries - (begin + count / 2 if causal else 0))


def cut_in(wanted, heads, tokens, keys, causal):
    costs = [block_cost(b, tokens, keys, causal) for b in range(-(-keys // BLOCK))]
    runs, queries, before, last = [], 0, 0.0, None
    for b, cost in enumerate(costs):
        run = int((before + cost / 2) / sum(costs) * wanted)
        if run != last:
            rows = tokens - b * BLOCK if causal else tokens
            runs.append(QUERY_COST * rows)
            queries += rows if b else 0
        runs[-1] += cost
        last = run
        before += cost
    return Cut(heads, tuple(sorted(runs, reverse=True)), queries)


@functools.cache
def best_cut(heads, queries, keys, causal):
    best, best_time = None, float("inf")
    for wanted in range(1, max(1, min(MOST_TASKS // heads, -(-keys // BLOCK) * 2)) + 1):
        cut = cut_in(wanted, heads, queries, keys, causal)
        time = sum(cut.busiest(threads) for threads in THREADS_WEIGHED)
        if time < WORTH_MORE * best_time:
            best, best_time = cut, time
    return best
