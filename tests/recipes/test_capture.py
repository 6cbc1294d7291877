"""attar capture from a server, from files of other tools, and in parts: the command line, with processes that are killed."""
import http.server
import json
import os
import signal
import subprocess
import sys
import threading
import time

import h5py
import numpy as np
import pytest

sys.path.insert(0, str(__import__("pathlib").Path(__file__).resolve().parent.parent / "parity"))
from test_model import stories_folder  # noqa: E402

TEXTS = ["Once upon a time there was a little girl named Lily. She liked to play in the park.",
         "Tom had a big red ball. He was very happy and ran to his mom.",
         "The dog saw a cat. The cat was not afraid.",
         "One day it was raining and they could not go out to play.",
         "Sara and Ben went to the beach. They made a castle of sand and water.",
         "The bird was sad because it could not fly. Then a friend came to help."]


@pytest.fixture(scope="module")
def model(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("capture") / "model"
    stories_folder(folder)
    return folder


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    path = tmp_path_factory.mktemp("texts") / "texts.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS * 4))
    return path


def words(texts, k=8):
    return ["--data", texts, "--seq", 64, "--data.pack", "false", "--codec", "top_k", "--k", k, "--shard_rows", 6, "--seed", 3]


def shards(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.h5"))}


@pytest.fixture(scope="module")
def whole(attar, model, texts, tmp_path_factory):
    """A capture by attar's own decoder: what the others are compared with."""
    out = tmp_path_factory.mktemp("whole") / "cache"
    attar("capture", "--teacher", model, "--out", out, *words(texts), check=0)
    return out


def rows_of(folder):
    """ids (P, k), log_probs (P, k), tail (P), label_log_prob (P) of all shards."""
    parts = []
    for path in sorted(folder.glob("*.h5")):
        with h5py.File(path) as shard:
            parts.append([shard[name][:].astype(np.float64) for name in ("ids", "log_probs", "tail", "label_log_prob")])
    return [np.concatenate(column) for column in zip(*parts)]


def sequences(attar, model, texts):
    """Token ids of every text as capture reads them: BOS, text, EOS."""
    lines = "".join(json.loads(line)["text"] + "\n" for line in texts.read_text().splitlines())
    out = attar("tokenize", "--tokenizer", model, check=0, input=lines).stdout
    return [[1, *json.loads(line), 2][:64] for line in out.splitlines()]


def logits_of(attar, model, rows, folder):
    (folder / "ids.json").write_text(json.dumps(rows))
    attar("logits", "--model", model, "--ids", folder / "ids.json", "--out", folder / "l.npy", check=0)
    return np.load(folder / "l.npy")


def log_softmax(x):
    x = x.astype(np.float64) - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def close_caches(ours, theirs, tolerance=2e-2):
    a, b = rows_of(ours), rows_of(theirs)
    assert a[0].shape == b[0].shape
    known = b[2] < 0.999
    assert known.mean() > 0.8
    assert (a[0][known] == b[0][known]).mean() > 0.99
    assert np.abs(a[1] - b[1])[known & (a[0] == b[0]).all(1)].max() < tolerance
    assert np.abs(a[2] - b[2])[known].max() < tolerance
    return known


def test_two_processes_give_the_bytes_of_one(attar, model, texts, whole, tmp_path):
    parts = [subprocess.Popen([str(attar.path), "capture", "--teacher", str(model), "--out", str(tmp_path / name), "--shards", which, *map(str, words(texts))])
             for name, which in (("a", "0:2"), ("b", "2:4"))]
    assert [part.wait(300) for part in parts] == [0, 0]
    attar("capture", "--merge", tmp_path / "a", "--merge", tmp_path / "b", "--out", tmp_path / "merged", check=0)
    assert shards(tmp_path / "merged") == shards(whole) and len(shards(whole)) == 4
    assert json.loads((tmp_path / "merged/manifest.json").read_text())["facts"]["cache"] == json.loads((whole / "manifest.json").read_text())["facts"]["cache"]
    attar("verify", tmp_path / "merged", check=0)
    line = attar.error("capture", "--merge", tmp_path / "a", "--out", tmp_path / "short")
    assert len(line) == 1 and "2 missing" in line[0]
    line = attar.error("distill", "--model", model, "--teacher", tmp_path / "a", "--steps", 1, "--out", tmp_path / "student", *words(texts)[:6])
    assert len(line) == 1 and "--merge" in line[0]


class Vllm(http.server.BaseHTTPRequestHandler):
    """Answers as vLLM does, from logits of attar itself."""
    protocol_version = "HTTP/1.1"
    table, requests, hold = {}, 0, 0.0

    def log_message(self, *_):
        pass

    def reply(self, value):
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.reply({"object": "list", "data": [{"id": "stories", "owned_by": "vllm"}]})

    def do_POST(self):
        question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        Vllm.requests += 1
        time.sleep(Vllm.hold)
        ids, k = question["prompt"], question["prompt_logprobs"]
        said = [None]
        for t in range(1, len(ids)):
            row = Vllm.table[tuple(ids)][t - 1]
            order = np.argsort(-row, kind="stable")
            rank = {int(i): n + 1 for n, i in enumerate(order)}
            said.append({str(i): {"logprob": float(row[i]), "rank": rank[i], "decoded_token": ""} for i in [ids[t], *map(int, order[:k])]})
        self.reply({"model": question["model"], "choices": [{"prompt_logprobs": said}]})


@pytest.fixture(scope="module")
def vllm(attar, model, texts, tmp_path_factory):
    rows = sequences(attar, model, texts)
    logits, at = log_softmax(logits_of(attar, model, rows, tmp_path_factory.mktemp("table"))), 0
    for row in rows:
        Vllm.table[tuple(row)] = logits[at:at + len(row)]
        at += len(row)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Vllm)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def test_server_capture_says_what_the_model_says(attar, model, texts, whole, vllm, tmp_path):
    attar("capture", "--teacher", vllm, "--tokenizer", model, "--model-name", "stories", "--concurrency", 3, "--out", tmp_path / "cache", *words(texts), check=0)
    assert close_caches(whole, tmp_path / "cache").all()
    ours, theirs = rows_of(whole), rows_of(tmp_path / "cache")
    assert np.abs(ours[3] - theirs[3]).max() < 2e-2
    facts = json.loads((tmp_path / "cache/manifest.json").read_text())["facts"]
    assert facts["server"] == {"address": vllm, "model": "stories", "api": "vllm", "weights": "no fingerprint: what a server holds is known by its name alone"}
    attar("verify", tmp_path / "cache", check=0)
    attar("distill", "--model", model, "--teacher", tmp_path / "cache", "--steps", 1, "--batch", 4, "--seed", 3, "--out", tmp_path / "student", *words(texts)[:6], check=0)


def test_killed_server_capture_goes_on_and_gives_the_same_bytes(attar, model, texts, vllm, tmp_path):
    command = ["capture", "--teacher", vllm, "--tokenizer", model, "--concurrency", 2, *words(texts)]
    attar(*command, "--out", tmp_path / "whole", check=0)
    before, Vllm.hold = Vllm.requests, 0.05
    try:
        victim = subprocess.Popen([str(attar.path), *map(str, command), "--out", str(tmp_path / "cache")], stderr=subprocess.DEVNULL)
        while Vllm.requests < before + 10 and victim.poll() is None:
            time.sleep(0.01)
        os.kill(victim.pid, signal.SIGKILL)
        assert victim.wait() == -signal.SIGKILL
        assert not (tmp_path / "cache").exists()
        # Another number of requests at once is no other capture.
        command[command.index("--concurrency") + 1] = 4
        Vllm.hold, again = 0.0, Vllm.requests
        attar(*command, "--out", tmp_path / "cache", check=0)
    finally:
        Vllm.hold = 0.0
    assert shards(tmp_path / "cache") == shards(tmp_path / "whole")
    assert 0 < Vllm.requests - again <= 17, "of 23 rows, those of finished shards are not asked for again"


def test_what_a_server_cannot_give_is_refused(attar, model, texts, vllm, tmp_path):
    def refused(*more):
        line = attar.error("capture", "--teacher", vllm, "--out", tmp_path / "x", "--data", texts, "--seq", 64, *more)
        assert len(line) == 1
        return line[0]
    assert "--tokenizer" in refused("--codec", "top_k")
    assert "--codec top_k" in refused("--tokenizer", model)
    assert "temperature 1" in refused("--tokenizer", model, "--codec", "top_k", "--temperature", 2)
    assert "'gone'" in refused("--tokenizer", model, "--codec", "top_k", "--model-name", "gone")
    assert "NO_SUCH_KEY" in refused("--tokenizer", model, "--codec", "top_k", "--api-key-env", "NO_SUCH_KEY")
    assert "one of teacher, import and merge" in attar.error("capture", "--out", tmp_path / "x", "--data", texts)[0]


@pytest.mark.parametrize("ending", ["npz", "h5"])
@pytest.mark.parametrize("kind", ["logits", "top"])
def test_import_of_another_tools_logits(attar, model, texts, whole, tmp_path, ending, kind):
    rows = sequences(attar, model, texts)
    logits = logits_of(attar, model, rows, tmp_path)
    arrays = {"lengths": np.array([len(row) for row in rows]), "ids": np.concatenate(rows).astype(np.int32)}
    if kind == "logits":
        arrays["logits"] = logits.astype(np.float32)
    else:
        logp = log_softmax(logits)
        order = np.argsort(-logp, axis=1, kind="stable")[:, :10]
        arrays["top_ids"], arrays["top_log_probs"] = order, np.take_along_axis(logp, order, 1).astype(np.float32)
    file = tmp_path / f"logits.{ending}"
    if ending == "npz":
        np.savez(file, **arrays)
    else:
        with h5py.File(file, "w") as out:
            for name, array in arrays.items():
                out[name] = array
    attar("capture", "--import", file, "--tokenizer", model, "--out", tmp_path / "cache", *words(texts), check=0)
    assert close_caches(whole, tmp_path / "cache").all()
    attar("verify", tmp_path / "cache", check=0)
    if kind == "logits" and ending == "npz":
        sampled = [str(word).replace("top_k", "sampled") for word in words(texts)]
        attar("capture", "--import", file, "--tokenizer", model, "--out", tmp_path / "sampled", *sampled, check=0)
        np.savez_compressed(tmp_path / "packed.npz", **arrays)
        assert "savez" in attar.error("capture", "--import", tmp_path / "packed.npz", "--tokenizer", model, "--out", tmp_path / "x", *words(texts))[0]
        del arrays["ids"]
        np.savez(tmp_path / "short.npz", **arrays)
        assert "'ids'" in attar.error("capture", "--import", tmp_path / "short.npz", "--tokenizer", model, "--out", tmp_path / "x", *words(texts))[0]


def test_import_must_hold_every_row(attar, model, texts, tmp_path):
    rows = sequences(attar, model, texts)[:2]
    np.savez(tmp_path / "few.npz", lengths=np.array([len(row) for row in rows]), ids=np.concatenate(rows), logits=np.zeros((sum(map(len, rows)), 512), np.float32))
    line = attar.error("capture", "--import", tmp_path / "few.npz", "--tokenizer", model, "--out", tmp_path / "cache", *words(texts))
    assert len(line) == 1 and "row " in line[0] and "begins with these tokens" in line[0]


def test_hidden_states_are_read_by_h5py(attar, model, texts, tmp_path):
    attar("capture", "--teacher", model, "--hidden-layers", 1, "--hidden-layers", 5, "--out", tmp_path / "cache", *words(texts), check=0)
    with h5py.File(tmp_path / "cache/rows-00000000.h5") as shard:
        for name in ("hidden_1", "hidden_5"):
            assert shard[name].dtype == np.float16 and shard[name].shape == (shard["tail"].shape[0], 64)
            assert np.isfinite(shard[name][:]).all() and shard[name][:].std() > 0
    attar("verify", tmp_path / "cache", check=0)
