"""What tests of small trainings begin with: a text, a model of two layers, a tokenizer."""
import random

MODEL = """model_type: llama
hidden_size: 32
intermediate_size: 64
num_hidden_layers: 2
num_attention_heads: 2
num_key_value_heads: 1
max_position_embeddings: 64
"""
WORDS = ["parcel", "street", "late", "open", "river", "seven", "green", "paper", "north", "again"]


def make_small_world(attar, folder):
    """Writes text.txt, model.yaml and tokens/ into `folder`; returns the generator that drew the text, for what is drawn after it."""
    draw = random.Random(5)
    (folder / "text.txt").write_text("\n\n".join(" ".join(draw.choice(WORDS) for _ in range(20)) for _ in range(200)))
    (folder / "model.yaml").write_text(MODEL)
    attar("tokenizer", "train", "--data", folder / "text.txt", "--vocab-size", "300", "--model", "bpe", "--out", folder / "tokens", check=0)
    return draw
