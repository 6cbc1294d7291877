"""attar plan's memory of a training beside what the training then measures of itself."""
import json
import random

import pytest

FACTOR = 1.35
MODEL = """model_type: llama
hidden_size: 384
intermediate_size: 1024
num_hidden_layers: 6
num_attention_heads: 6
num_key_value_heads: 2
max_position_embeddings: 256
tie_word_embeddings: false
"""
RECIPE = """name: planned
stages:
  tokens: {{kind: train_tokenizer, data: {folder}/text.txt, vocab_size: 300}}
  teacher: {{kind: distill, model: {folder}/model.yaml, tokens: tokens, data: {{path: {folder}/text.txt, seq: 256}}, train: {{steps: 1, batch: 2, eval_every: 9}}}}
  student: {{kind: distill, data: {{path: {folder}/text.txt, seq: 256}}, {student}}}
"""
STUDENTS = {
    "plain": "model: {folder}/model.yaml, tokens: tokens, train: {{steps: 2, batch: 8}}",
    "from a live teacher": "model: {folder}/model.yaml, teacher: teacher, train: {{steps: 2, batch: 8}}",
    "average": "model: {folder}/model.yaml, tokens: tokens, train: {{steps: 2, batch: 8, ema: 0.9}}",
    "recomputed": "model: {folder}/model.yaml, tokens: tokens, train: {{steps: 2, batch: 8, checkpoint_activations: true}}",
    "adapters": "model: teacher, lora: {{rank: 4}}, train: {{steps: 2, batch: 8}}",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("planned")
    draw = random.Random(5)
    words = ["parcel", "street", "late", "open", "river", "seven", "green", "paper", "north", "again"]
    (folder / "text.txt").write_text("\n\n".join(" ".join(draw.choice(words) for _ in range(60)) for _ in range(400)))
    (folder / "model.yaml").write_text(MODEL)
    return folder


@pytest.fixture(scope="module")
def measured(attar, folder):
    """Peak memory by plan and as measured, of every student; they share tokenizer and teacher."""
    out = {}
    for name, student in STUDENTS.items():
        recipe = folder / "recipe.yaml"
        recipe.write_text(RECIPE.format(folder=folder, student=student.format(folder=folder)))
        plan = {stage["id"]: stage for stage in attar.json("plan", recipe, "--out", folder / "run")["stages"]}["student"]
        attar("run", recipe, "--out", folder / "run", "--threads", 2, check=0)
        facts = json.loads((folder / "run" / "student" / "manifest.json").read_text())["facts"]
        out[name] = plan, facts["throughput"]["peak_bytes"], facts.get("adapter_parameters")
    for name, (plan, peak, _) in out.items():
        print(f"{name}: planned {plan['peak_bytes'] / 2**20:.0f} MiB, measured {peak / 2**20:.0f} MiB, {plan['peak_bytes'] / peak:.2f} times")
    return out


@pytest.mark.parametrize("name", STUDENTS)
def test_planned_memory_is_what_is_measured(measured, name):
    plan, peak, adapters = measured[name]
    assert peak / FACTOR < plan["peak_bytes"] < peak * FACTOR
    assert plan["trainable"] == (adapters or plan["parameters"])


def test_what_saves_memory_saves_it_in_the_plan_too(measured):
    planned = {name: plan["peak_bytes"] for name, (plan, _, _) in measured.items()}
    peak = {name: peak for name, (_, peak, _) in measured.items()}
    assert planned["recomputed"] < planned["adapters"] < planned["plain"] < planned["average"]
    assert peak["recomputed"] < 0.85 * peak["plain"]
