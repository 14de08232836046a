#!/usr/bin/env python3
"""A run spread over ranks computes what one rank does: losses, final weights and optimizer states, for every strategy alone
and together, on comm `threads`; and its checkpoints load under any other layout.

Tolerances, of f32 sums in another order: losses 1e-5, weights 1e-5 with sgd, 1e-4 with adamw. GPT's key bias is left out: its
gradient is zero, and Adam makes steps of size one of the noise.

    layouts_test.py                 the layouts that every run of the tests takes
    KUMIKI_FULL=1 layouts_test.py   all of them: each strategy alone in each of its ways, each pair, all triples on 8 ranks
    (tools/test --full says so to this test, and to mpi_test.py, which runs them under mpirun)
"""

import array
import itertools
import json
import math
import os
import shutil
import struct
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from harness import TEXT, TINY, Folder, check, main

STEPS = 4
GPT = TINY.replace("layers = 1", "layers = 4").replace("heads = 2", "heads = 4").replace("width = 16", "width = 32") \
    .replace("global_batch = 2", "global_batch = 8").replace("steps = 8", f"steps = {STEPS}") \
    .replace('["generic", "reference"]', '["generic"]').replace("vocabulary = 32", "vocabulary = 37")
LLAMA = GPT.replace('use = "gpt"', 'use = "llama"\nkey_heads = 2\nfeed_forward = 44').replace("dropout = 0.1\n", "")
CONFIGS = {"gpt": GPT, "gpt untied": GPT.replace("dropout = 0.1", "dropout = 0.1\ntied = false"), "llama": LLAMA}


def layout(ranks, **strategies):
    """Ranks, and a strategy's options by its name, in canonical order."""
    sets = ["comm.use=threads", f"comm.ranks={ranks}"]
    for name in ("tensor", "context", "pipeline", "data", "recompute"):
        for key, value in strategies.get(name, {}).items():
            sets.append(f"parallel.{name}.{key}={value}")
    return sets


def T(degree, **more):
    return {"degree": degree, **more}


ONE = []
LAYOUTS = {
    "data 2": layout(2, data=T(2)),
    "data 2 zero 1": layout(2, data=T(2, zero=1)),
    "data 2 zero 2": layout(2, data=T(2, zero=2)),
    "data 2 zero 3": layout(2, data=T(2, zero=3)),
    "data 4 zero 1": layout(4, data=T(4, zero=1)),
    "tensor 2": layout(2, tensor=T(2)),
    "tensor 2 sequence": layout(2, tensor=T(2, sequence="true")),
    "context 2": layout(2, context=T(2)),
    "context 4": layout(4, context=T(4)),
    "context 2 again recompute full": layout(2, context=T(2, again="true"), recompute={"mode": "full"}),
    "tensor 2 context 2": layout(4, tensor=T(2), context=T(2)),
    "context 2 pipeline 2": layout(4, context=T(2), pipeline=T(2)),
    "context 2 data 2 zero 1": layout(4, context=T(2), data=T(2, zero=1)),
    "context 2 data 2 zero 3": layout(4, context=T(2), data=T(2, zero=3)),
    "tensor 2 sequence context 2 pipeline 2": layout(
        8, tensor=T(2, sequence="true"), context=T(2), pipeline=T(2, schedule="interleaved", chunks=2)),
    "tensor 4": layout(4, tensor=T(4)),
    "tensor 4 context 2": layout(8, tensor=T(4), context=T(2)),
    "tensor 4 sequence data 2 zero 2": layout(8, tensor=T(4, sequence="true"), data=T(2, zero=2)),
    "tensor 4 pipeline 2": layout(8, tensor=T(4), pipeline=T(2)),
    "pipeline 2": layout(2, pipeline=T(2)),
    "pipeline 4": layout(4, pipeline=T(4)),
    "pipeline 2 gpipe": layout(2, pipeline=T(2, schedule="gpipe")),
    "pipeline 2 interleaved": layout(2, pipeline=T(2, schedule="interleaved", chunks=2)),
    "pipeline 4 zero_bubble": layout(4, pipeline=T(4, schedule="zero_bubble")),
    "recompute full": ["parallel.recompute.mode=full"],
    "recompute selective": ["parallel.recompute.mode=selective"],
    "tensor 2 data 2 zero 1": layout(4, tensor=T(2), data=T(2, zero=1)),
    "tensor 2 pipeline 2": layout(4, tensor=T(2), pipeline=T(2)),
    "pipeline 2 data 2 zero 2": layout(4, pipeline=T(2), data=T(2, zero=2)),
    "tensor 2 sequence pipeline 2 data 2 zero 1 recompute": layout(
        8, tensor=T(2, sequence="true"), pipeline=T(2), data=T(2, zero=1), recompute={"mode": "selective"}),
    "tensor 2 pipeline 2 data 2 zero 3": layout(8, tensor=T(2), pipeline=T(2), data=T(2, zero=3)),
}
# What the whole matrix is made of: the ways of each strategy on two ranks, which are combined, and those that stand alone.
# A new strategy is a line here, in the order of `layout`.
WAYS = {
    "tensor": [T(2), T(2, sequence="true")],
    "context": [T(2), T(2, again="true")],
    "pipeline": [T(2, schedule="gpipe"), T(2, schedule="1f1b"), T(2, schedule="interleaved", chunks=2),
                 T(2, schedule="zero_bubble")],
    "data": [T(2, zero=zero) for zero in range(4)],
    "recompute": [{"mode": "full"}, {"mode": "selective"}],
}
ALONE = {
    "tensor": [T(4), T(4, sequence="true")],
    "context": [T(4)],
    "pipeline": [T(4, schedule=schedule) for schedule in ("gpipe", "1f1b", "zero_bubble")],
    "data": [T(4, zero=zero) for zero in range(4)],
}


def ranks_of(strategies):
    return math.prod(options.get("degree", 1) for options in strategies.values())


def full_matrix():
    """Strategies with their options: each way alone, each pair of ways, and each triple of them that takes 8 ranks."""
    for name, ways in itertools.chain(WAYS.items(), ALONE.items()):
        for way in ways:
            yield {name: way}
    for names in [*itertools.combinations(WAYS, 2), *itertools.combinations(WAYS, 3)]:
        for ways in itertools.product(*(WAYS[name] for name in names)):
            strategies = dict(zip(names, ways))
            if len(names) == 2 or ranks_of(strategies) == 8:
                yield strategies


def add_full_matrix():
    taken = [sorted(sets) for sets in LAYOUTS.values()]
    for strategies in full_matrix():
        sets = layout(ranks_of(strategies), **strategies)
        if sorted(sets) not in taken:
            text = ", ".join(" ".join([name, *(str(v) if k in ("degree", "schedule", "mode") else f"{k} {v}"
                                               for k, v in options.items())]) for name, options in strategies.items())
            LAYOUTS["full: " + text] = sets


add_full_matrix()


# Under a sanitizer, where all goes ten times slower: one of each kind.
FEW = ("data 2 zero 1", "data 2 zero 3", "tensor 2 sequence", "context 2", "pipeline 2", "pipeline 4 zero_bubble",
       "tensor 2 pipeline 2 data 2 zero 3")


def full():
    return os.environ.get("KUMIKI_FULL") == "1"


def chosen():
    if os.environ.get("KUMIKI_SANITIZER"):
        return {name: LAYOUTS[name] for name in FEW}
    return {name: sets for name, sets in LAYOUTS.items() if full() or not name.startswith("full: ")}


def read_tensors(folder):
    """name -> floats, of a checkpoint that one rank saved."""
    values = {}
    for file in sorted(os.listdir(folder)):
        if not file.endswith(".safetensors"):
            continue
        with open(os.path.join(folder, file), "rb") as f:
            size = struct.unpack("<Q", f.read(8))[0]
            header = json.loads(f.read(size))
            data = f.read()
        for name, entry in header.items():
            if name == "__metadata__":
                continue
            begin, end = entry["data_offsets"]
            floats = array.array("f")
            floats.frombytes(data[begin:end])
            values[name] = floats
    return values


def whole(folder, name, *more, sets=()):
    """The tensors of the last checkpoint of a run, through one rank that loads and saves them."""
    copy = name + "-whole"
    shutil.rmtree(folder.file(f"runs/{copy}"), ignore_errors=True)
    shutil.copytree(folder.file(f"runs/{name}"), folder.file(f"runs/{copy}"))
    folder.train(copy, "--resume", *more, sets=sets)
    return read_tensors(folder.checkpoints(copy)[-1])


def distance(a, b):
    return math.sqrt(sum((x - y) ** 2 for x, y in zip(a, b)))


def norm(a):
    return math.sqrt(sum(x * x for x in a))


def same_training(folder, name, one, losses, tolerance, sets, what):
    for step, loss in folder.losses(name).items():
        check(abs(loss - losses[step]) <= 1e-5 * abs(losses[step]), f"{what}: loss of step {step}: {loss}, {losses[step]}")
    tensors = whole(folder, name, sets=sets)
    check(tensors.keys() == one.keys(), f"{what}: other tensors")
    for tensor, values in one.items():
        if "attention.key.bias" in tensor:
            continue
        error = distance(tensors[tensor], values)
        check(error <= tolerance * norm(values) + 1e-12, f"{what}: {tensor} differs by {error} of {norm(values)}")


def name_of(text):
    return text.replace(" ", "-").replace(":", "")


def every_layout_trains_alike(model, optimizer, tolerance):
    sets = [f"optimizer.use={optimizer}", "optimizer.learning_rate=1e-3", "optimizer.clip=0.5"]
    with Folder(CONFIGS[model]) as f:
        f.train("one", sets=sets)
        one, losses = read_tensors(f.checkpoints("one")[-1]), f.losses("one")
        failures = []
        for layout_name, layout_sets in chosen().items():
            try:
                f.train(name_of(layout_name), sets=[*sets, *layout_sets])
                same_training(f, name_of(layout_name), one, losses, tolerance, sets, layout_name)
            except Exception as error:  # all layouts are tried
                failures.append(f"{layout_name}: {error}")
        check(not failures, f"{model}:\n" + "\n".join(failures))


def gpt_trains_alike():
    every_layout_trains_alike("gpt", "adamw", 1e-4)


def llama_trains_alike():
    every_layout_trains_alike("llama", "sgd", 1e-5)


def twenty_steps_with_key_heads_that_ranks_share():
    """Eight heads and two key heads: over four ranks and over eight."""
    sets = ["model.heads=8", "optimizer.use=sgd", "optimizer.learning_rate=1e-3", "run.steps=20"]
    with Folder(LLAMA) as f:
        f.train("one", sets=sets)
        one, losses = read_tensors(f.checkpoints("one")[-1]), f.losses("one")
        check(len(losses) == 20, f"losses of {len(losses)} steps")
        for degree, more in ((4, {}), (4, {"sequence": "true"}), (8, {}), (8, {"sequence": "true"})):
            name = f"tensor-{degree}" + ("-sequence" if more else "")
            f.train(name, sets=[*sets, *layout(degree, tensor=T(degree, **more))])
            check(f.losses(name).keys() == losses.keys(), f"{name}: other steps")
            same_training(f, name, one, losses, 1e-5, sets, name)


def evaluations_and_samples_are_those_of_one_rank():
    """All ranks draw the same text; their evaluation is over the same micro-batches."""
    sets = ["run.eval_every=2", "run.eval_batches=8", f"run.sample_every={STEPS}", "run.sample_tokens=24",
            "run.sample_prompt=bottle"]
    for model in ("gpt", "llama"):
        text = CONFIGS[model].replace('use = "synthetic"\nvocabulary = 37',
                                      'use = "text"\npath = "text.txt"\nsplit = "80,20,0"')
        with Folder(text) as f:
            f.write("text.txt", TEXT)

            def results(name, more=()):
                out, _ = f.train(name, sets=[*sets, *more])
                sample = out[out.index("bottle"):].splitlines()
                return [r["eval_loss"] for r in f.metrics(name) if "eval_loss" in r], sample[0]

            losses, sample = results("one")
            check(len(losses) == STEPS // 2, f"evaluations: {losses}")
            for name in ("tensor 2 sequence", "tensor 4", "context 2", "pipeline 2",
                         "data 2 zero 3", "tensor 2 pipeline 2"):
                others, other_sample = results(name_of(name), LAYOUTS[name])
                for a, b in zip(losses, others):
                    check(abs(a - b) <= 1e-5 * abs(a), f"{model}, {name}: evaluations {others}, not {losses}")
                check(len(others) == len(losses), f"{model}, {name}: evaluations {others}")
                check(other_sample == sample, f"{model}, {name}: sample {other_sample!r}, not {sample!r}")


def checkpoints_load_under_any_layout():
    if os.environ.get("KUMIKI_SANITIZER"):
        return "under a sanitizer: the same code as the layouts above, sixty-five times"
    load_under_any_layout(GPT, ["data 4 zero 1", "tensor 2", "tensor 2 context 2", "pipeline 2",
                                "tensor 2 pipeline 2 data 2 zero 3", "pipeline 2 data 2 zero 2"])
    load_under_any_layout(LLAMA, ["tensor 2", "tensor 4", "tensor 4 sequence data 2 zero 2"])  # two key heads


def load_under_any_layout(config, names):
    layouts = {"one": ONE, **{name: LAYOUTS[name] for name in names}}
    with Folder(config) as f:
        for source, source_sets in layouts.items():
            f.train(name_of(source), "--steps", "2", sets=source_sets)
        for source in layouts:
            saved = whole(f, name_of(source), "--steps", "2")
            for target, target_sets in layouts.items():
                # Loaded, saved again under the other layout, and brought together by one rank: the same bits.
                copy = "copy"
                shutil.rmtree(f.file(f"runs/{copy}"), ignore_errors=True)
                shutil.copytree(f.file(f"runs/{name_of(source)}"), f.file(f"runs/{copy}"))
                f.train(copy, "--resume", "--steps", "2", sets=target_sets)
                again = whole(f, copy, "--steps", "2")
                check(again.keys() == saved.keys(), f"{source} -> {target}: other tensors")
                for tensor in saved:
                    check(again[tensor] == saved[tensor], f"{source} -> {target}: {tensor} differs")


def the_same_layout_twice_gives_the_same_bits():
    for name in ("tensor 2 sequence pipeline 2 data 2 zero 1 recompute",):
        with Folder(GPT) as f:
            f.train("a", sets=LAYOUTS[name])
            f.train("b", sets=LAYOUTS[name])
            check(f.losses("a") == f.losses("b"), f"{name}: other losses")
            a, b = f.weights("a"), f.weights("b")
            check(a == b, f"{name}: other bits")


def gathers_begin_ahead_with_the_same_bits():
    """Only when a gather begins is different."""
    for model in ("gpt", "llama"):
        for name in ("data 2 zero 3", "tensor 2 pipeline 2 data 2 zero 3"):
            with Folder(CONFIGS[model]) as f:
                runs = [f"ahead-{ahead}" for ahead in (0, 1, 2)]
                for ahead, run in enumerate(runs):
                    f.train(run, sets=[*LAYOUTS[name], f"parallel.data.prefetch={ahead}"])
                for run in runs[1:]:
                    check(f.losses(run) == f.losses(runs[0]), f"{model}, {name}, {run}: other losses")
                    check(f.weights(run) == f.weights(runs[0]), f"{model}, {name}, {run}: other bits")


if __name__ == "__main__":
    sys.exit(main(gpt_trains_alike, llama_trains_alike, twenty_steps_with_key_heads_that_ranks_share, evaluations_and_samples_are_those_of_one_rank,
                  checkpoints_load_under_any_layout, the_same_layout_twice_gives_the_same_bits,
                  gathers_begin_ahead_with_the_same_bits))
