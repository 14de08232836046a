#!/usr/bin/env python3
"""Weak scaling on paper: plans a configuration from 96 to 13,824 nodes with a batch that grows along, and prints a table.

    bench/scaling.py [--kumiki PROGRAM] [--machine fugaku] CONFIG SEQUENCES-ON-96-NODES [kumiki plan's own arguments …]

SEQUENCES-ON-96-NODES is the global batch of the smallest run. Efficiency: FLOP/s of a rank against those of the smallest run.
Example: bench/scaling.py configs/fugaku/13b-as-run.toml 14 --ranks-per-node 1
"""

import argparse
import json
import subprocess
import sys

COLORS = ["#2563eb", "#9ca3af", "#d97706", "#7c3aed", "#dc2626"]
NODES = [96, 192, 384, 768, 1536, 3456, 6912, 13824]


def svg(rows, names):
    """A bar for each number of nodes: the shares of the step, computing at the bottom; above it the efficiency."""
    width, height, left, top = 90, 260, 20, 50
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{left * 2 + width * len(rows)}" height="{height + 110}" '
             'font-family="sans-serif" font-size="12">']
    for i, name in enumerate(names):
        parts.append(f'<rect x="{left + 145 * i}" y="10" width="12" height="12" fill="{COLORS[i]}"/>'
                     f'<text x="{left + 145 * i + 17}" y="20">{name}</text>')
    for i, (nodes, efficiency, shares) in enumerate(rows):
        x, y = left + width * i, top + height
        for color, share in zip(COLORS, shares):
            y -= share * height
            parts.append(f'<rect x="{x}" y="{y:.2f}" width="{width - 20}" height="{share * height:.2f}" fill="{color}"/>')
        parts.append(f'<text x="{x}" y="{top + height + 20}">{nodes} nodes</text>'
                     f'<text x="{x}" y="{top + height + 38}">eff. {efficiency:.1f} %</text>')
    return "\n".join(parts) + "\n</svg>\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kumiki", default="kumiki")
    parser.add_argument("--machine", default="fugaku")
    parser.add_argument("--svg", help="write the shares as a picture, too")
    parser.add_argument("config")
    parser.add_argument("sequences", type=int)
    known, rest = parser.parse_known_args()
    axes = ["tensor", "pipeline", "data"]
    print("| nodes | ranks | step, s | % of peak | efficiency | computing | bubble | " +
          " | ".join(f"waiting for {axis}" for axis in axes) + " |")
    print("| --- " * (7 + len(axes)) + "|")
    first, rows = None, []
    for nodes in NODES:
        command = [known.kumiki, "plan", known.config, "--machine", known.machine, "--nodes", str(nodes), "--json",
                   "--set", f"run.global_batch={known.sequences * nodes // NODES[0]}", *rest]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"{' '.join(command)}\n{done.stderr}")
        p = json.loads(done.stdout)
        if not p["fits"]:
            sys.exit(f"{nodes} nodes: does not fit into the memory of a rank")
        first = first or p["flops_per_second"]
        step = p["seconds_per_step"]
        exposed = [sum(a["exposed"] for a in p["axes"] if a["axes"].split(",")[0] == axis) for axis in axes]
        shares = [p["seconds"]["computed"], p["seconds"]["bubble"], *exposed]
        rows.append((nodes, 100 * p["flops_per_second"] / first, [s / step for s in shares]))
        print(f"| {nodes} | {p['ranks']} | {step:.2f} | {100 * p['share_of_peak']:.1f} | "
              f"{100 * p['flops_per_second'] / first:.1f} % | " + " | ".join(f"{100 * s / step:.1f} %" for s in shares) +
              " |")
    if known.svg:
        with open(known.svg, "w", encoding="utf-8") as out:
            out.write(svg(rows, ["computing", "bubble"] + [f"waiting for {axis}" for axis in axes]))


main()
