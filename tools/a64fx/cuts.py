"""How plugins/kernels/sve/gemm/product.cc cuts a product over threads: the same choice, for the model.

Flows in: sizes of c, how the operands lie, threads. Flows out: Cut.
"""
import functools
import heapq
from dataclasses import dataclass

TILE, PANEL = 8, 48
# As product.cc has them.
TILE_ROW, PANEL_LOAD, PACK_ROW, PACK_ROW_TURNED, PACK_PANEL, MEMORY = 1.55, 12.4, 0.28, 0.17, 4.6, 1.24
MOST_TILES, MOST_OWN_TILES, LEAST_TILES, MOST_GROUPS = 64, 32, 4, 16


def ceil_div(a, b):
    return -(-a // b)


@dataclass(frozen=True)
class Cut:
    tiles: int
    panels: int
    row_blocks: int
    groups: int
    own_a: bool
    own_b: bool

    def parts(self):
        """(rows, panels) of each task, in their order."""
        rows = [TILE * (self.tiles * (r + 1) // self.row_blocks - self.tiles * r // self.row_blocks)
                for r in range(self.row_blocks)]
        width = [self.panels * (g + 1) // self.groups - self.panels * g // self.groups for g in range(self.groups)]
        if self.own_a:
            return [(r, w) for w in width for r in rows]
        return [(r, w) for r in rows for w in width]

    def busiest(self, cores, cost):
        """Work of the core that has most, where each part goes to the core that is free first."""
        free = [0.0] * cores
        for part in self.parts():
            heapq.heapreplace(free, free[0] + cost(*part))
        return max(free)

    def part_of_c(self):
        """Bytes of the largest."""
        return max(4 * rows * width * PANEL for rows, width in self.parts())


def time_of(cut, m, n, transpose_a, packed_b, threads, limit):
    load = PANEL_LOAD + (PACK_PANEL if cut.own_b else 0.0)
    pack = 0.0 if not cut.own_a else PACK_ROW_TURNED if transpose_a else PACK_ROW
    before = (0.0 if cut.own_a else MEMORY * m / threads) + (0.0 if cut.own_b or packed_b else MEMORY * n / threads)
    rows, width, tasks = TILE * cut.tiles, cut.panels, cut.row_blocks * cut.groups
    whole = cut.groups * rows * pack + width * (rows * TILE_ROW + cut.row_blocks * load)
    if before + whole / threads >= limit:
        return limit
    if tasks > 16 * threads:
        return before + whole / threads + 0.5 * whole / tasks
    return before + cut.busiest(threads, lambda r, w: r * pack + w * (r * TILE_ROW + load))


@functools.cache
def best_cut(m, n, transpose_a, packed_b, threads):
    tiles, panels = ceil_div(m, TILE), ceil_div(n, PANEL)
    best, best_time = None, float("inf")
    for own_a in (True, False):
        for own_b in (False, True):
            if own_b and packed_b:
                continue
            least = max(1, ceil_div(tiles, MOST_OWN_TILES if own_a else MOST_TILES))
            most = max(least, min(tiles // LEAST_TILES, least + 2 * threads))
            for row_blocks in range(least, most + 1):
                for groups in range(1, min(panels, MOST_GROUPS) + 1) if own_a else (panels,):
                    cut = Cut(tiles, panels, row_blocks, groups, own_a, own_b)
                    time = time_of(cut, m, n, transpose_a, packed_b, threads, best_time)
                    if time < best_time:
                        best, best_time = cut, time
    return best
