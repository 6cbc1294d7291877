"""Checkpoints and the decoder beside what else one would use, each pair in one run, taking turns; medians.

    python benchmarks/checkpoints_vs_peers.py load | export | quantize | start | prefill | decode | all [--rounds 5] [--processor-time]

load     a 1 GB safetensors folder into memory, float32 and bfloat16, beside reading its bytes (page cache warm)    at most 1.3
export   an F16 GGUF from a 1 GB folder, proof included, beside copying that file and syncing it                    at most 1.5
quantize a 0.5 GB F16 GGUF to another type, files' start to end, beside llama_model_quantize's call alone; same bytes  at least 3, K types 4
start    process start to first logits of a 100M-parameter Llama, beside transformers                              at least 3
prefill  forward of 512 tokens, the same Llama, beside transformers (eager mode of PyTorch), 2 threads              at least 1
decode   64 greedy tokens after a prompt of 32 with cache, beside transformers' generate, 2 threads                 at least 2

Models are made here at random in a temporary folder (--folder keeps them elsewhere). ATTAR_BUILD names the build; its targets attar,
attar-engine and checkpoint_speed are needed. --processor-time counts processor seconds in place of wall seconds: for a busy machine.
"""
import argparse
import json
import os
import pathlib
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import numpy

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
BUILD = pathlib.Path(os.environ.get("ATTAR_BUILD", REPOSITORY / "build" / "release"))
THREADS = 2
WIDTHS = {"F32": (4, "float32"), "F16": (2, "float16"), "BF16": (2, "bfloat16")}


def make_llama(folder, dtype, hidden=768, layers=12, ffn=2048, heads=12, kv_heads=4, vocab=32000, shards=1):
    """A Llama of normal numbers (deviation 0.02), tied, in `shards` files."""
    folder.mkdir(parents=True)
    random = numpy.random.default_rng(1)
    width, name = WIDTHS[dtype]
    head = hidden // heads
    shapes = {"model.embed_tokens.weight": (vocab, hidden), "model.norm.weight": (hidden,)}
    for i in range(layers):
        own = f"model.layers.{i}."
        shapes[own + "input_layernorm.weight"] = shapes[own + "post_attention_layernorm.weight"] = (hidden,)
        shapes[own + "self_attn.q_proj.weight"] = (hidden, hidden)
        shapes[own + "self_attn.k_proj.weight"] = shapes[own + "self_attn.v_proj.weight"] = (kv_heads * head, hidden)
        shapes[own + "self_attn.o_proj.weight"] = (hidden, hidden)
        shapes[own + "mlp.gate_proj.weight"] = shapes[own + "mlp.up_proj.weight"] = (ffn, hidden)
        shapes[own + "mlp.down_proj.weight"] = (hidden, ffn)
    names, where = list(shapes), {}
    for shard in range(shards):
        own = names[len(names) * shard // shards:len(names) * (shard + 1) // shards]
        file = "model.safetensors" if shards == 1 else f"model-{shard + 1:05}-of-{shards:05}.safetensors"
        header, at = {"__metadata__": {"format": "pt"}}, 0
        for key in own:
            size = int(numpy.prod(shapes[key])) * width
            header[key] = {"dtype": dtype, "shape": shapes[key], "data_offsets": [at, at + size]}
            where[key], at = file, at + size
        text = json.dumps(header).encode()
        text += b" " * (-(len(text) + 8) % 64)
        with open(folder / file, "wb") as out:
            out.write(len(text).to_bytes(8, "little") + text)
            for key in own:
                values = random.standard_normal(shapes[key], dtype=numpy.float32) * numpy.float32(0.02)
                if len(shapes[key]) == 1:
                    values += 1
                out.write(bits_of(values, dtype))
    if shards > 1:
        (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))
    (folder / "config.json").write_text(json.dumps({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": hidden, "num_hidden_layers": layers,
        "intermediate_size": ffn, "num_attention_heads": heads, "num_key_value_heads": kv_heads, "vocab_size": vocab, "rms_norm_eps": 1e-5,
        "max_position_embeddings": 2048, "rope_theta": 10000.0, "hidden_act": "silu", "tie_word_embeddings": True, "torch_dtype": name,
        "bos_token_id": 1, "eos_token_id": 2, "attention_bias": False, "mlp_bias": False}))
    return folder


def bits_of(values, dtype):
    if dtype == "BF16":
        return (values.view(numpy.uint32) >> 16).astype(numpy.uint16).tobytes()
    return values.astype(numpy.float16 if dtype == "F16" else numpy.float32).tobytes()


def run_timed(words, **extra):
    """Wall and processor seconds of a process and its children."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, **extra)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(done.stderr)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def said(words):
    """What checkpoint_speed says of itself: wall and processor seconds."""
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return tuple(map(float, done.stdout.split()))


class Pair:
    """Two things that take turns."""

    def __init__(self, options):
        self.rounds, self.column = options.rounds, 1 if options.processor_time else 0
        self.unit = "processor s" if options.processor_time else "s"

    def show(self, what, ours, theirs, asked, sooner=False):
        ours(), theirs()  # page cache, lazily made things
        times = [(ours(), theirs()) for _ in range(self.rounds)]
        mine, other = (statistics.median(pair[side][self.column] for pair in times) for side in (0, 1))
        ratio = other / mine if sooner else mine / other
        spread = sorted((b[self.column] / a[self.column] if sooner else a[self.column] / b[self.column]) for a, b in times)
        print(f"{what:34} attar {mine:8.3f} {self.unit}, peer {other:8.3f} {self.unit}, ratio {ratio:6.2f} "
              f"({spread[0]:.2f} to {spread[-1]:.2f}), asked {'at least' if sooner else 'at most'} {asked}", flush=True)


def gigabyte(folder, dtype):
    made = folder / f"gigabyte-{dtype}"
    layers = 10 if dtype == "F32" else 23
    return made if made.exists() else make_llama(made, dtype, 1536, layers, 4096, 12, 4, 32000, shards=2)


def hundred_million(folder):
    made = folder / "llama-100m"
    return made if made.exists() else make_llama(made, "F32")


def bench_load(pair, folder):
    speed = BUILD / "bin" / "checkpoint_speed"
    for dtype, word in (("F32", "f32"), ("BF16", "bf16")):
        model = gigabyte(folder, dtype)
        size = sum(file.stat().st_size for file in model.glob("*.safetensors")) / 1e9
        pair.show(f"load {size:.2f} GB {dtype}", lambda: said([speed, "load", model, word]), lambda: said([speed, "read", model]), 1.3)


def bench_export(pair, folder):
    for dtype in ("F16", "BF16"):
        model, out, copy = gigabyte(folder, dtype), folder / "out.gguf", folder / "copy.gguf"

        def ours():
            out.unlink(missing_ok=True)
            return run_timed([BUILD / "bin" / "attar", "export", "--model", model, "--format", "gguf", "--type", "f16", "--out", out])

        def theirs():
            copy.unlink(missing_ok=True)
            return run_timed(["sh", "-c", f"cat '{out}' > '{copy}' && sync '{copy}'"])

        pair.show(f"F16 GGUF export from {dtype}", ours, theirs, 1.5)
        out.unlink(), copy.unlink()


LLAMA_QUANTIZE = """
import ctypes, sys, time, llama_cpp
quiet = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(lambda level, text, data: None)
llama_cpp.llama_log_set(ctypes.cast(quiet, llama_cpp.llama_log_callback), ctypes.c_void_p(0))
params = llama_cpp.llama_model_quantize_default_params()
params.ftype, params.nthread = int(sys.argv[3]), int(sys.argv[4])
start, ticks = time.perf_counter(), time.process_time()
assert llama_cpp.llama_model_quantize(sys.argv[1].encode(), sys.argv[2].encode(), ctypes.byref(params)) == 0
print(time.perf_counter() - start, time.process_time() - ticks)
"""


def same_tensors(mine, theirs):
    """Whether two GGUF files hold the same types and bytes under the same names."""
    import gguf
    mine, theirs = ({t.name: t for t in gguf.GGUFReader(file).tensors} for file in (mine, theirs))
    return mine.keys() == theirs.keys() and all(
        t.tensor_type == theirs[name].tensor_type and numpy.array_equal(t.data, theirs[name].data) for name, t in mine.items())


def bench_quantize(pair, folder):
    source, mine, other = folder / "half-gigabyte.gguf", folder / "mine.gguf", folder / "theirs.gguf"
    if not source.exists():
        model = make_llama(folder / "half-gigabyte", "F16", 1536, 8, 4096, 12, 4, 32000)
        run_timed([BUILD / "bin" / "attar", "export", "--model", model, "--format", "gguf", "--type", "f16", "--out", source])
        shutil.rmtree(model)
    size = source.stat().st_size / 1e9
    for name, number, asked in (("q8_0", 7, 3), ("q4_0", 2, 3), ("q6_k", 18, 4), ("q4_k_m", 15, 4)):
        def ours():
            mine.unlink(missing_ok=True)
            return run_timed([BUILD / "bin" / "attar", "export", "--model", source, "--format", "gguf", "--type", name, "--threads", THREADS, "--out", mine])

        theirs = lambda: said([sys.executable, "-c", LLAMA_QUANTIZE, source, other, number, THREADS])
        pair.show(f"{name} of {size:.2f} GB of F16", ours, theirs, asked, sooner=True)
        print(f"  same bytes: {same_tensors(mine, other)}")
    mine.unlink(), other.unlink()


FIRST_LOGITS = """
import sys, torch
torch.set_num_threads(int(sys.argv[2]))
from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32)
with torch.inference_mode():
    logits = model(torch.arange(1, 9)[None]).logits
import numpy
numpy.save(sys.argv[3], logits[0].numpy())
"""


def bench_start(pair, folder):
    model = hundred_million(folder)
    (folder / "ids.json").write_text(json.dumps([list(range(1, 9))]))
    ours = lambda: run_timed([BUILD / "bin" / "attar", "logits", "--model", model, "--ids", folder / "ids.json", "--out", folder / "a.npy",
                              "--threads", THREADS])
    theirs = lambda: run_timed([sys.executable, "-c", FIRST_LOGITS, model, THREADS, folder / "b.npy"])
    pair.show("start to first logits", ours, theirs, 3, sooner=True)
    difference = numpy.abs(numpy.load(folder / "a.npy") - numpy.load(folder / "b.npy")).max()
    print(f"  largest difference of logits {difference:.1e}")


class Served:
    """The 100M-parameter model in both programs, loaded once."""

    def __init__(self, folder):
        import torch
        import transformers
        torch.set_num_threads(THREADS)
        model = hundred_million(folder)
        self.torch = torch
        self.model = transformers.AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
        self.ours = subprocess.Popen([BUILD / "bin" / "checkpoint_speed", "serve", model, str(THREADS)], stdin=subprocess.PIPE,
                                     stdout=subprocess.PIPE, text=True)

    def ask(self, line):
        self.ours.stdin.write(line + "\n")
        self.ours.stdin.flush()
        return tuple(map(float, self.ours.stdout.readline().split()))

    def ids(self, count):
        return (self.torch.arange(count) * 7919 % self.model.config.vocab_size)[None]

    def timed(self, work):
        start, ticks = time.perf_counter(), time.process_time()
        with self.torch.inference_mode():
            work()
        return time.perf_counter() - start, time.process_time() - ticks

    def close(self):
        self.ours.stdin.close()
        self.ours.wait()


def bench_prefill(pair, folder):
    served = Served(folder)
    ids = served.ids(512)
    pair.show("prefill of 512, 100M, 2 threads", lambda: served.ask("prefill 512"),
              lambda: served.timed(lambda: served.model(ids, use_cache=False)), 1.0, sooner=True)
    served.close()


def bench_decode(pair, folder):
    served = Served(folder)
    ids = served.ids(32)
    mask = served.torch.ones_like(ids)
    theirs = lambda: served.timed(lambda: served.model.generate(ids, attention_mask=mask, do_sample=False, min_new_tokens=64, max_new_tokens=64,
                                                                pad_token_id=0))
    pair.show("64 greedy tokens, 100M, 2 threads", lambda: served.ask("decode 32 64"), theirs, 2.0, sooner=True)
    served.close()


BENCHES = {"load": bench_load, "export": bench_export, "quantize": bench_quantize, "start": bench_start, "prefill": bench_prefill, "decode": bench_decode}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=[*BENCHES, "all"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--processor-time", action="store_true", help="processor seconds in place of wall seconds")
    parser.add_argument("--folder", help="where models are made and kept; a temporary folder without it")
    options = parser.parse_args()
    folder = pathlib.Path(options.folder or tempfile.mkdtemp(prefix="attar-bench-"))
    folder.mkdir(parents=True, exist_ok=True)
    if options.processor_time:
        os.environ["OMP_WAIT_POLICY"] = "passive"  # threads that spin for a core that others have would be counted
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores", flush=True)
    try:
        for name, bench in BENCHES.items():
            if options.what in (name, "all"):
                bench(Pair(options), folder)
    finally:
        if not options.folder:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
