"""TensorBoard reads the scalars of a training: the run log's, each step once, after a kill too."""
import json
import os
import signal
import subprocess
import time

import numpy as np
import pytest
from small_world import make_small_world


@pytest.fixture(scope="module")
def world(attar, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tensorboard")
    make_small_world(attar, folder)
    return folder


def command(attar, world, out, steps):
    line = [attar.path, "distill", "--model", world / "model.yaml", "--tokenizer", world / "tokens", "--data", world / "text.txt", "--seq", 32, "--batch", 4, "--steps", steps,
            "--train.snapshot_every", 7, "--train.warmup", 2, "--threads", 1, "--seed", 3, "--out", out]
    return [str(word) for word in line]


def same_scalars(folder):
    pytest.importorskip("tensorboard", reason="SKIPPED LOUDLY: tensorboard is not installed (tests/parity/requirements.txt)")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    reader = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    reader.Reload()
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    steps = [line["step"] for line in log]
    assert steps == list(range(1, len(log) + 1))
    tags = {name for line in log for name in line} - {"step", "time"}
    assert {"loss", "lr", "norm", "tokens_per_s", "mfu", "peak_bytes", "held_out_loss"} <= tags
    assert set(reader.Tags()["scalars"]) == tags
    for tag in tags:
        events = reader.Scalars(tag)
        lines = [line for line in log if tag in line]
        assert [event.step for event in events] == [line["step"] for line in lines]
        assert [event.wall_time for event in events] == [line["time"] for line in lines]
        assert np.array_equal(np.array([event.value for event in events], np.float32), np.array([line[tag] for line in lines], np.float32)), tag
    return len(log)


def test_tensorboard_reads_the_run_log(attar, world):
    subprocess.run(command(attar, world, world / "run", 30), check=True, stderr=subprocess.DEVNULL)
    assert same_scalars(world / "run") == 30
    events = [path.name for path in (world / "run").iterdir() if "tfevents" in path.name]
    assert events == ["events.out.tfevents.attar"]
    # It has times in it, so it is no part of what the artifact is.
    manifest = json.loads((world / "run" / "manifest.json").read_text())
    assert events[0] not in {entry["path"] for entry in manifest["outputs"]}
    attar("verify", world / "run", check=0)
    facts = manifest["facts"]["throughput"]
    assert facts["tokens_per_s"] > 0 and facts["mfu"] > 0 and "measured on this machine" in facts["mfu_is_a_share_of"]


def test_a_killed_run_shows_no_step_twice(attar, world):
    process = subprocess.Popen(command(attar, world, world / "killed", 400), stderr=subprocess.DEVNULL)
    log = world / ".killed.work" / "log.jsonl"
    while process.poll() is None and (not log.exists() or log.read_bytes().count(b"\n") < 20):
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert log.exists(), "killed too late to show anything"
    done = subprocess.run(command(attar, world, world / "killed", 400), stderr=subprocess.PIPE, text=True)
    assert done.returncode == 0 and "goes on at step" in done.stderr
    assert same_scalars(world / "killed") == 400
