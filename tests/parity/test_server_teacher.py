"""A teacher behind llama-cpp-python's own server, against attar's capture of the same model."""
import json
import socket
import subprocess
import sys
import time
import urllib.request

import h5py
import numpy as np
import pytest
from test_model import attar, needs_attar, stories  # noqa: F401 (fixtures)

TEXTS = ["Once upon a time there was a little girl named Lily. She liked to play in the park.",
         "Tom had a big red ball. He was very happy and ran to his mom.",
         "The dog saw a cat. The cat was not afraid.",
         "One day it was raining and they could not go out to play."]


@pytest.fixture(scope="module")
def server(stories, tmp_path_factory):
    pytest.importorskip("uvicorn", reason="SKIPPED LOUDLY: llama-cpp-python's server needs its extra packages, tests/parity/requirements.txt")
    folder = tmp_path_factory.mktemp("server")
    attar("export", "--model", stories[0], "--format", "gguf", "--type", "f32", "--allow-deviation", "--out", folder / "stories.gguf")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with open(folder / "log", "w") as log:
        process = subprocess.Popen([sys.executable, "-m", "llama_cpp.server", "--model", str(folder / "stories.gguf"), "--model_alias", "stories", "--host", "127.0.0.1",
                                    "--port", str(port), "--n_ctx", "256", "--n_threads", "2", "--type_k", "0", "--type_v", "0"], stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            assert process.poll() is None, (folder / "log").read_text()[-2000:]
            try:
                urllib.request.urlopen(address + "/v1/models", timeout=5).read()
                break
            except OSError:
                time.sleep(0.1)
        yield address
    finally:
        process.terminate()
        process.wait(20)


def arrays(folder):
    parts = []
    for path in sorted(folder.glob("*.h5")):
        with h5py.File(path) as shard:
            parts.append([shard[name][:].astype(np.float64) for name in ("ids", "log_probs", "tail", "label_log_prob")])
    return [np.concatenate(column) for column in zip(*parts)]


def test_captured_log_probs_are_attars_own(server, stories, tmp_path):
    texts = tmp_path / "texts.jsonl"
    texts.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS * 3))
    words = ["--data", texts, "--seq", 64, "--data.pack", "false", "--codec", "top_k", "--k", 8, "--shard_rows", 4, "--seed", 3]
    attar("capture", "--teacher", stories[0], "--out", tmp_path / "own", *words)
    attar("capture", "--teacher", server, "--tokenizer", stories[0], "--model-name", "stories", "--concurrency", 2, "--out", tmp_path / "served", *words)
    attar("verify", tmp_path / "served")
    facts = json.loads((tmp_path / "served" / "manifest.json").read_text())["facts"]
    assert facts["server"]["api"] == "echo" and facts["server"]["model"] == "stories"
    own, served = arrays(tmp_path / "own"), arrays(tmp_path / "served")
    assert own[0].shape == served[0].shape
    # Nothing is known of the first token after BOS, and texts that stand for several ids are left to the tail.
    known = served[2] < 1
    assert (~known).sum() == 11, "one for each row"
    assert np.abs(own[3] - served[3])[known].max() < 2e-2, "the label's log-probability"
    compared = 0
    for p in np.flatnonzero(known):
        truth = dict(zip(own[0][p], own[1][p]))
        for i, value in zip(served[0][p], served[1][p]):
            if value > -60000 and i in truth:
                assert abs(truth[i] - value) < 2e-2, (p, i)
                compared += 1
    assert compared > 0.9 * known.sum() * 8


def test_wrong_model_is_one_sentence(server, stories, tmp_path):
    (tmp_path / "t.jsonl").write_text(json.dumps({"text": TEXTS[0]}) + "\n" + json.dumps({"text": TEXTS[1]}) + "\n")
    done = attar("capture", "--teacher", server, "--tokenizer", stories[0], "--model-name", "other", "--codec", "top_k", "--data", tmp_path / "t.jsonl",
                 "--out", tmp_path / "x", ok=False)
    assert done.returncode == 1 and "model 'other', received stories" in done.stderr
