#!/usr/bin/env python3
"""Writes the rows beside this file: small tasks of other kinds than classification, made of the tickets in data/support_tickets.

  python3 data/support_tasks/generate.py [--out FOLDER] [--train 240] [--test 80]

extraction_*.jsonl  text; label: an object with intent, channel and, where the text names them, order and amount
choices_*.jsonl     text; choices: four matters in words; label: the right one's letter
questions_*.jsonl   text; label: every right answer to "Which order is it about?" (the number, or none)
Same seed, same bytes; standard library only.
"""
import argparse
import json
import pathlib
import random
import re

ORDER = re.compile(r"\b[ABKR][0-9]{5}\b")
AMOUNT = re.compile(r"(?:\$|EUR |£)[0-9]+\.[0-9]{2}")


def extraction(row, rng):
    found = {"intent": row["label"], "channel": row["channel"]}
    for name, pattern in (("order", ORDER), ("amount", AMOUNT)):
        matches = pattern.findall(row["text"])
        if len(matches) == 1:
            found[name] = matches[0]
        elif matches:
            return None
    return {"text": row["text"], "label": found}


def choices(row, rng, labels):
    others = rng.sample([label for label in labels if label != row["label"]], 3)
    shown = others + [row["label"]]
    rng.shuffle(shown)
    return {"text": row["text"], "choices": [label.replace("_", " ") for label in shown], "label": "ABCD"[shown.index(row["label"])]}


def question(row, rng):
    orders = ORDER.findall(row["text"])
    if len(orders) > 1:
        return None
    return {"text": row["text"], "label": ["order " + orders[0], orders[0]] if orders else ["none"]}


def balanced(rows):
    """As many answers that name an order as there are of the others."""
    named = [row for row in rows if row["label"] != ["none"]]
    others = [row for row in rows if row["label"] == ["none"]]
    return [row for pair in zip(named, others) for row in pair]


def main():
    here = pathlib.Path(__file__).resolve().parent
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--out", type=pathlib.Path, default=here)
    options.add_argument("--train", type=int, default=240)
    options.add_argument("--test", type=int, default=80)
    given = options.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    for part, count in (("train", given.train), ("test", given.test)):
        with open(here.parent / "support_tickets" / f"{part}.jsonl", encoding="utf-8") as lines:
            rows = [json.loads(line) for line in lines]
        labels = sorted({row["label"] for row in rows})
        rng = random.Random(part)
        made = {"extraction": [extraction(row, rng) for row in rows],
                "choices": [choices(row, rng, labels) for row in rows],
                "questions": balanced([found for row in rows if (found := question(row, rng))])}
        for name, found in made.items():
            text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in [row for row in found if row][:count])
            (given.out / f"{name}_{part}.jsonl").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
