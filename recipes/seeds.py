#!/usr/bin/env python3
"""The table of a run whose stages stand for several seeds each (name, name_2, name_3), as recipes/RESULTS.md shows it.

    python3 recipes/seeds.py runs/novels_losses

A cell is the mean over the seeds with the lowest and the highest. The bytes a token are those of the cache that the stage learned from.
"""
import json
import pathlib
import re
import sys


def number(artifact, *path):
    for key in path:
        artifact = artifact.get(key) if isinstance(artifact, dict) else None
    return artifact


def cell(values, digits, scale=1.0):
    values = [value * scale for value in values if value is not None]
    if not values:
        return ""
    mean = sum(values) / len(values)
    spread = f" [{min(values):.{digits}f}, {max(values):.{digits}f}]" if min(values) < max(values) else ""
    return f"{mean:.{digits}f}{spread}"


COLUMNS = [
    ("loss, nats a token", lambda a: number(a, "perplexity", "nll"), 4, 1),
    ("bits a byte", lambda a: number(a, "perplexity", "bits_per_byte"), 4, 1),
    ("calibration error, %", lambda a: number(a, "perplexity", "ece"), 2, 100),
    ("KL to the base", lambda a: number(a, "kld", "mean"), 4, 1),
    ("same top token, %", lambda a: number(a, "top1_agreement", "value"), 1, 100),
    ("parameters, M", lambda a: number(a, "parameters"), 2, 1e-6),
]


def main():
    folder = pathlib.Path(sys.argv[1])
    report = json.loads(next(folder.glob("*/report.json")).read_text())
    lineage, recipe = report["lineage"], report["recipe"]
    groups = {}
    for name in report["artifacts"]:
        groups.setdefault(re.sub(r"_[2-9]$", "", name), []).append(name)
    used = [column for column in COLUMNS if any(column[1](artifact) is not None for artifact in report["artifacts"].values())]
    print("| model | seeds | " + " | ".join(column[0] for column in used) + " | bytes a token |")
    print("|---" * (len(used) + 3) + "|")
    for group, names in groups.items():
        artifacts = [report["artifacts"][name] for name in names]
        teacher = recipe["stages"].get(names[0], {}).get("teacher", "")
        told = number(lineage, teacher, "facts", "statistics", "bytes_per_token")
        cells = [cell([read(artifact) for artifact in artifacts], digits, scale) for _, read, digits, scale in used]
        print(f"| {group} | {len(names)} | " + " | ".join(cells) + f" | {f'{told:.1f}' if told else ''} |")


if __name__ == "__main__":
    main()
