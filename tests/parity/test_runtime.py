"""attar eval --runtime against llama-cpp-python's own server: the same answers as from the file, and metrics counted again here."""
import collections
import json
import math
import re
import string

import numpy as np
import pytest
from test_model import attar, needs_attar, stories  # noqa: F401 (fixtures)
from test_server_teacher import server  # noqa: F401 (fixture)

ROWS = [("Once upon a time there was a little girl named Lily. She", ["liked to play outside.", "was happy"]),
        ("Tom had a big red ball. He", ["was very happy"]),
        ("The dog saw a cat. The cat", ["was not afraid", "ran away"]),
        ("One day it was raining and they", ["went home"])]


def f_measure(common, a, b):
    return 2 * common / (a + b) if common else 0.0


def squad_f1(expected, written):
    def words(text):
        text = "".join(c for c in text.lower() if c not in string.punctuation)
        return re.sub(r"\b(a|an|the)\b", " ", text).split()
    a, b = words(expected), words(written)
    return f_measure(sum((collections.Counter(a) & collections.Counter(b)).values()), len(a), len(b)) if a and b else float(a == b)


def rouge_l(expected, written):
    a, b = (re.sub(r"[^a-z0-9]+", " ", text.lower()).split() for text in (expected, written))
    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            table[i + 1][j + 1] = table[i][j] + 1 if x == y else max(table[i][j + 1], table[i + 1][j])
    return f_measure(table[-1][-1], len(a), len(b))


def write_task(folder, rows, **keys):
    (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "task.yaml").write_text(json.dumps({"name": "t", "test": "test.jsonl", "prompt": "{text}", **keys}))
    return folder / "task.yaml"


def evaluate(*words, ok=True):
    done = attar("eval", "--json", *words, ok=ok)
    return json.loads(done.stdout) if ok else done


def test_the_server_writes_what_the_file_writes(server, stories, tmp_path):
    rows = [{"text": text, "label": answers} for text, answers in ROWS]
    task = write_task(tmp_path, rows, kind="text", max_tokens=14, stop=["\n"])
    report = evaluate("--model", stories[0], "--task", task, "--runtime", server, "--api", "completions", "--concurrency", 1, "--answers", tmp_path / "a.jsonl",
                      "--scores", tmp_path / "kept")
    runtime = report["runtime"]
    assert runtime["agreement"]["same_answers"]["value"] == 1 and runtime["agreement"]["same_answers"]["n"] == len(ROWS)
    assert runtime["tasks"] == report["tasks"]
    answers = [json.loads(line)["answer"] for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    written = [answer["text"] for answer in answers]
    assert len(written) == len(ROWS) and all(text.strip() for text in written)
    for metric, score in (("f1", squad_f1), ("rouge_l", rouge_l), ("exact_match", lambda a, b: float(a.strip() == b.strip()))):
        expected = np.mean([max(score(answer, text) for answer in answers) for (_, answers), text in zip(ROWS, written)])
        assert runtime["tasks"]["t"][metric]["value"] == pytest.approx(expected, abs=1e-12), metric
    assert runtime["tasks"]["t"]["rouge_l"]["value"] > 0, "else equality says little"
    # How sure both were of what they wrote: the file by its own arithmetic, the server by what it says of its tokens.
    kept = {path.stem == "runtime": [json.loads(line)["max_probability"] for line in path.read_text().splitlines()[1:]] for path in (tmp_path / "kept" / "scores" / "t").iterdir()}
    whole = [i for i, answer in enumerate(answers) if answer["tokens"] == 14]
    assert len(whole) >= 2 and "confidence" not in runtime["task_details"]["t"]
    for i in whole:
        assert kept[True][i] == pytest.approx(math.exp(answers[i]["log_prob"] / 14), rel=1e-9) and kept[True][i] == pytest.approx(kept[False][i], rel=5e-3), i


def test_written_labels_have_the_probability_of_their_text(server, stories, tmp_path):
    """One label begins with another, so they are written; what the server says of the tokens is the answer's confidence, and calibration follows."""
    labels = [" was", " was happy", " ran"]
    rows = [{"text": text, "label": labels[i % 3]} for i, (text, _) in enumerate(ROWS)]
    task = write_task(tmp_path, rows, kind="classification", labels=labels, max_tokens=4)
    report = evaluate("--task", task, "--runtime", server, "--concurrency", 1, "--answers", tmp_path / "a.jsonl")
    measured = report["tasks"]["t"]
    assert report["runtime"]["method"] == "matched"
    answers = [json.loads(line)["answer"] for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    sure = np.array([math.exp(answer["log_prob"]) for answer in answers])
    matched = [next((label for label in sorted(labels, key=len, reverse=True) if answer["text"].strip().startswith(label.strip())), None) for answer in answers]
    right = np.array([label == row["label"] for label, row in zip(matched, rows)], float)
    assert measured["accuracy"]["value"] == right.mean()
    assert measured["answer_brier"]["value"] == pytest.approx(np.mean((sure - right) ** 2), rel=1e-9)
    bins = np.minimum((sure * 15).astype(int), 14)
    expected = sum(abs(right[bins == b].sum() - sure[bins == b].sum()) for b in set(bins)) / len(rows)
    assert measured["ece"]["value"] == pytest.approx(expected, rel=1e-9) and "brier" not in measured


def test_labels_by_echoed_log_probabilities(server, stories, tmp_path):
    labels = [" happy", " sad", " a dog"]
    rows = [{"text": text, "label": labels[i % 3]} for i, (text, _) in enumerate(ROWS)]
    task = write_task(tmp_path, rows, kind="classification", labels=labels)
    report = evaluate("--task", task, "--runtime", server, "--concurrency", 1, "--answers", tmp_path / "a.jsonl")
    assert report["runtime"]["method"] == "likelihood" and report["runtime"]["api"] == "echo"
    said = [json.loads(line)["answer"] for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    texts = [row["text"] + label for row in rows for label in labels]
    (tmp_path / "texts").write_text("\n".join(texts + [row["text"] for row in rows]))
    ids = [json.loads(line) for line in attar("tokenize", "--tokenizer", stories[0], "--input", tmp_path / "texts").stdout.splitlines()]
    whole, prompts = [[1] + row for row in ids[:len(texts)]], [[1] + row for row in ids[len(texts):]]
    (tmp_path / "ids.json").write_text(json.dumps(whole))
    attar("logits", "--model", stories[0], "--ids", tmp_path / "ids.json", "--out", tmp_path / "o.npy")
    logits = np.load(tmp_path / "o.npy").astype(np.float64)
    at = 0
    for i, row in enumerate(whole):
        prompt = prompts[i // len(labels)]
        assert row[:len(prompt)] == prompt
        own = logits[at:at + len(row)]
        own = own - np.log(np.exp(own).sum(1, keepdims=True))
        assert said[i] == pytest.approx(sum(own[t - 1][row[t]] for t in range(len(prompt), len(row))), abs=2e-2), texts[i]
        at += len(row)
    right = [labels[int(np.argmax(said[3 * i:3 * i + 3]))] == row["label"] for i, row in enumerate(rows)]
    assert report["tasks"]["t"]["accuracy"]["value"] == pytest.approx(np.mean(right))
    assert math.isfinite(report["tasks"]["t"]["brier"]["value"])


def test_bad_input_is_one_sentence_and_the_rest_is_kept(stories, tmp_path):
    task = write_task(tmp_path, [{"text": "Once upon a time there was a dog"}], kind="next_word")
    done = evaluate("--model", stories[0], "--task", task, "--runtime", "http://127.0.0.1:9", "--attempts", 1, ok=False)
    assert done.returncode == 1 and done.stderr.count("error:") == 1 and "127.0.0.1:9" in done.stderr
    kept = json.loads(done.stdout)
    assert kept["tasks"]["t"]["accuracy"]["n"] == 1 and "127.0.0.1:9" in kept["failed"]
    write_task(tmp_path, [{"text": "and then " * 2000}], kind="next_word")
    (tmp_path / "text.txt").write_text("Once upon a time there was a little girl. " * 200)
    done = evaluate("--model", stories[0], "--task", task, "--text", tmp_path / "text.txt", ok=False)
    assert done.returncode == 1 and "test.jsonl:1" in done.stderr and "long_prompts" in done.stderr
    assert json.loads(done.stdout)["perplexity"]["value"] > 1
    for rows, words in (([], "rows of data"), ([{"text": "x", "label": "c"}], "'c'")):
        write_task(tmp_path, rows, labels=["a", "b"])
        done = evaluate("--model", stories[0], "--task", task, ok=False)
        assert done.returncode == 1 and done.stderr.count("error:") == 1 and words in done.stderr and done.stdout == ""
