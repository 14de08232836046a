"""Runs of several processes for tests: mpirun as it must be called here, the processes of a job by rank, and what is
left of them. Standard library only."""

import atexit
import functools
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time

from harness import KUMIKI, check, sets_of

# Generous: a busy machine must not make a test fail. A job that hangs is killed then, and the test fails.
PATIENCE = 240


def missing():
    """Why no job can be started here, or None."""
    return None if shutil.which("mpirun") else "no mpirun in PATH; run: tools/install test"


@functools.cache
def own_folder():
    """Where Open MPI keeps its sockets and shared memory, until the test ends. Their names come from mpirun's process
    number, which is the same in two sandboxes: in a common folder two jobs write into one memory. A short path."""
    folder = tempfile.mkdtemp(prefix="kumiki.", dir="/dev/shm")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def environment():
    """Open MPI: as root, more ranks than cores, shared memory without the system call that sandboxes forbid."""
    return {**os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
            "OMPI_MCA_rmaps_base_oversubscribe": "1", "OMPI_MCA_btl": "self,vader",
            "OMPI_MCA_btl_vader_single_copy_mechanism": "none",
            "OMPI_MCA_btl_vader_backing_directory": own_folder(), "TMPDIR": own_folder(),
            "HOME": os.environ.get("HOME") or os.environ.get("TEST_TMPDIR", "/tmp")}


def processes_in(folder):
    """Process numbers whose working folder is this one: those of a job and its launcher."""
    found = []
    for name in os.listdir("/proc"):
        try:
            if name.isdigit() and os.readlink(f"/proc/{name}/cwd") == os.path.realpath(folder):
                with open(f"/proc/{name}/stat") as f:
                    if f.read().rsplit(")", 1)[1].split()[0] != "Z":
                        found.append(int(name))
        except OSError:  # it ended meanwhile, or belongs to another
            pass
    return found


def rank_of(process):
    """The rank of a process that Open MPI started, or None."""
    try:
        with open(f"/proc/{process}/environ", "rb") as f:
            entries = dict(entry.partition(b"=")[::2] for entry in f.read().split(b"\0"))
        with open(f"/proc/{process}/comm") as f:
            name = f.read().strip()
    except OSError:
        return None
    rank = entries.get(b"OMPI_COMM_WORLD_RANK")
    return int(rank) if rank is not None and name == os.path.basename(KUMIKI)[:15] else None


def rows_of(file):
    """The whole lines of a file that is being written."""
    with open(file) as f:
        return [json.loads(line) for line in f if line.endswith("\n")]


class Job:
    """A launcher and its ranks, working in a folder. Inside `with` it is watched; at its end nothing of it is left."""

    def __init__(self, folder, command, env=None):
        self.folder = folder
        self.err = open(os.path.join(folder.path, "job.err"), "w+b")
        self.process = subprocess.Popen(command, cwd=folder.path, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=self.err, env=env or environment())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in processes_in(self.folder.path):
            try:
                os.kill(process, signal.SIGKILL)
            except OSError:
                pass
        self.process.wait()
        self.process.stdout.close()
        self.err.close()

    def errors(self):
        with open(self.err.name, "rb") as f:
            return f.read().decode("utf-8", "replace")

    def wait_for_step(self, name, step):
        """Until the metrics of run `name` tell of this step; fails where the job ends before."""
        end = time.monotonic() + PATIENCE
        file = self.folder.file(f"runs/{name}/metrics.jsonl")
        while not (os.path.exists(file) and any(row.get("step") == step for row in rows_of(file))):
            check(self.process.poll() is None, f"the job ended before step {step}\n{self.errors()}")
            check(time.monotonic() < end, f"step {step} did not come in {PATIENCE} s\n{self.errors()}")
            time.sleep(0.02)

    def rank(self, rank):
        """The process of a rank."""
        for process in processes_in(self.folder.path):
            if rank_of(process) == rank:
                return process
        check(False, f"no process of rank {rank}")

    def end(self):
        """Waits for the end of the job and of all its processes; gives exit code, stdout, stderr and the seconds."""
        begin = time.monotonic()
        try:
            out = self.process.communicate(timeout=PATIENCE)[0]
        except subprocess.TimeoutExpired:
            check(False, f"the job hangs\n{self.errors()}")
        seconds = time.monotonic() - begin
        # The launcher may end a moment before those it ended.
        while (left := processes_in(self.folder.path)) and time.monotonic() - begin < PATIENCE:
            time.sleep(0.05)
        check(not left, f"processes {left} are left of the job")
        return self.process.returncode, out.decode("utf-8", "replace"), self.errors(), seconds


def mpirun(ranks, *command):
    return ["mpirun", "-np", str(ranks), *command]


def train(name, *arguments, sets=()):
    return [KUMIKI, "train", "tiny.toml", *sets_of([f"run.name={name}", *sets]), *arguments]


def run_job(folder, command, expect=0):
    """stdout and stderr of a job; fails where the exit code is another."""
    with Job(folder, command) as job:
        code, out, err, _ = job.end()
    check(code == expect, f"{' '.join(command)}: exit code {code}, expected {expect}\n{out}\n{err}")
    return out, err
