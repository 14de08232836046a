#!/usr/bin/env python3
"""Weak scaling on paper: plans configurations from 96 to 13,824 nodes, the batch grows along: tables and pictures.

    bench/scaling.py [--kumiki PROGRAM] --renew bench/scaling.md
    bench/scaling.py [--kumiki PROGRAM] [--svg FILE] CONFIG SEQUENCES-ON-96-NODES [kumiki plan's own arguments …]

--renew makes every table and picture of the page again: each line `<!-- scaling.py … -->` is a command of the second
form (`published`: the comparison with published runs), and the table under it is replaced.
SEQUENCES-ON-96-NODES is the global batch of the smallest run. Efficiency: FLOP/s of a rank against those of the
smallest run.
Example: bench/scaling.py configs/fugaku/13b-as-run.toml 14 --ranks-per-node 1
"""

import argparse
import json
import os
import re
import shlex
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
NODES = [96, 192, 384, 768, 1536, 3456, 6912, 13824]
AXES = ["tensor", "context", "pipeline", "data"]
SHARES = ["computing", "update", "bubble", *(f"waiting: {axis}" for axis in AXES)]
COLORS = ["#2563eb", "#0d9488", "#9ca3af", "#d97706", "#ca8a04", "#7c3aed", "#dc2626"]
AIM = 90.0  # percent of the smallest run's efficiency, at the largest

# Fugaku-LLM/DeepSpeedFugaku, experiments/124m_13b_benchmarking, February to June 2023; % of 6.144 TFLOP/s at 2.0 GHz.
# Their batches are not recorded: one sequence a rank, and 8 micro-batches for the pipeline, are a guess.
ONE = ["--ranks-per-node", "1"]
THIRTY = ["parallel.tensor.degree=4", "parallel.pipeline.degree=48", "parallel.data.zero=1"]
PUBLISHED = [
    # run, published %, configuration, nodes, global batch, --set, arguments
    ("124M, 1 node, 4 ranks", "33.7", "124m", 1, 4, [], []),
    ("124M, 512 nodes, one rank each, data", "2.3 to 2.6", "124m", 512, 512, [], ONE),
    ("1.3B, tensor 4, 4 nodes", "14", "1.3b", 4, 1, [], ONE),
    ("1.3B, tensor 4, 1024 nodes", "9.6", "1.3b", 1024, 256, [], ONE),
    ("1.3B, tensor 4, 4096 nodes", "6.7", "1.3b", 4096, 1024, [], ONE),
    ("30B, pipeline 48, tensor 4, 192 nodes", "18.9", "30b", 192, 8, THIRTY, ONE),
    ("30B, pipeline 48, tensor 4, 3072 nodes", "11.8", "30b", 3072, 128, THIRTY, ONE),
    ("30B, pipeline 48, tensor 4, 6144 nodes", "8.2", "30b", 6144, 256, THIRTY, ONE),
    ("13B, 13,824 nodes, the final run", "not found", "13b-as-run", 13824, 2016, [], ONE),
]


def svg(rows, title):
    """A bar for each number of nodes: the shares of the step, computing at the bottom; above it the efficiency."""
    width, height, left, top = 90, 260, 60, 90
    used = [i for i in range(len(SHARES)) if any(shares[i] >= 0.0005 for _, _, shares in rows)]
    whole = left + 20 + width * len(rows)
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{whole}" height="{top + height + 60}" '
             'font-family="sans-serif" font-size="12">',
             f'<rect width="{whole}" height="{top + height + 60}" fill="white"/>',
             f'<text x="{left}" y="20" font-size="14">{title}</text>']
    for place, i in enumerate(used):
        x, y = left + 150 * (place % 4), 38 + 18 * (place // 4)
        parts.append(f'<rect x="{x}" y="{y}" width="12" height="12" fill="{COLORS[i]}"/>'
                     f'<text x="{x + 17}" y="{y + 10}">{SHARES[i]}</text>')
    for percent in (0, 25, 50, 75, 100):
        y = top + height - percent / 100 * height
        parts.append(f'<text x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{percent} %</text>'
                     f'<line x1="{left - 4}" x2="{left}" y1="{y:.1f}" y2="{y:.1f}" stroke="#6b7280"/>')
    for n, (nodes, efficiency, shares) in enumerate(rows):
        x, y = left + 6 + width * n, float(top + height)
        for color, share in zip(COLORS, shares):
            y -= share * height
            parts.append(f'<rect x="{x}" y="{y:.2f}" width="{width - 20}" height="{share * height:.2f}" '
                         f'fill="{color}"/>')
        parts.append(f'<text x="{x}" y="{top + height + 20}">{nodes:,} nodes</text>'
                     f'<text x="{x}" y="{top + height + 38}">eff. {efficiency:.1f} %</text>')
    # Efficiency as a line on the same scale, and the aim.
    points = " ".join(f"{left + 6 + width * n + (width - 20) / 2:.1f},{top + height - e / 100 * height:.1f}"
                      for n, (_, e, _) in enumerate(rows))
    aim = top + height - AIM / 100 * height
    parts.append(f'<polyline points="{points}" fill="none" stroke="black" stroke-width="1.5"/>'
                 f'<line x1="{left}" x2="{whole - 14}" y1="{aim:.1f}" y2="{aim:.1f}" stroke="black" '
                 'stroke-dasharray="4 3"/>'
                 f'<text x="{whole - 18}" y="20" text-anchor="end">line: efficiency; dashed: the aim, {AIM:.0f} %</text>')
    return "\n".join(parts) + "\n</svg>\n"


class Planner:
    def __init__(self, program, machine):
        self.program, self.machine, self.environment = program, machine, dict(os.environ)
        plugins = os.path.join(os.path.dirname(program), "../../plugins")
        if os.path.isdir(plugins):
            self.environment.setdefault("KUMIKI_PLUGINS", plugins)

    def plan(self, config, nodes, batch, more):
        command = [self.program, "plan", config, "--machine", self.machine, "--nodes", str(nodes), "--json", "--set",
                   f"run.global_batch={batch}", *more]
        done = subprocess.run(command, capture_output=True, text=True, env=self.environment, cwd=ROOT)
        if done.returncode != 0:
            sys.exit(f"{' '.join(command)}\n{done.stderr}")
        return json.loads(done.stdout)

    def scaling(self, config, sequences, more, picture=None):
        """Lines of the table; draws the picture."""
        lines = ["| nodes | ranks | step, s | % of peak | efficiency | " + " | ".join(SHARES) + " |",
                 "| --- " * (5 + len(SHARES)) + "|"]
        first, rows, layout = None, [], ""
        for nodes in NODES:
            p = self.plan(config, nodes, sequences * nodes // NODES[0], more)
            needed = max(rank["total"] for rank in p["memory"]) / 1e9
            fits = "" if p["fits"] else f" ({needed:.1f} GB: does not fit)"
            first, layout = first or p["flops_per_second"], p["layout"]
            step, seconds = p["seconds_per_step"], p["seconds"]
            exposed = [sum(a["exposed"] for a in p["axes"] if a["axes"].split(",")[0] == axis) for axis in AXES]
            shares = [seconds["computed"] - seconds["update"], seconds["update"], seconds["bubble"], *exposed]
            shares = [s / step for s in shares]
            efficiency = 100 * p["flops_per_second"] / first
            rows.append((nodes, efficiency, shares))
            lines.append(f"| {nodes}{fits} | {p['ranks']} | {step:.2f} | {100 * p['share_of_peak']:.1f} |"
                         f" {efficiency:.1f} % | " + " | ".join(f"{100 * s:.1f} %" for s in shares) + " |")
        if picture:
            with open(os.path.join(ROOT, picture), "w", encoding="utf-8") as out:
                out.write(svg(rows, re.sub(r" x data \d+", " x data", f"{os.path.basename(config)}: {layout}")))
        return lines

    def published(self):
        lines = ["| run | published, % | planned, % | planned, s a step |", "| --- " * 4 + "|"]
        for run, published, name, nodes, batch, sets, more in PUBLISHED:
            arguments = [a for value in sets for a in ("--set", value)] + more
            p = self.plan(f"configs/fugaku/{name}.toml", nodes, batch, arguments)
            lines.append(f"| {run} | {published} | {100 * p['share_of_peak']:.1f} | {p['seconds_per_step']:.2f} |")
        return lines

    def made_by(self, command):
        if command == "published":
            return self.published()
        known, rest = arguments(shlex.split(command))
        return self.scaling(known.config, known.sequences, rest, known.svg)

    def renew(self, page):
        with open(page, encoding="utf-8") as file:
            text = file.read()

        def table(found):
            print(found.group(1), flush=True)
            return f"<!-- scaling.py {found.group(1)} -->\n\n" + "\n".join(self.made_by(found.group(1))) + "\n"

        text = re.sub(r"<!-- scaling.py (.*) -->\n\n(?:\|.*\n)*", table, text)
        with open(page, "w", encoding="utf-8") as file:
            file.write(text)


def arguments(words=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kumiki", default="kumiki")
    parser.add_argument("--machine", default="fugaku")
    parser.add_argument("--svg", help="draw the shares, too")
    parser.add_argument("--renew", metavar="PAGE", help="make the tables and pictures of this page again")
    parser.add_argument("config", nargs="?")
    parser.add_argument("sequences", nargs="?", type=int)
    return parser.parse_known_args(words)


def main():
    known, rest = arguments()
    planner = Planner(known.kumiki, known.machine)
    if known.renew:
        planner.renew(known.renew)
    elif known.sequences is None:
        sys.exit("bench/scaling.py: give CONFIG and SEQUENCES-ON-96-NODES, or --renew PAGE; --help says more")
    else:
        print("\n".join(planner.scaling(known.config, known.sequences, rest, known.svg)))


if __name__ == "__main__":
    main()
