"""KL evaluation of attar beside transformers', in one run: same models, text, chunks, threads, float32 on the CPU. Also: report of 20 artifacts, and
memory as the text grows.

    python benchmarks/eval_vs_transformers.py [--attar build/release/bin/attar] [--pairs 3] [--tokens 16384] [--threads 2]
    python benchmarks/eval_vs_transformers.py --only report
    python benchmarks/eval_vs_transformers.py --only stream [--megabytes 1 10 100]

Speed: both read the same chunks of 512 tokens and compare base and model over the second half of each: log-softmax, KL, top-1, delta-p. The peer is
Llama with SDPA attention that forms only the logits it needs (logits_to_keep), in batches of `--peer-batch` chunks. A side's time is the difference
between a long and a short text, so loading counts for neither. They take turns; printed are medians and their ratio by the clock and by processor
time (what counts on a machine that others use too). Extra memory is attar's peak above the same call with models of nearly nothing, less the bytes
of both models. The vocabulary is Llama 2's 32,000, from the shared data."""
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

BASE = dict(hidden_size=384, intermediate_size=1024, num_hidden_layers=6, num_attention_heads=6, num_key_value_heads=3)
MODEL = dict(hidden_size=256, intermediate_size=704, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2)
NOTHING = dict(hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1, num_key_value_heads=1)
CTX = 512


def make_models(folder, tokenizer, shapes):
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM
    places = []
    for number, shape in enumerate(shapes):
        torch.manual_seed(number)
        config = LlamaConfig(vocab_size=32000, max_position_embeddings=CTX, rms_norm_eps=1e-5, tie_word_embeddings=False, attn_implementation="sdpa", **shape)
        model = LlamaForCausalLM(config)
        places.append(folder / f"model{len(list(folder.glob('model*')))}")
        model.save_pretrained(places[-1])
        for file in tokenizer.iterdir():
            shutil.copy(file, places[-1])
    return places


def text_of(data, bytes_wanted, place):
    """Real text, again and again until there is enough."""
    rows = [json.loads(line)["text"] for line in (data / "novels" / "valid.jsonl").read_text().splitlines()]
    whole = "\n".join(rows).encode()
    with open(place, "wb") as out:
        while out.tell() < bytes_wanted:
            out.write(whole[:bytes_wanted - out.tell()])
    return place


def peer(options):
    """One evaluation for each number of tokens that comes in on a line; seconds go out as JSON."""
    import torch
    from transformers import AutoTokenizer, LlamaForCausalLM
    torch.set_num_threads(options.threads)
    base, model = (LlamaForCausalLM.from_pretrained(place, attn_implementation="sdpa", dtype=torch.float32).eval() for place in options.models)
    ids = AutoTokenizer.from_pretrained(options.models[0])(pathlib.Path(options.text).read_text(errors="ignore"))["input_ids"]
    print("ready", flush=True)
    for line in sys.stdin:
        chunks = torch.tensor(ids[:int(line) // CTX * CTX]).view(-1, CTX)
        begin, processor = time.perf_counter(), time.process_time()
        kl, same, delta, count = 0.0, 0, 0.0, 0
        with torch.inference_mode():
            for first in range(0, len(chunks), options.peer_batch):
                part = chunks[first:first + options.peer_batch].clone()
                wanted = part[:, CTX // 2 + 1:].unsqueeze(-1)
                part[:, 0] = 1
                p, q = (torch.log_softmax(m(part, logits_to_keep=CTX // 2, use_cache=False).logits[:, :-1].float(), -1) for m in (base, model))
                kl += (p.exp() * (p - q)).sum().item()
                same += (p.argmax(-1) == q.argmax(-1)).sum().item()
                delta += ((q.gather(-1, wanted).exp() - p.gather(-1, wanted).exp()) ** 2).sum().item()
                count += wanted.numel()
        print(json.dumps({"clock": time.perf_counter() - begin, "processor": time.process_time() - processor, "kl": kl / count, "top1": same / count,
                          "rms_delta_p": (delta / count) ** 0.5, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}), flush=True)


def ours(options, base, model, text, tokens):
    words = [options.attar, "eval", "--model", model, "--base", base, "--text", text, "--ctx", CTX, "--text-tokens", tokens, "--threads", options.threads,
             "--device", "cpu", "--json"]
    begin = time.perf_counter()
    process = subprocess.Popen([str(w) for w in words], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    answer = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"attar eval failed: {' '.join(map(str, words))}")
    result = json.loads(answer)
    # attar's own count: what the system tells the caller begins with the caller's size.
    return {"clock": time.perf_counter() - begin, "processor": usage.ru_utime + usage.ru_stime, "peak": result["memory"]["peak_rss_bytes"], "kl": result["kld"]["mean"],
            "top1": result["top1_agreement"]["value"], "rms_delta_p": result["rms_delta_p"]}


def speed(options, folder):
    base, model, nothing, nothing_too = make_models(folder, options.data / "tokenizers" / "llama2", [BASE, MODEL, NOTHING, NOTHING])
    text = text_of(options.data, 8 * options.tokens, folder / "text.txt")
    short = 2 * CTX
    words = [sys.executable, __file__, "--peer", "--threads", options.threads, "--text", text, "--peer-batch", options.peer_batch, "--models", base, model]
    other = subprocess.Popen([str(w) for w in words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=dict(os.environ, OMP_NUM_THREADS=str(options.threads)))
    other.stdout.readline()

    def theirs(tokens):
        other.stdin.write(f"{tokens}\n")
        other.stdin.flush()
        return json.loads(other.stdout.readline())

    theirs(short)
    turns = []
    for turn in range(options.pairs):
        row = {}
        for name, measure in (("attar", lambda n: ours(options, base, model, text, n)), ("transformers", theirs)):
            brief, long = measure(short), measure(options.tokens)
            row[name] = {key: (options.tokens - short) / (long[key] - brief[key]) for key in ("clock", "processor")} | {"last": long}
        turns.append(row)
        a, t = row["attar"]["last"], row["transformers"]["last"]
        print(f"turn {turn + 1}: attar {row['attar']['clock']:.0f} tokens/s by the clock, {row['attar']['processor']:.0f} a processor second; transformers "
              f"{row['transformers']['clock']:.0f}, {row['transformers']['processor']:.0f}; KL {a['kl']:.6f} and {t['kl']:.6f}, top-1 {a['top1']:.4f} and {t['top1']:.4f}; "
              f"load {os.getloadavg()[0]:.1f}", flush=True)
        assert abs(a["kl"] / t["kl"] - 1) < 1e-3, "the two do not measure the same"
    other.stdin.close()
    for key in ("clock", "processor"):
        middle = {name: statistics.median(row[name][key] for row in turns) for name in ("attar", "transformers")}
        ratio = statistics.median(row["attar"][key] / row["transformers"][key] for row in turns)
        print(f"{key:10} attar {middle['attar']:8.0f} tokens/s   transformers {middle['transformers']:8.0f}   ratio {ratio:.2f} (asked: 1.5)")
    floor = ours(options, nothing, nothing_too, text, short)["peak"]
    weights = sum(file.stat().st_size for place in (base, model) for file in place.glob("*.safetensors"))
    peak = statistics.median(row["attar"]["last"]["peak"] for row in turns)
    print(f"memory     attar's peak {peak / 2**20:.0f} MiB = {floor / 2**20:.0f} of the program + {weights / 2**20:.0f} of both models + "
          f"{(peak - floor - weights) / 2**20:.0f} MiB extra (asked: below 64 MB)")


def report(options, folder):
    """A run folder of 20 artifacts with a task of 77 classes, twelve trainings and a router each, as recorded; then `attar report` over it."""
    labels = [f"a label with a long name {i}" for i in range(77)]
    measure = lambda v: {"value": v, "low": v - 0.01, "high": v + 0.01, "n": 3080}
    details = {"labels": labels, "confusion": [[(i * 7 + j * 3) % 5 if (i + j) % 3 == 0 else 0 for j in range(77)] for i in range(77)], "f1": [0.5 + i / 200 for i in range(77)],
               "reliability": [{"low": i / 15, "high": (i + 1) / 15, "confidence": (i + 0.5) / 15, "accuracy": (i + 0.4) / 15, "n": 200} for i in range(15)], "shortened": 0}
    spread = lambda v: {"value": v, "p10": 0.9 * v, "p90": 1.1 * v, "p99": 1.2 * v}
    artifacts, lineage, stages = {}, {}, {"report": {"kind": "evaluate", "of": []}}
    run = folder / "run"
    (run / "report").mkdir(parents=True)
    for i in range(20):
        name = f"candidate_{i}"
        stages["report"]["of"].append(name)
        artifacts[name] = {"stage": name, "path": f"{name}/model.gguf", "sha256": "a" * 64, "bytes": 400000 + 90000 * i, "parameters": 10**6, "bits_per_weight": 4.5,
                           "perplexity": {"value": 12.0, "stderr": 0.1, "nll": 2.5, "tokens": 8000}, "kld": {"mean": 0.05, "stderr": 0.001, "p50": 0.01, "max": 2.0},
                           "top1_agreement": {"value": 0.9, "stderr": 0.01}, "tasks": {"t": {"accuracy": measure(0.8 + i / 200), "macro_f1": measure(0.8)}},
                           "task_details": {"t": details}, "latency": {"ttft_s": spread(0.01), "tokens_per_s": spread(900), "prompt_tokens": 32, "new_tokens": 16, "runs": 5, "threads": 2}}
        lineage[name] = {"kind": "export", "key": "b" * 64, "inputs": {}, "outputs": {"model.gguf": "a" * 64}, "seconds": 2.0,
                         "facts": {"format": "gguf", "tensors": [{"name": f"blk.{t}.ffn_down.weight", "type": "q4_0", "shape": [256, 704], "bytes": 101376} for t in range(120)]}}
        stages[name] = {"kind": "distill" if i < 12 else "export"}
        (run / name).mkdir()
        if i < 12:
            lines = [json.dumps({"step": s, "loss": 5 / s, "ce": 5 / s, "teacher": 3 / s, **({"held_out_ce": 5.5 / s} if s % 100 == 0 else {})}) for s in range(1, 3001)]
            (run / name / "log.jsonl").write_text("\n".join(lines) + "\n")
    (run / "recipe.json").write_text(json.dumps({"name": "twenty", "stages": stages}))
    whole = {"verdict": "no gates", "name": "twenty", "base": "candidate_19", "artifacts": artifacts, "gates": [], "environment": {}, "recipe": {"name": "twenty", "stages": stages},
             "lineage": lineage}
    (run / "report" / "report.json").write_text(json.dumps(whole))
    seconds = []
    for _ in range(options.pairs):
        begin = time.perf_counter()
        subprocess.run([str(options.attar), "report", str(run)], check=True, stdout=subprocess.DEVNULL)
        seconds.append(time.perf_counter() - begin)
    page = (run / "report" / "report.html").stat().st_size
    print(f"report     of 20 artifacts, 12 trainings of 3000 steps: {statistics.median(seconds):.2f} s (asked: 2), page {page / 1e6:.2f} MB (asked: below 5), "
          f"load {os.getloadavg()[0]:.1f}")


def stream(options, folder):
    model, base = make_models(folder, options.data / "tokenizers" / "llama2", [NOTHING, NOTHING])
    for megabytes in options.megabytes:
        found = ours(options, base, model, text_of(options.data, int(megabytes * 1e6), folder / "text.txt"), 0)
        print(f"stream     {megabytes:g} MB of text against a vocabulary of 32,000: peak {found['peak'] / 2**20:.1f} MiB, {found['processor']:.0f} s of processor time", flush=True)


def main():
    root = pathlib.Path(__file__).resolve().parents[1]
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words.add_argument("--attar", type=pathlib.Path, default=pathlib.Path(os.environ.get("ATTAR_BUILD", root / "build" / "release")) / "bin" / "attar")
    words.add_argument("--data", type=pathlib.Path, default=pathlib.Path(os.environ.get("ATTAR_TEST_DATA") or root.parent / "shared" / "data"))
    words.add_argument("--pairs", type=int, default=3)
    words.add_argument("--tokens", type=int, default=16384)
    words.add_argument("--threads", type=int, default=2)
    words.add_argument("--peer-batch", type=int, default=4)
    words.add_argument("--megabytes", type=float, nargs="+", default=[1, 4])
    words.add_argument("--only", choices=["speed", "report", "stream"])
    words.add_argument("--peer", action="store_true", help=argparse.SUPPRESS)
    words.add_argument("--models", nargs=2, help=argparse.SUPPRESS)
    words.add_argument("--text", help=argparse.SUPPRESS)
    options = words.parse_args()
    if options.peer:
        peer(options)
        return
    for name, part in (("speed", speed), ("report", report), ("stream", stream)):
        if options.only in (None, name):
            with tempfile.TemporaryDirectory() as folder:
                part(options, pathlib.Path(folder))


if __name__ == "__main__":
    main()
