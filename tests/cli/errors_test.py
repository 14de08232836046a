#!/usr/bin/env python3
"""What is wrong ends with its documented exit code and one message that says where, what and what to do; and nothing
that was there before is lost."""

import os
import re
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from harness import (CHECKPOINT, DATA, NUMBERS, SYSTEM, TEXT, TINY, USER, Folder, check, main, same_bits, sets_of,
                     tensors)

import harness

# What no message may have: signs of a program that fell over.
TRACES = ("terminate called", "Traceback", "what():", "Assertion", "core dumped", "Segmentation", "internal error",
          "this is a bug")


def check_message(err, *parts):
    for part in parts:
        check(re.search(part, err), f"the message has no /{part}/:\n{err}")
    for trace in TRACES:
        check(trace not in err, f"the message has {trace!r}:\n{err}")
    errors = [line for line in err.splitlines() if line.startswith("kumiki: ")]
    check(len(errors) == 1, f"one line begins with 'kumiki: ', not {len(errors)}:\n{err}")


def text_config(**changes):
    options = {"path": "text.txt", **changes}
    lines = "".join(f'{key} = "{value}"\n' for key, value in options.items())
    return TINY.replace('use = "synthetic"\nvocabulary = 32\n', 'use = "text"\n' + lines)


def wrong_configurations_and_data():
    # config, files, --set, exit code, parts of the message
    cases = [
        ("broken TOML", TINY + "[run\n", {}, [], USER, [r"tiny\.toml:\d+:\d+", "expected|unterminated|parse|missing"]),
        ("unknown key", TINY.replace("micro_batch", "micro_bach"), {}, [], USER,
         [r"tiny\.toml:5:1", "micro_bach", "did you mean.*micro_batch"]),
        ("unknown table", TINY + "[chekpoint]\nevery = 1\n", {}, [], USER,
         [r"tiny\.toml:\d+", "chekpoint", "did you mean.*checkpoint"]),
        ("unknown option of the model", TINY.replace("heads", "head"), {}, [], USER,
         [r"tiny\.toml:\d+:1", "head", "did you mean.*heads"]),
        ("wrong type", TINY.replace("steps = 8", 'steps = "eight"'), {}, [], USER, [r"tiny\.toml:3:\d+", "steps"]),
        ("wrong --set", TINY, {}, ["run.stepz=3"], USER, ["stepz", "did you mean.*steps"]),
        ("unknown component", TINY.replace('"gpt"', '"gtp"'), {}, [], USER,
         [r"tiny\.toml:\d+", "gtp", "did you mean.*gpt"]),
        ("missing plugin", TINY.replace('"adamw"', '"shampoo"'), {}, [], USER,
         ["shampoo", "looked in|known|did you mean"]),
        ("missing plugin file", TINY + '[plugins]\npath = ["acme.so"]\n', {}, [], USER, [r"acme\.so", "looked|found"]),
        ("no plugin at all", TINY + '[plugins]\npath = ["fake.so"]\n', {"fake.so": b"no shared object"}, [], USER,
         [r"fake\.so"]),
        ("vocabulary too small", TINY, {}, ["model.vocabulary=20"], DATA, [r"model\.vocabulary", "31|32", "20"]),
        ("global batch no multiple", TINY, {}, ["run.micro_batch=2", "run.global_batch=3"], USER, ["3", "micro_batch"]),
        ("no heads of one width", TINY, {}, ["model.width=15"], USER, ["width", "heads"]),
        ("data not there", text_config(), {}, [], DATA, [r"text\.txt"]),
        ("invalid UTF-8", text_config(), {"text.txt": TEXT.encode() + b"caf\xe9 au lait\n" + TEXT.encode()}, [], DATA,
         [r"text\.txt", "UTF-8"]),
        ("empty folder", text_config(path="folder"), {"folder/inner/.keep": ""}, [], DATA, ["folder"]),
        ("empty file", text_config(), {"text.txt": ""}, [], DATA, [r"text\.txt"]),
        ("sequence longer than the data", text_config(), {"text.txt": "short"}, [], DATA, ["16|17", "sequence"]),
        ("no tokens of the split", text_config(), {"text.txt": TEXT[:1000]},
         ["run.eval_every=1", "run.sequence=30"], DATA, ["validation|split"]),
    ]
    for name, config, files, sets, code, parts in cases:
        with Folder(config) as f:
            for path, content in files.items():
                f.write(path, content)
            try:
                _, err = f.train("wrong", sets=sets, expect=code)
                check_message(err, *parts)
                check(not f.checkpoints("wrong"), "a checkpoint was written")
            except Exception as error:
                raise harness.Failure(f"{name}: {error}") from None


def wrong_arguments():
    with Folder() as f:
        for arguments, parts in (
                (["train", "nothing.toml"], [r"nothing\.toml"]),
                (["generate", "runs/none", "--prompt", "a"], ["runs/none"]),
                (["eval", "tiny.toml", "--checkpoint", "runs/none"], ["runs/none"])):
            process = f.start(*arguments)
            _, err = process.communicate(timeout=60)
            check(process.returncode in (USER, CHECKPOINT),
                  f"{arguments}: exit code {process.returncode}\n{err.decode()}")
            check_message(err.decode(), *parts)
        for arguments in ([], ["trian"], ["train"], ["plan", "tiny.toml", "--show", "everything"],
                          ["train", "tiny.toml", "--steps", "-1"]):
            out, err = f.run(*arguments, expect=USER)
            check(out + err, f"{arguments}: says nothing")


def damaged_checkpoints():
    def cut(path):
        os.truncate(path, os.path.getsize(path) - 100)

    def flip(path):
        with open(path, "r+b") as file:
            file.seek(os.path.getsize(path) * 2 // 3)
            byte = file.read(1)[0]
            file.seek(-1, 1)
            file.write(bytes([byte ^ 4]))

    with Folder() as f:
        f.train("good", "--steps", "4", sets=["checkpoint.every=2"])
        for damage in (cut, flip, os.remove):
            for name in ("model-00001-of-00001.safetensors", "optimizer-00001-of-00001.safetensors", "state.json",
                         "index.json", "manifest.json"):
                if damage is os.remove and name == "manifest.json":
                    continue  # what has no manifest was never complete, and is passed over
                shutil.rmtree(f.file("runs/bad"), ignore_errors=True)
                shutil.copytree(f.file("runs/good"), f.file("runs/bad"))
                newest = f.checkpoints("bad")[-1]
                damage(os.path.join(newest, name))
                before = listing(f.file("runs/bad/checkpoints"))
                try:
                    _, err = f.train("bad", "--resume", expect=CHECKPOINT)
                    check_message(err, name, "step-000000004", "step-000000002")
                except Exception as error:
                    raise harness.Failure(f"{damage.__name__} {name}: {error}") from None
                check(listing(f.file("runs/bad/checkpoints")) == before, f"{damage.__name__} {name}: files changed")


def listing(folder):
    return {os.path.join(at, name): os.path.getsize(os.path.join(at, name))
            for at, _, names in os.walk(folder) for name in names}


def another_model_or_an_earlier_run():
    with Folder() as f:
        f.train("run", "--steps", "2")
        before, log = f.weights("run"), f.metrics("run")
        _, err = f.train("run", expect=USER)
        check_message(err, "--resume", "--fresh")
        for change, parts in (("model.width=32", ["embedding|position", r"16", r"32"]),
                              ("model.layers=2", [r"layers\.1\."])):
            _, err = f.train("run", "--resume", sets=[change], expect=CHECKPOINT)
            check_message(err, "step-000000002", *parts)
        same_bits(f.weights("run"), before, "after refused runs")
        check(f.metrics("run") == log, "metrics.jsonl changed in refused runs")
        f.train("run", "--fresh", "--steps", "1")
        check(len(f.checkpoints("run")) == 1, "--fresh left old checkpoints")
        check(list(f.losses("run")) == [1], "--fresh left old metrics")


def a_loss_that_is_not_finite():
    import array
    import json
    import struct
    with Folder() as f:
        _, err = f.train("wild", sets=["optimizer.learning_rate=1e6", "optimizer.clip=0", "run.steps=200",
                                      "model.init_std=9", "optimizer.weight_decay=1000"], expect=NUMBERS)
        check(re.search("not finite", err) and "learning_rate" in err, f"the message:\n{err}")
        for trace in TRACES:
            check(trace not in err, err)
        for name, data in f.weights("wild").items():
            size = struct.unpack("<Q", data[:8])[0]
            check(json.loads(data[8:8 + size]), name)
            values = array.array("f", data[8 + size:])
            check(all(abs(v) <= 3.5e38 for v in values), f"{name} has values that are not finite")


def a_full_disk():
    with Folder() as f:
        f.write("small/.keep", "")
        mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "none", f.file("small")]
        if subprocess.run(mount, capture_output=True).returncode:
            return "a tmpfs cannot be mounted here"
        try:
            sets = ["run.output=small", "model.width=64", "model.layers=2", "checkpoint.every=1"]
            f.run("train", "tiny.toml", *sets_of(sets), "--steps", "1")
            folder = f.file("small/tiny/checkpoints")
            first = [os.path.join(folder, name) for name in os.listdir(folder)]
            check(len(first) == 1, f"{first}")
            before = tensors(first[0])
            _, err = f.run("train", "tiny.toml", *sets_of(sets + ["run.steps=30", "checkpoint.keep=0"]), "--resume",
                           expect=SYSTEM)
            check(re.search("space", err, re.I) and "small/tiny" in err, f"the message:\n{err}")
            for trace in TRACES:
                check(trace not in err, err)
            same_bits(tensors(first[0]), before, "the first checkpoint on the full disk")
            # What is complete is good: a run that has room goes on from the newest.
            shutil.copytree(f.file("small/tiny"), f.file("runs/tiny"))
            done = len(os.listdir(f.file("runs/tiny/checkpoints")))
            f.run("train", "tiny.toml", *sets_of([s for s in sets if "output" not in s] + ["run.steps=30"]), "--resume")
            check(done >= 2, "the disk was full too early to tell")
        finally:
            subprocess.run(["umount", f.file("small")], check=True)


if __name__ == "__main__":
    sys.exit(main(wrong_configurations_and_data, wrong_arguments, damaged_checkpoints, another_model_or_an_earlier_run,
                  a_loss_that_is_not_finite, a_full_disk))
