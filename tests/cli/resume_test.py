#!/usr/bin/env python3
"""A run that was stopped and resumed ends with the bits of one that never stopped."""

import os
import random
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from harness import STOPPED, TEXT, TINY, Folder, check, main, same_bits, sets_of

STEPS = 8


def resumed_after_any_step():
    with Folder() as f:
        f.train("whole")
        whole, losses = f.weights("whole"), f.losses("whole")
        check(len(losses) == STEPS, f"{len(losses)} steps")
        check(len(set(losses.values())) == STEPS, "the losses do not change")
        for k in range(1, STEPS):
            f.train("cut", "--fresh", "--steps", str(k))
            f.train("cut", "--resume")
            same_bits(f.weights("cut"), whole, f"resumed after step {k}")
            check(f.losses("cut") == losses, f"resumed after step {k}: other losses")


def resumed_with_checkpoints_evaluations_and_samples():
    text = TINY.replace('use = "synthetic"\nvocabulary = 32', 'use = "text"\npath = "text.txt"\nsplit = "80,20,0"')
    sets = ["run.eval_every=2", "run.eval_batches=3", "run.sample_every=3", "run.sample_tokens=20",
            "run.sample_prompt=one ", "checkpoint.every=2", "checkpoint.keep=0",
            "run.global_batch={start=1,end=3,tokens=200}"]
    with Folder(text) as f:
        f.write("text.txt", TEXT)
        f.train("plain", sets=[s for s in sets if s.startswith("run.global_batch")])
        f.train("whole", sets=sets)
        whole = f.weights("whole")
        same_bits(whole, f.weights("plain"), "with and without evaluations, samples and checkpoints")
        check(len(f.checkpoints("whole")) == STEPS // 2, "a checkpoint every two steps")
        evaluations = [r["eval_loss"] for r in f.metrics("whole") if "eval_loss" in r]
        check(len(evaluations) == STEPS // 2, f"evaluations: {evaluations}")
        for k in (1, 3, 4, 6):
            f.train("cut", "--fresh", "--steps", str(k), sets=sets)
            f.train("cut", "--resume", sets=sets)
            same_bits(f.weights("cut"), whole, f"resumed after step {k}")
            check(f.losses("cut") == f.losses("whole"), f"resumed after step {k}: other losses")


def the_schedule_goes_on():
    sets = ["optimizer.schedule={use='cosine',warmup=3,minimum=1e-5}", "run.max_wall=1e-9"]
    with Folder() as f:
        f.train("whole", sets=sets[:1])
        f.train("cut", sets=sets, expect=STOPPED)
        for _ in range(STEPS - 2):
            f.train("cut", "--resume", sets=sets, expect=STOPPED)
        f.train("cut", "--resume", sets=sets)
        same_bits(f.weights("cut"), f.weights("whole"), "run.max_wall after each step")
        check(f.losses("cut") == f.losses("whole"), "other losses")


LONG = ["run.steps=400000"]


def first_line_of(process):
    """Waits until the run steps."""
    seen = b""
    for line in process.stdout:
        seen += line
        if line.startswith(b"step ") and b"loss" in line:
            return
    check(False, f"the run ended before its first step: {seen!r} {process.stderr.read()!r}")


def end(process):
    out, err = process.communicate(timeout=120)
    check(process.returncode == STOPPED, f"exit code {process.returncode}\n{out.decode()}\n{err.decode()}")
    check(b"--resume" in out + err, f"the last lines do not say how to go on:\n{out.decode()}\n{err.decode()}")


def stopped_by_signals_and_a_file():
    with Folder() as f:
        for name, stop in (("usr1", signal.SIGUSR1), ("int", signal.SIGINT), ("term", signal.SIGTERM), ("file", None)):
            process = f.start("train", "tiny.toml", "--set", f"run.name={name}", "--set", LONG[0])
            first_line_of(process)
            if stop:
                process.send_signal(stop)
            else:
                f.write(f"runs/{name}/stop", "")
            end(process)
            step = len(f.losses(name))
            check(f.checkpoints(name)[-1].endswith(f"step-{step:09d}"), f"{name}: no checkpoint of step {step}")
            # As far again: a run of that many steps that was never stopped.
            f.train(name, "--resume", sets=[f"run.steps={step + 3}"])
            check(not os.path.exists(f.file(f"runs/{name}/stop")), "the stop file of the last time is left")
            f.train("whole", "--fresh", sets=[f"run.steps={step + 3}"])
            same_bits(f.weights(name), f.weights("whole"), name)
            check(f.losses(name) == f.losses("whole"), f"{name}: other losses")


def killed_fifty_times():
    sets = ["checkpoint.every=1", "run.steps=12"]
    with Folder() as f:
        f.train("whole", sets=sets)
        begin = time.monotonic()
        f.train("timed", sets=sets)
        seconds = time.monotonic() - begin
        draw = random.Random(5)
        arguments = ["train", "tiny.toml", "--set", "run.name=killed", *sets_of(sets)]
        kills = 0
        while kills < 50:
            process = f.start(*arguments, "--resume")
            try:
                _, err = process.communicate(timeout=draw.uniform(0.0, 0.9) * seconds)
                check(process.returncode == 0, f"after {kills} kills: exit code {process.returncode}\n{err.decode()}")
                same_bits(f.weights("killed"), f.weights("whole"), f"after {kills} kills")
                check(f.losses("killed") == f.losses("whole"), f"after {kills} kills: other losses")
                f.run(*arguments, "--fresh", "--steps", "1")  # it came to its end: from the start again
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
                kills += 1
        f.train("killed", "--resume", sets=sets)
        same_bits(f.weights("killed"), f.weights("whole"), "after fifty kills")
        check(f.losses("killed") == f.losses("whole"), "after fifty kills: other losses")
        left = [n for n in os.listdir(f.file("runs/killed/checkpoints")) if n.startswith(".")]
        check(not left, f"killed writers left {left}")


if __name__ == "__main__":
    sys.exit(main(resumed_after_any_step, resumed_with_checkpoints_evaluations_and_samples, the_schedule_goes_on,
                  stopped_by_signals_and_a_file, killed_fifty_times))
