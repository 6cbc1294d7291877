"""The fused linear KL (live teacher, loss and both gradients) beside the plain formula in PyTorch, eager and under torch.compile, on the CPU in fp32.

    python benchmarks/linear_loss_vs_pytorch.py [--build build/release] [--pairs 5] [--rows 2048] [--hidden 512] [--vocab 32768] [--threads 2]

Each side is a process of its own; after one call to warm up they take turns, `--pairs` times. Printed: medians of the clock and of processor time
over threads (what counts on a machine that others use too), the median of each turn's ratio, and the memory of a call beyond its inputs, gradients
counted: the first call's, and the largest of the later ones (a first call also pays for what the libraries then keep).
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys

KEEP_MEMORY = {"MALLOC_TRIM_THRESHOLD_": "4294967296", "MALLOC_MMAP_THRESHOLD_": "4294967296", "MALLOC_TOP_PAD_": "67108864"}


def status(key):
    for line in open("/proc/self/status"):
        if line.startswith(key + ":"):
            return int(line.split()[1]) / 1024
    return 0.0


def peer(kind, options):
    import ctypes
    import time

    import torch
    import torch.nn.functional as F

    torch.set_num_threads(options.threads)
    torch.manual_seed(1)
    hidden = torch.randn(options.rows, options.hidden, requires_grad=True)
    weight = (torch.randn(options.vocab, options.hidden) * 0.05).requires_grad_()
    teacher_hidden, teacher_weight = torch.randn(options.rows, options.hidden), torch.randn(options.vocab, options.hidden) * 0.05

    def loss_of(hidden, weight, teacher_hidden, teacher_weight):
        target = F.log_softmax(teacher_hidden @ teacher_weight.T, -1)
        return F.kl_div(F.log_softmax(hidden @ weight.T, -1), target, log_target=True, reduction="sum")

    function = torch.compile(loss_of) if kind == "compiled" else loss_of
    if kind == "compiled":  # compiling is no part of the first call
        loss = function(hidden, weight, teacher_hidden, teacher_weight)
        torch.autograd.grad(loss, [hidden, weight])
        del loss
    libc = ctypes.CDLL("libc.so.6")
    for _ in sys.stdin:
        libc.malloc_trim(0)
        with open("/proc/self/clear_refs", "w") as out:
            out.write("5")
        before, begin, begin_processor = status("VmRSS"), time.perf_counter(), time.process_time()
        loss = function(hidden, weight, teacher_hidden, teacher_weight)
        gradients = torch.autograd.grad(loss, [hidden, weight])
        seconds, processor = time.perf_counter() - begin, time.process_time() - begin_processor
        print(json.dumps({"seconds": seconds, "processor_s": processor, "extra_mib": status("VmHWM") - before, "loss": loss.item()}), flush=True)
        del loss, gradients


class Side:
    def __init__(self, words, env=None):
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **(env or {})})
        self.turns = [self.turn()]

    def turn(self):
        self.process.stdin.write("1\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def median(self, key):
        return statistics.median(turn[key] for turn in self.turns[1:])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default=pathlib.Path(__file__).resolve().parent.parent / "build" / "release", type=pathlib.Path)
    for name, default in (("pairs", 5), ("rows", 2048), ("hidden", 512), ("vocab", 32768), ("threads", 2)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--peer", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peer:
        return peer(options.peer, options)
    shape = [str(value) for value in (options.rows, options.hidden, options.vocab, options.threads)]
    sides = {"attar": Side([str(options.build / "bin" / "linear_loss_speed"), *shape])}
    for kind in ("compiled", "eager"):
        more = [word for name in ("rows", "hidden", "vocab", "threads") for word in (f"--{name}", str(getattr(options, name)))]
        sides[kind] = Side([sys.executable, __file__, "--peer", kind, *more], KEEP_MEMORY)
    for _ in range(options.pairs):
        for side in sides.values():
            side.turns.append(side.turn())
    print(f"{options.rows} rows, D {options.hidden}, V {options.vocab}, {options.threads} threads, load {os.getloadavg()[0]:.1f}; medians of {options.pairs} turns")
    for name, side in sides.items():
        later = max(turn["extra_mib"] for turn in side.turns[1:])
        print(f"{name:9s} {side.median('seconds'):7.3f} s, processor {side.median('processor_s') / options.threads:7.3f} s a thread, "
              f"extra memory {side.turns[0]['extra_mib']:7.1f} MiB at first, {later:7.1f} MiB later, loss {side.turns[0]['loss']:.6g}")
    for name in ("compiled", "eager"):
        for key, what in (("seconds", "clock"), ("processor_s", "processor time")):
            ratios = [ours[key] / theirs[key] for ours, theirs in zip(sides["attar"].turns[1:], sides[name].turns[1:])]
            print(f"attar / {name}, {what}: {statistics.median(ratios):.3f}")


if __name__ == "__main__":
    main()
