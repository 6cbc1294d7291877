"""One distillation step of attar beside PyTorch's, eager and compiled, in one run: same shapes, same threads, fp32 on the CPU.

    python benchmarks/distill_step_vs_pytorch.py [--attar build/release/bin/attar] [--pairs 5] [--steps 4] [--threads 2]

The peers are Hugging Face's Llama for teacher and student (SDPA attention), F.kl_div of log-softmaxes, AdamW(fused=True); `compiled` is
torch.compile of both forward passes with the loss. They run in processes of their own with glibc told to keep freed memory, as attar does. The
three take turns; each turn gives a median over its steps. Printed: seconds a step by the clock and by processor time over threads (what counts on
a machine that others use too), ratios as medians over the turns, tokens/s, peak memory.
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

TEACHER = dict(hidden_size=384, intermediate_size=1024, num_hidden_layers=6, num_attention_heads=6, num_key_value_heads=3)  # 12.9M
STUDENT = dict(hidden_size=256, intermediate_size=704, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2)   # 5.0M
KEEP_MEMORY = {"MALLOC_TRIM_THRESHOLD_": "4294967296", "MALLOC_MMAP_THRESHOLD_": "4294967296", "MALLOC_TOP_PAD_": "67108864"}


def peer(kind, options):
    """Runs steps on request: a number of steps comes in on a line, medians go out as JSON on one."""
    import resource
    import time

    import torch
    import torch.nn.functional as F
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.set_num_threads(options.threads)
    torch.manual_seed(0)

    def model(shape):
        config = LlamaConfig(vocab_size=options.vocab, max_position_embeddings=512, rms_norm_eps=1e-5, tie_word_embeddings=False,
                             attn_implementation="sdpa", use_cache=False, **shape)
        return LlamaForCausalLM(config)

    teacher, student = model(TEACHER).eval(), model(STUDENT)
    optimizer = torch.optim.AdamW(student.parameters(), lr=1e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    ids = torch.randint(options.vocab, (4 * options.batch, options.seq))

    def loss_of(batch):
        with torch.no_grad():
            target = F.log_softmax(teacher(batch).logits, -1)
        return F.kl_div(F.log_softmax(student(batch).logits, -1), target, log_target=True, reduction="sum") / batch.numel()

    loss_function = torch.compile(loss_of) if kind == "compiled" else loss_of

    def step(number):
        start = number * options.batch % len(ids)
        loss = loss_function(ids[start:start + options.batch])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.item()

    for number in range(3):
        step(number)
    print(json.dumps({"parameters": sum(p.numel() for p in student.parameters()), "teacher": sum(p.numel() for p in teacher.parameters())}), flush=True)
    for line in sys.stdin:
        clock, processor, last = [], [], 0.0
        for number in range(int(line)):
            begin, begin_processor = time.perf_counter(), time.process_time()
            last = step(number)
            clock.append(time.perf_counter() - begin)
            processor.append(time.process_time() - begin_processor)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps({"clock": statistics.median(clock), "processor": statistics.median(processor), "peak": peak, "loss": last}), flush=True)


class Peer:
    def __init__(self, kind, options):
        environment = dict(os.environ, **KEEP_MEMORY, OMP_NUM_THREADS=str(options.threads), TOKENIZERS_PARALLELISM="false")
        words = [sys.executable, __file__, "--peer", kind, "--threads", options.threads, "--batch", options.batch, "--seq", options.seq, "--vocab", options.vocab]
        self.process = subprocess.Popen([str(w) for w in words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        self.facts = json.loads(self.process.stdout.readline())

    def steps(self, count):
        self.process.stdin.write(f"{count}\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


class Ours:
    def __init__(self, options, folder):
        self.options, self.folder = options, folder
        for name, shape in (("teacher", TEACHER), ("student", STUDENT)):
            text = "".join(f"{key}: {value}\n" for key, value in shape.items()) + "tie_word_embeddings: false\n"
            (folder / f"{name}.yaml").write_text(text)

    def steps(self, count):
        o = self.options
        words = [o.attar, "bench", "train", "--student", self.folder / "student.yaml", "--teacher", self.folder / "teacher.yaml", "--batch", o.batch,
                 "--seq", o.seq, "--vocab", o.vocab, "--steps", count, "--threads", o.threads, "--device", "cpu", "--json"]
        done = subprocess.run([str(w) for w in words], capture_output=True, text=True)
        if done.returncode:
            sys.exit(done.stderr)
        result = json.loads(done.stdout)
        return {"clock": result["step_s"], "processor": result["step_processor_s"], "peak": result["peak_rss_bytes"], "loss": result["loss"],
                "parameters": result["parameters"]}


def main():
    root = pathlib.Path(__file__).resolve().parents[1]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--attar", default=pathlib.Path(os.environ.get("ATTAR_BUILD", root / "build" / "release")) / "bin" / "attar")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--seq", type=int, default=256)
    parser.add_argument("--vocab", type=int, default=4096)
    parser.add_argument("--without", default="", help="leave a peer out: eager or compiled")
    parser.add_argument("--peer", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peer:
        peer(options.peer, options)
        return
    with tempfile.TemporaryDirectory() as folder:
        sides = {"attar": Ours(options, pathlib.Path(folder))}
        for kind in ("eager", "compiled"):
            if kind != options.without:
                sides[kind] = Peer(kind, options)
                print(f"{kind}: student {sides[kind].facts['parameters']:,} parameters, teacher {sides[kind].facts['teacher']:,}", flush=True)
        turns = {name: [] for name in sides}
        for turn in range(options.pairs):
            for name, side in sides.items():
                turns[name].append(side.steps(options.steps))
            shown = "   ".join(f"{name} {rows[-1]['clock']:.3f} s clock, {rows[-1]['processor'] / options.threads:.3f} s processor" for name, rows in turns.items())
            print(f"turn {turn + 1}: {shown}   load {os.getloadavg()[0]:.1f}", flush=True)
    print(f"{'':10} {'clock s':>9} {'proc s':>9} {'tokens/s':>9} {'peak MiB':>9} {'clock x':>8} {'proc x':>8} {'peak x':>8}")
    for name, rows in turns.items():
        middle = {key: statistics.median(row[key] for row in rows) for key in ("clock", "processor", "peak")}
        against = {key: statistics.median(theirs[key] / mine[key] for theirs, mine in zip(rows, turns["attar"])) for key in middle}
        print(f"{name:10} {middle['clock']:9.3f} {middle['processor'] / options.threads:9.3f} {options.batch * options.seq / middle['clock']:9.0f} "
              f"{middle['peak'] / 2**20:9.0f} {against['clock']:8.2f} {against['processor']:8.2f} {against['peak']:8.2f}")


if __name__ == "__main__":
    main()
