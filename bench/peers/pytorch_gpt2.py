#!/usr/bin/env python3
"""Peer: trains GPT-2 124M with PyTorch on this machine's processor and prints one line of JSON with its tokens a second.

    bench/peers/pytorch_gpt2.py --dtype f32  --steps 5     # Debian: apt-get install python3-torch libopenblas0-openmp
    bench/peers/pytorch_gpt2.py --dtype bf16 --steps 5     # any python3 that has torch will do

A step is forward, backward and AdamW of --batch sequences of --sequence tokens, as in configs/bench/gpt2-124m.toml. The
peer is set up to its best: OPENBLAS_CORETYPE is unset (it may pin OpenBLAS to an older processor), Debian's OpenMP build of
OpenBLAS is preferred (the pthread build keeps a second pool of threads that fights with PyTorch's), query, key and value
are one product, attention and AdamW are fused where this PyTorch has it. Medians over steps, the first is left out.
"""
import argparse
import glob
import json
import os
import resource
import statistics
import sys
import time


def prepare_environment(threads):
    """The loader and OpenBLAS read the environment only at the start of a process: begin again where it must change."""
    if os.environ.get("KUMIKI_PEER_READY"):
        return
    environment = dict(os.environ, KUMIKI_PEER_READY="1", OMP_NUM_THREADS=str(threads), OMP_PROC_BIND="true")
    environment.pop("OPENBLAS_CORETYPE", None)
    folders = glob.glob("/usr/lib/*/openblas-openmp")
    if folders:
        environment["LD_LIBRARY_PATH"] = ":".join(folders + [os.environ.get("LD_LIBRARY_PATH", "")]).rstrip(":")
    os.execve(sys.executable, [sys.executable] + sys.argv, environment)


def blas_library():
    """Which OpenBLAS this process has loaded, for the record: none where PyTorch brings MKL."""
    with open("/proc/self/maps", encoding="utf-8") as maps:
        paths = {line.split()[-1] for line in maps if "openblas" in line}
    return os.path.realpath(sorted(paths)[0]) if paths else None


def make_model(torch, layers, width, heads, vocabulary, positions):
    nn, functional = torch.nn, torch.nn.functional
    fused = getattr(functional, "scaled_dot_product_attention", None)

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
            self.qkv, self.output = nn.Linear(width, 3 * width), nn.Linear(width, width)
            self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
            self.gelu = nn.GELU(approximate="tanh")

        def attention(self, x):
            batch, tokens, _ = x.shape
            q, k, v = (y.view(batch, tokens, heads, width // heads).transpose(1, 2) for y in self.qkv(x).split(width, 2))
            if fused:
                mixed = fused(q, k, v, is_causal=True)
            else:
                mask = torch.full((tokens, tokens), float("-inf"), dtype=q.dtype).triu(1)
                scores = torch.baddbmm(mask, q.flatten(0, 1), k.flatten(0, 1).transpose(1, 2), alpha=(width // heads) ** -0.5)
                mixed = torch.bmm(scores.softmax(-1), v.flatten(0, 1)).view(batch, heads, tokens, -1)
            return self.output(mixed.transpose(1, 2).reshape(batch, tokens, width))

        def forward(self, x):
            x = x + self.attention(self.norm1(x))
            return x + self.down(self.gelu(self.up(self.norm2(x))))

    class Gpt(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding, self.position = nn.Embedding(vocabulary, width), nn.Embedding(positions, width)
            self.blocks = nn.ModuleList(Block() for _ in range(layers))
            self.norm = nn.LayerNorm(width)
            for p in self.parameters():
                if p.dim() == 2:
                    nn.init.normal_(p, std=0.02)

        def forward(self, tokens, targets):
            x = self.embedding(tokens) + self.position.weight[: tokens.shape[1]]
            for block in self.blocks:
                x = block(x)
            logits = functional.linear(self.norm(x), self.embedding.weight)
            return functional.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())

    return Gpt()


def make_optimizer(torch, model):
    groups = [dict(params=[p for p in model.parameters() if p.dim() == 2], weight_decay=0.1),
              dict(params=[p for p in model.parameters() if p.dim() < 2], weight_decay=0.0)]
    for extra in (dict(fused=True), dict(foreach=True), {}):
        try:
            return torch.optim.AdamW(groups, lr=3e-4, betas=(0.9, 0.95), **extra), " ".join(extra) or "plain"
        except (TypeError, RuntimeError):  # this PyTorch has no such AdamW for the processor
            continue
    raise SystemExit("this PyTorch has no AdamW")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dtype", choices=["f32", "bf16"], default="f32", help="bf16: autocast, parameters stay f32")
    parser.add_argument("--steps", type=int, default=5, help="timed steps, after one that is not (default 5)")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--sequence", type=int, default=1024)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    arguments = parser.parse_args()
    prepare_environment(arguments.threads)
    try:
        import torch
    except ImportError:
        sys.exit("no torch: apt-get install python3-torch libopenblas0-openmp, or run this with a python3 that has it")
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(1)
    width, vocabulary = 768, 50304
    model = make_model(torch, arguments.layers, width, 12, vocabulary, arguments.sequence)
    optimizer, optimizer_kind = make_optimizer(torch, model)
    parts, losses = [], []
    for _ in range(arguments.steps + 1):
        tokens = torch.randint(50257, (arguments.batch, arguments.sequence + 1))
        clock = [time.perf_counter()]
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=arguments.dtype == "bf16"):
            loss = model(tokens[:, :-1], tokens[:, 1:])
        clock.append(time.perf_counter())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        clock.append(time.perf_counter())
        optimizer.step()
        clock.append(time.perf_counter())
        parts.append([1e3 * (b - a) for a, b in zip(clock, clock[1:])])
        losses.append(loss.item())
    timed = parts[1:]
    seconds = statistics.median(sum(part) for part in timed) / 1e3
    count = arguments.batch * arguments.sequence
    hidden = 12 * arguments.layers * width * width + vocabulary * width
    flops = 6 * hidden + 12 * arguments.layers * width * arguments.sequence
    print(json.dumps(dict(
        trainer="pytorch", version=torch.__version__, blas=blas_library(), optimizer=optimizer_kind, dtype=arguments.dtype,
        threads=arguments.threads, batch=arguments.batch, sequence=arguments.sequence, layers=arguments.layers,
        steps=arguments.steps, tokens_per_second=round(count / seconds, 1), gflops=round(flops * count / seconds / 1e9, 1),
        **{name + "_ms": round(statistics.median(part[i] for part in timed), 1)
           for i, name in enumerate(("forward", "backward", "update"))},
        peak_rss_mib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, losses=[round(x, 4) for x in losses])))


if __name__ == "__main__":
    main()
