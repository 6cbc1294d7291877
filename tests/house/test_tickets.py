"""data/support_tickets: what the generator writes is what lies there, no text is shared, and the task is neither trivial nor hopeless."""
import collections
import json
import math
import pathlib
import re
import subprocess
import sys

import pytest

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "data" / "support_tickets"


def rows(name):
    return [json.loads(line) for line in (FOLDER / name).read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def train():
    return rows("train.jsonl")


@pytest.fixture(scope="module")
def test():
    return rows("test.jsonl")


def normal(text):
    return " ".join(text.lower().split())


def test_generator_gives_the_same_bytes(tmp_path):
    subprocess.run([sys.executable, FOLDER / "generate.py", "--out", tmp_path], check=True)
    for name in ("train.jsonl", "test.jsonl"):
        assert (tmp_path / name).read_bytes() == (FOLDER / name).read_bytes(), name


def test_other_tasks_are_made_of_them(tmp_path):
    made = FOLDER.parent / "support_tasks"
    subprocess.run([sys.executable, made / "generate.py", "--out", tmp_path], check=True)
    names = sorted(file.name for file in made.glob("*.jsonl"))
    assert len(names) == 6
    for name in names:
        assert (tmp_path / name).read_bytes() == (made / name).read_bytes(), name


def test_another_seed_gives_other_rows(tmp_path):
    subprocess.run([sys.executable, FOLDER / "generate.py", "--out", tmp_path, "--seed", "21", "--train", "50", "--test", "10"], check=True)
    other = (tmp_path / "train.jsonl").read_text(encoding="utf-8").splitlines()
    mine = (FOLDER / "train.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(other) == 50 and not set(other) & set(mine[:50])


def test_counts_and_fields(train, test):
    assert len(train) >= 8000 and len(test) >= 2000
    for row in train + test:
        assert set(row) == {"text", "label", "channel", "priority"}
        assert 8 <= len(row["text"].split()) <= 60
    for part in (train, test):
        labels = collections.Counter(row["label"] for row in part)
        assert len(labels) >= 12
        assert min(labels.values()) > 0.5 * len(part) / len(labels)
        assert {row["channel"] for row in part} == {"email", "chat", "phone", "web_form"}
        assert {row["priority"] for row in part} == {"low", "normal", "high", "urgent"}
    assert sum(file.stat().st_size for file in FOLDER.iterdir() if file.is_file()) < 4 << 20


def test_no_text_is_shared_or_repeated(train, test):
    learned = {normal(row["text"]) for row in train}
    held = {normal(row["text"]) for row in test}
    assert len(learned) == len(train) and len(held) == len(test)
    assert not learned & held


def test_bag_of_words_does_well_but_not_well_enough(train, test):
    """Naive Bayes over words: topics are clear, but which of two is the main ask needs more than counting."""

    def words(text):
        return re.findall(r"[a-z0-9']+", text.lower())

    counts, priors = collections.defaultdict(collections.Counter), collections.Counter()
    for row in train:
        counts[row["label"]].update(words(row["text"]))
        priors[row["label"]] += 1
    vocabulary = len(set().union(*counts.values()))
    totals = {label: sum(counter.values()) for label, counter in counts.items()}

    def best(text):
        found = words(text)
        return max(counts, key=lambda l: math.log(priors[l]) + sum(math.log((counts[l][w] + 1) / (totals[l] + vocabulary)) for w in found))

    accuracy = sum(best(row["text"]) == row["label"] for row in test) / len(test)
    assert 0.70 < accuracy < 0.93, accuracy


def test_no_folder_of_compiled_code_is_left():
    assert not (FOLDER / "__pycache__").exists()
