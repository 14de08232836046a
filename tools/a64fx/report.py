"""The report bench/a64fx.md: products, layers, whole ranks, rates. Flows in: Model, ranks. Flows out: Markdown."""
from a64fx import rates as planner
from a64fx.counts import LOOP_EXIT
from a64fx.kernels import GROUP_CORES, GROUP_PEAK, HBM_READ, HBM_WRITE, HERTZ
from a64fx.ranks import Ops, load

MODELS = ("124m", "300m", "1.3b", "7b", "13b", "30b", "175b")
RANK_LEAST, RANK_AIM = 0.60, 0.70  # of peak: all that a rank computes
LARGE, SMALL = 0.88, 0.80  # of peak: what whole products of the models, and of their smallest split, should reach
# The smallest split of published benchmarks of this machine's products: width 7168, 56 heads, over 32 ranks.
SMALLEST_SPLIT = (
    ("7168 / 32", "query, key, value", 2048, 672, 7168),
    ("7168 / 32", "output", 2048, 7168, 224),
    ("7168 / 32", "up", 2048, 896, 7168),
    ("7168 / 32", "down", 2048, 7168, 896),
)


def percent(share):
    return f"{100 * share:.1f}"


def three(model, m, n, k, activation=""):
    """y, dx and dw of y [m, n] = x [m, k] w."""
    p = model.product
    return p("y", m, n, k, True, activation=activation), p("dx", m, k, n, True), p("dw", n, k, m, False, True, True)


def all_products(model, ranks):
    """[(model's name, product's name, m, n, k, (y, dx, dw))]"""
    found = []
    for r in ranks.values():
        t, h, a, f = r.tokens, r.width, r.columns, r.feed_forward
        shapes = [("query, key or value", t, a, h, ""), ("attention output", t, h, a, ""),
                  ("mlp up, gelu", t, f, h, "gelu"), ("mlp down", t, h, f, "")]
        if r.tensor > 1:
            shapes.append(("logits", t, r.words, h, ""))
        found += [(r.name, name, m, n, k, three(model, m, n, k, activation)) for name, m, n, k, activation in shapes]
    return found + [(who, name, m, n, k, three(model, m, n, k)) for who, name, m, n, k in SMALLEST_SPLIT]


def head_lines(model):
    fma, cycles, length = model.inner_loop()
    return [
        "# The `sve` kernels on one memory group of an A64FX, by model",
        "",
        "Made by `COMMAND`. **Nothing here was measured on an A64FX.** It rests on:",
        "",
        f"* {HERTZ / 1e9} GHz, {GROUP_CORES} cores, two pipes of 16 lanes: {GROUP_PEAK / 1e12:.2f} TFLOP/s of f32."
        f" HBM {HBM_READ / 1e9:.0f} GB/s read, {HBM_WRITE / 1e9:.0f} GB/s write; L2 to L1 512 bytes a cycle"
        " (A64FX Microarchitecture Manual 1.8.1).",
        "* how often each block of instructions runs, counted under `qemu-aarch64 -cpu a64fx` on one thread;",
        "* how many cycles each block takes, `llvm-mca -mcpu=a64fx` in its steady state (it knows pipes, latencies and"
        " the window, no caches), and not less than four instructions a cycle, two loads a cycle or one store allow;",
        f"* {LOOP_EXIT} cycles for each time a loop is left: a guess for the mispredicted branch and the drained"
        " pipes;",
        "* bytes by the blocking, each tensor through HBM, reading and writing one after the other (which gives"
        " STREAM's published 208 GB/s a memory group within 8 %); loads from L2 are taken as hidden by prefetching where their"
        " bandwidth suffices. The published best products on the chip reach 87 to 92 % of its peak: what stands above"
        " that here is what the instructions allow, not a promise.",
        "",
        "## Matrix product",
        "",
        f"Inner loop, 8 rows x 3 vectors, two steps of k: {length} instructions, {fma} FMA in {cycles:.2f} cycles:"
        f" **{fma / cycles:.3f} FMA a cycle of 2, {50 * fma / cycles:.1f} %**. No vector register goes to the stack"
        " (tests/sve/no_spill).",
        "",
    ]


def product_lines(model, products, ranks):
    say = [
        "Whole products of the seven models at the shapes of one rank (configs/fugaku), packing and edges in, % of peak"
        " (bound by); forward with packed weights, gradient of the input, gradient of the weight with accumulation:",
        "",
        "| model, of a rank | product | tokens x out x in | y | dx | dw | where y loses |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    shares = []
    for who, name, m, n, k, times in products:
        rank = ranks.get(who)
        title = f"{who}, tensor {rank.tensor}" if rank else who
        cells = " | ".join(f"{percent(model.of_peak(x))} ({x.bound()})" for x in times)
        say.append(f"| {title} | {name} | {m} x {n} x {k} | {cells} | {times[0].detail} |")
        shares += [(model.of_peak(x), f"{title} {name} {x.name}") for x in times]
    say.append("")
    for limit in (LARGE, SMALL):
        below = [f"{what} {percent(share)}" for share, what in sorted(shares) if share < limit]
        say += [f"Below {100 * limit:.0f} %: {len(below)} of {len(shares)} products"
                + (f", lowest first: {'; '.join(below)}." if below else "."), ""]
    return say


def losses_line(parts, whole):
    """parts: [(name, seconds lost)] of `whole` seconds."""
    parts = sorted(parts, key=lambda part: -part[1])
    named = [f"{name} {1e3 * s:.2f} ms ({100 * s / whole:.1f} %)" for name, s in parts if s / whole >= 0.0005]
    rest = sum(s for _, s in parts if s / whole < 0.0005)
    return "Lost, largest first: " + ", ".join(named) + f"; all else {100 * rest / whole:.1f} %."


def layer_lines(model, rank, title):
    ops = Ops(model, rank)
    forward, backward = ops.forward(), ops.backward()
    update = ops.update(rank.weights_of_layer)
    say = [
        f"## One rank's kernels of a layer: {title}",
        "",
        f"{rank.tokens} tokens, width {rank.width}, {rank.heads} heads of {rank.head_width}, {rank.feed_forward} columns"
        " of the MLP. Products in FLOPs 2 m n k; attention causal, backward 2.5 times forward.",
        "",
        "| op | ms | % of peak | bound by | |",
        "| --- | --- | --- | --- | --- |",
    ]
    for x in forward + backward:
        peak = percent(model.of_peak(x)) if x.flops else ""
        say.append(f"| {x.name} | {1e3 * x.seconds:.3f} | {peak} | {x.bound()} | {x.detail} |")
    for x in update:
        say.append(f"| update: {x.name} | {1e3 * x.seconds:.3f} | | {x.bound()} | once a step |")
    both = forward + backward
    seconds, once = sum(x.seconds for x in both), sum(x.seconds for x in update)
    whole = seconds + once / rank.micro_batches

    def share(part):
        return percent(model.share(sum(x.flops for x in part), sum(x.seconds for x in part)))

    total = percent(model.share(sum(x.flops for x in both), whole))
    say += [
        "",
        f"Forward {share(forward)} %, backward {share(backward)} %, both with a share of the update"
        f" ({rank.micro_batches} micro-batches a step): **{total} % of {model.peak / 1e12:.2f} TFLOP/s**,"
        f" {1e3 * whole:.1f} ms a layer.",
        "",
        losses_line([(x.name, x.seconds - x.flops / model.peak) for x in both]
                    + [("update", once / rank.micro_batches)], whole),
        "",
    ]
    return say


class Stage:
    """All that a rank of one stage computes in a step. layers and recomputed may be means of several stages."""

    def __init__(self, model, rank, layers, embedding, head, recomputed):
        ops, n = Ops(model, rank), rank.micro_batches
        self.parts = []  # (name, Time of the whole step, whether its FLOPs are the model's)
        self.parts += [(x.name, x.times(n * layers), True) for x in ops.forward() + ops.backward()]
        self.parts += [("recomputed forward", x.times(n * recomputed), False) for x in ops.forward() if recomputed]
        for x in ops.embedding(False) + ops.embedding(True) if embedding else []:
            self.parts.append((x.name, x.times(n * embedding), True))
        self.parts += [(x.name, x.times(n * head), True) for x in ops.head() if head]
        # A word's row is on both ends where there is a pipeline; without one it stands once.
        words = rank.words * rank.width * max(head, embedding)
        self.update = ops.update(layers * rank.weights_of_layer + words)
        self.flops = sum(x.flops for _, x, counts in self.parts if counts)
        self.seconds = sum(x.seconds for _, x, _ in self.parts) + sum(x.seconds for x in self.update)
        self.layers = layers

    def lost(self, peak):
        lost = {}
        for name, x, counts in self.parts:
            lost[name] = lost.get(name, 0) + x.seconds - (x.flops / peak if counts else 0)
        return list(lost.items()) + [("update: " + x.name, x.seconds) for x in self.update]


def stages_of(model, rank):
    """[(title, Stage)], the last of them the mean of all stages."""
    first, middle, last = Ops(model, rank).stage_layers()
    if rank.stages == 1:
        return [("all", Stage(model, rank, rank.layers, 1, 1, rank.recomputed))]
    each = rank.layers / rank.stages
    with_recompute = min(first, rank.recomputed)
    found = [("first", Stage(model, rank, first, 1, 0, with_recompute))]
    if rank.recomputed:
        found.append(("second", Stage(model, rank, middle, 0, 0, min(middle, rank.recomputed))))
    found.append(("last but one", Stage(model, rank, middle, 0, 0, 0)))
    found.append(("last", Stage(model, rank, last, 0, 1, 0)))
    n = rank.stages
    return found + [("mean", Stage(model, rank, each, 1 / n, 1 / n, rank.recomputed / n))]


def rank_lines(model, ranks):
    say = [
        "## All that one rank computes in a step",
        "",
        "Layers of its stage, embedding, head with the loss, all micro-batches, recomputation where the configuration"
        " has it, and the update once: of the FLOPs that belong to the model, % of the peak of the rank's cores."
        " Messages and the pipeline's bubble are not in it.",
        "",
        "| model | layout | cores of a rank | stage | layers | forward and backward, s | update, ms | % of peak |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    shown = [(rank, GROUP_CORES) for rank in ranks.values()]
    as_run = load("13b-as-run")
    shown += [(as_run, GROUP_CORES), (as_run, as_run.threads)]
    details, lowest = [], []
    for rank, cores in shown:
        on = model.with_cores(cores)
        stages = stages_of(on, rank)
        lowest.append((on.share(stages[-1][1].flops, stages[-1][1].seconds), f"{rank.name} on {cores} cores"))
        for title, stage in stages:
            once = sum(x.seconds for x in stage.update)
            share = percent(on.share(stage.flops, stage.seconds))
            say.append(f"| {rank.name} | {rank.layout()} | {cores} | {title} | {stage.layers:.3g} |"
                       f" {stage.seconds - once:.3f} | {1e3 * once:.1f} | {share} |")
        if rank.name in ("1.3b", "13b", "13b-as-run"):
            mean = stages[-1][1]
            details += [f"{rank.name} on {cores} cores, {stages[-1][0]} of the stages, {mean.seconds:.3f} s a step. "
                        + losses_line(mean.lost(on.peak), mean.seconds), ""]
    say += [
        "",
        f"Wanted is {100 * RANK_LEAST:.0f} % of a whole rank, aimed at {100 * RANK_AIM:.0f} %: the lowest of the means is"
        f" {percent(min(lowest)[0])} % ({min(lowest)[1]}).",
        "",
        "Ranks of 48 cores have four memory groups: what they read of each other's memory is taken to be as fast as their"
        " own, which it is not.",
        "",
    ]
    return say + details


def rate_lines(found):
    return [
        "## Rates for the planner",
        "",
        "What configs/machines/fugaku.toml takes, written by the same command and compared by"
        " `tools/a64fx_model --check`. A class is as fast as its ops together, each as heavy as any other.",
        "",
        *planner.table(found),
    ]


def report(model, bytes_per_second):
    """(lines before the end-to-end section, the rates)."""
    ranks = {name: load(name) for name in MODELS}
    products = all_products(model, ranks)
    lines = head_lines(model) + product_lines(model, products, ranks)
    lines += layer_lines(model, ranks["13b"], "13B, tensor 12 (configs/fugaku/13b.toml)")
    as_run = "13B, tensor 6 (configs/fugaku/13b-as-run.toml), on one memory group"
    lines += layer_lines(model, load("13b-as-run"), as_run)
    lines += layer_lines(model, ranks["1.3b"], "1.3B, tensor 4")
    lines += rank_lines(model, ranks)
    return lines, planner.rates(model, products, ranks, bytes_per_second)
