"""attar route and attar registry as their users call them, on files made here: neither needs LibTorch."""
import hashlib
import json
import math
import random
import sqlite3

import pytest


def write_scores(path, artifact, rows, sha256=None, examples="e" * 64):
    """rows: (label, chosen, max_probability)."""
    head = {"format": "attar scores", "version": 1, "artifact": artifact, "model_sha256": sha256 or hashlib.sha256(artifact.encode()).hexdigest(), "task": "t",
            "examples_sha256": examples, "labels": ["a", "b"]}
    lines = [json.dumps(head)]
    for i, (label, chosen, p) in enumerate(rows):
        entropy = -sum(q * math.log(q) for q in (p, 1 - p) if q > 0)
        lines.append(json.dumps({"i": i, "label": label, "chosen": chosen, "correct": label == chosen, "max_probability": p, "margin": abs(2 * p - 1), "entropy": entropy,
                                 "label_probability": p if label == chosen else 1 - p, "brier": 2 * ((1 - p) if label == chosen else p) ** 2}))
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def scores(tmp_path):
    """A small model that is as sure as it is right, and a large one that is nearly always right."""
    rng = random.Random(5)
    small, large = [], []
    for _ in range(3000):
        label, p = rng.randrange(2), 0.5 + 0.5 * rng.random() ** 0.4
        small.append((label, label if rng.random() < p else 1 - label, p))
        large.append((label, label if rng.random() < 0.985 else 1 - label, 0.99))
    return write_scores(tmp_path / "small.jsonl", "small", small), write_scores(tmp_path / "large.jsonl", "large", large)


@pytest.mark.parametrize("score,limit", [("max_probability", "at_least"), ("margin", "at_least"), ("entropy", "at_most")])
def test_router_is_written_with_its_evidence(attar, scores, tmp_path, score, limit):
    small, large = scores
    attar("route", "--small", small, "--large", large, "--error", "0.1", "--score", score, "--small-cost", "0.02", "--out", tmp_path / "router.json", check=0)
    router = json.loads((tmp_path / "router.json").read_text())
    assert router["format"] == "attar router" and router["rule"]["score"] == score and limit in router["rule"]
    assert router["small"]["scores_sha256"] == hashlib.sha256(small.read_bytes()).hexdigest()
    assert router["large"]["sha256"] == hashlib.sha256(b"large").hexdigest()
    guarantee = router["guarantee"]
    assert guarantee["wrong"] / guarantee["served"] < guarantee["error_bound"] <= 0.1 and guarantee["p_value"] <= 0.05
    expected = router["expected"]
    assert expected["small_only"] < expected["quality"]["value"] <= expected["large_only"] + 0.01 and 0 < expected["large_share"] < 1
    assert router["apgr"] > 0.6 and router["cpt50"] <= router["cpt80"] < 0.9
    assert router["cost"]["routed_share_of_large"] == pytest.approx(0.02 + expected["large_share"])
    shares = [point["large_share"] for point in router["curve"]]
    assert shares == sorted(shares) and shares[0] == 0 and shares[-1] == 1
    # What the rule says, done by hand on the rows.
    rows = [json.loads(line) for line in small.read_text().splitlines()[1:]]
    own = [r for r in rows if (r[score] >= router["rule"][limit] if limit == "at_least" else r[score] <= router["rule"][limit])]
    assert 1 - len(own) / len(rows) == pytest.approx(expected["large_share"])
    # Equal input, equal bytes; and the same scores keep the promise.
    attar("route", "--small", small, "--large", large, "--error", "0.1", "--score", score, "--small-cost", "0.02", "--out", tmp_path / "again.json", check=0)
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "router.json").read_bytes()
    held = attar.json("route", "--router", tmp_path / "router.json", "--small", small)
    assert held["served"] == len(own) and not held["broken"]


def test_router_is_refused_on_other_models_scores(attar, scores, tmp_path):
    small, large = scores
    attar("route", "--small", small, "--large", large, "--error", "0.1", "--out", tmp_path / "router.json", check=0)
    rows = [(0, 0, 0.9)] * 50
    other = write_scores(tmp_path / "other.jsonl", "other", rows)
    assert "make a new router" in attar.error("route", "--router", tmp_path / "router.json", "--small", other)[0]
    # The same model on requests that it answers worse than promised: exit 3.
    worse = write_scores(tmp_path / "worse.jsonl", "small", [(0, 1, 0.999)] * 30 + [(0, 0, 0.999)] * 30)
    assert "BROKEN" in attar("route", "--router", tmp_path / "router.json", "--small", worse, check=3).stdout


def test_route_refuses_what_it_cannot_judge(attar, scores, tmp_path):
    small, large = scores
    assert "large" in attar.error("route", "--small", small, code=2)[0]
    assert "another model" in attar.error("route", "--small", small, "--large", small)[0]
    other = write_scores(tmp_path / "o.jsonl", "large", [(0, 0, 0.9)] * 3000, examples="f" * 64)
    assert "same rows" in attar.error("route", "--small", small, "--large", other)[0]
    assert "nothing" in attar.error("route", "--small", tmp_path / "none", "--large", large)[0]
    (tmp_path / "bad.jsonl").write_text(small.read_text().replace('"i": 7,', '"i": 9,'))
    assert ":9" in attar.error("route", "--small", tmp_path / "bad.jsonl", "--large", large)[0]
    few = write_scores(tmp_path / "few.jsonl", "few", [(0, 0, 0.9)] * 3), write_scores(tmp_path / "few2.jsonl", "few2", [(0, 0, 0.9)] * 3)
    assert "20" in attar.error("route", "--small", few[0], "--large", few[1])[0]
    assert "max_probability" in attar.error("route", "--small", small, "--large", large, "--score", "loudness")[0]
    assert "no threshold" in attar("route", "--small", small, "--large", large, "--error", "0.0001", check=0).stdout


def finished_run(folder, content, accuracy, passed=True):
    (folder / "gguf").mkdir(parents=True)
    (folder / "report").mkdir()
    (folder / "gguf" / "m.gguf").write_bytes(content)
    (folder / "recipe.json").write_text(json.dumps({"name": "triage", "stages": {"gguf": {"kind": "export"}, "report": {"kind": "evaluate"}}}))
    measure = {"value": accuracy, "low": accuracy - 0.02, "high": accuracy + 0.02, "n": 1000}
    report = {"verdict": "pass" if passed else "fail", "name": "triage", "gates": [{"path": "gguf.tasks.t.accuracy", "passed": passed, "limit": {}, "value": accuracy}],
              "artifacts": {"gguf": {"stage": "gguf", "path": "gguf/m.gguf", "sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content), "parameters": 3,
                                     "tasks": {"t": {"accuracy": measure}}}},
              "summary": {"choice": "gguf"}, "data": {"train": {"path": "train.csv", "sha256": "d" * 64}},
              "lineage": {"student": {"kind": "distill", "key": "a" * 64, "inputs": {}}, "gguf": {"kind": "export", "key": "b" * 64, "inputs": {"model": {"name": "student"}}}}}
    (folder / "report" / "report.json").write_text(json.dumps(report))
    return folder


def test_portfolio(attar, tmp_path):
    db = tmp_path / "r.db"
    one, two = finished_run(tmp_path / "one", b"first", 0.80), finished_run(tmp_path / "two", b"second", 0.90)
    assert attar.json("registry", "add", one, "--registry", db)["model"] == "triage@1"
    assert attar.json("registry", "add", two, "--registry", db)["model"] == "triage@2"
    attar("registry", "promote", "triage@1", "--registry", db, check=0)
    attar("registry", "promote", "triage@2", "--registry", db, check=0)
    in_use = lambda: [m["model"] for m in attar.json("registry", "list", "--registry", db)["models"] if m["in_use"]]
    assert in_use() == ["triage@2"]
    attar("registry", "rollback", "triage", "--registry", db, check=0)
    assert in_use() == ["triage@1"]
    assert "before" in attar.error("registry", "rollback", "triage", "--registry", db)[0]
    numbers = {row["number"]: row for row in attar.json("registry", "compare", "triage@2", "triage@1", "--registry", db)["numbers"]}
    difference = numbers["tasks.t.accuracy"]["difference"]  # Newcombe's square-and-add
    assert difference["low"] == pytest.approx(0.1 - math.hypot(0.02, 0.02)) and difference["high"] == pytest.approx(0.1 + math.hypot(0.02, 0.02))
    lineage = attar.json("registry", "lineage", "triage@2", "--registry", db)
    assert lineage["data"]["train"]["sha256"] == "d" * 64 and [s["stage"] for s in lineage["stages"]] == ["student", "gguf"]
    assert lineage["file"]["sha256"] == hashlib.sha256(b"second").hexdigest()
    history = attar.json("registry", "list", "--history", "--registry", db)["history"]
    assert [(h["model"], h["action"]) for h in history] == [("triage@1", "promoted"), ("triage@2", "promoted"), ("triage@2", "rolled back")]
    # One SQLite file that any client reads.
    assert sqlite3.connect(db).execute("select count(*) from models").fetchone() == (2,)


def test_registry_refuses(attar, tmp_path):
    db = tmp_path / "r.db"
    assert "registry add" in attar.error("registry", "list", "--registry", db)[0]
    run = finished_run(tmp_path / "run", b"first", 0.80, passed=False)
    attar("registry", "add", run, "--registry", db, check=0)
    assert "--anyway" in attar.error("registry", "promote", "triage@1", "--registry", db)[0]
    attar("registry", "promote", "triage@1", "--anyway", "--registry", db, check=0)
    (run / "gguf" / "m.gguf").write_bytes(b"changed")
    assert "SHA-256" in attar.error("registry", "add", run, "--registry", db)[0]
    assert "did you mean 'triage@1'" in attar.error("registry", "lineage", "triage@7", "--registry", db)[0]
    (tmp_path / "no.db").write_text("no database " * 100)
    assert len(attar.error("registry", "list", "--registry", tmp_path / "no.db")) == 1
