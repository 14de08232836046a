#!/usr/bin/env python3
"""plan, generate and eval on a run; a run on a device whose memory the host cannot read; the memory that plan foretells
against what a run takes; and what doctor measures."""

import json
import os
import re
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from harness import TEXT, TINY, USER, Folder, check, main, same_bits, sets_of

TEXT_RUN = TINY.replace('use = "synthetic"\nvocabulary = 32', 'use = "text"\npath = "text.txt"\nsplit = "80,20,0"')


def plan_shows():
    with Folder() as f:
        graph, _ = f.run("plan", "tiny.toml", "--show", "graph")
        check("= embedding(" in graph and "= cross_entropy(" in graph and "backward" not in graph, graph)
        training, _ = f.run("plan", "tiny.toml", "--show", "training")
        check("= adamw_update(" in training and "_backward" in training, training)
        steps, _ = f.run("plan", "tiny.toml", "--show", "plan")
        check(re.search("^head", steps, re.M) and re.search("^tail", steps, re.M) and "by generic" in steps, steps)
        memory, _ = f.run("plan", "tiny.toml", "--show", "memory")
        rows = dict(re.findall(r"^([a-z ]+?)\s+([0-9.]+) MB$", memory, re.M))
        figures = json.loads(f.run("plan", "tiny.toml", "--json")[0])
        check(abs(float(rows["total"]) - figures["memory_bytes"]["total"] * 1e-6) < 0.011, f"{memory}\n{figures}")
        parts = sum(v for k, v in figures["memory_bytes"].items() if k != "total")
        check(parts == figures["memory_bytes"]["total"], f"the parts have {parts} bytes: {figures}")
        # gpt: tied embedding, positions, 12 w² + 13 w a layer, the last norm
        check(figures["parameters"] == 32 * 16 + 16 * 16 + 12 * 256 + 13 * 16 + 2 * 16, str(figures))
        check(figures["memory_bytes"]["optimizer states"] == 2 * figures["memory_bytes"]["parameters"], str(figures))
        dot, _ = f.run("plan", "tiny.toml", "--show", "graph", "--graphviz")
        check(dot.startswith("digraph"), dot[:100])
        check(not os.path.exists(f.file("runs")), "plan left files")


def generate_and_eval():
    with Folder(TEXT_RUN) as f:
        f.write("text.txt", TEXT)
        f.train("run", sets=["run.steps=60", "optimizer.learning_rate=1e-2", "run.sequence=32", "run.eval_every=60"])
        generate = ["generate", "runs/run", "--prompt", "9 green", "--tokens", "50"]
        greedy, _ = f.run(*generate, "--temperature", "0")
        check(greedy.startswith("9 green") and len(greedy.encode()) >= 7 + 50, repr(greedy))
        check(f.run(*generate, "--temperature", "0")[0] == greedy, "greedy text differs from time to time")
        check(f.run(*generate, "--temperature", "0", "--seed", "9")[0] == greedy, "greedy text depends on the seed")
        drawn = {seed: f.run(*generate, "--seed", seed)[0] for seed in ("1", "2", "3")}
        check(f.run(*generate, "--seed", "1")[0] == drawn["1"], "the same seed gives another text")
        check(len(set(drawn.values())) > 1, "other seeds give the same text")
        sets = sets_of(["run.sequence=32"])
        out, _ = f.run("eval", "tiny.toml", "--checkpoint", "runs/run", *sets, "--batches", "16")
        loss = float(re.search(r"loss ([0-9.]+)", out).group(1))
        logged = [r["eval_loss"] for r in f.metrics("run") if "eval_loss" in r][-1]
        check(abs(loss - logged) < 1e-5 * logged, f"eval says {loss}, the run {logged}")
        check("step 60" in out and "bits per byte" in out, out)
        bits = float(re.search(r"bits per byte ([0-9.]+)", out).group(1))
        check(abs(bits - loss / 0.6931472) < 1e-3, "of bytes, bits per byte are the loss by log 2")


def a_device_apart():
    with Folder() as f:
        f.train("reference", sets=["kernels.use=['reference']"])
        fake = ["kernels.use=['fake']", "kernels.fake.jitter_microseconds=20"]
        f.train("fake", "--steps", "3", sets=fake)
        f.train("fake", "--resume", sets=fake)
        same_bits(f.weights("fake"), f.weights("reference"), "the device and the reference")
        check(f.losses("fake") == f.losses("reference"), "other losses")


def threads_and_selection():
    with Folder() as f:
        f.train("one")
        f.train("three", sets=["run.threads=3"])
        same_bits(f.weights("one"), f.weights("three"), "one thread and three")
        f.train("fastest", "--steps", "4", sets=["kernels.select=fastest"])
        f.train("fastest", "--resume", sets=["kernels.select=fastest"])
        f.train("fastest2", sets=["kernels.select=fastest"])
        check(len(f.losses("fastest")) == 8, "steps")
        table = f.train("profiled", "--profile")
        check("matmul" in "".join(table) and "generic" in "".join(table), "no profile")
        same_bits(f.weights("one"), f.weights("profiled"), "with and without --profile")


def memory_is_what_plan_says():
    if os.environ.get("KUMIKI_SANITIZER"):
        return "a sanitizer keeps memory of its own"
    sets = ["run.sequence=64", "run.global_batch=2", "run.steps=1000", "model.layers=6", "model.width=512",
            "model.heads=8", "run.threads=2"]
    with Folder(TINY.replace("vocabulary = 32", "vocabulary = 20000")) as f:
        plan = json.loads(f.run("plan", "tiny.toml", "--json", *sets_of(sets))[0])
        process = f.start("train", "tiny.toml", *sets_of(sets))
        try:
            for line in process.stdout:
                if re.match(rb"step +([2-9]|\d\d+)/.*loss", line):
                    break
            check(process.poll() is None, "the run ended")
            with open(f"/proc/{process.pid}/status") as status:
                used = 1024 * int(re.search(r"RssAnon:\s+(\d+)", status.read()).group(1))
        finally:
            process.kill()
            process.communicate()
        total = plan["memory_bytes"]["total"]
        print(f"{plan['parameters'] * 1e-6:.1f} M parameters: plan {total * 1e-6:.1f} MB, RssAnon {used * 1e-6:.1f} MB")
        check(abs(used - total) <= 0.05 * total + 30e6, f"plan {total} bytes, RssAnon {used}")


def doctor_measures():
    with Folder() as f:
        _, told = f.run("doctor", "--measure", "--network", expect=USER)
        check("one rank" in told and "mpirun" in told, told)
        f.run("doctor", "--measure", "--output", "no/such/folder/local.toml", expect=USER)
        if os.environ.get("KUMIKI_SANITIZER"):
            return "kernels of this build are so slow that measuring them takes minutes"
        out, _ = f.run("doctor", "--measure", "--output", "local.toml")
        check("f32 peak" in out and "memory bandwidth" in out, out)
        with open(f.file("local.toml")) as opened:
            lines = [line.split("    #")[0] for line in opened.read().splitlines()]
        rows = dict(line.split(" = ", 1) for line in lines if " = " in line and not line.startswith("#"))
        check({"name", "cores", "f32_flops", "bytes_per_second", "source"} <= rows.keys(), str(rows))
        check(int(rows["cores"]) >= 1, str(rows))
        for key in ("f32_flops", "bytes_per_second"):
            check(1e7 < float(rows[key]) < 1e16, f"{key} = {rows[key]}")
        check({"matmul", "projection", "attention", "attention_backward", "elementwise"} <= rows.keys(), str(rows))
        plan = json.loads(f.run("plan", "tiny.toml", "--machine", "local.toml", "--ranks", "2", "--json")[0])
        check(plan["seconds_per_step"] > 0, str(plan))
    return None


if __name__ == "__main__":
    sys.exit(main(plan_shows, generate_and_eval, a_device_apart, threads_and_selection, memory_is_what_plan_says,
                  doctor_measures))
