"""A cache's shards judged by h5py: what the draws are, what they take, and shards that a stranger made and signed."""
import hashlib
import json
import shutil

import h5py
import numpy as np
import pytest
from test_capture import log_softmax, logits_of, model, sequences, texts  # noqa: F401


def capture(attar, model, texts, out, samples, *more):
    attar("capture", "--teacher", model, "--data", texts, "--seq", 64, "--data.pack", "false", "--codec", "sampled", "--samples", samples, "--seed", 3, "--out", out, *more,
          check=0)
    return out


@pytest.fixture(scope="module")
def cache(attar, model, texts, tmp_path_factory):
    return capture(attar, model, texts, tmp_path_factory.mktemp("shards") / "cache", 40)


def counts_of(folder, vocab):
    """(P, V) times drawn, as docs/teacher_cache.md says that they are read."""
    rows = []
    for path in sorted(folder.glob("*.h5")):
        with h5py.File(path) as shard:
            distinct = shard["distinct"][:].astype(int)
            position = np.repeat(np.arange(len(distinct)), distinct)
            counts = np.zeros((len(distinct), vocab), int)
            counts[position, shard["ids"][:]] = shard["counts"][:]
            rows.append(counts)
    return np.concatenate(rows)


def lengths(folder):
    """Learned positions of each row."""
    return [n for path in sorted(folder.glob("*.h5")) for n in np.diff(h5py.File(path)["row_begin"][:])]


def test_systematic_draws_are_floor_or_ceil(attar, model, texts, cache, tmp_path):
    """Against the distributions that `attar logits` gives: every count is floor(N p) or ceil(N p); independent draws are not."""
    known = [np.exp(log_softmax(logits_of(attar, model, [row], tmp_path).reshape(len(row), -1)[:-1])) for row in sequences(attar, model, texts)]
    rows, at = [], 0
    for length in lengths(cache):  # one text is held out
        at += len(known[at]) != length
        rows.append(known[at])
        at += 1
    probs = np.concatenate(rows)
    counts = counts_of(cache, probs.shape[1])
    assert counts.shape == probs.shape and (counts.sum(1) == 40).all()
    assert np.abs(counts - 40 * probs).max() < 1 + 1e-3
    independent = counts_of(capture(attar, model, texts, tmp_path / "independent", 40, "--draws", "independent"), probs.shape[1])
    assert (independent.sum(1) == 40).all() and np.abs(independent - 40 * probs).max() > 3
    noise = [((c / 40 - probs) ** 2).sum(1).mean() for c in (counts, independent)]
    assert noise[0] < 0.6 * noise[1]


def test_shards_are_deflated(cache):
    with h5py.File(sorted(cache.glob("*.h5"))[0]) as shard:
        assert shard["ids"].compression == "gzip" and shard["ids"].shuffle
        assert shard.attrs["draws"] == b"systematic"
        assert shard["ids"].id.get_storage_size() < 0.8 * shard["ids"].nbytes


FORGERIES = {
    "gzip without shuffle": lambda f, old: f.create_dataset("counts", data=old, chunks=True, compression="gzip"),
    "fletcher32": lambda f, old: f.create_dataset("counts", data=old, chunks=True, compression="gzip", shuffle=True, fletcher32=True),
    "lzf": lambda f, old: f.create_dataset("counts", data=old, chunks=True, compression="lzf", shuffle=True),
    "nothing behind a terabyte": lambda f, old: f.create_dataset("counts", shape=(1 << 40,), dtype="u1", chunks=(1 << 20,), compression="gzip", shuffle=True),
    "other counts": lambda f, old: f.create_dataset("counts", data=np.ones_like(old), chunks=True, compression="gzip", shuffle=True),
    "fewer counts": lambda f, old: f.create_dataset("counts", data=old[:-1], chunks=True, compression="gzip", shuffle=True),
    "floats": lambda f, old: f.create_dataset("counts", data=old.astype("f4"), chunks=True, compression="gzip", shuffle=True),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_forged_and_signed_shard_is_one_sentence(attar, model, texts, cache, tmp_path, forgery):
    shutil.copytree(cache, tmp_path / "cache")
    path = sorted((tmp_path / "cache").glob("*.h5"))[0]
    with h5py.File(path, "r+") as shard:
        old = shard["counts"][:]
        del shard["counts"]
        FORGERIES[forgery](shard, old)
    manifest = json.loads((tmp_path / "cache/manifest.json").read_text())
    inner = manifest["facts"]["cache"]
    inner["shards"][0]["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    inner["shards"][0]["bytes"] = path.stat().st_size
    del inner["checksum"]
    inner["checksum"] = hashlib.sha256(json.dumps(inner, separators=(",", ":"), ensure_ascii=False).encode()).hexdigest()
    for output in manifest["outputs"]:
        if output["path"] == path.name:
            output |= {"bytes": path.stat().st_size, "sha256": inner["shards"][0]["sha256"]}
    (tmp_path / "cache/manifest.json").write_text(json.dumps(manifest))
    lines = attar.error("distill", "--model", model, "--teacher", tmp_path / "cache", "--data", texts, "--seq", 64, "--data.pack", "false", "--steps", 2,
                        "--seed", 3, "--out", tmp_path / "student")
    assert len(lines) == 1 and path.name in lines[0], lines
    assert "counts" in lines[0] or "draws of position" in lines[0], lines


def test_a_training_says_what_the_draws_cost(attar, model, texts, cache, tmp_path):
    result = attar("distill", "--model", model, "--teacher", cache, "--data", texts, "--seq", 64, "--data.pack", "false", "--steps", 1, "--batch", 4, "--seed", 3,
                   "--out", tmp_path / "student", check=0)
    facts = json.loads((tmp_path / "student/manifest.json").read_text())["facts"]
    rows = lengths(cache)
    said = facts["parameters"] / (2 * sum(rows) * 4 / len(rows) * 40)  # a step of 4 rows, 40 draws
    assert facts["excess_of_draws_nats"] == pytest.approx(said, rel=1e-6)
    assert "40 draws a token cost about" in result.stdout + result.stderr
