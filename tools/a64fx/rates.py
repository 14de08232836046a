"""The planner's rates, from the ops of the seven models: a table in the report, and `[efficiency]` of a machine file.

A class of ops reaches what its ops reach together, each op as heavy as any other: the harmonic mean of their shares.
Flows in: Model and ranks. Flows out: Rate by key; text of the machine file; what differs between file and report.
"""
import re
import sys
import tomllib
from dataclasses import dataclass

from a64fx.ranks import Ops

SKINNY_BELOW = 256
LIMITS = (512, 1024)  # of matmul_below
BEGIN = "[efficiency]\n"
END = "\n[[network]]"
TABLE = "| key of the machine file | share of peak | least | most | of |"


@dataclass
class Rate:
    key: str
    shares: list  # of each op
    of: str

    def value(self):
        return round(len(self.shares) / sum(1 / share for share in self.shares), 3)


def class_of(smallest):
    if smallest < SKINNY_BELOW:
        return "matmul_skinny"
    return next((f"matmul_below.{limit}" for limit in LIMITS if smallest < limit), "matmul")


def product_shares(model, products, ranks):
    """{key: shares} of y, dx and dw; y and dx with their share of the packing of weights."""
    shares = {}
    for rank_name, _, m, n, k, (y, dx, dw) in products:
        rank = ranks.get(rank_name)
        packing = Ops(model, rank).packing(n * k).seconds / 2 / rank.micro_batches if rank else 0
        for time, more in ((y, packing), (dx, packing), (dw, 0)):
            shares.setdefault(class_of(min(m, n, k)), []).append(model.share(time.flops, time.seconds + more))
    return shares


def rates(model, products, ranks, bytes_per_second):
    """[Rate]"""
    found = product_shares(model, products, ranks)
    of = {"matmul": "products, smallest of M, N, K 1024 or more", "matmul_skinny": f"below {SKINNY_BELOW}"}
    result = [Rate(key, found[key], of.get(key, "below " + key.split(".")[-1]))
              for key in ("matmul", *(f"matmul_below.{limit}" for limit in reversed(LIMITS)), "matmul_skinny")]
    attention, backward, projection, elementwise = [], [], [], []
    for rank in ranks.values():
        ops = Ops(model, rank)
        attention.append(model.of_peak(ops.attention(False)))
        backward.append(model.of_peak(ops.attention(True)))
        head = ops.head()
        projection += [model.of_peak(x) for x in head if x.kind == "projection"]
        streams = [x.times(rank.layers * rank.micro_batches) for x in ops.forward() + ops.backward()]
        streams += [x.times(rank.micro_batches) for x in ops.embedding(False) + ops.embedding(True) + head]
        streams += [x for x in ops.update(rank.layers * rank.weights_of_layer) if "packing" not in x.name]
        streams = [x for x in streams if x.kind == "elementwise"]
        seconds = sum(x.seconds for x in streams)
        elementwise.append(sum(x.bytes for x in streams) / seconds / bytes_per_second)
    result.append(Rate("projection", projection, "head, loss and gradients in one op: 124M and 300M"))
    result.append(Rate("attention", attention, "forward, causal, of the seven models"))
    result.append(Rate("attention_backward", backward, "backward"))
    of = f"all else, of {bytes_per_second / 1e9:.0f} GB/s, by model"
    return result + [Rate("elementwise", elementwise, of)]


def scaled(found, scale):
    """The same where products, attention and projection reach `scale` times as much."""
    return [r if r.key == "elementwise" else Rate(r.key, [scale * s for s in r.shares], r.of) for r in found]


def table(found):
    lines = [TABLE, "| --- | --- | --- | --- | --- |"]
    for r in found:
        lines.append(f"| {r.key} | {r.value():.3f} | {min(r.shares):.3f} | {max(r.shares):.3f} | {r.of} |")
    return lines


def efficiency(found):
    """The text of the section."""
    value = {r.key: f"{r.value():.3f}" for r in found}
    below = ", ".join(f"{limit} = {value[f'matmul_below.{limit}']}" for limit in LIMITS)
    return f"""{BEGIN}\
# Written by tools/a64fx_model: what the instructions of the component `sve`, counted under qemu, allow by llvm-mca's
# model of the core. bench/a64fx.md says how, and has the least and the most of each class. Nothing here was measured.
# The best products that others measured on the chip reach 87 to 92 % of its peak.
matmul = {value["matmul"]}
matmul_below = {{ {below} }}  # by the smallest of M, N, K
matmul_skinny = {value["matmul_skinny"]}
projection = {value["projection"]}
attention = {value["attention"]}
attention_backward = {value["attention_backward"]}
elementwise = {value["elementwise"]}
skinny_below = {SKINNY_BELOW}
"""


def section(path):
    """(text before the section, the section, text after it)"""
    with open(path, encoding="utf-8") as file:
        text = file.read()
    begin = text.index(BEGIN)
    end = text.index(END, begin)
    return text[:begin], text[begin:end], text[end:]


def bandwidth(path):
    with open(path, "rb") as file:
        return tomllib.load(file)["bytes_per_second"]


def write(path, found, out=None):
    """Puts the rates into a machine file, or into a copy of it."""
    before, _, after = section(path)
    with open(out or path, "w", encoding="utf-8") as file:
        file.write(before + efficiency(found) + after)


def check(path, report):
    """Exits with what differs between the machine file and the report's table; prints a line if nothing does."""
    with open(path, "rb") as file:
        has = tomllib.load(file)["efficiency"]
    limits = has.pop("matmul_below", {})
    has |= {f"matmul_below.{limit}": share for limit, share in limits.items()}
    wrong = [] if has.pop("skinny_below", None) == SKINNY_BELOW else [f"skinny_below is not {SKINNY_BELOW}"]
    with open(report, encoding="utf-8") as file:
        rows = file.read().split(TABLE)[-1].strip().splitlines()[1:]
    reported = {}
    for row in rows:
        cells = re.match(r"\| (\S+) \| ([0-9.]+) \|", row)
        if not cells:
            break
        reported[cells.group(1)] = float(cells.group(2))
    for key in sorted(has.keys() | reported.keys()):
        if has.get(key) != reported.get(key):
            wrong.append(f"{key}: {has.get(key)} in {path}, {reported.get(key)} in {report}")
    if wrong or not reported:
        sys.exit("a64fx_model: the machine file is not what the report says; make both again\n" + "\n".join(wrong))
    print(f"a64fx_model: {len(reported)} rates of {path} are those of {report}")
