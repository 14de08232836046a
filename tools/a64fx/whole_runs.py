"""What `kumiki plan` makes of the rates: the seven models end to end, and what would bring 13B to half of the peak.

Flows in: the program, a machine file with the rates, the rates. Flows out: lines of Markdown.
"""
import json
import os
import re
import subprocess
import sys
import tempfile

from a64fx import rates as planner
from a64fx.counts import ROOT

CONFIGS = ("124m", "300m", "1.3b", "7b", "13b", "13b-as-run", "30b", "175b")
# The best products that others measured on the chip reach 87 to 92 % of its peak (BLIS docs/graphs/large, A64FX;
# lighttransport/gemm): the second set of rates is scaled so that the best product here reaches the lower of them.
PUBLISHED = 0.87
AXES = ("tensor", "context", "pipeline", "data")

NO_RECOMPUTE = ["parallel.recompute.mode=none", "parallel.data.zero=1", "parallel.pipeline.schedule=zero_bubble"]
# (configuration, what is changed, --set, how many times as fast messages between nodes are)
CHANGES = (
    ("13b-as-run", "as it is", [], 1),
    ("13b-as-run", "zero_bubble, nothing recomputed, zero 1", NO_RECOMPUTE, 1),
    ("13b-as-run", "the same, batch x 2", [*NO_RECOMPUTE, "run.global_batch=4032"], 1),
    ("13b-as-run", "the same, batch x 4", [*NO_RECOMPUTE, "run.global_batch=8064"], 1),
    ("13b-as-run", "batch x 2, messages between nodes 2 x as fast", [*NO_RECOMPUTE, "run.global_batch=4032"], 2),
    ("13b-as-run", "batch x 4, messages between nodes 2 x as fast", [*NO_RECOMPUTE, "run.global_batch=8064"], 2),
    ("13b", "as it is", [], 1),
    ("13b", "16 micro-batches in place of 7", ["run.global_batch=4608"], 1),
    ("13b", "32 micro-batches", ["run.global_batch=9216"], 1),
    ("13b", "messages between nodes 2 x as fast", [], 2),
    ("13b", "16 micro-batches, messages between nodes 2 x as fast", ["run.global_batch=4608"], 2),
    ("13b", "32 micro-batches, messages between nodes 2 x as fast", ["run.global_batch=9216"], 2),
)


class Planner:
    def __init__(self, program):
        if not os.path.exists(program):
            sys.exit(f"a64fx_model: there is no program {program} for the plans\n"
                     "bazel build //core/cli:kumiki //:plugins, or --kumiki PROGRAM, or --no-plans")
        plugins = os.path.join(os.path.dirname(program), "../../plugins")
        self.program, self.environment = program, dict(os.environ)
        if os.path.isdir(plugins):
            self.environment.setdefault("KUMIKI_PLUGINS", plugins)

    def plan(self, name, machine, sets=()):
        """The command at the head of the configuration, on a machine file. None where it does not fit."""
        path = f"{ROOT}/configs/fugaku/{name}.toml"
        command = [self.program, "plan", path, "--machine", machine, *options_of(name), "--json"]
        for value in sets:
            command += ["--set", value]
        done = subprocess.run(command, capture_output=True, text=True, env=self.environment)
        if done.returncode:
            sys.exit(f"{' '.join(command)}\n{done.stderr}")
        return json.loads(done.stdout)


def cells(plan):
    step = plan["seconds_per_step"]
    waits = {axis: sum(a["exposed"] for a in plan["axes"] if a["axes"].split(",")[0] == axis) for axis in AXES}
    shares = [plan["seconds"]["computed"], plan["seconds"]["bubble"], *(waits[axis] for axis in AXES)]
    peak = f"{100 * plan['share_of_peak']:.1f} ({100 * plan['share_of_peak_causal']:.1f})"
    return f"{step:.2f} | {peak} | " + " | ".join(f"{100 * s / step:.1f}" for s in shares)


def faster_network(machine, times):
    """The text of a machine file whose level between nodes carries `times` as much."""
    with open(machine, encoding="utf-8") as file:
        before, last = file.read().rsplit("[[network]]", 1)
    last = re.sub(r"(bytes_per_second = )([0-9.e+]+)", lambda m: f"{m.group(1)}{times * float(m.group(2)):g}", last)
    return before + "[[network]]" + last


def options_of(name):
    """What stands behind the machine's name in the command at the head of a configuration."""
    with open(f"{ROOT}/configs/fugaku/{name}.toml", encoding="utf-8") as file:
        return re.search(r"--machine fugaku( .*)", file.read()).group(1).split()


def put_table(page, table):
    """Puts the table of plans into a page, in place of the one under the mark."""
    with open(page, encoding="utf-8") as file:
        text = file.read()
    rows = "\n".join(table) + "\n"
    new, times = re.subn(r"(<!-- a64fx_model: plans -->\n\n)(?:\|.*\n)*", lambda m: m.group(1) + rows, text)
    if times != 1:
        sys.exit(f"a64fx_model: {page} has no line <!-- a64fx_model: plans -->")
    with open(page, "w", encoding="utf-8") as file:
        file.write(new)


def lines(program, machine, rates):
    """(the report's section, the table for docs/fugaku.md)"""
    planner_ = Planner(program)
    best = max(next(r for r in rates if r.key == "matmul").shares)
    scale = PUBLISHED / best
    with tempfile.TemporaryDirectory() as folder:
        published = f"{folder}/published.toml"
        planner.write(machine, planner.scaled(rates, scale), published)
        say = [
            "## End to end, by plan",
            "",
            "`kumiki plan` as the head of each file in configs/fugaku has it: % of peak with attention counted whole,"
            " as published figures do (in brackets: as its mask leaves it, as in the tables above), and of the step's"
            " time what is computed, idle in the pipeline, and spent waiting for messages along an axis (mean of the"
            " stages). \"Allowed\": the rates below. \"Published\": products, attention and projection x"
            f" {scale:.3f}, so that the best product here, {100 * best:.1f} % with its packing, reaches"
            f" {100 * PUBLISHED:.0f} %, the lower end of the best that was measured on the chip.",
            "",
            "| model | layout | rates | s a step | % of peak | computing | bubble | tensor | context | pipeline |"
            " data |",
            "| --- " * 11 + "|",
        ]
        table = ["| file, nodes | layout | allowed: s a step | % of peak (causal) | published: s a step |"
                 " % of peak (causal) |", "| --- " * 6 + "|"]
        for name in CONFIGS:
            short = []
            for title, file in (("allowed", machine), ("published", published)):
                plan = planner_.plan(name, file)
                say.append(f"| {name} | {plan['layout']} | {title} | {cells(plan)} |")
                short += cells(plan).split(" | ")[:2]
            nodes = f"{int(options_of(name)[1]):,}" + (", one rank a node" if "1" in options_of(name) else "")
            table.append(f"| `{name}.toml`, {nodes} | {plan['layout']} | " + " | ".join(short) + " |")
        say += [
            "",
            "What would bring 13B on 13,824 nodes to 50 % (\"allowed\"; a layout that does not fit into 7 GB a memory"
            " group is marked):",
            "",
            "| layout | change | s a step | % of peak | computing | bubble | tensor | context | pipeline | data |",
            "| --- " * 10 + "|",
        ]
        for name, title, sets, times in CHANGES:
            file = machine
            if times != 1:
                file = f"{folder}/network{times}.toml"
                with open(file, "w", encoding="utf-8") as out:
                    out.write(faster_network(machine, times))
            plan = planner_.plan(name, file, sets)
            say.append(f"| {name} | {title}{'' if plan['fits'] else ' (does not fit)'} | {cells(plan)} |")
    return say + [""], table
