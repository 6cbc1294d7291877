"""attar's decoder against transformers: tiny checkpoints of every family, every parameter redrawn, and a real one (stories260K)."""
import json
import struct

import numpy as np
import pytest
import torch
import transformers
from families import ATTAR, DATA, LONG_ROW, VARIANTS, Case, attar, error_line, make, ours, sequences, theirs

@pytest.fixture(autouse=True, scope="module")
def needs_attar():
    if not ATTAR.exists():
        pytest.skip(f"SKIPPED LOUDLY: {ATTAR} is not built")


@pytest.fixture
def case(name, tmp_path_factory):
    return Case.of(name, tmp_path_factory)


@pytest.mark.parametrize("name", VARIANTS)
def test_logits_equal_transformers(name, case, tmp_path):
    # longrope's angles depend on the length: on both sides of the original context.
    rows = sequences(96, [1, 5, 24, 40, 63] + ([LONG_ROW] if case.is_longrope else []), 3)
    expected = theirs(case.model, rows)
    got = ours(case.path, rows, tmp_path)
    assert got.shape == expected.shape
    assert np.abs(expected).max() > 0.5
    assert np.abs(got - expected).max() < 2e-4


@pytest.mark.parametrize("name", VARIANTS)
def test_token_by_token_equals_transformers(name, case, tmp_path):
    rows = sequences(96, [1, 33], 4)
    assert np.abs(ours(case.path, rows, tmp_path, "--stepwise") - theirs(case.model, rows)).max() < 2e-4


def old_style(config):
    """config.json as the versions of transformers before rope_parameters and dtype wrote it."""
    rope = config.pop("rope_parameters")
    if "full_attention" in rope:
        config["rope_local_base_freq"] = rope["sliding_attention"]["rope_theta"]
        rope = rope["full_attention"]
    config["rope_theta"] = rope.pop("rope_theta")
    kind = rope.pop("rope_type")
    if "partial_rotary_factor" in rope:
        config["partial_rotary_factor"] = rope.pop("partial_rotary_factor")
    if kind != "default":
        config["rope_scaling"] = {"type" if kind in ("linear", "longrope") else "rope_type": kind, **rope}
        if config["model_type"] == "phi3":
            config["rope_scaling"].pop("original_max_position_embeddings", None)
    config.pop("layer_types", None)
    config["torch_dtype"] = config.pop("dtype")
    return config


@pytest.mark.parametrize("name,dtype", [("llama_tied_biased", "bfloat16"), ("llama_llama3", "bfloat16"), ("llama_yarn", "float16"),
                                        ("mistral_window", "bfloat16"), ("qwen2_window", "float16"), ("gemma2", "bfloat16"), ("gemma3", "float32"),
                                        ("phi3_mini4", "float16"), ("llama_linear", "float32")])
def test_old_style_config_and_half_precision(name, dtype, case, tmp_path):
    reading = dict(attn_implementation="eager")
    transformers.AutoModelForCausalLM.from_pretrained(case.path, dtype=getattr(torch, dtype), **reading).save_pretrained(tmp_path / "half")
    reference = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "half", dtype=torch.float32, **reading).eval()
    file = tmp_path / "half" / "config.json"
    config = old_style(json.loads(file.read_text()))
    assert config["torch_dtype"] == dtype
    file.write_text(json.dumps(config))
    rows = sequences(96, [17, 30], 5)
    assert np.abs(ours(tmp_path / "half", rows, tmp_path) - theirs(reference, rows)).max() < 2e-4


def assert_same_model(model, folder, within=1e-6):
    """transformers loads the folder as the same class with exactly the same tensors, and they compute the same."""
    again = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    assert type(again) is type(model)
    left, right = dict(model.named_parameters()), dict(again.named_parameters())
    assert left.keys() == right.keys()
    for key, tensor in left.items():
        assert torch.equal(tensor, right[key]), key
    rows = sequences(96, [50], 9)
    assert np.abs(theirs(model, rows) - theirs(again, rows)).max() < within


@pytest.mark.parametrize("name", VARIANTS)
def test_saved_folder_gives_transformers_the_same_tensors(name, case):
    assert_same_model(case.model, case.file("again", "--format", "hf"))


def test_sharded_folder(tmp_path):
    model = make("qwen3", tmp_path / "model")
    model.save_pretrained(tmp_path / "shards", max_shard_size="20KB")
    assert len(list((tmp_path / "shards").glob("model-*.safetensors"))) > 2
    rows = sequences(96, [20], 11)
    assert np.abs(ours(tmp_path / "shards", rows, tmp_path) - theirs(model, rows)).max() < 2e-4


def test_sharded_export_loads_in_transformers(tmp_path):
    """A folder sharded above a size: an index, no file above it but for a single tensor, the same tensors."""
    import transformers
    model = make("llama", tmp_path / "model")
    attar("export", "--model", tmp_path / "model", "--format", "hf", "--shard-bytes", "40000", "--out", tmp_path / "shards")
    files = list((tmp_path / "shards").glob("model-*.safetensors"))
    assert len(files) > 2 and (tmp_path / "shards" / "model.safetensors.index.json").exists()
    largest = max(value.numel() * 4 for value in model.state_dict().values())
    assert max(file.stat().st_size for file in files) < max(40000, largest) + 4096
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "shards", dtype="float32")
    mine, theirs = again.state_dict(), model.state_dict()
    assert mine.keys() == theirs.keys() and all(mine[name].equal(theirs[name]) for name in theirs)


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
    ("shape", "model.norm.weight"), ("dtype", "model.norm.weight"), ("cut", "model.safetensors"),
    ("architecture", "mamba"), ("rope", "dynamic"), ("two", "model.safetensors")])
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
    if damage == "rope":
        config = json.loads((tmp_path / "model" / "config.json").read_text())
        config["rope_parameters"] = dict(rope_type="dynamic", rope_theta=10000.0, factor=2.0)
        (tmp_path / "model" / "config.json").write_text(json.dumps(config))
    if damage == "two":
        index = {"metadata": {}, "weight_map": {name: "model-00001-of-00001.safetensors" for name in weights}}
        (tmp_path / "model" / "model.safetensors.index.json").write_text(json.dumps(index))
        save_file(weights, tmp_path / "model" / "model-00001-of-00001.safetensors", metadata={"format": "pt"})
    (tmp_path / "ids.json").write_text("[[1, 2]]")
    done = attar("logits", "--model", tmp_path / "model", "--ids", tmp_path / "ids.json", "--out", tmp_path / "o.npy", ok=False)
    assert words in error_line(done)
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
