"""The ops of one rank of a configuration: what `kumiki plan --show plan` lists for it, as Time.

Read from configs/fugaku: model, degrees, batch, and the plan's command at the head of the file (nodes, ranks per node).
Flows in: a configuration. Flows out: ops of a layer, of the embedding, of the head with the loss, of the update.
"""
import os
import re
import tomllib
from dataclasses import dataclass

from a64fx.counts import ROOT
from a64fx.kernels import GROUP_CORES

NORM_ROWS = 8  # rows of a norm that are counted


@dataclass
class Rank:
    name: str
    tokens: int  # of a micro-batch, on this rank's products
    sequence: int
    micro_batch: int
    width: int
    heads: int  # of this rank
    head_width: int
    feed_forward: int  # columns of this rank
    words: int  # rows of the vocabulary of this rank
    layers: int  # of the model
    tensor: int
    sequence_parallel: bool
    context: int
    stages: int
    chunks: int
    data: int
    zero: int
    micro_batches: int
    recomputed: int  # layers
    threads: int

    @property
    def columns(self):
        return self.heads * self.head_width

    @property
    def norm_tokens(self):
        return self.tokens // self.tensor if self.sequence_parallel else self.tokens

    @property
    def weights_of_layer(self):
        return 4 * self.width * self.columns + 2 * self.width * self.feed_forward

    def layout(self):
        axes = [("tensor", self.tensor), ("context", self.context), ("pipeline", self.stages), ("data", self.data)]
        return " x ".join(f"{name} {degree}" for name, degree in axes if degree > 1 or name == "data")


def load(name):
    """configs/fugaku/NAME.toml as a Rank."""
    path = os.path.join(ROOT, "configs", "fugaku", f"{name}.toml")
    with open(path, "rb") as file:
        config = tomllib.load(file)
    head = open(path, encoding="utf-8").read().split("[run]")[0]
    nodes = int(re.search(r"--nodes (\d+)", head).group(1))
    per_node = re.search(r"--ranks-per-node (\d+)", head)
    ranks = nodes * (int(per_node.group(1)) if per_node else 4)
    run, model = config["run"], config["model"]
    axes = {axis["use"]: axis for axis in config["parallel"]}

    def degree(axis):
        return axes.get(axis, {}).get("degree", 1)

    tensor, context, stages = degree("tensor"), degree("context"), degree("pipeline")
    data = ranks // (tensor * context * stages)
    pipeline = axes.get("pipeline", {})
    chunks = pipeline.get("chunks", 2) if pipeline.get("schedule") == "interleaved" else 1
    recompute = axes.get("recompute", {})
    recomputed = recompute.get("layers", model["layers"]) if recompute.get("mode") == "full" else 0
    sequence, micro_batch = run["sequence"], run["micro_batch"]
    return Rank(
        name=name,
        tokens=sequence * micro_batch // context,
        sequence=sequence,
        micro_batch=micro_batch,
        width=model["width"],
        heads=model["heads"] // tensor,
        head_width=model["width"] // model["heads"],
        feed_forward=model.get("feed_forward", 4 * model["width"]) // tensor,
        words=model["vocabulary"] // tensor,
        layers=model["layers"],
        tensor=tensor,
        sequence_parallel=axes.get("tensor", {}).get("sequence", False),
        context=context,
        stages=stages,
        chunks=chunks,
        data=data,
        zero=axes.get("data", {}).get("zero", 0),
        micro_batches=run["global_batch"] // (micro_batch * data),
        recomputed=recomputed,
        threads=run.get("threads", GROUP_CORES),
    )


class Ops:
    """The ops of a rank, in the order of its plan."""

    def __init__(self, model, rank):
        self.model, self.rank = model, rank

    def add(self, name, elements, read, write):
        """Biases, residual sums: as add_layernorm's loop without its statistics."""
        return self.model.stream(name, "add a=65536", 65536, elements, read, write)

    def norm(self, name):
        r = self.rank
        line = f"add_layernorm a={NORM_ROWS}x{r.width}"
        return self.model.stream(name, line, NORM_ROWS * r.width, r.norm_tokens * r.width, 8, 8)

    def norm_backward(self, count=1):
        r, s = self.rank, self.model.stream
        n = count * r.norm_tokens * r.width
        return [
            s("layernorm backward", f"layernorm_backward x={NORM_ROWS}x{r.width}", NORM_ROWS * r.width, n, 12, 4),
            s("layernorm weights", f"layernorm_backward_weight x=256x{r.width}", 256 * r.width, n, 12, 0),
        ]

    def forward(self):
        """Of one layer."""
        r, p = self.rank, self.model.product
        t, h, a, f = r.tokens, r.width, r.columns, r.feed_forward
        ops = [
            self.norm("layernorm, add").times(2),
            p("query, key, value", t, a, h, True).plus(p("", t, a, h, True, a_stands=True).times(2)),
            self.attention(False),
            p("attention output", t, h, a, True),
            p("mlp up, gelu", t, f, h, True, activation="gelu"),
            p("mlp down", t, h, f, True),
        ]
        if r.tensor > 1:
            # Biases are added after the sum over the axis, and not in the product.
            ops.append(self.add("biases", 2 * r.norm_tokens * h, 4, 4))
        return ops

    def backward(self):
        """Of one layer."""
        r, p, s = self.rank, self.model.product, self.model.stream
        t, h, a, f = r.tokens, r.width, r.columns, r.feed_forward
        return [
            p("d mlp down: dx", t, f, h, True),
            p("d mlp down: dw", h, f, t, False, True, True),
            s("gelu backward", "gelu_backward x=65536", 65536, t * f, 8, 4),
            p("d mlp up: dx", t, h, f, True),
            p("d mlp up: dw", f, h, t, False, True, True),
            p("d attention output: dx", t, a, h, True),
            p("d attention output: dw", h, a, t, False, True, True),
            self.attention(True),
            p("d query, key, value: dx", t, h, a, True, accumulate=True).times(3),
            p("d query, key, value: dw", a, h, t, False, True, True).times(3),
            *self.norm_backward(2),
            s("bias gradients", f"sum_rows x=256x{h}", 256 * h, t * (3 * a + f) + 2 * r.norm_tokens * h, 4, 0),
        ]

    def attention(self, backward):
        """With an axis `context` each of its steps has as many pairs as causal attention of T / context tokens."""
        r = self.rank
        shape = r.sequence // r.context, r.heads, r.head_width, r.micro_batch
        if backward:
            return self.model.attention_backward("attention backward", *shape, r.context)
        return self.model.attention("attention", *shape).times(r.context)

    def embedding(self, backward):
        """With the positions. Rows that a rank has not are zeros: read and written as the others."""
        r, s = self.rank, self.model.stream
        n, m = r.tokens * r.width, r.norm_tokens * r.width
        if not backward:
            line = f"embedding tokens=1x256 table=64x{r.width}"
            return [
                s("embedding", line, 256 * r.width, n, 4, 4),
                s("positions", f"add_position x=1x256x{r.width} table=256x{r.width}", 256 * r.width, m, 8, 4),
            ]
        line = f"embedding_backward dy=1x256x{r.width} rows=64 accumulate=1"
        return [
            s("d positions", f"add_position_backward dy=1x256x{r.width} rows=256 accumulate=1", 256 * r.width, m, 8, 4),
            s("d embedding", line, 256 * r.width, n, 8, 4),
        ]

    def head(self):
        """Last norm, projection, loss, and their gradients."""
        r, p, s = self.rank, self.model.product, self.model.stream
        t, h, v = r.tokens, r.width, r.words
        ops = [self.norm("last layernorm, add")]
        if r.tensor == 1:
            ops.append(self.model.projection("projection with loss and gradients", t, v, h))
        else:
            rows = f"logits=8x{v}"
            ops += [
                p("logits", t, v, h, True),
                s("maximum of logits", f"row_max {rows}", 8 * v, t * v, 4, 0),
                s("sum of exponentials", f"row_exp_pick {rows}", 8 * v, t * v, 4, 0),
                s("d logits", f"cross_entropy_parts_backward {rows}", 8 * v, t * v, 4, 4),
                p("d logits: dx", t, h, v, True),
                p("d logits: dw", v, h, t, False, True, True),
            ]
        return ops + self.norm_backward()

    def packing(self, weights):
        """Of the weights, for y and for dx: once a step."""
        return self.model.stream("packing of weights, twice", "matmul a=8x512 b=96x512 transpose_b=1", 96 * 512,
                                 2 * weights, 4, 4)

    def update(self, weights):
        """Of `weights` on this rank, once a step. With zero a rank updates its share of them, and packs all."""
        r, s = self.rank, self.model.stream
        own = weights / r.data if r.zero else weights
        return [
            s("norm of gradients", "sum_squares x=65536", 65536, own, 4, 0),
            s("adamw", "adamw_update p=65536", 65536, own, 16, 12),
            self.packing(weights),
        ]

    def stage_layers(self):
        """(first, middle, last): whole layers of a stage where they do not divide: the ends have embedding and head."""
        r = self.rank
        if r.stages == 1:
            return r.layers, 0, 0
        least, rest = divmod(r.layers, r.stages)
        middle = (r.layers - 2 * least) / max(1, r.stages - 2) if rest else least
        return least, middle, least
