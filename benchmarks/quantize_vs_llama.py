"""Speed of attar's block encoders beside ggml's own, in one run, with the same threads.

    python benchmarks/quantize_vs_llama.py [--threads 2] [--values 8388608] [--types q8_0,q4_k]

Each line: GB/s of fp16 weights (two bytes a weight) for ggml_quantize_chunk and for quantize_rows, their ratio, and whether the bytes are
equal. The two sides take turns and the fastest turn of each counts.
"""
import argparse
import concurrent.futures
import ctypes
import os
import pathlib
import sys
import tempfile
import time

import numpy

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests" / "parity"))
import test_blocks as blocks


def time_ggml(ggml, name, x, importance, threads, pool, processor):
    number, block, size = blocks.TYPES[name]
    rows, columns = x.shape
    out = numpy.zeros(x.size // block * size, dtype=numpy.uint8)
    pointer = None if importance is None else importance.ctypes.data
    bounds = [rows * i // threads for i in range(threads + 1)]

    def part(i):
        ticks = time.thread_time()
        ggml.ggml_quantize_chunk(number, x.ctypes.data, out.ctypes.data, bounds[i] * columns, bounds[i + 1] - bounds[i], columns, pointer)
        return time.thread_time() - ticks

    start = time.perf_counter()
    ticks = sum(pool.map(part, range(threads)))
    return (ticks / threads if processor else time.perf_counter() - start), out


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--values", type=int, default=1 << 23)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--types", default="q8_0,q4_0,q4_1,q5_0,q5_1,iq4_nl,mxfp4,q2_k,q3_k,q4_k,q5_k,q6_k,tq1_0,tq2_0,f16,bf16")
    parser.add_argument("--importance", choices=["without", "with", "both"], default="both")
    parser.add_argument("--processor-time", action="store_true", help="count processor time over threads: for a machine that others use too")
    parser.add_argument("--avx2", action="store_true", help="attar's AVX2 code, whatever the processor has")
    options = parser.parse_args()
    ggml = blocks.open_ggml()
    random = numpy.random.default_rng(1)
    columns = 4096
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    print(f"{'type':8} {'importance':10} {'ggml GB/s':>10} {'attar GB/s':>10} {'ratio':>7}  bytes")
    with concurrent.futures.ThreadPoolExecutor(options.threads) as pool, tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        for name in options.types.split(","):
            for weighted in (False, True):
                if weighted and (name not in blocks.WITH_IMPORTANCE or options.importance == "without"):
                    continue
                if not weighted and options.importance == "with":
                    continue
                rows = max(options.threads, options.values // columns)
                x = (random.standard_normal((rows, columns), dtype=numpy.float32) * numpy.float32(0.03))
                importance = random.standard_gamma(0.5, columns).astype(numpy.float32) if weighted else None
                x.tofile(folder / "in")
                words = [name, rows, columns, folder / "in", folder / "out"]
                if weighted:
                    importance.tofile(folder / "importance")
                    words.append(folder / "importance")
                if options.avx2:
                    words.append("--avx2")
                theirs = ours = 1e30
                for _ in range(options.rounds):
                    seconds, reference = time_ggml(ggml, name, x, importance, options.threads, pool, options.processor_time)
                    theirs = min(theirs, seconds)
                    done = blocks.run(*words, "--time", 3)
                    if done.returncode:
                        sys.exit(done.stderr)
                    wall, ticks = map(float, done.stdout.split())
                    ours = min(ours, ticks / options.threads if options.processor_time else wall)
                same = numpy.array_equal(numpy.fromfile(folder / "out", dtype=numpy.uint8), reference)
                size = 2 * x.size / 1e9
                print(f"{name:8} {'yes' if weighted else 'no':10} {size / theirs:10.3f} {size / ours:10.3f} {theirs / ours:7.2f}  "
                      f"{'equal' if same else 'DIFFERENT'}", flush=True)


if __name__ == "__main__":
    main()
