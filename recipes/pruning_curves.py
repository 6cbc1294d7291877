#!/usr/bin/env python3
"""The picture and the tables of recipes/novels_prune.yaml: loss against parameters for each criterion, and masks beside them.

    python3 recipes/pruning_curves.py runs/novels_prune recipes/novels_prune.png     (needs matplotlib)

A stage sNN_CRITERION is the model pruned to NN % of its parameters, sNN_CRITERION_recovered the same after recovery, sNN_scratch_short the shape trained
from nothing on as many tokens, sNN_scratch on more; further seeds end in _2, _3. mask_PATTERN_METHOD are masks over single weights.
"""
import json
import pathlib
import re
import sys

CRITERIA = ("activation", "taylor", "magnitude", "random")


def main():
    folder, picture = pathlib.Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else ""
    report = json.loads(next(folder.glob("*/report.json")).read_text())
    loss = {name: a["perplexity"]["nll"] for name, a in report["artifacts"].items()}
    kl = {name: a["kld"]["mean"] for name, a in report["artifacts"].items()}
    size = {name: a["parameters"] / 1e6 for name, a in report["artifacts"].items()}
    shapes = sorted({name.split("_")[0] for name in loss if re.match(r"s\d+_", name)}, reverse=True)

    print("| shape | parameters, M | " + " | ".join(f"{c}, pruned | {c}, recovered" for c in CRITERIA) + " |")
    print("|---" * (2 + 2 * len(CRITERIA)) + "|")
    for shape in shapes:
        cells = [f"{loss[f'{shape}_{c}']:.4f} | {loss[f'{shape}_{c}_recovered']:.4f}" for c in CRITERIA]
        print(f"| {shape} | {size[f'{shape}_{CRITERIA[0]}']:.2f} | " + " | ".join(cells) + " |")
    scratch = {}
    for name in loss:
        if "_scratch" in name:
            scratch.setdefault(re.sub(r"_[2-9]$", "", name), []).append(loss[name])
    print()
    for name, losses in scratch.items():
        steps = report["recipe"]["stages"][name]["train"]["steps"]
        print(f"- {name}: {steps} steps, {len(losses)} seeds, {sum(losses) / len(losses):.4f} [{min(losses):.4f}, {max(losses):.4f}]")
    print(f"- the whole model: {loss['teacher']:.4f} at {size['teacher']:.2f} M\n")
    patterns = sorted({name.split("_", 1)[1].rsplit("_", 1)[0] for name in loss if name.startswith("mask_") and not name.endswith("recovered")}, reverse=True)
    for what, numbers in (("loss", loss), ("KL to the whole model", kl)):
        print(f"| mask, {what} | " + " | ".join(f"{p.replace('_', ':')} | recovered" for p in patterns) + " |")
        print("|---" * (1 + 2 * len(patterns)) + "|")
        for method in ("magnitude", "wanda", "sparsegpt"):
            cells = [f"{numbers[f'mask_{p}_{method}']:.4f} | {numbers[f'mask_{p}_{method}_recovered']:.4f}" for p in patterns]
            print(f"| {method} | " + " | ".join(cells) + " |")
        print()

    if picture:
        draw(picture, loss, size, shapes, scratch, report)


def draw(picture, loss, size, shapes, scratch, report):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(10, 4.2), sharex=True)
    for axis, after in zip(axes, (False, True)):
        for criterion in CRITERIA:
            names = ["teacher"] + [f"{shape}_{criterion}" + ("_recovered" if after else "") for shape in shapes]
            axis.plot([size[n] for n in names], [loss[n] for n in names], marker="o", label=criterion)
        axis.set_xlabel("parameters, millions")
        axis.set_title("after recovery by distillation" if after else "pruned, not trained further")
        axis.grid(alpha=0.3)
    for name, losses in scratch.items():
        x = size[name]
        steps = report["recipe"]["stages"][name]["train"]["steps"]
        middle = sum(losses) / len(losses)
        axes[1].errorbar([x], [middle], [[middle - min(losses)], [max(losses) - middle]], fmt="s", capsize=4, label=f"from nothing, {steps} steps")
    axes[0].set_ylabel("held-out loss, nats a token")
    axes[0].legend()
    axes[1].legend()
    figure.tight_layout()
    figure.savefig(picture, dpi=110)


if __name__ == "__main__":
    main()
