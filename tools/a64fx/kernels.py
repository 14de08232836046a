"""From the cycles of small problems to the time of whole ops on the cores that one rank has.

The problem that is counted is small in those sizes in which the work only repeats (rows, columns, heads) and whole in
the others (k, tokens of attention); each function's cycles grow with the sizes that it loops over. Beside the cycles of
a core stand the bytes that have to move, by the blocking. The largest of the times is the op's time. Flows in: shapes.
Flows out: Time.
"""
import re
import sys
from collections import defaultdict

from a64fx import backward_cut, cuts
from a64fx.counts import Measured, is_fma

# A64FX at 2.2 GHz, one memory group: Fujitsu, A64FX Microarchitecture Manual 1.8.1.
HERTZ = 2.2e9
GROUP_CORES = 12
PEAK_CORE = HERTZ * 2 * 16 * 2  # two pipes, 16 lanes, multiply and add
GROUP_PEAK = PEAK_CORE * GROUP_CORES
HBM_READ, HBM_WRITE = 256e9, 128e9  # bytes a second of a memory group
L2_TO_L1 = 512 * HERTZ  # bytes a second of a memory group, 64 bytes a cycle and core
TILE, K_BLOCK, PANEL = 8, 256, 48  # as plugins/kernels/sve/gemm has them
L2 = 7e6  # of the 8 MiB that a memory group shares, for what its tasks write


class Time:
    """Seconds of one op on a rank's cores, what bounds it, the FLOPs and the bytes that it is credited with."""

    def __init__(self, name, kind, flops, phases, detail="", bytes_=0.0, smallest=0):
        self.name, self.kind, self.flops, self.phases, self.detail = name, kind, flops, phases, detail
        self.bytes, self.smallest = bytes_, smallest
        self.seconds = sum(max(phase.values()) for phase in phases)

    def times(self, n, name=None):
        scaled = [{k: v * n for k, v in phase.items()} for phase in self.phases]
        return Time(name or self.name, self.kind, self.flops * n, scaled, self.detail, self.bytes * n, self.smallest)

    def plus(self, other):
        return Time(self.name, self.kind, self.flops + other.flops, self.phases + other.phases, self.detail,
                    self.bytes + other.bytes, self.smallest)

    def bound(self):
        share = defaultdict(float)
        for phase in self.phases:
            share[max(phase, key=phase.get)] += max(phase.values())
        return max(share, key=share.get)


def ceil_div(a, b):
    return -(-a // b)


def panel_vectors(n):
    """Vectors of each panel, as panel_begin of gemm.cc cuts them: 3, 3, ..., and 2 + 2 rather than 3 + 1 at the end."""
    vectors = ceil_div(n, 16)
    full, rest = divmod(vectors, 3)
    if rest == 0:
        return {3: full}
    if rest == 1 and full > 0:
        return {3: full - 1, 2: 2} if full > 1 else {2: 2}
    return {3: full, rest: 1} if full else {rest: 1}


def busiest(weights, cores):
    """Work of the core that has most, where each piece goes to the core that is free first."""
    loads = [0.0] * cores
    for w in weights:
        loads[loads.index(min(loads))] += w
    return max(loads)


class NoCount:
    """Stands for Measured where it only matters which problems are asked for."""

    @staticmethod
    def of(_):
        return 1.0


class Model:
    """Ops on `cores` cores: those of a memory group, or of several that share a rank."""

    def __init__(self, tools, cores=GROUP_CORES, seen=None, wanted=None):
        self.tools, self.cores = tools, cores
        groups = cores / GROUP_CORES
        self.peak, self.hz = PEAK_CORE * cores, HERTZ * cores
        self.read, self.write, self.l2 = HBM_READ * groups, HBM_WRITE * groups, L2_TO_L1 * groups
        self.seen = {} if seen is None else seen
        self.wanted = wanted  # a set: problems are put there, none is run

    def with_cores(self, cores):
        return Model(self.tools, cores, self.seen, self.wanted)

    def measure(self, line, packed=False):
        if self.wanted is not None:
            self.wanted.add((line, packed))
            return NoCount
        if (line, packed) not in self.seen:
            self.seen[line, packed] = Measured(self.tools, line, packed)
        return self.seen[line, packed]

    def share(self, flops, seconds):
        """Of the peak."""
        return flops / seconds / self.peak if seconds else 0.0

    def of_peak(self, time):
        return self.share(time.flops, time.seconds)

    def inner_loop(self):
        """(FMA, cycles, instructions) of a round of the product's inner loop."""
        self.measure("matmul a=64x256 b=48x256 transpose_b=1", True)
        if self.wanted is not None:
            return 1, 1.0, 1
        for name, body in self.tools.program.functions.items():
            if "sve_tile<8, 3, true>" not in name:
                continue
            _, loops = self.tools.program.blocks(body)
            for first, last in loops:
                code = body[first : last + 1]
                fma = sum(is_fma(m) for _, m, _ in code)
                if fma >= 24:
                    return fma, self.tools.costs[(name, first), len(code)], len(code)
        sys.exit("a64fx_model: the product's inner loop was not found")

    # ---- products ----------------------------------------------------------------------------------------------------

    def product(self, name, m, n, k, weights, transpose_a=False, accumulate=False, activation="", a_stands=False):
        """c [m, n] += a b. weights: b was packed before; else it is packed from [k, n]. transpose_a: a is [k, m]."""
        more = " accumulate=1" if accumulate else ""
        tile = {}
        for vectors in panel_vectors(n):
            if activation:
                line = f"matmul_bias a=64x{k} b={16 * vectors}x{k} transpose_b=1 activation={activation}"
            else:
                line = f"matmul a=64x{k} b={16 * vectors}x{k} transpose_b=1{more}"
            # Cycles of a panel of so many vectors for each row.
            tile[vectors] = self.measure(line, True).of(r"sve_tile|sve::multiply\(|sve::finish") / 64
        pack = self.measure(f"matmul a={k}x64 b={k}x48 transpose_a=1" if transpose_a else f"matmul a=64x{k} b={k}x48")
        pack_row = pack.of("pack_left|pack_whole_left") / 64
        pack_panel = pack.of("pack_right")

        panels = panel_vectors(n)
        count = sum(panels.values())
        average = sum(tile[v] * number for v, number in panels.items()) / count
        moved_a, moved_b, moved_c = 4 * m * k, 4 * k * n, 4 * m * n
        cut = cuts.best_cut(m, n, transpose_a, weights, self.cores)
        # A task packs its rows or its panels itself, a block of k at a time, out of HBM into L2 or L1.
        own = cut.own_a * pack_row, cut.own_b * pack_panel
        core = cut.busiest(self.cores, lambda rows, width: rows * (own[0] + width * average) + width * own[1]) / HERTZ
        phases = []
        if not weights and not cut.own_b:
            phases.append({"packing": pack_panel / 48 * n / self.hz, "HBM": moved_b / self.read + moved_b / self.write})
        if not cut.own_a and not a_stands:
            phases.append({"packing": pack_row * m / self.hz, "HBM": moved_a / self.read + moved_a / self.write})
        k_blocks = ceil_div(k, K_BLOCK)
        read_a = cut.groups * moved_a
        # Between two blocks of k a part of c stays in L2, if those of all cores have room.
        again = (k_blocks - 1) * moved_c if cut.part_of_c() * self.cores > L2 * self.cores / GROUP_CORES else 0
        phases.append(
            {
                "FMA": core,
                "L2": (read_a + cut.row_blocks * moved_b + (2 * k_blocks - 1) * moved_c) / self.l2,
                "HBM": (cut.row_blocks * moved_b + (read_a if cut.own_a else moved_a) + accumulate * moved_c + again)
                / self.read
                + ((2 if activation else 1) * moved_c + again) / self.write,
            }
        )
        tiles = 2 * m * n * k / self.peak / (m * count * average / self.hz)
        packing = m * cut.groups * own[0] + count * cut.row_blocks * own[1]
        whole = m * count * average + packing
        lost = (f"tiles {100 * tiles:.0f} %, packing in tasks {100 * packing / whole:.1f} %,"
                f" rounds {100 * whole / self.cores / (core * HERTZ):.0f} %")
        return Time(name, "matmul", 2 * m * n * k, phases, lost, smallest=min(m, n, k))

    # ---- attention ---------------------------------------------------------------------------------------------------

    def attention(self, name, tokens, heads, width, sequences=1):
        counted = self.measure(f"attention q=1x{tokens}x{width} head_width={width}")
        heads *= sequences
        pieces = ceil_div(tokens, PANEL)
        weights = [2 * piece + 1 for piece in reversed(range(pieces)) for _ in range(heads)]
        balance = sum(weights) / self.cores / busiest(weights, self.cores)
        moved = 4 * tokens * heads * width
        phases = [
            {
                "core": heads * counted.of("kumiki::sve") / self.hz / balance,
                "HBM": 5 * moved / self.read + 3 * moved / self.write,
            }
        ]
        return Time(name, "attention", 2 * tokens * tokens * width * heads, phases, f"balance {100 * balance:.0f} %")

    def attention_backward(self, name, tokens, heads, width, sequences=1, context=1):
        """One sequence part of `tokens` a rank. With an axis `context` its other steps have no mask: either half of the
        queries see all keys, or all see half of the keys (attention_part); ranks wait for each other, so the longer of
        the two counts."""
        counted = self.measure(f"attention_backward q=1x{tokens}x{width} head_width={width}")
        heads *= sequences
        whole, half = tokens, tokens // 2
        cuts_of = [backward_cut.best_cut(heads, whole, whole, True)]
        if context > 1:
            parts = [backward_cut.best_cut(heads, *sizes, False) for sizes in ((half, whole), (whole, half))]
            cuts_of += [max(parts, key=lambda cut: cut.busiest(self.cores))] * (context - 1)
        # What was counted is one head, cut as one head is (once, before the first step); a task of many heads takes its
        # share of that.
        cycles = counted.of("^(?!.*(cut_backward|Triangle|_sort)).*kumiki::sve")
        one = backward_cut.best_cut(1, whole, whole, True).work()
        moved = 4 * tokens * heads * width
        phases = []
        for cut in cuts_of:
            parts_of_dq = 4 * cut.queries * heads * width
            phases.append(
                {
                    "core": cycles * cut.busiest(self.cores) / one / HERTZ,
                    "HBM": (9 * moved + parts_of_dq) / self.read + (6 * moved + parts_of_dq) / self.write,
                }
            )
        balance = sum(cut.work() for cut in cuts_of) / self.cores / sum(cut.busiest(self.cores) for cut in cuts_of)
        flops = 5 * tokens * tokens * width * heads * context
        return Time(name, "attention_backward", flops, phases, f"balance {100 * balance:.0f} %")

    # ---- all else ----------------------------------------------------------------------------------------------------

    def stream(self, name, line, sample, elements, read, write):
        """An op bound by memory: `sample` elements were measured, bytes are for each element."""
        cycles = self.measure(line).of("kumiki::sve") / sample * elements
        hbm = elements * (read / self.read + write / self.write)
        core = cycles / self.hz
        detail = f"{100 * min(1, hbm / core):.0f} % of the bandwidth"
        return Time(name, "elementwise", 0, [{"core": core, "HBM": hbm}], detail, bytes_=elements * (read + write))

    def projection(self, name, tokens, words, h):
        """The head with its loss and both gradients in one op (loss/projection.cc): 96 words a task, slices of 1,024
        tokens. Counted on 480 words and 240 tokens, which are its blocks; balance by tasks of the vocabulary."""
        rows, sample = 240, 480
        cycles = self.measure(f"projection_cross_entropy_train x={rows}x{h} w={sample}x{h}").of("kumiki::sve")
        tasks = ceil_div(words, 96)
        balance = tasks / self.cores / ceil_div(tasks, self.cores)
        core = cycles / (rows * sample) * tokens * words / self.hz / balance
        logits, w, x, slices = 4 * tokens * words, 4 * words * h, 4 * tokens * h, ceil_div(tokens, 1024)
        # Logits are written, read for the sums, read and written as their gradient, read for d_x.
        hbm = (3 * logits + 4 * slices * w + 4 * x) / self.read + (2 * logits + (slices + 1) * w + 3 * x) / self.write
        return Time(name, "projection", 6 * tokens * words * h, [{"core": core, "HBM": hbm}],
                    f"balance {100 * balance:.0f} %")
