"""Drift against SciPy: the tests that lib/decide makes, and attar drift from an evaluation's folder to its exit code."""
import json
import random
import subprocess

import numpy as np
import pytest
from scipy import special, stats
from test_decide import ask
from test_model import ATTAR, attar, needs_attar, stories  # noqa: F401 (fixtures)


def ks(a, b):
    distance = stats.ks_2samp(a, b).statistic
    return distance, special.kolmogorov(distance * np.sqrt(len(a) * len(b) / (len(a) + len(b))))


def mann_whitney(a, b):
    found = stats.mannwhitneyu(a, b, method="asymptotic")
    return 2 * found.statistic / (len(a) * len(b)) - 1, found.pvalue


def holm(p):
    order, out, before = np.argsort(p, kind="stable"), np.zeros(len(p)), 0
    for rank, i in enumerate(order):
        before = out[i] = max(before, min(1, (len(p) - rank) * p[i]))
    return out


def test_distances_and_tables_are_scipys():
    rng = np.random.default_rng(0)
    samples = [(np.round(rng.normal(size=n), 1), np.round(rng.normal(0.3, 1, size=m), 1)) for n, m in ((20, 20), (300, 45), (1000, 900), (25, 2000))]
    for (a, b), got in zip(samples, ask(*[{"what": "ks", "a": a.tolist(), "b": b.tolist()} for a, b in samples])):
        assert [got["distance"], got["p"]] == pytest.approx(ks(a, b), rel=1e-9)
    graded = [(np.round(rng.random(size=n), d), np.round(rng.random(size=m) ** 1.3, d)) for n, m, d in ((20, 20, 1), (300, 45, 1), (60, 900, 3), (40, 40, 0))]
    for (a, b), got in zip(graded, ask(*[{"what": "mann_whitney", "a": a.tolist(), "b": b.tolist()} for a, b in graded])):
        assert [got["delta"], got["p"]] == pytest.approx(mann_whitney(a, b), rel=1e-9)
    tables = [(45, 50, 30, 50), (0, 20, 20, 20), (190, 200, 1800, 2000), (5, 5, 7, 9), (12, 30, 12, 30)]
    expected = [stats.fisher_exact([[a, n - a], [b, m - b]])[1] for a, n, b, m in tables]
    np.testing.assert_allclose(ask(*[{"what": "fisher", "a": a, "a_all": n, "b": b, "b_all": m} for a, n, b, m in tables]), expected, rtol=1e-6)


def surprisal(texts, counts, own):
    """Mean -log((count + 1) / (all + kinds + 1)) of each text's tokens, from the formula; `own`: the text's own tokens are taken out."""
    kinds, total, out = len(counts), sum(counts.values()), []
    for text in texts:
        left = total - len(text) if own else total
        out.append(np.mean([-np.log((counts.get(t, 0) - (text.count(t) if own else 0) + 1) / (left + kinds + 1)) for t in text]))
    return out


@pytest.mark.parametrize("shift", [0, 3])
def test_all_tests_and_holm_by_numpy(shift):
    rng = random.Random(shift)
    make = lambda n, longer: [[min(rng.randrange(40), rng.randrange(40)) + longer for _ in range(rng.randint(5 + longer, 20 + longer))] for _ in range(n)]
    reference, now = make(120, 0), make(90, shift)
    sure, unsure = [rng.random() for _ in reference], [rng.random() ** (1 + shift) for _ in now]
    right, fewer = [float(rng.random() < 0.9) for _ in reference], [float(rng.random() < (0.5 if shift else 0.9)) for _ in now]
    graded, worse = [rng.randrange(11) / 10 for _ in reference], [rng.randrange(11 + 2 * shift) / 10 for _ in now]
    got = ask({"what": "drift", "reference_graded": graded, "graded": worse, "less": True, "reference": reference, "now": now, "reference_confidence": sure, "confidence": unsure, "reference_correct": right, "correct": fewer,
               "level": 0.01, "threshold": 0.1})[0]
    counts = {}
    for text in reference:
        for token in text:
            counts[token] = counts.get(token, 0) + 1
    pairs = [([len(t) for t in reference], [len(t) for t in now]), (surprisal(reference, counts, True), surprisal(now, counts, False)), (sure, unsure)]
    expected = [ks(a, b) for a, b in pairs]
    table = [[sum(right), len(right) - sum(right)], [sum(fewer), len(fewer) - sum(fewer)]]
    expected.append((np.mean(right) - np.mean(fewer), stats.fisher_exact(np.array(table, int))[1]))
    delta, p = mann_whitney(graded, worse)
    expected.append((-delta, p))
    assert [t["name"] for t in got["tests"]] == ["length", "words", "confidence", "accuracy", "graded"]
    for test, (effect, p), adjusted, pair in zip(got["tests"], expected, holm([p for _, p in expected]), pairs + [None, None]):
        assert test["effect"] == pytest.approx(effect, abs=1e-12) and test["p"] == pytest.approx(p, rel=1e-6, abs=1e-300)
        assert test["p_adjusted"] == pytest.approx(adjusted, rel=1e-6, abs=1e-300)
        assert test["drifted"] == (adjusted < 0.01 and effect >= 0.1)
        if pair:
            assert [test["reference"], test["now"]] == pytest.approx([np.median(pair[0]), np.median(pair[1])])
    assert got["drifted"] == (shift > 0)


WORDS = {"a": "the little dog ran to the big red ball and was happy".split(), "b": "mom and dad went to the park with a small boat".split()}


def rows(path, seed, count, longest=9, words=None, labels=True):
    rng = random.Random(seed)
    lines = []
    for _ in range(count):
        label = rng.choice("ab")
        row = {"text": " ".join(rng.choice(words or WORDS[label]) for _ in range(rng.randint(4, longest)))}
        lines.append(json.dumps(row | ({"label": label} if labels else {})))
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def reference(stories, tmp_path):
    rows(tmp_path / "train.jsonl", 1, 60)
    rows(tmp_path / "test.jsonl", 2, 80)
    (tmp_path / "task.yaml").write_text("{name: side, train: train.jsonl, test: test.jsonl, labels: [a, b], prompt: '{text} '}\n")
    attar("eval", "--model", stories[0], "--task", tmp_path / "task.yaml", "--text-tokens", 200, "--ctx", 64, "--scores", tmp_path / "kept", "--json")
    return tmp_path


def drift(folder, model, *words, kept="kept"):
    done = subprocess.run([str(ATTAR), "drift", "--reference", str(folder / kept), "--artifact", str(model), "--model", str(model), "--json", *map(str, words)],
                          capture_output=True, text=True, timeout=300)
    return done.returncode, json.loads(done.stdout) if done.stdout else None, done.stderr


def test_drift_from_folder_to_exit_code(reference, stories):
    model = stories[0]
    code, same, _ = drift(reference, model, "--data", rows(reference / "same.jsonl", 3, 70))
    assert code == 0 and not same["drifted"] and same["rows"] == same["labelled"] == 70 and same["reference_rows"] == 80
    assert [t["name"] for t in same["tests"]] == ["length", "words", "confidence", "accuracy"]
    other = rows(reference / "other.jsonl", 4, 50, longest=40, words="zebra quantum invoice ledger 1999 tax".split())
    code, moved, _ = drift(reference, model, "--data", other)
    drifted = {t["name"]: t["drifted"] for t in moved["tests"]}
    assert code == 3 and moved["drifted"] and drifted["length"] and drifted["words"]
    # What attar eval keeps of the new rows, by SciPy.
    (reference / "new.yaml").write_text("{name: side, train: train.jsonl, test: other.jsonl, labels: [a, b], prompt: '{text} '}\n")
    attar("eval", "--model", model, "--task", reference / "new.yaml", "--text-tokens", 200, "--ctx", 64, "--scores", reference / "new", "--json")
    profiles = [json.loads(next((reference / name / "drift" / "side").glob("*.json")).read_text())["profile"] for name in ("kept", "new")]
    scores = [[json.loads(line) for line in next((reference / name / "scores" / "side").glob("*.jsonl")).read_text().splitlines()[1:]] for name in ("kept", "new")]
    tests = {t["name"]: t for t in moved["tests"]}
    for name, pair in (("length", [p["lengths"] for p in profiles]), ("confidence", [[s["max_probability"] for s in kept] for kept in scores])):
        assert [tests[name]["effect"], tests[name]["p"]] == pytest.approx(ks(*pair), rel=1e-6), name
    right = [[s["correct"] for s in kept] for kept in scores]
    assert tests["accuracy"]["p"] == pytest.approx(stats.fisher_exact([[sum(r), len(r) - sum(r)] for r in right])[1], rel=1e-6)
    assert [t["p_adjusted"] for t in moved["tests"]] == pytest.approx(list(holm([t["p"] for t in moved["tests"]])), rel=1e-9)
    # Without labels there is no word of accuracy; a table says the same as the JSON.
    code, silent, _ = drift(reference, model, "--data", rows(reference / "silent.jsonl", 3, 70, labels=False))
    assert code == 0 and silent["labelled"] == 0 and [t["name"] for t in silent["tests"]] == ["length", "words", "confidence"]


def test_drift_refuses_in_one_sentence(reference, stories):
    model, data = stories[0], rows(reference / "same.jsonl", 3, 70)
    (reference / "labels.jsonl").write_text(json.dumps({"text": "x", "label": "c"}) + "\n")
    for words, kept, part in [(["--data", data, "--level", "2"], "kept", "level"), (["--data", rows(reference / "few.jsonl", 3, 5)], "kept", "20 at least"),
                              (["--data", reference / "labels.jsonl"], "kept", "label 'c'"), (["--data", data], "nothing", "scores of a task")]:
        code, _, error = drift(reference, model, *words, kept=kept)
        lines = [line for line in error.splitlines() if line.startswith("error:")]
        assert code == 1 and len(lines) == 1 and part in lines[0], (words, error)
    code, _, error = drift(reference, "nobody", "--data", data)
    assert code == 1 and "--artifact nobody" in error


def test_memorized_rows_are_told_from_others(stories, tmp_path):
    told = []
    for start in ("Once upon a time", "Tom had a", "The dog", "One day", "Lily liked", "Her mom"):
        out = attar("generate", "--model", stories[0], "--prompt", start, "--max-tokens", 40).stdout
        told.append({"text": start + out.rstrip("\n"), "label": "a"})
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in told))
    rows(tmp_path / "test.jsonl", 2, 20, longest=40)
    (tmp_path / "task.yaml").write_text("{name: side, train: train.jsonl, test: test.jsonl, labels: [a, b], prompt: '{text} '}\n")
    words = ["eval", "--model", stories[0], "--task", tmp_path / "task.yaml", "--text-tokens", 200, "--ctx", 64, "--stride", 16, "--memorization-rows", 6,
             "--memorization-prefix", 8, "--memorization-length", 12, "--json"]
    result = json.loads(attar(*words).stdout)
    found = result["memorization"]
    assert found["trained"]["n"] == 6 and found["trained"]["value"] >= 0.5 and len(found["reproduced"]) == round(6 * found["trained"]["value"])
    assert found["held_out"]["value"] == 0 and (found["prefix"], found["length"]) == (8, 12)
    low, high = stats.binomtest(len(found["reproduced"]), 6).proportion_ci(method="wilson")
    assert [found["trained"]["low"], found["trained"]["high"]] == pytest.approx([low, high], abs=1e-9)
    assert "16" in result["perplexity"]["protocol"] and "indow" in result["perplexity"]["protocol"], result["perplexity"]["protocol"]
    assert result["energy"] == "not measured"
