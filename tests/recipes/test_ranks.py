"""Two processes that train together, started as torchrun starts them: one process's result, equal bytes after kill -9, a sentence when one dies."""
import hashlib
import os
import signal
import socket
import subprocess
import time

import numpy as np
import pytest
from small_world import make_small_world

STEPS = 40

@pytest.fixture(scope="module")
def world(attar, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    make_small_world(attar, folder)
    return folder


def start(attar, world, out, ranks, steps=STEPS):
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        port = place.getsockname()[1]
    line = [attar.path, "distill", "--model", world / "model.yaml", "--tokenizer", world / "tokens", "--data", world / "text.txt", "--seq", "32", "--batch", "4",
            "--steps", steps, "--train.snapshot_every", "5", "--train.warmup", "2", "--threads", "1", "--seed", "3", "--out", out]
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(ranks)}
    return [subprocess.Popen([str(word) for word in line], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                             env={**os.environ, **({**place, "RANK": str(rank)} if ranks > 1 else {})}) for rank in range(ranks)]


def finish(started):
    said = [process.communicate(timeout=300)[1] for process in started]
    assert [process.returncode for process in started] == [0] * len(started), said
    return said


def weights(folder):
    from safetensors.numpy import load_file
    return load_file(str(folder / "model.safetensors"))


def digest(folder):
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def together(attar, world):
    finish(start(attar, world, world / "two", 2))
    return world / "two"


def test_two_ranks_give_the_result_of_one(attar, world, together):
    finish(start(attar, world, world / "one", 1))
    one, two = weights(world / "one"), weights(together)
    assert one.keys() == two.keys()
    for name in one:
        # 40 steps of AdamW amplify what rounding leaves; each tensor is compared on its own scale.
        assert np.abs(one[name] - two[name]).max() <= 1e-5 * max(1.0, np.abs(one[name]).max()), name


def snapshot_of(world, name):
    """Waits for the first snapshot of a run."""
    for _ in range(3000):
        if found := next(world.glob(f".{name}*/**/snapshot.safetensors"), None):
            return found
        time.sleep(0.01)
    pytest.fail("no snapshot after 30 s")


def test_equal_ranks_give_equal_bytes_after_kill(attar, world):
    finish(start(attar, world, world / "whole", 2, steps=300))
    for attempt in range(2):
        name = f"killed{attempt}"
        started = start(attar, world, world / name, 2, steps=300)
        snapshot_of(world, name)
        time.sleep(0.1 * attempt)
        for process in started:
            process.send_signal(signal.SIGKILL)
        for process in started:
            process.communicate()
        assert not (world / name).exists(), "killed too late to show anything"
        assert "goes on at step" in "".join(finish(start(attar, world, world / name, 2, steps=300)))
        assert digest(world / name) == digest(world / "whole")


def test_a_rank_that_dies_is_named_and_the_snapshot_kept(attar, world):
    out = world / "lonely"
    started = start(attar, world, out, 2, steps=100000)
    snapshot = snapshot_of(world, "lonely")
    started[1].send_signal(signal.SIGKILL)
    said = started[0].communicate(timeout=60)[1]
    started[1].communicate()
    errors = [line for line in said.splitlines() if line.startswith("error:")]
    assert started[0].returncode == 1 and len(errors) == 1 and "rank 1" in errors[0], said
    assert snapshot.exists() and not out.exists()


def synthesize(attar, world, out, ranks):
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        port = place.getsockname()[1]
    line = [attar.path, "synthesize", "--teacher", world / "two", "--data", world / "prompts.jsonl", "--max-tokens", "8", "--unfinished", "keep", "--samples", "2",
            "--shard_prompts", "4", "--threads", "1", "--seed", "3", "--out", out]
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(ranks)}
    return [subprocess.Popen([str(word) for word in line], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                             env={**os.environ, **({**place, "RANK": str(rank)} if ranks > 1 else {})}) for rank in range(ranks)]


def test_texts_of_two_ranks_are_those_of_one(attar, world, together):
    (world / "prompts.jsonl").write_text("".join('{"prompt": "parcel %d of street"}\n' % i for i in range(18)))
    for ranks in (1, 2):
        finish(synthesize(attar, world, world / f"texts{ranks}", ranks))
    one, two = ((world / f"texts{ranks}" / "train.jsonl").read_bytes() for ranks in (1, 2))
    assert one == two and one.count(b"\n") > 18
