"""Mixtures, warm-ups, filters and texts that a teacher writes: the same bytes after kill -9, whole recipes, two processes as one."""
import hashlib
import json
import os
import random
import signal
import socket
import subprocess
import time

import numpy as np
import pytest
from small_world import WORDS, make_small_world


@pytest.fixture(scope="module")
def world(attar, tmp_path_factory):
    folder = tmp_path_factory.mktemp("order")
    draw, words = make_small_world(attar, folder), WORDS
    rows = [{"prompt": " ".join(draw.choice(words) for _ in range(draw.randint(1, 6))), "answer": draw.choice(words)} for _ in range(120)]
    (folder / "mail.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    attar("distill", "--model", folder / "model.yaml", "--tokenizer", folder / "tokens", "--data", folder / "mail.jsonl", "--seq", 32,
          "--data.pack", "false", "--batch", 8, "--steps", 40, "--lr", 3e-3, "--threads", 1, "--out", folder / "teacher", check=0)
    return folder


def mixed(world, steps=60):
    parts = [f"{{path: {world / 'mail.jsonl'}, weight: 2}}", f"{{path: {world / 'text.txt'}, weight: 1}}"]
    return ["distill", "--model", world / "model.yaml", "--teacher", world / "teacher", "--data.mix", parts[0], "--data.mix", parts[1], "--seq", 32,
            "--data.curriculum.by", "teacher_loss", "--data.curriculum.share", 0.6, "--data.filter.drop_highest", 0.1, "--batch", 4, "--steps", steps,
            "--train.snapshot_every", 5, "--train.warmup", 2, "--threads", 1, "--seed", 3]


def digest(folder, name="model.safetensors"):
    return hashlib.sha256((folder / name).read_bytes()).hexdigest()


def killed_until_done(attar, words, out, started, tries=40):
    """Runs it again and again, each time killed a little after `started` says that it has begun; how often it was killed."""
    draw, kills = random.Random(3), 0
    for _ in range(tries):
        process = subprocess.Popen([str(word) for word in [attar.path, *words, "--out", out]], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        before, deadline = started(), time.time() + draw.uniform(0.0, 0.25)
        while process.poll() is None and (started() <= before or time.time() < deadline):
            time.sleep(0.005)
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
            kills += 1
        if process.wait() == 0:
            return kills
        if kills == 4:
            attar(*words, "--out", out, check=0)
            return kills
    raise AssertionError("never done")


def test_a_killed_training_draws_the_same_rows(attar, world, tmp_path):
    attar(*mixed(world, 300), "--out", tmp_path / "whole", check=0)
    log = tmp_path / ".killed.work/log.jsonl"
    kills = killed_until_done(attar, mixed(world, 300), tmp_path / "killed", lambda: log.stat().st_size if log.exists() else 0)
    assert kills >= 2
    assert digest(tmp_path / "killed") == digest(tmp_path / "whole")
    facts = json.loads((tmp_path / "killed/manifest.json").read_text())["facts"]
    assert [part["share"] for part in facts["mixture"]] == pytest.approx([2 / 3, 1 / 3])
    assert facts["curriculum"] == {"by": "teacher_loss", "steps": 180} and len(facts["filter"]) == 2
    assert "done before" in attar(*mixed(world, 300), "--out", tmp_path / "killed", check=0).stderr


def test_two_processes_filter_and_draw_as_one(attar, world, tmp_path):
    from safetensors.numpy import load_file
    attar(*mixed(world, 12), "--out", tmp_path / "one", check=0)
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        port = place.getsockname()[1]
    words = [str(word) for word in [attar.path, *mixed(world, 12), "--out", tmp_path / "two"]]
    place = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    ranks = [subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env={**place, "RANK": str(rank)}) for rank in range(2)]
    said = [rank.communicate(timeout=300)[1] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], said
    one, two = (json.loads((tmp_path / name / "manifest.json").read_text())["facts"] for name in ("one", "two"))
    assert one["filter"] == two["filter"] and one["mixture"] == two["mixture"]
    first, second = load_file(str(tmp_path / "one/model.safetensors")), load_file(str(tmp_path / "two/model.safetensors"))
    for name in first:
        assert np.abs(first[name] - second[name]).max() <= 1e-5 * max(1.0, np.abs(first[name]).max()), name


def test_killed_synthesis_writes_the_same_texts(attar, world, tmp_path):
    words = ["synthesize", "--teacher", world / "teacher", "--data", world / "mail.jsonl", "--max-tokens", 20, "--shard_prompts", 8,
             "--unfinished", "keep", "--samples", 3, "--batch", 12, "--threads", 1, "--seed", 3]
    attar(*words, "--out", tmp_path / "whole", check=0)
    shards = tmp_path / ".killed.work/texts"
    kills = killed_until_done(attar, words, tmp_path / "killed", lambda: len(list(shards.glob("*.json"))) if shards.exists() else 0)
    assert kills >= 1
    whole = (tmp_path / "whole/train.jsonl").read_bytes()
    assert (tmp_path / "killed/train.jsonl").read_bytes() == whole and whole.count(b"\n") > 100
    attar("verify", tmp_path / "killed", check=0)
    words[-1] = 4
    attar(*words, "--out", tmp_path / "other", check=0)
    assert (tmp_path / "other/train.jsonl").read_bytes() != whole


def test_a_recipe_distils_what_its_teacher_wrote(attar, world, tmp_path):
    """Sequence-level distillation: teacher writes, student reads, alone and beside what people wrote."""
    (tmp_path / "r.yaml").write_text(f"""name: written
seed: 3
stages:
  texts: {{kind: synthesize, teacher: {world / 'teacher'}, data: {{path: {world / 'mail.jsonl'}, limit: 40}}, max_tokens: 12, unfinished: keep}}
  alone: {{kind: distill, model: {world / 'model.yaml'}, tokens: {world / 'tokens'}, train: {{steps: 4, batch: 4}},
          data: {{path: texts, seq: 32, pack: false}}}}
  mixed: {{kind: distill, model: {world / 'model.yaml'}, teacher: {world / 'teacher'}, train: {{steps: 4, batch: 4}},
          data: {{seq: 32, mix: [{{path: texts}}, {{path: {world / 'mail.jsonl'}, limit: 60}}], mix_temperature: 2}}}}
""")
    plan = attar.json("plan", tmp_path / "r.yaml", "--out", tmp_path / "run")
    assert [stage["kind"] for stage in plan["stages"]] == ["synthesize", "distill", "distill"] and 0 < plan["stages"][0]["tokens"] <= 40 * 12
    attar("run", tmp_path / "r.yaml", "--out", tmp_path / "run", check=0)
    facts = json.loads((tmp_path / "run/mixed/manifest.json").read_text())["facts"]
    sizes = [part["rows"] for part in facts["mixture"]]
    assert facts["mixture"][0]["share"] == pytest.approx(sizes[0] ** 0.5 / (sizes[0] ** 0.5 + sizes[1] ** 0.5))
    assert all(stage["state"] == "done" for stage in attar.json("plan", tmp_path / "r.yaml", "--out", tmp_path / "run")["stages"])
