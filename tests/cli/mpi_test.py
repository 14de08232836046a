#!/usr/bin/env python3
"""Ranks that are processes under mpirun: they compute what one rank does; a rank that dies, stops or goes another way
ends the job with an error instead of a hang; and a job goes on from its last checkpoint, on as many ranks or fewer.

What the launcher, Open MPI, does to exit codes: 85, 86 and 87 come through; a rank killed by signal 9 gives 137.
"""

import json
import os
import shutil
import signal
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from harness import KUMIKI, STOPPED, USER, Folder, check, main, same_bits
from launcher import Job, missing, mpirun, run_job, train
from layouts_test import CONFIGS, GPT, LAYOUTS, full, name_of, read_tensors, same_training, whole

STUCK = 86
RANKS = {name: next((int(s[len("comm.ranks="):]) for s in sets if s.startswith("comm.ranks=")), 1)
         for name, sets in LAYOUTS.items()}
# Layout: model. Ranks that share a core with others pass it on at each message, so that eight of them are slow.
TRIED = {
    "data 2": "gpt", "data 2 zero 1": "llama", "data 2 zero 2": "gpt", "data 2 zero 3": "llama", "data 4 zero 1": "gpt",
    "tensor 2": "gpt", "tensor 2 sequence": "llama", "tensor 4": "llama", "context 2": "gpt",
    "context 4": "llama", "tensor 2 context 2": "llama", "pipeline 2 gpipe": "llama", "pipeline 2 interleaved": "gpt",
    "pipeline 4 zero_bubble": "llama", "tensor 2 data 2 zero 1": "llama", "tensor 2 pipeline 2": "gpt",
    "pipeline 2 data 2 zero 2": "llama", "tensor 2 pipeline 2 data 2 zero 3": "gpt",
}
OPTIMIZERS = {"gpt": ("adamw", 1e-4), "llama": ("sgd", 1e-5)}


def without_comm(name):
    """The sets of a layout; under a launcher comm is mpi by itself."""
    return [s for s in LAYOUTS[name] if not s.startswith("comm.")]


def launch(folder, name, ranks, *arguments, sets=(), expect=0):
    return run_job(folder, mpirun(ranks, *train(name, *arguments, sets=sets)), expect)


def layouts_train_like_one_rank():
    """Those of TRIED; with KUMIKI_FULL=1 the whole matrix of layouts_test.py with both models."""
    failures = []
    for model, (optimizer, tolerance) in OPTIMIZERS.items():
        sets = [f"optimizer.use={optimizer}", "optimizer.learning_rate=1e-3", "optimizer.clip=0.5"]
        with Folder(CONFIGS[model]) as f:
            f.train("one", sets=sets)
            one, losses = read_tensors(f.checkpoints("one")[-1]), f.losses("one")
            for layout in LAYOUTS if full() else (name for name, m in TRIED.items() if m == model):
                began = time.monotonic()
                try:
                    launch(f, name_of(layout), RANKS[layout], sets=[*sets, *without_comm(layout)])
                    check(f.losses(name_of(layout)).keys() == losses.keys(), f"{layout}: other steps")
                    same_training(f, name_of(layout), one, losses, tolerance, sets, f"{model}, {layout}")
                except Exception as error:  # all layouts are tried
                    failures.append(f"{model}, {layout}: {error}")
                if full():
                    result = "differs" if failures and failures[-1].startswith(f"{model}, {layout}:") else "as one rank"
                    print(f"{model}, {layout}: {result}, {time.monotonic() - began:.1f} s", flush=True)
    check(not failures, "\n".join(failures))


# A network so slow that something can be done to a job in mid run.
SLOW = ["comm.latency=0.005"]
FOUR = without_comm("tensor 2 data 2 zero 1")


def a_killed_rank_ends_the_job_which_resumes():
    sets = [*FOUR, "run.steps=8", "checkpoint.every=1", "checkpoint.keep=2"]
    with Folder(GPT) as f:
        launch(f, "whole", 4, sets=sets)
        for rank in (0, 2):
            name = f"killed-{rank}"
            with Job(f, mpirun(4, *train(name, sets=[*sets, *SLOW]))) as job:
                job.wait_for_step(name, 3)
                os.kill(job.rank(rank), signal.SIGKILL)
                code, _, err, seconds = job.end()
            check(code == 128 + signal.SIGKILL, f"exit code {code}\n{err}")
            step = int(f.checkpoints(name)[-1][-9:])
            check(2 <= step < 8, f"killed in mid run, but the last checkpoint is of step {step}")
            print(f"  rank {rank} killed: the job ended after {seconds:.1f} s, goes on from step {step}")
            out, _ = launch(f, name, 4, "--resume", sets=sets)
            check(f"step-{step:09d}" in out, f"it did not go on from step {step}\n{out}")
            same_bits(f.weights(name), f.weights("whole"), f"after rank {rank} was killed")
            check(f.losses(name) == f.losses("whole"), f"after rank {rank} was killed: other losses")


def a_stopped_rank_is_named():
    sets = [*FOUR, *SLOW, "run.steps=100000", "run.time_limit=6"]
    with Folder(GPT) as f:
        with Job(f, mpirun(4, *train("stuck", sets=sets))) as job:
            job.wait_for_step("stuck", 2)
            process = job.rank(2)
            os.kill(process, signal.SIGSTOP)
            code, _, err, seconds = job.end()
        # Open MPI 4.1's mpirun now and then crashes in its own end after an abort, and the code is lost.
        crashed = "PMIx_server_finalize" in err
        check(code == STUCK or crashed, f"exit code {code}, not {STUCK}\n{err}")
        said = [line for line in err.splitlines() if "is not complete after 6 s" in line]
        check(said, f"nobody says what is not complete\n{err}")
        check(any(f"rank 2 (process {process}) has given no sign of life" in line for line in said),
              f"the stopped rank is not named\n{err}")
        check(any("bytes among ranks" in line and "step " in line for line in said), f"no operation is named\n{err}")
        print(f"  the job ended after {seconds:.1f} s")


def stopped_after_the_same_step():
    """By a signal to mpirun, which sends it on to all ranks; by a file that one of them sees; by the clock of any."""
    with Folder(GPT) as f:
        for kind in ("signal", "file", "wall"):
            sets = [*FOUR, *SLOW, "run.steps=100000"]
            more = ["run.max_wall=0.01"] if kind == "wall" else []
            with Job(f, mpirun(4, *train(kind, sets=[*sets, *more]))) as job:
                job.wait_for_step(kind, 1)
                if kind == "signal":
                    job.process.send_signal(signal.SIGUSR1)
                elif kind == "file":
                    f.write(f"runs/{kind}/stop", "")
                code, out, err, _ = job.end()
            check(code == STOPPED, f"{kind}: exit code {code}\n{out}\n{err}")
            check("--resume" in out + err, f"{kind}: the last lines do not say how to go on\n{out}\n{err}")
            step = len(f.losses(kind))
            # A checkpoint has its manifest only once all ranks have saved their parts of the same step.
            saved = [c[-9:] for c in f.checkpoints(kind)]
            check(saved == [f"{step:09d}"], f"{kind}: {step} steps, checkpoints {saved}")
            end = [*FOUR, f"run.steps={step + 2}"]
            launch(f, kind, 4, "--resume", sets=end)
            launch(f, "whole", 4, "--fresh", sets=end)
            same_bits(f.weights(kind), f.weights("whole"), kind)
            check(f.losses(kind) == f.losses("whole"), f"{kind}: other losses")


def ranks_that_differ_are_an_error():
    """Each rank with micro-batches of another size: found before the first step, also where all messages would fit."""
    for layout in ("tensor 2", "data 2"):
        command = train("differ", sets=[*without_comm(layout), "comm.use=mpi", "run.time_limit=60"])
        text = " ".join(command) + " --set run.micro_batch=$((OMPI_COMM_WORLD_RANK + 1))"
        with Folder(GPT) as f, Job(f, mpirun(2, "sh", "-c", f"exec {text}")) as job:
            code, out, err, _ = job.end()
            check(code == USER, f"exit code {code}\n{out}\n{err}")
            check("configuration is not that of rank 0" in err and "rank 1" in err and "micro_batch = 2" in err,
                  f"the error does not say what differs on which rank\n{err}")


def checkpoints_of_four_ranks_load_on_fewer():
    with Folder(GPT) as f:
        for layout in ("tensor 2 data 2 zero 1", "pipeline 2 data 2 zero 2"):
            saved = name_of(layout)
            launch(f, saved, 4, "--steps", "2", sets=without_comm(layout))
            tensors = whole(f, saved, "--steps", "2")
            for fewer in ("data 2 zero 3", "pipeline 2", "tensor 2"):
                shutil.rmtree(f.file("runs/copy"), ignore_errors=True)
                shutil.copytree(f.file(f"runs/{saved}"), f.file("runs/copy"))
                # Loaded, saved again by two ranks, and brought together by one: the same bits.
                launch(f, "copy", 2, "--resume", "--steps", "2", sets=without_comm(fewer))
                again = whole(f, "copy", "--steps", "2")
                check(again.keys() == tensors.keys(), f"{layout} -> {fewer}: other tensors")
                for tensor in tensors:
                    check(again[tensor] == tensors[tensor], f"{layout} -> {fewer}: {tensor} differs")


def unbound(*command):
    return ["mpirun", "-np", "4", "--bind-to", "none", *command]


def doctor_shows_where_ranks_compute():
    """Four ranks on one core, as a launcher may bind them, and four that nobody bound."""
    core = min(os.sched_getaffinity(0))
    others = len(os.sched_getaffinity(0)) < os.cpu_count()
    with Folder() as f:
        out, _ = run_job(f, unbound("taskset", "-c", str(core), KUMIKI, "doctor", "tiny.toml"))
        rows = [line.split() for line in out.splitlines() if line[:6].strip() in ("0", "1", "2", "3")]
        check([row[0] for row in rows] == ["0", "1", "2", "3"], f"no row for each rank:\n{out}")
        if os.cpu_count() > 1:
            check(all(row[2] == str(core) for row in rows), f"not all ranks on core {core}:\n{out}")
            check(f"ranks 0-3 compute on the same cores ({core})" in out, f"no warning:\n{out}")
        if others or os.cpu_count() == 1:
            return "this test itself is bound to some cores: ranks cannot be unbound"
        out, _ = run_job(f, unbound(KUMIKI, "doctor", "tiny.toml"))
        check(f"its {os.cpu_count()} cores are divided among 4 ranks" in out, f"not said how cores are divided:\n{out}")
        check("compute on the same cores" not in out, f"shared cores:\n{out}")
        out, _ = run_job(f, unbound(KUMIKI, "doctor"))
        check("divided among 4 ranks" in out, f"without a configuration:\n{out}")
    return None


def doctor_measures_messages():
    with Folder(GPT) as f:
        if len(os.sched_getaffinity(0)) >= 2:
            run_job(f, mpirun(2, KUMIKI, "doctor", "--measure", "--output", "two.toml"))
            plan = json.loads(f.run("plan", "tiny.toml", "--machine", "two.toml", "--ranks", "2", "--json")[0])
            check(plan["ranks_per_node"] == 2 and plan["seconds_per_step"] > 0, str(plan))
        run_job(f, mpirun(2, KUMIKI, "doctor", "--measure", "--network", "--output", "network.toml"))
        with open(f.file("network.toml"), encoding="utf-8") as opened:
            text = opened.read()
        check("[[network]]" in text and "bytes_per_second" in text and "f32_flops" not in text, text)


TESTS = [doctor_shows_where_ranks_compute, doctor_measures_messages, layouts_train_like_one_rank,
         a_killed_rank_ends_the_job_which_resumes, a_stopped_rank_is_named, stopped_after_the_same_step,
         ranks_that_differ_are_an_error, checkpoints_of_four_ranks_load_on_fewer]

if __name__ == "__main__":
    reason = missing()
    if reason:
        print(f"skipped: {reason}")
        sys.exit(0)
    sys.exit(main(*TESTS))
