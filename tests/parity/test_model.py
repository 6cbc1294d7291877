"""attar's decoder against transformers: tiny checkpoints of every family, every parameter redrawn, and a real one (stories260K)."""
import json
import os
import pathlib
import struct
import subprocess

import numpy as np
import pytest
import torch
import transformers

ROOT = pathlib.Path(__file__).resolve().parents[2]
ATTAR = pathlib.Path(os.environ.get("ATTAR_BUILD", ROOT / "build" / "release")) / "bin" / "attar"
DATA = pathlib.Path(os.environ.get("ATTAR_TEST_DATA", ROOT / ".." / "shared" / "data"))

SMALL = dict(vocab_size=96, hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4,
             num_key_value_heads=2, max_position_embeddings=128, tie_word_embeddings=False, bos_token_id=1, eos_token_id=2,
             pad_token_id=0)
LLAMA3 = dict(rope_type="llama3", rope_theta=10000.0, factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=32)
YARN = dict(rope_type="yarn", rope_theta=10000.0, factor=4.0, original_max_position_embeddings=32)
LONGROPE = dict(rope_type="longrope", rope_theta=10000.0, short_factor=[1.0, 1.1, 1.3, 1.7], long_factor=[1.5, 2.0, 3.0, 4.0],
                original_max_position_embeddings=64)
# name: (model_type, configuration beside SMALL)
VARIANTS = {
    "llama": ("llama", {}),
    "llama_tied_biased": ("llama", dict(tie_word_embeddings=True, attention_bias=True, mlp_bias=True)),
    "llama_one_kv_head": ("llama", dict(num_key_value_heads=1)),
    "llama_head_dim": ("llama", dict(head_dim=12)),
    "llama_linear": ("llama", dict(rope_parameters=dict(rope_type="linear", rope_theta=10000.0, factor=2.0))),
    "llama_llama3": ("llama", dict(rope_parameters=LLAMA3)),
    "llama_yarn": ("llama", dict(rope_parameters=YARN)),
    "mistral": ("mistral", dict(head_dim=8, sliding_window=None)),
    "mistral_window": ("mistral", dict(head_dim=16, sliding_window=7)),
    "qwen2": ("qwen2", {}),
    "qwen2_window": ("qwen2", dict(use_sliding_window=True, sliding_window=6, max_window_layers=1, tie_word_embeddings=True)),
    "qwen3": ("qwen3", dict(head_dim=16)),
    "gemma": ("gemma", dict(head_dim=16, hidden_activation="gelu_pytorch_tanh", tie_word_embeddings=True)),
    "gemma2": ("gemma2", dict(head_dim=16, sliding_window=8, query_pre_attn_scalar=24, attn_logit_softcapping=5.0,
                              final_logit_softcapping=3.0, tie_word_embeddings=True)),
    "gemma3": ("gemma3_text", dict(head_dim=16, sliding_window=8, num_hidden_layers=7, query_pre_attn_scalar=20, tie_word_embeddings=True)),
    "phi3": ("phi3", {}),
    "phi3_longrope": ("phi3", dict(max_position_embeddings=128, original_max_position_embeddings=64, rope_parameters=LONGROPE)),
    "phi3_partial_tied": ("phi3", dict(num_attention_heads=2, num_key_value_heads=1, tie_word_embeddings=True,
                                       rope_parameters=dict(rope_type="default", rope_theta=10000.0, partial_rotary_factor=0.5))),
}


def attar(*words, ok=True):
    done = subprocess.run([str(ATTAR), *map(str, words)], capture_output=True, text=True, timeout=300)
    assert not ok or done.returncode == 0, done.stderr
    return done


@pytest.fixture(autouse=True, scope="module")
def needs_attar():
    if not ATTAR.exists():
        pytest.skip(f"SKIPPED LOUDLY: {ATTAR} is not built")


def redraw(model, seed):
    """Every parameter anew: at initial values norms are constant, biases 0, and half of the model could be missing unseen."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in sorted(model.named_parameters()):
            if tensor.dim() == 1:
                centre = 1.0 if name.endswith("norm.weight") and "Gemma" not in type(model).__name__ else 0.0
                tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.3 + centre)
            else:
                tensor.copy_(torch.randn(tensor.shape, generator=generator) * tensor.shape[-1] ** -0.5 * 1.5)
    return model


def make(name, folder):
    kind, changes = VARIANTS[name]
    config = transformers.AutoConfig.for_model(kind, **{**SMALL, **changes})
    config._attn_implementation = "eager"
    model = redraw(transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32), seed=len(name)).eval()
    model.save_pretrained(folder)
    return model


def sequences(vocab, lengths, seed):
    generator = np.random.default_rng(seed)
    return [generator.integers(0, vocab, n).tolist() for n in lengths]


def theirs(model, rows):
    with torch.no_grad():
        return np.concatenate([model(torch.tensor([row])).logits[0].float().numpy() for row in rows])


def ours(folder, rows, scratch, *more):
    (scratch / "ids.json").write_text(json.dumps(rows))
    attar("logits", "--model", folder, "--ids", scratch / "ids.json", "--out", scratch / "logits.npy", *more)
    return np.load(scratch / "logits.npy")


@pytest.mark.parametrize("name", VARIANTS)
def test_logits_equal_transformers(name, tmp_path):
    model = make(name, tmp_path / "model")
    # longrope's angles depend on the length: on both sides of the original context.
    rows = sequences(96, [1, 5, 24, 40, 63] + ([100] if "longrope" in name else []), 3)
    expected = theirs(model, rows)
    got = ours(tmp_path / "model", rows, tmp_path)
    assert got.shape == expected.shape
    assert np.abs(expected).max() > 0.5
    assert np.abs(got - expected).max() < 2e-4


@pytest.mark.parametrize("name", VARIANTS)
def test_token_by_token_equals_transformers(name, tmp_path):
    model = make(name, tmp_path / "model")
    rows = sequences(96, [1, 33], 4)
    assert np.abs(ours(tmp_path / "model", rows, tmp_path, "--stepwise") - theirs(model, rows)).max() < 2e-4


@pytest.mark.parametrize("name", ["llama", "llama_tied_biased", "gemma2", "phi3"])
def test_old_style_config_and_half_precision(name, tmp_path):
    model = make(name, tmp_path / "model").to(torch.bfloat16)
    model.save_pretrained(tmp_path / "half")
    config = json.loads((tmp_path / "half" / "config.json").read_text())
    rope = config.pop("rope_parameters", None) or {}
    config["rope_theta"] = rope.get("rope_theta", config.get("rope_theta", 10000.0))
    config["torch_dtype"] = config.pop("dtype", "bfloat16")
    (tmp_path / "half" / "config.json").write_text(json.dumps(config))
    reference = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "half", dtype=torch.float32, attn_implementation="eager").eval()
    rows = sequences(96, [17, 30], 5)
    assert np.abs(ours(tmp_path / "half", rows, tmp_path) - theirs(reference, rows)).max() < 2e-4


@pytest.mark.parametrize("name", VARIANTS)
def test_saved_folder_gives_transformers_the_same_tensors(name, tmp_path):
    model = make(name, tmp_path / "model")
    attar("export", "--model", tmp_path / "model", "--format", "hf", "--out", tmp_path / "again")
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "again", dtype=torch.float32, attn_implementation="eager").eval()
    assert type(again) is type(model)
    left, right = dict(model.named_parameters()), dict(again.named_parameters())
    assert left.keys() == right.keys()
    for key, tensor in left.items():
        assert torch.equal(tensor, right[key]), key
    rows = sequences(96, [50], 9)
    assert np.abs(theirs(model, rows) - theirs(again, rows)).max() < 1e-6


def test_sharded_folder(tmp_path):
    model = make("qwen3", tmp_path / "model")
    model.save_pretrained(tmp_path / "shards", max_shard_size="20KB")
    assert len(list((tmp_path / "shards").glob("model-*.safetensors"))) > 2
    rows = sequences(96, [20], 11)
    assert np.abs(ours(tmp_path / "shards", rows, tmp_path) - theirs(model, rows)).max() < 2e-4


def test_multimodal_gemma3_names(tmp_path):
    """Gemma 3's multimodal folders nest the text model: prefixes are taken off, the vision tower is left out."""
    from safetensors.torch import load_file, save_file
    model = make("gemma3", tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    weights = load_file(tmp_path / "model" / "model.safetensors")
    renamed = {"language_model." + name: tensor for name, tensor in weights.items()}
    renamed["vision_tower.vision_model.post_layernorm.weight"] = torch.ones(3)
    (tmp_path / "nested").mkdir()
    save_file(renamed, tmp_path / "nested" / "model.safetensors", metadata={"format": "pt"})
    outer = {"architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3", "text_config": config}
    (tmp_path / "nested" / "config.json").write_text(json.dumps(outer))
    rows = sequences(96, [20], 13)
    assert np.abs(ours(tmp_path / "nested", rows, tmp_path) - theirs(model, rows)).max() < 2e-4


@pytest.mark.parametrize("damage,words", [
    ("missing", "model.layers.1.mlp.up_proj.weight"), ("extra", "model.layers.0.mlp.router.weight"),
    ("shape", "model.norm.weight"), ("dtype", "model.norm.weight"), ("cut", "model.safetensors"), ("architecture", "MambaForCausalLM")])
def test_damaged_folders_are_refused_in_a_line(damage, words, tmp_path):
    from safetensors.torch import load_file, save_file
    make("llama", tmp_path / "model")
    file = tmp_path / "model" / "model.safetensors"
    weights = load_file(file)
    if damage == "missing":
        del weights["model.layers.1.mlp.up_proj.weight"]
    elif damage == "extra":
        weights["model.layers.0.mlp.router.weight"] = torch.ones(2, 2)
    elif damage == "shape":
        weights["model.norm.weight"] = torch.ones(33)
    elif damage == "dtype":
        weights["model.norm.weight"] = torch.ones(32, dtype=torch.int8)
    save_file(weights, file, metadata={"format": "pt"})
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:-100])
    if damage == "architecture":
        config = json.loads((tmp_path / "model" / "config.json").read_text())
        config.update(architectures=["MambaForCausalLM"], model_type="mamba")
        (tmp_path / "model" / "config.json").write_text(json.dumps(config))
    (tmp_path / "ids.json").write_text("[[1, 2]]")
    done = attar("logits", "--model", tmp_path / "model", "--ids", tmp_path / "ids.json", "--out", tmp_path / "o.npy", ok=False)
    lines = done.stderr.strip().splitlines()
    assert done.returncode == 1
    assert len([line for line in lines if line.startswith("error:")]) == 1
    assert words in done.stderr or (damage == "architecture" and "mamba" in done.stderr)
    assert not (tmp_path / "o.npy").exists()


def test_hub_name_is_refused_with_the_command(tmp_path):
    (tmp_path / "ids.json").write_text("[[1]]")
    done = attar("logits", "--model", "some-owner/some-model", "--ids", tmp_path / "ids.json", "--out", tmp_path / "o.npy", ok=False)
    assert done.returncode == 1 and "hf download some-owner/some-model" in done.stderr


def stories_folder(folder):
    """llama2.c's version-0 file -> Hugging Face layout: Q and K rows go from adjacent pairs to half-split."""
    data = (DATA / "stories260K" / "stories260K.bin").read_bytes()
    dim, hidden, layers, heads, kv_heads, vocab, context = struct.unpack("<7i", data[:28])
    floats, at = np.frombuffer(data[28:], dtype="<f4"), 0
    head = dim // heads

    def take(*shape):
        nonlocal at
        count = int(np.prod(shape))
        at += count
        return torch.from_numpy(floats[at - count:at].reshape(shape).copy())

    def half_split(weight, count):
        return weight.reshape(count, head // 2, 2, dim).transpose(1, 2).reshape(count * head, dim).contiguous()

    embedding = take(abs(vocab), dim)
    parts = [("input_layernorm", (dim,)), ("self_attn.q_proj", (heads * head, dim)), ("self_attn.k_proj", (kv_heads * head, dim)),
             ("self_attn.v_proj", (kv_heads * head, dim)), ("self_attn.o_proj", (dim, heads * head)), ("post_attention_layernorm", (dim,)),
             ("mlp.gate_proj", (hidden, dim)), ("mlp.down_proj", (dim, hidden)), ("mlp.up_proj", (hidden, dim))]
    state = {"model.embed_tokens.weight": embedding}
    for part, shape in parts:
        stacked = take(layers, *shape)
        for i in range(layers):
            weight = stacked[i]
            if part.endswith("q_proj"):
                weight = half_split(weight, heads)
            if part.endswith("k_proj"):
                weight = half_split(weight, kv_heads)
            state[f"model.layers.{i}.{part}.weight"] = weight.contiguous()
    state["model.norm.weight"] = take(dim)
    config = transformers.LlamaConfig(vocab_size=abs(vocab), hidden_size=dim, intermediate_size=hidden, num_hidden_layers=layers,
                                      num_attention_heads=heads, num_key_value_heads=kv_heads, max_position_embeddings=context,
                                      rms_norm_eps=1e-5, tie_word_embeddings=True, bos_token_id=1, eos_token_id=2)
    model = transformers.LlamaForCausalLM(config)
    missing = model.load_state_dict(state, strict=False)
    assert not missing.unexpected_keys and missing.missing_keys == ["lm_head.weight"]
    model.tie_weights()
    model.save_pretrained(folder)
    (folder / "tokenizer.model").write_bytes((DATA / "stories260K" / "tok512.model").read_bytes())
    return model.eval()


@pytest.fixture(scope="module")
def stories(tmp_path_factory):
    if not (DATA / "stories260K").exists():
        pytest.skip("SKIPPED LOUDLY: shared data stories260K is missing; set ATTAR_TEST_DATA")
    folder = tmp_path_factory.mktemp("stories") / "model"
    return folder, stories_folder(folder)


def greedy_ids():
    return [int(word) for word in (DATA / "stories260K" / "greedy_ids.txt").read_text().split()]


def test_stories_logits(stories, tmp_path):
    folder, model = stories
    ids = greedy_ids()
    got = ours(folder, [ids], tmp_path)
    assert np.abs(got - theirs(model, [ids])).max() < 2e-4
    # Greedy decoding from the whole text: every next id is the largest logit.
    assert got.argmax(-1)[:len(ids) - 1].tolist() == ids[1:]


def test_stories_greedy_text(stories):
    folder, _ = stories
    count = len(greedy_ids()) - 1
    text = attar("generate", "--model", folder, "--prompt", "", "--max-tokens", count, "--temperature", 0).stdout
    expected = (DATA / "stories260K" / "expected_greedy_256.txt").read_text()
    assert text.strip() == expected.strip()


def test_stories_greedy_ids(stories):
    folder, _ = stories
    ids = greedy_ids()
    printed = attar("generate", "--model", folder, "--prompt", "", "--max-tokens", len(ids) - 1, "--temperature", 0, "--ids").stdout
    assert json.loads(printed if printed.lstrip().startswith("[") else "[" + ",".join(printed.split()) + "]") == ids[1:]
