"""Masks of magnitude, Wanda and SparseGPT pruning equal, element for element, what the papers' formulas give in PyTorch on transformers' model."""
import csv
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from families import attar

DATA = Path(os.environ.get("ATTAR_TEST_DATA") or Path(__file__).resolve().parents[3] / "shared" / "data")
TOKENIZER = DATA / "stories260K" / "tok512.model"
PATTERNS = {"0.5": (0, 0, 0.5), "0.3": (0, 0, 0.3), "2:4": (2, 4, 0), "4:8": (4, 8, 0)}
DAMPING = 0.01
BLOCK = 128

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A model, a task's rows in a file, and the same rows as ids."""
    for path in (TOKENIZER, DATA / "banking77"):
        if not path.exists():
            pytest.skip(f"SKIPPED LOUDLY: {path} is missing; set ATTAR_TEST_DATA")
    spm = pytest.importorskip("sentencepiece")
    folder = tmp_path_factory.mktemp("masks")
    torch.manual_seed(7)
    config = transformers.LlamaConfig(vocab_size=512, hidden_size=64, intermediate_size=160, num_hidden_layers=2, num_attention_heads=4,
                                      num_key_value_heads=2, max_position_embeddings=256, initializer_range=0.15)
    model = transformers.LlamaForCausalLM(config).eval()
    model.save_pretrained(folder / "model")
    shutil.copy(TOKENIZER, folder / "model" / "tokenizer.model")
    texts = [(row["text"].strip(), row["category"]) for row in csv.DictReader(open(DATA / "banking77/train.csv"))][::260]
    with open(folder / "rows.csv", "w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(["text", "label"])
        writer.writerows(texts)
    (folder / "task.yaml").write_text("name: rows\ntrain: rows.csv\nvalid: rows.csv\ntest: rows.csv\nprompt: \"{text}\"\nanswer: \"{label}\"\n")
    sp = spm.SentencePieceProcessor(model_file=str(TOKENIZER))
    rows = [[sp.bos_id()] + sp.encode(text) + sp.encode(label) + [sp.eos_id()] for text, label in texts]
    assert max(map(len, rows)) < 250
    return folder, model.state_dict(), config, rows


def inputs_of(model, rows, module):
    """What a linear reads over all rows: (n, in) float64."""
    seen = []
    hook = module.register_forward_pre_hook(lambda _, given: seen.append(given[0].reshape(-1, given[0].shape[-1]).double()))
    with torch.no_grad():
        for row in rows:
            model(torch.tensor([row]))
    hook.remove()
    return torch.cat(seen).numpy()


def without_lowest(scores, count):
    """True where a row's score is not among its `count` lowest; of equal ones the first goes."""
    alive = np.ones(scores.shape, bool)
    np.put_along_axis(alive, np.argsort(scores, axis=1, kind="stable")[:, :count], False, axis=1)
    return alive


def by_groups(scores, n, m):
    return without_lowest(scores.reshape(-1, m), n).reshape(scores.shape)


def magnitude(w, x, n, m, share):
    scores = np.abs(w)
    return by_groups(scores, n, m) if m else without_lowest(scores.reshape(1, -1), int(share * w.size)).reshape(w.shape), w


def wanda(w, x, n, m, share):
    scores = np.abs(w) * np.linalg.norm(x, axis=0)[None, :]
    return by_groups(scores, n, m) if m else without_lowest(scores, int(share * w.shape[1])), w


def sparsegpt(w, x, n, m, share):
    """Frantar and Alistarh 2023, algorithm 1, with the mask of a block (or of n:m neighbours) chosen when its first column is reached."""
    w = w.copy()
    h = 2 / len(x) * x.T @ x
    dead = np.diag(h) == 0
    h[dead, dead] = 1
    w[:, dead] = 0
    h += DAMPING * np.diag(h).mean() * np.eye(len(h))
    u = np.linalg.cholesky(np.linalg.inv(h)).T
    alive = np.ones(w.shape, bool)
    for first in range(0, w.shape[1], BLOCK):
        end = min(first + BLOCK, w.shape[1])
        block, errors = w[:, first:end].copy(), np.zeros((len(w), end - first))
        d = np.diag(u)[first:end]
        if not m:
            scores = block ** 2 / d ** 2
            alive[:, first:end] = without_lowest(scores.reshape(1, -1), int(share * scores.size)).reshape(scores.shape)
        for i in range(end - first):
            if m and i % m == 0:
                alive[:, first + i:first + i + m] = without_lowest(block[:, i:i + m] ** 2 / d[i:i + m] ** 2, n)
            kept = np.where(alive[:, first + i], block[:, i], 0)
            errors[:, i] = (block[:, i] - kept) / d[i]
            block[:, i:] -= errors[:, i:i + 1] * u[first + i, first + i:end][None, :]
            block[:, i] = kept
        w[:, first:end] = block
        w[:, end:] -= errors @ u[first:end, end:]
    return alive, w


def reference(state, config, rows, rule, pattern):
    model = transformers.LlamaForCausalLM(config).eval()
    model.load_state_dict(state)
    masks = {}
    for number, layer in enumerate(model.model.layers):
        groups = [["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"], ["self_attn.o_proj"], ["mlp.gate_proj", "mlp.up_proj"], ["mlp.down_proj"]]
        for group in groups:
            x = inputs_of(model, rows, layer.get_submodule(group[0]))
            for name in group:
                linear = layer.get_submodule(name)
                alive, w = rule(linear.weight.detach().double().numpy(), x, *PATTERNS[pattern])
                linear.weight.data = torch.tensor(w * alive, dtype=torch.float32)
                masks[f"model.layers.{number}.{name}.weight"] = alive
    return masks, model.state_dict()


@pytest.mark.parametrize("method,pattern", [(method, pattern) for method in ("magnitude", "wanda", "sparsegpt") for pattern in PATTERNS])
def test_masks_are_the_papers(whole, tmp_path, method, pattern):
    from safetensors.numpy import load_file

    folder, state, config, rows = whole
    out = tmp_path / "masked"
    attar("prune", "--model", folder / "model", "--method", method, "--pattern", pattern, "--task", folder / "task.yaml", "--data.pack", "false",
          "--seq", "256", "--out", out)
    masks, weights = reference(state, config, rows, {"magnitude": magnitude, "wanda": wanda, "sparsegpt": sparsegpt}[method], pattern)
    bits, ours = load_file(out / "masks.safetensors"), load_file(out / "model.safetensors")
    assert set(bits) == set(masks)
    for name, alive in masks.items():
        got = np.unpackbits(bits[name], axis=1, bitorder="little")[:, :alive.shape[1]].astype(bool)
        assert np.array_equal(got, alive), f"{name}: {np.sum(got != alive)} of {alive.size}"
        assert np.all(ours[name][~alive] == 0)
        expected = weights[name].numpy()
        assert np.abs(ours[name] - expected).max() < 1e-4 * np.abs(expected).max(), name
    facts = json.loads((out / "manifest.json").read_text())["facts"]["masks"]
    assert facts["zeros"] == sum(int((~alive).sum()) for alive in masks.values())
