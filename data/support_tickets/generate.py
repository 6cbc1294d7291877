#!/usr/bin/env python3
"""Writes train.jsonl and test.jsonl beside this file: support tickets with their intent. Same seed, same bytes.

  python3 data/support_tickets/generate.py [--out FOLDER] [--seed 20] [--train 9000] [--test 2200]

Rows: text, label (intent of the main ask), channel, priority. Standard library only.
"""
import argparse
import json
import pathlib
import random
import re
import sys

sys.dont_write_bytecode = True  # data/ holds data only
from grammar import BACKGROUND, CLOSINGS, FILLERS, FOCUS, GREETINGS, INTENTS, PRIORITY, SETTLED, SLOTS

CHANNELS = {"email": 0.35, "chat": 0.3, "web_form": 0.2, "phone": 0.15}
PRIORITIES = {"urgent": 0.12, "high": 0.2, "normal": 0.48, "low": 0.2}
INNERMOST = re.compile(r"\[([^\[\]]*)\]")
SLOT = re.compile(r"\{(\w+)\}")
NEIGHBOURS = {"a": "sq", "e": "wr", "i": "uo", "o": "ip", "n": "bm", "r": "et", "s": "ad", "t": "ry", "l": "ko", "d": "sf", "c": "xv", "u": "yi",
              "h": "gj", "m": "n"}
SHORT = {"please": "pls", "you": "u", "your": "ur", "thanks": "thx", "because": "bc", "are": "r", "I am": "im", "cannot": "cant",
         "do not": "dont", "because of": "bc of"}


class Ticket:
    """One ticket being written: its own random numbers and slot values that stay the same through the text."""

    def __init__(self, rng):
        self.rng = rng
        self.values = {}

    def pick(self, weights):
        return self.rng.choices(list(weights), list(weights.values()))[0]

    def slot(self, name):
        if name == "order":
            value = f"{self.rng.choice('ABKR')}{self.rng.randrange(10000, 99999)}"
        elif name.startswith("amount"):
            value = f"{self.rng.choice(['$', 'EUR ', '£'])}{self.rng.randrange(5, 300)}.{self.rng.choice(['00', '50', '90', '99'])}"
        elif name == "n":
            value = str(self.rng.randrange(1, 180))
        elif name == "product2":
            value = self.rng.choice([p for p in SLOTS["product"] if p != self.values.get("product")])
        else:
            value = self.rng.choice(SLOTS[name])
        return self.values.setdefault(name, self.fill(value)) if name != "n" else value

    def fill(self, pattern, **given):
        while "[" in pattern:
            pattern = INNERMOST.sub(lambda m: self.rng.choice(m.group(1).split("|")), pattern, count=1)
        text = SLOT.sub(lambda m: given[m.group(1)] if m.group(1) in given else self.values.get(m.group(1)) or self.slot(m.group(1)), pattern)
        return re.sub(r"\s+", " ", text).strip()

    def phrase(self, intent, part):
        return self.fill(self.rng.choice(INTENTS[intent][part]))

    def matter(self, intent):
        """Clauses that describe one matter: what happened, what is wanted, or both."""
        shape = self.rng.random()
        if shape < 0.45:
            return [self.phrase(intent, "problem"), self.phrase(intent, "ask")]
        if shape < 0.75:
            return [self.phrase(intent, "problem")]
        return [self.phrase(intent, "ask")]

    def clauses(self, intent):
        """The body: one matter; one and a second that is settled; or two open ones and which of them counts."""
        shape = self.rng.random()
        others = [name for name in INTENTS if name != intent]
        body = self.matter(intent)
        if shape < 0.3:
            other, name = Ticket(self.rng), self.rng.choice(others)
            if self.rng.random() < 0.35:
                passing = other.fill(self.rng.choice(BACKGROUND), topic=other.phrase(name, "topic"))
            else:
                passing = other.fill(self.rng.choice(SETTLED), problem=other.phrase(name, "problem"))
            if len(body) == 2 and self.rng.random() < 0.7:
                body = body[:1]
            body = [passing] + body if self.rng.random() < 0.6 else body + [passing]
        elif shape < 0.38:
            second = Ticket(self.rng).phrase(self.rng.choice(others), "problem")
            focus = self.fill(self.rng.choice(FOCUS), topic=self.phrase(intent, "topic"))
            pair = [self.phrase(intent, "problem"), second]
            self.rng.shuffle(pair)
            body = pair + [focus] if self.rng.random() < 0.7 else [focus] + pair
        return body

    def typo(self, word):
        if len(word) < 4 or not word.isalpha():
            return word
        at = self.rng.randrange(1, len(word) - 1)
        kind = self.rng.randrange(4)
        if kind == 0:
            return word[:at] + word[at + 1] + word[at] + word[at + 2:]
        if kind == 1:
            return word[:at] + word[at + 1:]
        if kind == 2:
            return word[:at] + word[at] + word[at:]
        return word[:at] + self.rng.choice(NEIGHBOURS.get(word[at].lower(), word[at])) + word[at + 1:]

    def with_typos(self, text, share):
        return " ".join(self.typo(word) if self.rng.random() < share else word for word in text.split(" "))


def sentence(clause):
    end = "?" if re.match(r"(can|could|where|when|how|what|is|do|does|who|should) ", clause) else "."
    return clause[0].upper() + clause[1:] + end


def write(ticket, intent, channel, priority):
    rng = ticket.rng
    clauses = ticket.clauses(intent)
    if rng.random() < 0.1:
        clauses.insert(rng.randrange(len(clauses) + 1), ticket.fill(rng.choice(FILLERS)))
    tone = ticket.fill(rng.choice(PRIORITY[priority]))
    if tone and rng.random() < 0.5:
        clauses.insert(rng.choice([0, len(clauses)]), tone)
    if channel == "email":
        name = ticket.fill("{name}")
        subject = rng.choice(["Question", "Help needed", "Support request", "My account", "Order {order}", "Problem", "Please read", "Request"])
        body = " ".join(sentence(c) for c in clauses)
        opening = rng.choice([f"Subject: {ticket.fill(subject)}\n", f"{rng.choice(GREETINGS)},\n"])
        return f"{opening}{ticket.with_typos(body, 0.01)}\n{rng.choice(CLOSINGS)}, {name}"
    if channel == "chat":
        body = rng.choice([" ", ", ", " ... "]).join(clauses)
        if rng.random() < 0.6:
            for word, short in SHORT.items():
                if rng.random() < 0.6:
                    body = re.sub(rf"\b{word}\b", short, body)
        body = rng.choice(["hi ", "hey ", "hello ", "", "", "yo "]) + (body.lower() if rng.random() < 0.7 else body)
        return ticket.with_typos(body, 0.03)
    if channel == "phone":
        noise = ["um", "uh", "you know", "well", "so", "like"]
        spoken = []
        for clause in clauses:
            words = clause.lower().replace(",", "").split(" ")
            if rng.random() < 0.5:
                words.insert(rng.randrange(len(words) + 1), rng.choice(noise))
            spoken.append(" ".join(words))
        opening = rng.choice(["how can I help", "{name} speaking", "go ahead"])
        return f"Agent: {ticket.fill(opening)}\nCaller: {rng.choice(['hi', 'hello', 'yes hello', 'good morning'])} {' and '.join(spoken)}"
    fields = rng.sample([f"Product: {ticket.fill('{product}')}", f"Order: {ticket.fill('{order}')}", f"Name: {ticket.fill('{name}')}",
                         f"Plan: {ticket.fill('{plan}')}"], rng.randrange(3))
    body = " ".join(sentence(c) for c in clauses)
    return " | ".join(fields + [f"Message: {ticket.with_typos(body, 0.02)}"])


def generate(seed, count):
    """`count` rows, no two with the same text (case and spaces aside). Intents are near equally frequent, some a little more."""
    rng = random.Random(seed)
    weights = {intent: 0.8 + 0.4 * rng.random() for intent in INTENTS}
    rows, seen = [], set()
    while len(rows) < count:
        ticket = Ticket(random.Random(rng.getrandbits(64)))
        intent, channel, priority = ticket.pick(weights), ticket.pick(CHANNELS), ticket.pick(PRIORITIES)
        text = write(ticket, intent, channel, priority)
        key = " ".join(text.lower().split())
        if key in seen or not 8 <= len(key.split()) <= 60:
            continue
        seen.add(key)
        rows.append({"text": text, "label": intent, "channel": channel, "priority": priority})
    return rows


def main():
    here = pathlib.Path(__file__).resolve().parent
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--out", type=pathlib.Path, default=here)
    options.add_argument("--seed", type=int, default=20)
    options.add_argument("--train", type=int, default=9000)
    options.add_argument("--test", type=int, default=2200)
    given = options.parse_args()
    rows = generate(given.seed, given.train + given.test)
    for name, part in (("train", rows[:given.train]), ("test", rows[given.train:])):
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in part)
        (given.out / f"{name}.jsonl").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
