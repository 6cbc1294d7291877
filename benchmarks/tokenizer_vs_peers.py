"""Speed of attar's tokenizers beside Hugging Face tokenizers and sentencepiece, one thread each, in one run.

    python benchmarks/tokenizer_vs_peers.py [--data shared/data] [--build build/release] [--rounds 5]

The texts are the paragraphs of novels/valid.jsonl and test.jsonl. Both sides encode all of them in turns, the peer through its fastest call for many
texts (tokenizers: encode_batch_fast, sentencepiece: encode of a list with one thread; and libsentencepiece called from C++). The first turn of each
fills caches and is not counted. Each line: medians of processor seconds, MB/s, the median of the turns' ratios, and whether the ids are equal.
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"

import sentencepiece
import tokenizers

REPO = pathlib.Path(__file__).resolve().parents[1]
PUBLISHED = {
    "llama3": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "qwen2": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
}


def checksum(all_ids):
    """As tokenizer_speed adds them up."""
    total, prime, mask = 0xCBF29CE484222325, 0x100000001B3, (1 << 64) - 1
    for ids in all_ids:
        for number in ids:
            total = ((total ^ number) * prime) & mask
        total = ((total ^ 0xFFFFFFFF) * prime) & mask
    return total


class Program:
    """tokenizer_speed, waiting for its turn."""

    def __init__(self, binary, tokenizer, texts, *flags):
        self.process = subprocess.Popen([str(binary), str(tokenizer), str(texts), *flags], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if self.process.stdout.readline().strip() != "ready":
            sys.exit(f"{binary} {tokenizer}: did not start")

    def turn(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        seconds, _, total = self.process.stdout.readline().split()
        return float(seconds), int(total)

    def end(self):
        self.process.stdin.close()
        self.process.wait()


class Library:
    """A peer's call in this process."""

    def __init__(self, encode, ids):
        self.encode, self.ids, self.total = encode, ids, None

    def turn(self):
        start = time.process_time()
        result = self.encode()
        seconds = time.process_time() - start
        if self.total is None:
            self.total = checksum(self.ids(result))
        return seconds, self.total

    def end(self):
        pass


def compare(name, ours, peers, size, rounds):
    """Prints a line for each peer; all sides take turns."""
    sides = [ours, *(peer for _, peer in peers)]
    times = [[] for _ in sides]
    totals = [side.turn()[1] for side in sides]
    for _ in range(rounds):
        for side, seconds in zip(sides, times):
            seconds.append(side.turn()[0])
    for side in sides:
        side.end()
    mine = statistics.median(times[0])
    for i, (peer, _) in enumerate(peers, 1):
        theirs = statistics.median(times[i])
        ratio = statistics.median(b / a for a, b in zip(times[0], times[i]))
        same = "same ids" if totals[i] == totals[0] else "OTHER IDS"
        print(f"{name:22} {peer:26} {theirs:7.3f} s {size / theirs / 1e6:7.2f} MB/s   attar {mine:7.3f} s {size / mine / 1e6:7.2f} MB/s   "
              f"ratio {ratio:6.2f}   {same}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=pathlib.Path, default=REPO.parent / "shared" / "data")
    parser.add_argument("--build", type=pathlib.Path, default=REPO / "build" / "release")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--megabytes", type=float, default=5.0, help="of text at most")
    parser.add_argument("--only", default="", help="cases whose name has this in it")
    options = parser.parse_args()
    found = [path for path in (options.build / "bin" / "tokenizer_speed", options.build / "benchmarks" / "tokenizer_speed") if path.exists()]
    if not found:
        sys.exit(f"{options.build}: tokenizer_speed is not built")
    binary = found[0]
    lines = []
    for name in ("valid.jsonl", "test.jsonl"):
        for line in (options.data / "novels" / name).read_text(encoding="utf-8").splitlines():
            lines += json.loads(line)["text"].split("\n")
    kept, size = [], 0
    for line in lines:
        if size < options.megabytes * 1e6:
            kept.append(line)
            size += len(line.encode())
    print(f"{len(kept)} paragraphs, {size / 1e6:.2f} MB; one thread a side; load {os.getloadavg()[0]:.1f}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        texts = folder / "texts.txt"
        texts.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
        places = options.data / "tokenizers"
        json_cases = {"gpt2": places / "gpt2", "phi-2": places / "phi-2" / "tokenizer.json"}
        for rule, pattern in PUBLISHED.items():
            base = json.loads((places / "phi-2" / "tokenizer.json").read_text())
            plain = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
            split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
            base["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [split, plain]}
            base["normalizer"] = {"type": "NFC"} if rule == "qwen2" else None
            base["model"]["ignore_merges"] = rule == "llama3"
            (folder / rule).mkdir()
            json_cases[f"{rule} split"] = folder / rule / "tokenizer.json"
            json_cases[f"{rule} split"].write_text(json.dumps(base))
        json_cases["llama2 json"] = places / "llama2" / "tokenizer.json"
        for name, path in json_cases.items():
            if options.only not in name:
                continue
            if path.is_dir():
                theirs = tokenizers.Tokenizer(tokenizers.models.BPE.from_file(str(path / "vocab.json"), str(path / "merges.txt")))
                theirs.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
            else:
                theirs = tokenizers.Tokenizer.from_file(str(path))
            theirs.encode_special_tokens = True
            peer = Library(lambda: theirs.encode_batch_fast(kept, add_special_tokens=False), lambda result: [one.ids for one in result])
            compare(name, Program(binary, path, texts), [("tokenizers " + tokenizers.__version__, peer)], size, options.rounds)
        model_cases = {"llama2 model": places / "llama2" / "tokenizer.model", "stories512 model": options.data / "stories260K" / "tok512.model",
                       "unigram2000 model": places / "unigram_bytefallback_2000.model"}
        for kind in ("unigram", "bpe"):
            for rule in ("identity", "nmt_nfkc"):
                name = f"{kind} 8000 {rule}"
                if options.only not in name:
                    continue
                model_cases[name] = folder / f"{kind}_{rule}.model"
                sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(line for line in kept[:6000] if len(line.encode()) < 4000),
                                                         model_prefix=str(folder / f"{kind}_{rule}"), model_type=kind, vocab_size=8000,
                                                         byte_fallback=True, normalization_rule_name=rule, minloglevel=3)
        for name, path in model_cases.items():
            if options.only not in name:
                continue
            processor = sentencepiece.SentencePieceProcessor(model_file=str(path))
            peer = Library(lambda: processor.encode(kept, num_threads=1), lambda result: result)
            peers = [("sentencepiece " + sentencepiece.__version__, peer), ("libsentencepiece in C++", Program(binary, path, texts, "--library"))]
            compare(name, Program(binary, path, texts), peers, size, options.rounds)


if __name__ == "__main__":
    main()
