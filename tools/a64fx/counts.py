"""From a small problem to cycles: what `sve` executes under qemu, block by block, and how long each block takes.

A plugin of ours counts how often each block of instructions ran (tests/sve/block_counts.c); llvm-mca (16 or later,
-mcpu=a64fx) says how many cycles each takes, loops in their steady state. Flows in: a line of tests/ops/problem.h.
Flows out: Measured, cycles by function.
"""
import concurrent.futures
import hashlib
import os
import re
import subprocess
import sys
import tempfile
from collections import defaultdict

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
# Leaving a loop: the branch is mispredicted, the last FMA (9 cycles) drains, the next loads (11) start. A guess.
LOOP_EXIT = 25


def run(command, **more):
    return subprocess.run(command, check=True, capture_output=True, text=True, **more).stdout


INSTRUCTION = re.compile(r"^\s*([0-9a-f]+):\s+[0-9a-f]{8}\s+(\S+)\s*(.*?)(?:\s+//.*)?$")
BRANCHES = re.compile(r"^(b|b\.\w+|cbn?z|tbn?z|bl|blr|br|ret)$")


class Program:
    """The disassembly of the measured program: per function the instructions, basic blocks and innermost loops."""

    def __init__(self, path, wanted):
        self.functions = {}
        name, body = None, []
        for line in run(["aarch64-linux-gnu-objdump", "-d", "-C", path]).splitlines():
            head = re.match(r"^[0-9a-f]+ <(.*)>:$", line)
            if head:
                name, body = head.group(1), []
                if wanted(name):
                    self.functions[name + "@" + line.split()[0]] = body
                continue
            code = INSTRUCTION.match(line)
            if code:
                body.append((int(code.group(1), 16), code.group(2), code.group(3)))
        self.cost = {}

    @staticmethod
    def target(mnemonic, operands):
        if not BRANCHES.match(mnemonic) or mnemonic in ("bl", "blr", "br", "ret"):
            return None
        found = re.search(r"\b([0-9a-f]+) <", operands)
        return int(found.group(1), 16) if found else None

    @classmethod
    def blocks(cls, body):
        """[(first, last)] indices of basic blocks, and the innermost loops as sets of blocks."""
        index = {address: i for i, (address, _, _) in enumerate(body)}
        leaders = {0}
        edges = []
        for i, (_, mnemonic, operands) in enumerate(body):
            if BRANCHES.match(mnemonic):
                leaders.add(i + 1)
            target = cls.target(mnemonic, operands)
            if target in index:
                leaders.add(index[target])
                edges.append((index[target], i))
        starts = sorted(i for i in leaders if i < len(body))
        blocks = [(a, (starts[n + 1] if n + 1 < len(starts) else len(body)) - 1) for n, a in enumerate(starts)]
        spans = {(a, b) for a, b in edges if a <= b and all(body[i][1] != "ret" for i in range(a, b))}
        loops = [s for s in spans if not any(t != s and s[0] <= t[0] and t[1] <= s[1] for t in spans)]
        return blocks, loops


def assembly(instructions):
    """What llvm-mca reads: branches lead to one label, calls and addresses are taken out."""
    lines = []
    for _, mnemonic, operands in instructions:
        if mnemonic in ("bl", "blr", "br", "ret", "adrp", "adr", "udf", ".inst"):
            continue
        operands = re.sub(r"\b[0-9a-f]+ <.*>$", ".Lhere", operands)
        lines.append(f"\t{mnemonic}\t{operands}")
    return lines


def cycles_of(regions, mca):
    """{key: cycles} of pieces of code, each repeated 100 times."""
    text = []
    order = []
    for key, instructions in regions.items():
        lines = assembly(instructions)
        if not lines:
            continue
        order.append(key)
        text += [f"# LLVM-MCA-BEGIN r{len(order)}", ".Lhere%d:" % len(order)]
        text += [line.replace(".Lhere", ".Lhere%d" % len(order)) for line in lines] + ["# LLVM-MCA-END"]
    with tempfile.NamedTemporaryFile("w", suffix=".s") as file:
        file.write("\n".join(text) + "\n")
        file.flush()
        out = run([mca, "-march=aarch64", "-mcpu=a64fx", "-iterations=100", file.name])
    result = {key: 0.0 for key in regions}
    for number, cycles in re.findall(r"Code Region - r(\d+)\s.*?Total Cycles:\s+(\d+)", out, re.S):
        result[order[int(number) - 1]] = int(cycles) / 100
    if len(re.findall("Code Region - r", out)) != len(order):
        sys.exit("a64fx_model: llvm-mca did not read all code")
    return result


def is_fma(mnemonic):
    return mnemonic in ("fmla", "fmad", "fmls", "fmsb", "fnmls", "fnmad")


def front_end(code):
    """What llvm-mca leaves out: four instructions a cycle (it dispatches six), and a store excludes both loads."""
    names = [mnemonic for _, mnemonic, _ in code]
    counted = sum(name not in ("movprfx", "nop") for name in names)
    loads = sum(name.startswith(("ld", "prf")) for name in names)
    return max(counted / 4, loads / 2 + sum(name.startswith("st") for name in names))


class Measured:
    """Cycles and instructions by function of one run."""

    def __init__(self, tools, line, packed=False):
        counts = defaultdict(int)
        for row in open(tools.counted(line, packed)):
            address, instructions, times = row.split()
            for i in range(int(instructions)):
                counts[int(address, 16) + 4 * i] += int(times)
        self.cycles, self.instructions, self.fma = defaultdict(float), defaultdict(int), defaultdict(int)
        regions, uses = {}, []
        for name, body in tools.program.functions.items():
            if not any(counts.get(address) for address, _, _ in body):
                continue
            symbol = name.split("@")[0]
            for address, mnemonic, _ in body:
                self.instructions[symbol] += counts.get(address, 0)
                if is_fma(mnemonic):
                    self.fma[symbol] += counts.get(address, 0)
            blocks, loops = tools.program.blocks(body)
            in_loop = set()
            for first, last in loops:
                inside = [b for b in blocks if first <= b[0] and b[1] <= last]
                times = max(counts.get(body[b[0]][0], 0) for b in inside)
                if times == 0:
                    continue
                # The blocks that most rounds run make the loop's body; rarer ones count by themselves.
                often = [b for b in inside if counts.get(body[b[0]][0], 0) * 2 > times]
                code = [x for b in often for x in body[b[0] : b[1] + 1]]
                regions[(name, first)] = code
                after = counts.get(body[last + 1][0], 0) if last + 1 < len(body) else 0
                entries = min(times, after if after else 1)
                uses.append((symbol, (name, first), times, entries * LOOP_EXIT))
                in_loop.update(often)
            for b in blocks:
                times = counts.get(body[b[0]][0], 0)
                if b in in_loop or times == 0:
                    continue
                regions[(name, b[0])] = body[b[0] : b[1] + 1]
                uses.append((symbol, (name, b[0]), times, 0))
        # A loop's body may differ from run to run (other blocks are run often): it is named by its length too.
        missing = {(k, len(v)): v for k, v in regions.items() if (k, len(v)) not in tools.costs}
        if missing:
            tools.costs.update(cycles_of(missing, tools.mca))
        for symbol, key, times, extra in uses:
            cost = max(tools.costs[(key, len(regions[key]))], front_end(regions[key]))
            self.cycles[symbol] += times * cost + extra

    def of(self, pattern):
        """Cycles of the functions whose name matches."""
        return sum(c for name, c in self.cycles.items() if re.search(pattern, name))


def find_mca():
    """The path of an llvm-mca that models SVE on A64FX rightly, or None."""
    return next((p for v in (19, 18, 17, 16) if os.path.exists(p := f"/usr/lib/llvm-{v}/bin/llvm-mca")), None)


class Tools:
    """The measured program, qemu's counter and llvm-mca; counts are kept in the build folder, by problem."""

    def __init__(self, build):
        self.build = build
        self.mca = find_mca() or sys.exit(
            "a64fx_model: needs llvm-mca 16 or later (llvm-16); older ones model SVE wrongly")
        jobs = f"-j{os.cpu_count() or 1}"
        subprocess.run(["make", "-s", jobs, "-C", f"{ROOT}/tests/sve", "model", f"OUT={build}"], check=True)
        self.program = Program(f"{build}/run_once", lambda name: "kumiki::sve::" in name)
        self.costs = {}
        os.makedirs(f"{build}/counts", exist_ok=True)

    def counted(self, line, packed):
        """The file of counts of one problem; qemu runs it unless that was done since the program was built."""
        name = hashlib.sha256(f"{line} {packed}".encode()).hexdigest()[:24]
        path, program = f"{self.build}/counts/{name}.txt", f"{self.build}/run_once"
        if os.path.exists(path) and os.path.getmtime(path) > os.path.getmtime(program):
            return path
        plugin = f"{self.build}/block_counts.so,out={path}.part"
        command = ["qemu-aarch64", "-cpu", "a64fx", "-plugin", plugin, program, line]
        try:
            run(command + (["packed"] if packed else []))
        except subprocess.CalledProcessError as error:
            sys.exit(f"a64fx_model: {' '.join(command)}\n{error.stderr}")
        os.rename(f"{path}.part", path)
        return path

    def count_all(self, problems):
        """Runs [(line, packed)], as many at a time as this machine has cores."""
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            list(pool.map(lambda problem: self.counted(*problem), problems))
