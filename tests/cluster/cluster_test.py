#!/usr/bin/env python3
"""Ranks on several hosts, which are network namespaces of this machine (tools/cluster): over TCP they compute what one
rank does, and a host that is cut off or gone ends the job, which goes on from its last checkpoint on those that are
left. A rank that is stopped is named by ranks of other hosts, and a host of which nobody answers."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "cli"))
from harness import ROOT, Folder, check, main
from launcher import Job, missing, run_job, train
from layouts_test import GPT, T, layout, name_of, read_tensors, same_training, whole

os.environ["PATH"] = os.environ.get("PATH", "/usr/bin:/bin") + ":/usr/sbin:/sbin"  # where tc is
TOOL = os.path.join(ROOT, "tools/cluster")
NAME = f"kmtest{os.getpid()}"
HOSTS = 4
STEPS = 8
STUCK = 86


def sets_of_layout(ranks, **strategies):
    return [s for s in layout(ranks, **strategies) if not s.startswith("comm.")]


SQUARE = sets_of_layout(4, tensor=T(2), data=T(2))
LAYOUTS = {"tensor 2 data 2": SQUARE, "pipeline 2 data 2 zero 1": sets_of_layout(4, pipeline=T(2), data=T(2, zero=1))}


def not_here():
    """Why there can be no hosts on this machine, or None. By hand, not by the tool: a tool that fails is no reason."""
    if os.geteuid() != 0:
        return "network namespaces are made by root only"
    for tool in ("ip", "unshare"):
        if not shutil.which(tool):
            return f"no {tool} in PATH; run: tools/install test"
    probe = NAME + "-probe"
    try:
        for command in (["ip", "netns", "add", probe],
                        ["ip", "-n", probe, "link", "add", "end0", "type", "veth", "peer", "name", "end1"],
                        ["ip", "-n", probe, "link", "add", "switch", "type", "bridge"],
                        ["ip", "netns", "exec", probe, "unshare", "--uts", "hostname", "probe"],
                        ["ip", "netns", "exec", probe, "mount", "-t", "tmpfs", "shm", "/dev/shm"]):
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            if done.returncode:
                return f"{' '.join(command)}: {done.stdout.decode().strip()}"
    finally:
        subprocess.run(["ip", "netns", "delete", probe], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return missing()


def cluster(*arguments):
    done = subprocess.run([TOOL, "--name", NAME, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    check(done.returncode == 0, f"tools/cluster {' '.join(arguments)}: {done.stdout.decode()}{done.stderr.decode()}")
    return done.stdout.decode()


class Cluster:
    def __enter__(self):
        cluster("up", "--hosts", str(HOSTS))

    def __exit__(self, *_):
        cluster("down")
        left = subprocess.run(["ip", "netns", "list"], stdout=subprocess.PIPE).stdout.decode()
        check(NAME not in left, f"namespaces are left: {left}")


def on_hosts(ranks, *command, hosts=None):
    return [TOOL, "--name", NAME, "run", "-np", str(ranks), *(["--on", hosts] if hosts else []), *command]


def hosts_train_like_one_rank():
    sets = ["optimizer.clip=0.5"]
    with Folder(GPT) as f, Cluster():
        f.train("one", sets=sets)
        one, losses = read_tensors(f.checkpoints("one")[-1]), f.losses("one")
        for name, layout_sets in LAYOUTS.items():
            run_job(f, on_hosts(4, *train(name_of(name), sets=[*sets, *layout_sets])))
            check(f.losses(name_of(name)).keys() == losses.keys(), f"{name}: other steps")
            same_training(f, name_of(name), one, losses, 1e-4, sets, name)


def links_can_be_slow():
    probe = NAME + "-probe"
    command = f"ip netns add {probe} && tc -n {probe} qdisc add dev lo root tbf rate 1mbit burst 64kb latency 50ms"
    done = subprocess.run(["sh", "-c", command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    subprocess.run(["ip", "netns", "delete", probe], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return done.returncode == 0


def each_rank_has_a_host_and_links_can_be_slow():
    with Folder() as f:
        cluster("up", "--hosts", str(HOSTS))
        try:
            out, _ = run_job(f, on_hosts(4, "sh", "-c", 'echo "$(hostname) $(ip -br -4 address show eth0)"'))
            for host in range(1, HOSTS + 1):
                lines = [line for line in out.splitlines() if line.startswith(f"host{host} ")]
                check(len(lines) == 1 and f"10.77.0.{host}/24" in lines[0],
                      f"no rank on host {host}\n{out}")
            out, _ = run_job(f, on_hosts(2, "hostname", hosts="2,4"))
            check(sorted(out.split()) == ["host2", "host4"], f"--on 2,4: {out}")
        finally:
            cluster("down")
        if not links_can_be_slow():
            print("  without tbf in this kernel, or without tc: no limits on links")
            return
        try:
            cluster("up", "--hosts", "2", "--rate", "100mbit")
            out, _ = run_job(f, on_hosts(1, "tc", "qdisc", "show", "dev", "eth0"))
            check("tbf" in out and "100Mbit" in out, f"no limit on the link: {out}")
        finally:
            cluster("down")


def goes_on_with_two_hosts(f, name):
    """From the last checkpoint of a job that four hosts did not finish."""
    step = int(f.checkpoints(name)[-1][-9:])
    check(2 <= step < STEPS, f"the last checkpoint is of step {step} of {STEPS}")
    steps = ("--steps", str(step))
    saved = whole(f, name, *steps)
    two = sets_of_layout(2, data=T(2, zero=1))
    # Loaded, saved again by two hosts, and brought together by one rank: the same bits.
    run_job(f, on_hosts(2, *train(name, "--resume", *steps, sets=two), hosts="1,2"))
    again = whole(f, name, *steps)
    check(again.keys() == saved.keys(), f"{name}: two hosts loaded other tensors")
    for tensor in saved:
        check(again[tensor] == saved[tensor], f"{name}: two hosts loaded other bits of {tensor}")
    run_job(f, on_hosts(2, *train(name, "--resume", sets=[*two, f"run.steps={STEPS}"]), hosts="1,2"))
    f.train("one", "--fresh", sets=[f"run.steps={STEPS}"])
    same_training(f, name, read_tensors(f.checkpoints("one")[-1]), f.losses("one"), 1e-4, [f"run.steps={STEPS}"], name)


# A job that lasts until something is done to it, and not much longer: what is left of it is trained to the end.
SICK = [*SQUARE, "comm.latency=0.005", "checkpoint.every=1", "checkpoint.keep=2", "run.time_limit=6",
        f"run.steps={STEPS}"]


def a_job_loses_host_3(*actions):
    """Of four, after three steps."""
    name = "-".join(actions)
    with Folder(GPT) as f, Cluster():
        with Job(f, on_hosts(4, *train(name, sets=SICK))) as job:
            job.wait_for_step(name, 3)
            begin = time.monotonic()
            for action in actions:
                cluster(action, "3")
            code, _, err, _ = job.end()
            seconds = time.monotonic() - begin
        check(code != 0, f"a job that lost a host ends with exit code 0\n{err}")
        # Who notices first: the launcher, by its sockets, Open MPI by those of a rank, or a rank that waits too long.
        check("ORTE " in err or "disconnected" in err or "is not complete after 6 s" in err,
              f"nobody says why the job ended\n{err}")
        print(f"  {name}: the job ended after {seconds:.1f} s with exit code {code}")
        if "cut" in actions:
            cluster("join", "3")
        goes_on_with_two_hosts(f, name)


def a_host_that_is_cut_off_ends_the_job():
    a_job_loses_host_3("cut")


def a_host_whose_processes_die_ends_the_job():
    a_job_loses_host_3("kill")


def a_host_without_power_ends_the_job():
    a_job_loses_host_3("cut", "kill")


def what_the_others_say(ranks, *stopped):
    """Of a job of so many ranks on four hosts, in which some are stopped after two steps: their processes, and the line of
    each rank that speaks."""
    sets = [*sets_of_layout(ranks, data=T(ranks)), "comm.latency=0.005", f"run.global_batch={ranks}", "run.steps=100000",
            "run.time_limit=10"]
    with Folder(GPT) as f, Cluster():
        with Job(f, on_hosts(ranks, *train("stuck", sets=sets))) as job:
            job.wait_for_step("stuck", 2)
            processes = {rank: job.rank(rank) for rank in stopped}
            for process in processes.values():
                os.kill(process, signal.SIGSTOP)
            code, _, err, seconds = job.end()
        # Open MPI 4.1's mpirun now and then crashes in its own end after an abort, and the code is lost.
        check(code == STUCK or "PMIx_server_finalize" in err, f"exit code {code}, not {STUCK}\n{err}")
        said = [line for line in err.splitlines() if "is not complete after 10 s" in line]
        check(said, f"nobody says what is not complete\n{err}")
        for line in said:
            check(re.search(r"step \d+: \w+ of \d+ bytes among ranks .*\(collective \d+ of that group\)", line),
                  f"no step or collective is named\n{line}")
            print("  " + line)
        print(f"  the job ended after {seconds:.1f} s")
        return processes, said


def a_stopped_rank_is_named_by_other_hosts():
    """Another rank of its host answers for it."""
    processes, said = what_the_others_say(8, 4)
    for line in said:
        speaks = int(re.search(r"kumiki: rank (\d+) of 8", line).group(1))
        where = "" if speaks == 5 else " on host3"
        check(re.search(rf"rank 4 \(process {processes[4]}{where}\) has given no sign of life for \d+ s", line)
              and re.search(r"it is at step \d+, its last message was \w+( \d+ of a group)? of \d+ bytes", line),
              f"the stopped rank is not named\n{line}")


def a_host_that_does_not_answer_is_named():
    processes, said = what_the_others_say(4, 2)
    for line in said:
        check(f"rank 2 (process {processes[2]} on host3) does not answer, and nobody on its host does" in line,
              f"the host that is silent is not named\n{line}")


TESTS = [each_rank_has_a_host_and_links_can_be_slow, hosts_train_like_one_rank, a_host_that_is_cut_off_ends_the_job,
         a_host_whose_processes_die_ends_the_job, a_host_without_power_ends_the_job,
         a_stopped_rank_is_named_by_other_hosts, a_host_that_does_not_answer_is_named]

if __name__ == "__main__":
    reason = not_here()
    if reason:
        print(f"skipped: {reason}")
        sys.exit(0)
    sys.exit(main(*TESTS))
