#!/usr/bin/env python3
"""The whole way of a user, against PyTorch: a Hugging Face folder is imported, trained for ten steps on a token file, and
exported again; losses, norms and weights are those of tests/oracle/data (tests/oracle/models.py made them, in f64)."""

import array
import json
import math
import os
import struct
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from harness import ROOT, Folder, check, main

ORACLE = os.path.join(ROOT, "tests/oracle/data")
CHAINS = (["reference"], ["generic", "reference"], ["onednn", "generic", "reference"])

CONFIG = """
[run]
steps = 10
sequence = {sequence}
micro_batch = {micro_batch}
global_batch = {batch}
threads = 2
[kernels]
use = {kernels}
[optimizer]
use = "{optimizer}"
learning_rate = {learning_rate}
clip = {clip}
schedule = {{ use = "constant" }}
{options}
[[data]]
use = "tokens"
path = "{folder}/tokens.bin"
split = "1"
shuffle = false
vocabulary = {vocabulary}
[[metrics]]
use = "jsonl"
"""


def read_safetensors(path):
    """name -> (shape, f32 elements)"""
    with open(path, "rb") as opened:
        content = opened.read()
    (size,) = struct.unpack("<Q", content[:8])
    tensors = {}
    for name, row in json.loads(content[8:8 + size]).items():
        if name == "__metadata__":
            continue
        check(row["dtype"] == "F32", f"{path}: {name} is {row['dtype']}")
        begin, end = row["data_offsets"]
        elements = array.array("f", content[8 + size + begin:8 + size + end])
        if sys.byteorder == "big":
            elements.byteswap()
        tensors[name] = (row["shape"], elements)
    return tensors


def relative(a, b):
    return math.sqrt(sum((x - y) ** 2 for x, y in zip(a, b))) / math.sqrt(sum(y * y for y in b))


def without_key(name, elements):
    """GPT's key bias, the middle third, has a gradient of exactly zero: Adam makes steps of its rounding errors."""
    third = len(elements) // 3
    return elements[:third] + elements[2 * third:] if name.endswith("attn.c_attn.bias") else elements


def same_weights(found, expected, tolerance, what):
    check(found.keys() == expected.keys(), f"{what}: tensors {sorted(found)} and {sorted(expected)}")
    for name, (shape, elements) in expected.items():
        check(found[name][0] == shape, f"{what}: {name} has shape {found[name][0]}, not {shape}")
        far = relative(without_key(name, found[name][1]), without_key(name, elements))
        check(far <= tolerance, f"{what}: {name} is {far:.1e} away")


def close(found, expected, what):
    check(abs(found - expected) <= 1e-5 * abs(expected), f"{what} is {found}, not {expected}")


def trains_as_pytorch(model):
    folder = os.path.join(ORACLE, model)
    with open(os.path.join(folder, "oracle.json"), encoding="utf-8") as opened:
        oracle = json.load(opened)
    for optimizer, run in oracle["runs"].items():
        options = "\n".join(f"{key} = {json.dumps(value)}" for key, value in run["options"].items())
        expected = read_safetensors(os.path.join(folder, f"weights-10-{optimizer}.safetensors"))
        for chain in CHAINS:
            what = f"{model}, {optimizer}, {chain[0]}"
            with Folder(CONFIG.format(folder=folder, optimizer=optimizer, options=options, kernels=json.dumps(chain),
                                      learning_rate=run["learning_rate"], clip=run["clip"], batch=oracle["batch"],
                                      micro_batch=oracle["batch"] // 2, sequence=oracle["sequence"],
                                      vocabulary=oracle["vocabulary"])) as f:
                f.run("checkpoint", "import", folder, "--out", "runs/run", "--config", "tiny.toml")
                f.run("checkpoint", "export", "runs/run", "--out", "start")
                start = read_safetensors(os.path.join(folder, "model.safetensors"))
                same_weights(read_safetensors(f.file("start/model.safetensors")), start, 0, f"{what}: at the start")
                f.run("train", "runs/run/config.toml", "--resume")
                losses = f.losses("run")
                check(len(losses) == 10, f"{what}: losses {losses}")
                for row in f.metrics("run"):
                    if "loss" not in row:
                        continue
                    step = row["step"]
                    close(row["loss"], run["losses"][step - 1], f"{what}: loss of step {step}")
                    close(row["grad_norm"], run["norms"][step - 1], f"{what}: gradient norm of step {step}")
                f.run("checkpoint", "export", "runs/run", "--out", "end")
                end = read_safetensors(f.file("end/model.safetensors"))
                same_weights(end, expected, 1e-5 if optimizer == "sgd" else 1e-4, what)
                check(relative(end[next(iter(end))][1], start[next(iter(end))][1]) > 1e-3, f"{what}: did not train")


def gpt():
    trains_as_pytorch("gpt")


def llama():
    trains_as_pytorch("llama")


if __name__ == "__main__":
    sys.exit(main(gpt, llama))
