"""What a machine with an NVIDIA GPU is asked for: the cuda-labelled tests, then the CUDA figures, as lines for benchmarks/RESULTS.md.

    # where attar is built: a folder of some 75 MB, packed some 20, that can be carried to the machine with the GPU
    ATTAR_ALSO="test_device;test_kernels;test_train;test_quant;test_stages;linear_loss_speed;cuda_kernels_speed" \
        cmake --install build/release --prefix FOLDER && cp benchmarks/on_gpu.py FOLDER && tar cJf FOLDER.tar.xz FOLDER
    # there, unpacked, with a Python that has torch 2.11 (or ATTAR_LIBTORCH set, then without the peers); parts run apart by --only
    python3 FOLDER/on_gpu.py [--only tests,kernels,linear,step,deterministic,graph] [--minutes 9] [--commit NAME]

Every part ends within --minutes. Where there is no GPU, or a program or peer is missing, the part says so and the rest goes on; the exit status is 1
only where something that ran was wrong.
"""
import argparse
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time

TESTS = ("test_device", "test_kernels", "test_train", "test_quant", "test_stages")
STUDENT = dict(hidden_size=896, intermediate_size=4864, num_hidden_layers=24, num_attention_heads=14, num_key_value_heads=2)    # 0.5B
TEACHER = dict(hidden_size=1536, intermediate_size=8960, num_hidden_layers=28, num_attention_heads=12, num_key_value_heads=2)   # 1.5B
VOCAB, SEQ = 151936, 2048
ROWS, WIDTH, LOSS_VOCAB = 8192, 4096, 128256


class Skipped(Exception):
    pass


class Session:
    """Where attar lies, what it is run with, and what was found."""

    def __init__(self, options):
        self.options, self.wrong, self.lines = options, [], []
        self.environment = dict(os.environ)
        if "ATTAR_LIBTORCH" not in os.environ:
            try:
                import torch
                self.environment["ATTAR_LIBTORCH"] = str(pathlib.Path(torch.__file__).parent)
            except ImportError:
                pass
        torch_folder = self.environment.get("ATTAR_LIBTORCH")
        if torch_folder:
            known = self.environment.get("LD_LIBRARY_PATH")
            self.environment["LD_LIBRARY_PATH"] = f"{torch_folder}/lib" + (f":{known}" if known else "")
        self.gpu = self.gpu_name()

    def gpu_name(self):
        try:
            done = subprocess.run(["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"], capture_output=True, text=True, timeout=60)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.splitlines()[0].strip() if done.returncode == 0 and done.stdout.strip() else None

    def program(self, name):
        path = self.options.folder / "bin" / name
        if not path.exists():
            raise Skipped(f"{path} is not there")
        return str(path)

    def run(self, words, **more):
        """The standard output of a program that went well."""
        try:
            done = subprocess.run([str(w) for w in words], capture_output=True, text=True, env=self.environment,
                                  timeout=max(1, self.end - time.monotonic()), **more)
        except subprocess.TimeoutExpired:
            raise Skipped(f"{words[0]} was not done within {self.options.minutes} minutes")
        if done.returncode:
            self.wrong.append(f"{' '.join(str(w) for w in words)}: {(done.stderr or done.stdout).strip()[-2000:]}")
            raise Skipped("it failed: " + (done.stderr or done.stdout).strip().splitlines()[-1][:300])
        return done.stdout

    def result(self, what, asked, measured, command):
        self.lines.append(f"| {what} | {asked} | {measured} | `{command}`, {self.gpu}, {self.options.commit} |")

    def part(self, name, work):
        print(f"== {name}", flush=True)
        self.end = time.monotonic() + 60 * self.options.minutes
        try:
            if not self.gpu:
                raise Skipped("this machine has no NVIDIA GPU that nvidia-smi shows")
            work(self)
        except Skipped as why:
            print(f"skipped: {name}: {why}", flush=True)


def tests(session):
    passed = 0
    for name in TESTS:
        try:
            program = session.program(name)
            done = subprocess.run([program, "--gtest_filter=Cuda*.*"], capture_output=True, text=True, env=session.environment,
                                  timeout=max(1, session.end - time.monotonic()))
        except (Skipped, subprocess.TimeoutExpired) as why:
            print(f"skipped: {name}: {why}", flush=True)
            continue
        print("\n".join(line for line in done.stdout.splitlines() if re.match(r"\[ +(OK|FAILED|SKIPPED|PASSED) +\]", line)), flush=True)
        ran = re.search(r"\[ +PASSED +\] (\d+)", done.stdout)
        passed += int(ran[1]) if ran else 0
        if done.returncode or "SKIPPED LOUDLY" in done.stdout:
            session.wrong.append(f"{name}: {done.stdout[-6000:]}{done.stderr[-2000:]}")
    session.result("`cuda`-labelled tests", "pass", f"{passed} passed, {len(session.wrong)} programs with failures", "benchmarks/on_gpu.py --only tests")


def kernels(session):
    found = [json.loads(line) for line in session.run([session.program("cuda_kernels_speed")]).splitlines()]
    words = []
    for one in found:
        against = f", {one['times_as_fast']:.2f}x LibTorch's" if "times_as_fast" in one else ""
        words.append(f"{one['kernel']} {one['us']:.0f} us ({one['gb_per_s']:.0f} GB/s{against})")
    session.result("kernels of the CUDA part, 16,384 rows of 4,096 bf16; grids of a 4,096 x 4,096 weight", "", "; ".join(words),
                   "cuda_kernels_speed 16384 4096")


LOSS_PEER = """
import json, sys, time, torch
import torch.nn.functional as F
kind, rows, width, vocab = sys.argv[1], *map(int, sys.argv[2:5])
torch.manual_seed(1)
make = lambda n, scale: (torch.randn(n, width, device="cuda", dtype=torch.bfloat16) * scale)
h, w, th, tw = make(rows, 1).requires_grad_(), make(vocab, 0.05).requires_grad_(), make(rows, 1), make(vocab, 0.05)
if kind == "liger":
    from liger_kernel.transformers.fused_linear_jsd import LigerFusedLinearJSD
    module = LigerFusedLinearJSD(jsd_beta=0.0)
    function = lambda: module(h, w, th, tw, None)
else:
    function = lambda: F.kl_div(F.log_softmax(h @ w.T, -1, dtype=torch.float32), F.log_softmax(th @ tw.T, -1, dtype=torch.float32),
                                log_target=True, reduction="sum")
seconds = []
torch.cuda.reset_peak_memory_stats()
for _ in range(8):
    torch.cuda.synchronize(); begin = time.perf_counter()
    torch.autograd.grad(function(), [h, w]); torch.cuda.synchronize()
    seconds.append(time.perf_counter() - begin)
print(json.dumps({"seconds": sorted(seconds[2:])[3], "peak": torch.cuda.max_memory_allocated()}))
"""


def peer(session, code, *words):
    """A peer's numbers, or None and why not."""
    try:
        return json.loads(session.run([sys.executable, "-c", code, *words]).splitlines()[-1])
    except Skipped as why:
        session.wrong = [line for line in session.wrong if not line.startswith(sys.executable)]
        print(f"skipped: {words[0]}: {why}", flush=True)
        return None


def linear(session):
    out = session.run([session.program("linear_loss_speed"), ROWS, WIDTH, LOSS_VOCAB, 8, "cuda"], input="1\n" * 8)
    ours = [json.loads(line) for line in out.splitlines()]
    seconds, peak = statistics.median(one["seconds"] for one in ours[2:]), max(one["peak_device_bytes"] for one in ours)
    words = [f"{peak / 1e9:.2f} GB at the peak, {1e3 * seconds:.1f} ms"]
    for kind in ("liger", "plain"):
        theirs = peer(session, LOSS_PEER, kind, ROWS, WIDTH, LOSS_VOCAB)
        if theirs:
            words.append(f"{kind} {theirs['peak'] / 1e9:.2f} GB, {1e3 * theirs['seconds']:.1f} ms ({theirs['seconds'] / seconds:.2f}x ours)")
    session.result("fused linear-KL, CUDA bf16, 8,192 rows, D 4,096, V 128,256", "5 GB, Liger's time", "; ".join(words),
                   f"linear_loss_speed {ROWS} {WIDTH} {LOSS_VOCAB} 8 cuda")


STEP_PEER = """
import json, sys, time, torch
import torch.nn.functional as F
from transformers import LlamaConfig, LlamaForCausalLM
kind, batch, seq, vocab, student_shape, teacher_shape = sys.argv[1], *map(int, sys.argv[2:5]), *map(json.loads, sys.argv[5:7])
torch.manual_seed(0)
def model(shape, dtype):
    config = LlamaConfig(vocab_size=vocab, max_position_embeddings=seq, rms_norm_eps=1e-5, tie_word_embeddings=True, attn_implementation="sdpa",
                         use_cache=False, **shape)
    with torch.device("cuda"):
        return LlamaForCausalLM(config).to(dtype)
if "liger" in kind:
    from liger_kernel.transformers import apply_liger_kernel_to_llama
    apply_liger_kernel_to_llama(fused_linear_cross_entropy=False)
teacher, student = model(teacher_shape, torch.bfloat16).eval(), model(student_shape, torch.float32)
optimizer = torch.optim.AdamW(student.parameters(), lr=1e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
ids = torch.randint(vocab, (4 * batch, seq), device="cuda")
if "liger" in kind:
    from liger_kernel.transformers.fused_linear_jsd import LigerFusedLinearJSD
    fused = LigerFusedLinearJSD(jsd_beta=0.0)
def loss_of(rows):
    with torch.autocast("cuda", torch.bfloat16):
        if "liger" in kind:
            with torch.no_grad():
                taught = teacher.model(rows).last_hidden_state.flatten(0, 1)
            states = student.model(rows).last_hidden_state.flatten(0, 1)
            return fused(states.bfloat16(), student.lm_head.weight.bfloat16(), taught, teacher.lm_head.weight, None)
        with torch.no_grad():
            target = F.log_softmax(teacher(rows).logits.float(), -1)
        return F.kl_div(F.log_softmax(student(rows).logits.float(), -1), target, log_target=True, reduction="sum") / rows.numel()
if "compiled" in kind:
    loss_of = torch.compile(loss_of) if "liger" not in kind else loss_of
    if "liger" in kind: teacher.model, student.model = torch.compile(teacher.model), torch.compile(student.model)
times = []
for number in range(14):
    torch.cuda.synchronize(); begin = time.perf_counter()
    start = number * batch % len(ids)
    loss_of(ids[start:start + batch]).backward(); optimizer.step(); optimizer.zero_grad(set_to_none=True)
    torch.cuda.synchronize(); times.append(time.perf_counter() - begin)
print(json.dumps({"seconds": sorted(times[4:])[5], "peak": torch.cuda.max_memory_allocated()}))
"""


def our_step(session, folder, batch, *more):
    for name, shape in (("student", STUDENT), ("teacher", TEACHER)):
        text = "".join(f"{key}: {value}\n" for key, value in shape.items()) + f"max_position_embeddings: {SEQ}\ntie_word_embeddings: true\n"
        (folder / f"{name}.yaml").write_text(text)
    out = session.run([session.program("attar"), "bench", "train", "--student", folder / "student.yaml", "--teacher", folder / "teacher.yaml", "--vocab",
                       VOCAB, "--seq", SEQ, "--batch", batch, "--steps", 10, "--device", "cuda", "--json", *more])
    return json.loads(out.splitlines()[-1])


def step_words(one):
    return (f"{1e3 * one['step_s']:.0f} ms, {one['tokens_per_s']:,.0f} tokens/s, MFU {100 * one['mfu']:.1f}%, "
            f"{one['peak_device_bytes'] / 1e9:.1f} GB at the peak")


STEP = f"attar bench train --student 0.5B --teacher 1.5B --vocab {VOCAB} --seq {SEQ} --batch B --steps 10 --device cuda"


def step(session):
    batch = session.options.batch
    with tempfile.TemporaryDirectory() as folder:
        ours = our_step(session, pathlib.Path(folder), batch)
    words = [f"batch {batch}: " + step_words(ours)]
    for kind in ("eager", "compiled", "compiled liger"):
        theirs = peer(session, STEP_PEER, kind, batch, SEQ, VOCAB, json.dumps(STUDENT), json.dumps(TEACHER))
        if theirs:
            words.append(f"{kind} {1e3 * theirs['seconds']:.0f} ms ({theirs['seconds'] / ours['step_s']:.2f}x ours), {theirs['peak'] / 1e9:.1f} GB")
    session.result("KD step on one GPU, 0.5B student, 1.5B teacher, V 151,936, T 2,048, bf16", "1.0x compiled Liger, 1.5x eager, MFU 45%",
                   "; ".join(words), STEP)


def beside_plain(session, flag, what):
    batch = session.options.batch
    with tempfile.TemporaryDirectory() as folder:
        plain = our_step(session, pathlib.Path(folder), batch)
        other = our_step(session, pathlib.Path(folder), batch, flag)
    session.result(what, "", f"{other['step_s'] / plain['step_s']:.3f}x of the plain step's time: {step_words(other)} (plain {step_words(plain)})",
                   f"{STEP} {flag}")


PARTS = {
    "tests": tests,
    "kernels": kernels,
    "linear": linear,
    "step": step,
    "deterministic": lambda session: beside_plain(session, "--deterministic", "what `deterministic: true` costs the KD step on a GPU"),
    "graph": lambda session: beside_plain(session, "--cuda-graph", "the KD step's forward and backward pass as a CUDA graph"),
}


def main():
    here = pathlib.Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=pathlib.Path, default=here if (here / "bin").exists() else here.parent / "build" / "release",
                        help="an installed folder or a build folder")
    parser.add_argument("--only", default=",".join(PARTS), help="parts, with commas: " + ", ".join(PARTS))
    parser.add_argument("--minutes", type=float, default=9, help="longest time of a part")
    parser.add_argument("--batch", type=int, default=8, help="rows of the KD step")
    parser.add_argument("--commit", default="commit not given")
    options = parser.parse_args()
    wanted = [name for name in options.only.split(",") if name]
    unknown = [name for name in wanted if name not in PARTS]
    if unknown:
        parser.error(f"part {unknown[0]}: known are {', '.join(PARTS)}")
    session = Session(options)
    for name in wanted:
        session.part(name, PARTS[name])
    print("\n".join(["== for benchmarks/RESULTS.md", *session.lines]) if session.lines else "nothing was measured", flush=True)
    for wrong in session.wrong:
        print("wrong: " + wrong, flush=True)
    return 1 if session.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
