"""What the tests of the command line share: a temporary folder, configurations of tiny models, runs of the program, and
what a run left behind. Standard library only."""

import glob
import json
import os
import shutil
import subprocess
import tempfile
import traceback

ROOT = os.getcwd()
KUMIKI = os.path.join(ROOT, os.environ.get("KUMIKI", "core/cli/kumiki"))
os.environ.setdefault("KUMIKI_PLUGINS", os.path.join(ROOT, "plugins") + ":" + os.path.join(ROOT, "tests/abi"))

# Exit codes (docs/configuration.md).
USER, DATA, CHECKPOINT, NUMBERS, SYSTEM, STOPPED = 2, 3, 4, 5, 6, 85

TINY = """
[run]
steps = 8
sequence = 16
micro_batch = 1
global_batch = 2
threads = 1
[model]
use = "gpt"
layers = 1
width = 16
heads = 2
dropout = 0.1
[kernels]
use = ["generic", "reference"]
[optimizer]
use = "adamw"
learning_rate = 1e-3
[[data]]
use = "synthetic"
vocabulary = 32
[[metrics]]
use = "console"
[[metrics]]
use = "jsonl"
"""

TEXT = "".join(f"{n} green bottles hang on the wall, and if one falls there are {n - 1}.\n" for n in range(200, 0, -1))


class Failure(Exception):
    pass


def check(condition, message):
    if not condition:
        raise Failure(message)


class Folder:
    """A folder of its own with a tiny configuration in it; commands run inside."""

    def __init__(self, config=TINY):
        self.path = tempfile.mkdtemp(prefix="kumiki.", dir=os.environ.get("TEST_TMPDIR"))
        self.write("tiny.toml", config)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.path, ignore_errors=True)

    def file(self, name):
        return os.path.join(self.path, name)

    def write(self, name, content):
        os.makedirs(os.path.dirname(self.file(name)), exist_ok=True)
        with open(self.file(name), "wb") as f:
            f.write(content if isinstance(content, bytes) else content.encode())
        return self.file(name)

    def start(self, *arguments, **more):
        return subprocess.Popen([KUMIKI, *arguments], cwd=self.path, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, **more)

    def run(self, *arguments, expect=0):
        """stdout and stderr as text; fails where the exit code is another."""
        process = self.start(*arguments)
        out, err = (text.decode("utf-8", "replace") for text in process.communicate(timeout=300))
        check(process.returncode == expect,
              f"{' '.join(arguments)}: exit code {process.returncode}, expected {expect}\n{out}\n{err}")
        return out, err

    def train(self, name, *arguments, sets=(), expect=0, config="tiny.toml"):
        return self.run("train", config, *sets_of([f"run.name={name}", *sets]), *arguments, expect=expect)

    def metrics(self, name):
        with open(self.file(f"runs/{name}/metrics.jsonl")) as f:
            return [json.loads(line) for line in f]

    def losses(self, name):
        """step -> loss; fails unless each step stands there once, in order."""
        rows = [(row["step"], row["loss"]) for row in self.metrics(name) if "loss" in row]
        steps = [step for step, _ in rows]
        check(steps == list(range(1, len(steps) + 1)), f"{name}: steps in metrics.jsonl: {steps}")
        return dict(rows)

    def checkpoints(self, name):
        return sorted(glob.glob(self.file(f"runs/{name}/checkpoints/step-*")))

    def weights(self, name, checkpoint=-1):
        """File name -> bytes of the tensors of a checkpoint, by default the last."""
        folders = self.checkpoints(name)
        check(folders, f"{name}: no checkpoint")
        return tensors(folders[checkpoint])


def tensors(checkpoint):
    files = sorted(glob.glob(os.path.join(checkpoint, "*.safetensors")))
    check(len(files) >= 2, f"{checkpoint}: weights and optimizer states expected, not {files}")
    return {os.path.basename(file): open(file, "rb").read() for file in files}


def sets_of(values):
    return [part for value in values for part in ("--set", value)]


def same_bits(a, b, what):
    check(a.keys() == b.keys(), f"{what}: files {sorted(a)} and {sorted(b)}")
    for name in a:
        check(a[name] == b[name], f"{what}: {name} differs")


def main(*tests):
    """Runs functions; each that raises is reported. The exit code of the test."""
    failed = 0
    for test in tests:
        try:
            reason = test()
            print(f"{test.__name__}: " + (f"skipped: {reason}" if reason else "good"), flush=True)
        except Exception:  # every kind is a failed test, and the others still run
            failed += 1
            print(f"{test.__name__}: FAILED\n{traceback.format_exc()}", flush=True)
    return 1 if failed else 0
