"""The short run of the default recipe: every stage, nothing to do the second time, the same bytes after being killed anywhere."""
import hashlib
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from short import short_run

STAGES = ["tokenizer", "teacher", "logits", "student", "pruned", "recovered", "qat", "gguf", "onnx", "report"]


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def finals(run):
    return {name: sha256(run / name) for name in ["gguf/model.gguf", "onnx/model.onnx"]}


def test_every_stage_leaves_a_whole_artifact(attar, finished):
    for stage in STAGES:
        manifest = json.loads((finished / stage / "manifest.json").read_text())
        assert manifest["name"] == stage and manifest["key"]
    assert not [p for p in finished.iterdir() if p.name.startswith(".") and p.name != ".lock"]
    attar("verify", finished, check=0)


def test_a_finished_run_does_nothing_and_says_so(attar, root, finished):
    before = {p: p.stat().st_mtime_ns for p in finished.rglob("*") if p.is_file() and p.name not in (".lock", "recipe.json")}
    began = time.time()
    done = attar("run", "recipes/support_triage.yaml", *short_run(root, "support_triage"), "--out", finished)
    assert done.returncode in (0, 3) and "nothing to do" in done.stderr
    assert time.time() - began < 30
    assert before == {p: p.stat().st_mtime_ns for p in finished.rglob("*") if p.is_file() and p.name not in (".lock", "recipe.json")}


def test_report_measures_every_artifact(finished):
    report = json.loads((finished / "report" / "report.json").read_text())
    assert list(report["artifacts"]) == ["teacher", "student", "pruned", "recovered", "qat", "gguf", "onnx"]
    for name, artifact in report["artifacts"].items():
        assert artifact["bytes"] > 0 and artifact["parameters"] > 0, name
        assert 0 <= artifact["tasks"]["triage"]["accuracy"]["value"] <= 1
        assert artifact["perplexity"]["value"] > 1
    errors = {stage: [t["error"] for t in report["lineage"][stage]["facts"]["tensors"]] for stage in ("qat", "gguf")}
    assert errors["qat"] and all(0 < e < 0.5 for e in errors["qat"]), "against the weights before QAT"
    assert errors["gguf"] and not any(errors["gguf"]), "the file holds QAT's codes as they are"
    gguf = report["artifacts"]["gguf"]
    assert gguf["path"] == "gguf/model.gguf" and gguf["sha256"] == sha256(finished / gguf["path"])
    assert gguf["bytes"] == (finished / gguf["path"]).stat().st_size
    # The file holds what QAT ended with: judged from its own bytes it is the same model.
    assert gguf["tasks"] == report["artifacts"]["qat"]["tasks"]
    assert gguf["kld"]["mean"] == pytest.approx(report["artifacts"]["qat"]["kld"]["mean"], abs=1e-9)
    assert report["artifacts"]["teacher"]["kld"]["mean"] == 0
    assert {gate["path"] for gate in report["gates"]} == {"teacher.tasks.triage.accuracy", "gguf.tasks.triage.accuracy"}
    assert (finished / "report" / "report.html").read_text().startswith("<!doctype html>")


def test_a_changed_stage_runs_again_with_what_depends_on_it(attar, root, finished):
    plan = attar.json("plan", "recipes/support_triage.yaml", *short_run(root, "support_triage"), "stages.qat.train.lr=3.0e-4", "--out", finished)
    states = {stage["id"]: stage["state"] for stage in plan["stages"]}
    assert {stage for stage, state in states.items() if state == "needed"} == {"qat", "gguf", "onnx", "report"}


def run_and_kill(attar, root, run, stage, delay):
    """Starts the run and kills it with SIGKILL `delay` seconds after the stage's work folder appears. True if it was killed inside."""
    process = subprocess.Popen([str(attar.path), "run", "recipes/support_triage.yaml", *short_run(root, "support_triage"), "--out", str(run)],
                               cwd=root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not (run / f".{stage}.work").exists():
        time.sleep(0.005)
    time.sleep(delay)
    if process.poll() is None:
        os.kill(process.pid, signal.SIGKILL)
    process.wait()
    return not (run / stage / "manifest.json").exists()


@pytest.mark.parametrize("stage,seed", [("logits", 1), ("student", 2), ("qat", 3), ("gguf", 4)])
def test_killed_anywhere_it_ends_with_the_same_bytes(attar, root, finished, tmp_path, stage, seed):
    """Three kills at random moments of one stage, then to the end. What came before the stage is taken from the finished run."""
    run = tmp_path / "run"
    run.mkdir()
    for earlier in STAGES[:STAGES.index(stage)]:
        subprocess.run(["cp", "-al", str(finished / earlier), str(run / earlier)], check=True)
    draw = random.Random(seed)
    inside = sum(run_and_kill(attar, root, run, stage, draw.uniform(0, 1.2 if stage != "gguf" else 0.05)) for _ in range(3))
    done = attar("run", "recipes/support_triage.yaml", *short_run(root, "support_triage"), "--out", run)
    assert done.returncode in (0, 3), done.stderr
    print(f"{inside} of 3 kills fell inside {stage}")
    assert finals(run) == finals(finished)
    assert not [p for p in run.iterdir() if ".tmp-" in p.name or p.name.endswith(".work")]


def test_a_kill_after_the_stage_was_in_place_leaves_nothing(attar, root, finished, tmp_path):
    run = tmp_path / "run"
    subprocess.run(["cp", "-al", str(finished), str(run)], check=True)
    (run / ".student.work").mkdir()
    (run / ".student.work" / "snapshot.safetensors").write_bytes(b"old")
    attar("run", "recipes/support_triage.yaml", *short_run(root, "support_triage"), "--out", run)
    assert not (run / ".student.work").exists()
    assert finals(run) == finals(finished)


def test_two_runs_on_one_folder(attar, root, finished):
    import fcntl
    with open(finished / ".lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lines = attar.error("run", "recipes/support_triage.yaml", *short_run(root, "support_triage"), "--out", finished)
    assert len(lines) == 1 and "another" in lines[0]
