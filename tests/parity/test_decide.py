"""What lib/decide computes against SciPy, and against plain NumPy written from the formulas."""
import csv
import json
import os
import pathlib
import subprocess
import zlib

import numpy as np
import pytest
from scipy import optimize, sparse, stats

BUILD = pathlib.Path(os.environ.get("ATTAR_BUILD", pathlib.Path(__file__).resolve().parents[2] / "build" / "release"))
Z = 1.959963984540054


def ask(*requests):
    program = BUILD / "bin" / "decide_numbers"
    if not program.exists():
        pytest.skip(f"SKIPPED LOUDLY: {program} is missing; build it")
    text = "".join(json.dumps(request) + "\n" for request in requests)
    done = subprocess.run([str(program)], input=text, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_binomial_tails_and_bounds_are_scipys():
    rng = np.random.default_rng(0)
    cases = [(int(rng.integers(0, n + 1)), n, float(p)) for n in (1, 7, 60, 1000, 200_000) for p in (0.01, 0.05, 0.3, 0.9)]
    got = ask(*[{"what": "tail", "k": k, "n": n, "p": p} for k, n, p in cases])
    np.testing.assert_allclose(got, [stats.binom.cdf(k, n, p) for k, n, p in cases], rtol=1e-9, atol=1e-300)
    cases = [(k, n) for n in (20, 300, 5000) for k in (0, 1, 9, n // 2, n)]
    got = ask(*[{"what": "bound", "k": k, "n": n, "confidence": 0.95} for k, n in cases])
    expected = [stats.binomtest(k, n).proportion_ci(0.90, "exact").high for k, n in cases]  # two-sided 90% is one-sided 95%
    np.testing.assert_allclose(got, expected, rtol=1e-9)


def tango(b, c, n):
    """From the definition: the score test's own likelihood, maximised by SciPy, its roots found by SciPy."""
    def score(delta):
        def loss(p21):
            p12, rest = p21 + delta, 1 - 2 * p21 - delta
            return -(stats.multinomial.logpmf([b, c, n - b - c], n, [p12, p21, rest]) if min(p12, p21, rest) > 0 else -1e12)
        low, high = max(0, -delta), (1 - delta) / 2
        p21 = optimize.minimize_scalar(loss, bounds=(low + 1e-12, high - 1e-12), method="bounded", options={"xatol": 1e-13}).x
        return (b - c - n * delta) / np.sqrt(n * (2 * p21 + delta * (1 - delta)))
    value = (b - c) / n
    return (optimize.brentq(lambda d: score(d) - Z, -1 + 1e-6, value - 1e-7), optimize.brentq(lambda d: score(d) + Z, value + 1e-7, 1 - 1e-6))


def test_tangos_interval_is_the_score_tests():
    cases = [(12, 4, 100), (3, 17, 60), (40, 40, 500), (1, 0, 44)]
    got = ask(*[{"what": "tango", "only_a": b, "only_b": c, "n": n} for b, c, n in cases])
    for (b, c, n), interval in zip(cases, got):
        low, high = tango(b, c, n)
        assert interval["low"] == pytest.approx(low, abs=2e-5) and interval["high"] == pytest.approx(high, abs=2e-5), (b, c, n)


def test_paired_means_are_scipys():
    rng = np.random.default_rng(1)
    for n in (2, 9, 400):
        a, b = rng.normal(size=n), rng.normal(size=n)
        got = ask({"what": "paired", "a": a.tolist(), "b": b.tolist()})[0]
        interval = stats.ttest_rel(a, b).confidence_interval(0.95)
        assert [got["low"], got["high"]] == pytest.approx([interval.low, interval.high], rel=1e-9)


def test_scores_of_an_example():
    rng = np.random.default_rng(2)
    for _ in range(20):
        p = rng.dirichlet(np.ones(77) * 0.2)
        label = int(rng.integers(77))
        got = ask({"what": "score", "p": p.tolist(), "label": label})[0]
        top = np.sort(p)
        assert got["chosen"] == int(p.argmax())
        assert got["margin"] == pytest.approx(top[-1] - top[-2], abs=1e-12)
        assert got["entropy"] == pytest.approx(stats.entropy(p), abs=1e-12)
        assert got["brier"] == pytest.approx(((p - np.eye(77)[label]) ** 2).sum(), abs=1e-12)


def test_routing_curve_by_brute_force():
    rng = np.random.default_rng(3)
    for step in (1000, 7):  # with and without ties
        n = 400
        sureness = np.floor(rng.uniform(size=n) * step) / step
        small = (rng.uniform(size=n) < 0.5 + 0.5 * sureness).astype(float)
        large = (rng.uniform(size=n) < 0.97).astype(float)
        got = ask({"what": "curve", "sureness": sureness.tolist(), "small": small.tolist(), "large": large.tolist()})[0]
        share, recovered = [], []
        for threshold in [-1, *np.unique(sureness), 2]:
            sent = sureness < threshold
            quality = np.where(sent, large, small).mean()
            share.append(sent.mean())
            recovered.append((quality - small.mean()) / (large.mean() - small.mean()))
        share, recovered = np.array(share), np.array(recovered)
        assert got["apgr"] == pytest.approx(np.trapezoid(recovered, share), abs=1e-12)
        for key, level in (("cpt50", 0.5), ("cpt80", 0.8)):
            assert got[key] == pytest.approx(share[recovered >= level - 1e-12].min(), abs=1e-12)


def test_threshold_is_certified_by_scipy():
    rng = np.random.default_rng(4)
    for seed in range(5):
        sureness = rng.uniform(size=2000)
        correct = (rng.uniform(size=2000) > 0.4 * (1 - sureness)).astype(float)
        got = ask({"what": "threshold", "sureness": sureness.tolist(), "correct": correct.tolist(), "error": 0.1, "confidence": 0.95, "seed": seed})[0]
        assert got["at_least"] is not None and got["served"] > 400
        assert got["p_value"] == pytest.approx(stats.binom.cdf(got["wrong"], got["served"], 0.1), rel=1e-9) and got["p_value"] <= 0.05
        assert got["error_bound"] == pytest.approx(stats.binomtest(got["wrong"], got["served"]).proportion_ci(0.90, "exact").high, rel=1e-9)
        served = sureness >= got["at_least"]  # tested on four fifths of these
        assert got["served"] == pytest.approx(0.8 * served.sum(), rel=0.1)


def test_pareto_front_by_brute_force():
    rng = np.random.default_rng(5)
    points = [(f"p{i}", float(x), float(y)) for i, (x, y) in enumerate(rng.integers(0, 12, size=(60, 2)))]
    front = ask({"what": "pareto", "points": points})[0]
    at = {name: (x, y) for name, x, y in points}
    beaten = {n for n, x, y in points if any((a <= x and b <= y) and (a < x or b < y) for _, a, b in points)}
    assert {at[n] for n in front} == {at[n] for n, _, _ in points if n not in beaten}
    assert len({at[n] for n in front}) == len(front)


def linear_probabilities(data):
    """Probabilities of Banking77's intents for its test rows by a linear model on hashed words, trained in seconds; and the right answers."""
    def rows(name):
        with open(data / "banking77" / name, newline="") as file:
            return [(row["text"], row["category"]) for row in csv.DictReader(file)]

    def features(texts, width=8192):
        words = [text.lower().split() for text in texts]
        at = [zlib.crc32(word.encode()) % width for line in words for word in line]
        line = np.repeat(np.arange(len(words)), [len(w) for w in words])
        weight = 1 / np.sqrt(np.repeat([max(len(w), 1) for w in words], [len(w) for w in words]))
        return sparse.csr_matrix((weight, (line, at)), shape=(len(words), width))

    def softmax(logits):
        p = np.exp(logits - logits.max(1, keepdims=True))
        return p / p.sum(1, keepdims=True)

    train, test = rows("train.csv"), rows("test.csv")
    labels = sorted({label for _, label in train})
    truth = np.eye(len(labels))[[labels.index(label) for _, label in train]]
    x = features([text for text, _ in train])
    weight, speed = np.zeros((x.shape[1], len(labels))), 0
    for _ in range(60):
        speed = 0.9 * speed + x.T @ (softmax(x @ weight) - truth) / len(train)
        weight = weight - 40 * speed
    return softmax(features([text for text, _ in test]) @ weight), np.array([labels.index(label) for _, label in test])


def test_guarantee_over_200_resplits_of_banking77(data):
    small, answers = linear_probabilities(data)
    correct, sureness = (small.argmax(1) == answers).astype(float), small.max(1)
    assert 0.5 < correct.mean() < 0.95
    rng, error, requests, halves = np.random.default_rng(6), 0.1, [], []
    for seed in range(200):
        order = rng.permutation(len(answers))
        halves.append((order[: len(order) // 2], order[len(order) // 2:]))
        own = halves[-1][0]
        requests.append({"what": "threshold", "sureness": sureness[own].tolist(), "correct": correct[own].tolist(), "error": error, "confidence": 0.95, "seed": seed})
    got = ask(*requests)
    # The share of wrong answers at the threshold in the whole set, of which each half is a sample, is what is guaranteed.
    def wrong(rows, threshold):
        served = sureness[rows] >= threshold
        return 1 - correct[rows][served].mean() if served.any() else 0
    everything = np.arange(len(answers))
    chosen = [(half, t["at_least"]) for (_, half), t in zip(halves, got) if t["at_least"] is not None]
    assert len(chosen) >= 180  # it does serve
    held = sum(wrong(everything, t) <= error for _, t in chosen) + 200 - len(chosen)
    assert held >= 190, held
    other = sum(wrong(half, t) <= error for half, t in chosen) + 200 - len(chosen)
    served = np.mean([(sureness >= t).mean() for _, t in chosen])
    print(f"held in {held} of 200; on the other half alone in {other}; {100 * served:.0f}% served of accuracy {correct.mean():.3f}")
    assert other >= 170, other
