"""kill -9 at random moments of capture and of training, twenty times in all: the bytes of an undisturbed run. A disk that fills keeps what was done."""
import hashlib
import json
import random
import resource
import signal
import subprocess
import time

import pytest
from small_world import WORDS

SEED = 20261120
MODEL = """model_type: llama
hidden_size: {0}
intermediate_size: 64
num_hidden_layers: 2
num_attention_heads: 2
num_key_value_heads: 1
max_position_embeddings: 64
"""


@pytest.fixture(scope="module")
def world(attar, tmp_path_factory):
    """A text, a tokenizer, a teacher and its full cache: small, with many steps to be killed in."""
    folder = tmp_path_factory.mktemp("killed")
    draw = random.Random(5)
    (folder / "text.txt").write_text("\n\n".join(" ".join(draw.choice(WORDS) for _ in range(20)) for _ in range(400)))
    # Long rows last, so that the first shards are smaller than the last ones.
    (folder / "rows.jsonl").write_text("".join(json.dumps({"text": " ".join(draw.choice(WORDS) for _ in range(2 if i < 200 else 12))}) + "\n" for i in range(400)))
    (folder / "teacher.yaml").write_text(MODEL.format(64))
    (folder / "student.yaml").write_text(MODEL.format(32))
    attar("tokenizer", "train", "--data", folder / "text.txt", "--vocab-size", 300, "--model", "bpe", "--out", folder / "tokens", check=0)
    attar("distill", "--model", folder / "teacher.yaml", "--tokenizer", folder / "tokens", "--data", folder / "text.txt", "--seq", 32, "--batch", 4, "--steps", 2,
          "--threads", 1, "--out", folder / "teacher", check=0)
    return folder


def training(world, *more):
    return ["distill", "--data", world / "text.txt", "--seq", 32, "--batch", 4, "--train.snapshot_every", 5, "--train.warmup", 2, "--lr", "3e-3", "--threads", 1,
            "--seed", 3, *more]


def capture(world, *more):
    return ["capture", "--teacher", world / "teacher", "--codec", "sampled", "--samples", 50, "--shard_rows", 8, "--threads", 1, "--seed", 3, *more]


def files(folder):
    """Every file of an artifact but those that hold times."""
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.rglob("*"))
            if path.is_file() and path.name not in ("manifest.json", "log.jsonl", "events.out.tfevents.attar")}


def start(attar, command, out):
    return subprocess.Popen([str(word) for word in [attar.path, *command, "--out", out]], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def undisturbed(attar, command, out):
    """Files of a run that nobody kills."""
    process = start(attar, command, out)
    said = process.communicate(timeout=300)[1]
    assert process.returncode == 0, said
    return files(out)


def work_done(folder):
    """How far a run is: steps in its log, or shards."""
    log = folder / "log.jsonl"
    return log.read_bytes().count(b"\n") if log.exists() else sum(1 for _ in folder.rglob("*.h5"))


def wait_for_work(process, out, amount):
    work = out.parent / f".{out.name}.work"
    while process.poll() is None and work_done(work) < amount:
        time.sleep(0.002)


def killed(attar, command, folder, name, kills, draw):
    """Runs that are killed `kills` times in all; each that gets to its end has the undisturbed bytes."""
    wanted = undisturbed(attar, command, folder / f"{name}_whole")
    assert len(wanted) > 1
    whole = work_done(folder / f"{name}_whole")
    assert whole >= 20
    moments, inside, number = [], 0, 0
    while True:
        out = folder / f"{name}_{number}"
        process = start(attar, command, out)
        if len(moments) < kills:
            moments.append(draw.randrange(0, int(0.8 * whole)))
            wait_for_work(process, out, moments[-1])
            time.sleep(draw.uniform(0, 0.02))
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
                process.communicate()
                inside += process.returncode == -signal.SIGKILL
                continue
        said = process.communicate(timeout=300)[1]
        assert process.returncode == 0, said
        assert files(out) == wanted, f"{name}: killed at {moments}"
        if len(moments) == kills:
            break
        number += 1
    print(f"{name}: {whole} steps or shards, killed {inside} times at {moments}, seed {SEED}")
    assert inside >= kills * 0.8, "most kills must meet a run at work"
    log = out / "log.jsonl"
    if log.exists():
        steps = [json.loads(line)["step"] for line in log.read_text().splitlines()]
        assert steps == list(range(1, len(steps) + 1))


def test_capture_killed_ten_times_gives_the_same_bytes(attar, world):
    command = capture(world, "--data", world / "rows.jsonl", "--seq", 64, "--data.pack", "false")
    killed(attar, command, world, "cache", 10, random.Random(SEED))


@pytest.mark.parametrize("kind,kills", [("plain", 4), ("lora", 3), ("ema", 3)])
def test_training_killed_ten_times_gives_the_same_bytes(attar, world, kind, kills):
    more = {"plain": ["--model", world / "student.yaml", "--teacher", world / "teacher", "--steps", 250],
            "lora": ["--model", world / "teacher", "--lora.rank", 4, "--loss.ce", 1, "--steps", 200],
            "ema": ["--model", world / "student.yaml", "--tokenizer", world / "tokens", "--train.ema", 0.99, "--train.result", "best", "--steps", 250]}[kind]
    killed(attar, training(world, *more), world, kind, kills, random.Random(SEED + len(kind)))


def test_a_disk_that_fills_during_capture_is_one_sentence_and_keeps_the_shards(attar, world):
    """A limit on file sizes stands for the disk: writing fails as it does there, without root."""
    command = capture(world, "--data", world / "rows.jsonl", "--seq", 64, "--data.pack", "false")
    wanted = undisturbed(attar, command, world / "roomy")
    sizes = sorted(path.stat().st_size for path in (world / "roomy").glob("*.h5"))
    limit = (sizes[0] + sizes[-1]) // 2
    assert sizes[0] < limit < sizes[-1]

    def small_disk():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    full = subprocess.run([str(word) for word in [attar.path, *command, "--out", world / "full"]], capture_output=True, text=True, preexec_fn=small_disk,
                          restore_signals=False)
    errors = [line for line in full.stderr.splitlines() if line.startswith("error:")]
    assert full.returncode == 1 and len(errors) == 1 and "cannot write" in errors[0] and "File too large" in errors[0], full.stderr
    assert "HDF5-DIAG" not in full.stderr and len(full.stderr.strip().splitlines()) <= 3, full.stderr
    kept = list((world / ".full.work").rglob("*.h5"))
    assert kept and not (world / "full").exists()
    before = {path.name: path.stat().st_mtime_ns for path in kept}
    again = start(attar, command, world / "full")
    said = again.communicate(timeout=300)[1]
    assert again.returncode == 0, said
    assert files(world / "full") == wanted
    after = {path.name: path.stat().st_mtime_ns for path in (world / "full").rglob("*.h5")}
    assert before.items() <= after.items(), "shards that were whole are not made again"
