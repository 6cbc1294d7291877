"""Exports in less memory than the model: tensor by tensor from the mapped files, proof included."""
import json
import resource
import shutil
import subprocess

import pytest

HIDDEN, LAYERS, FFN, VOCAB = 2048, 4, 5632, 4096
LIMIT = 400_000_000  # bytes; LibTorch itself takes 150 million, the largest tensor 23


def sparse_llama(folder):
    """A Llama of zeros in float16 whose file is a hole: many bytes to read, none on the disk. Returns its size in bytes."""
    folder.mkdir()
    shapes = {"model.embed_tokens.weight": (VOCAB, HIDDEN), "model.norm.weight": (HIDDEN,)}
    for i in range(LAYERS):
        own = f"model.layers.{i}."
        shapes[own + "input_layernorm.weight"] = shapes[own + "post_attention_layernorm.weight"] = (HIDDEN,)
        for name in "qkvo":
            shapes[own + f"self_attn.{name}_proj.weight"] = (HIDDEN, HIDDEN)
        shapes[own + "mlp.gate_proj.weight"] = shapes[own + "mlp.up_proj.weight"] = (FFN, HIDDEN)
        shapes[own + "mlp.down_proj.weight"] = (HIDDEN, FFN)
    header, end = {}, 0
    for name, shape in shapes.items():
        begin, end = end, end + 2 * shape[0] * (shape[1] if len(shape) == 2 else 1)
        header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-(len(text) + 8) % 64)
    with open(folder / "model.safetensors", "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)
    (folder / "config.json").write_text(json.dumps({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": HIDDEN, "num_hidden_layers": LAYERS,
        "intermediate_size": FFN, "num_attention_heads": 32, "num_key_value_heads": 32, "vocab_size": VOCAB, "rms_norm_eps": 1e-5,
        "max_position_embeddings": 2048, "hidden_act": "silu", "tie_word_embeddings": True, "torch_dtype": "float16"}))
    return end


def run_limited(attar, *words, data_limit):
    """Runs attar with a limit on its own memory; what is mapped from files for reading does not count."""
    def limit():
        resource.setrlimit(resource.RLIMIT_DATA, (data_limit, data_limit))
    return subprocess.run([str(attar.path), *map(str, words)], capture_output=True, text=True, preexec_fn=limit, timeout=300)


@pytest.mark.parametrize("kind, type", [("gguf", "f16"), ("gguf", "q8_0"), ("onnx", "fp16"), ("onnx", "int4"), ("hf", "fp16")])
def test_an_export_takes_less_memory_than_the_model(attar, tmp_path, kind, type):
    size = sparse_llama(tmp_path / "model")
    out = tmp_path / ("out.gguf" if kind == "gguf" else "out")
    words = ("export", "--model", tmp_path / "model", "--format", kind, "--type", type, "--out", out, "--threads", 2)
    assert size > LIMIT
    done = run_limited(attar, *words, data_limit=LIMIT)
    assert done.returncode == 0, done.stderr


def test_the_limit_is_felt(attar, tmp_path):
    """The same limit refuses what does hold the model: its float32 weights."""
    sparse_llama(tmp_path / "model")
    (tmp_path / "ids.json").write_text("[[1]]")
    done = run_limited(attar, "logits", "--model", tmp_path / "model", "--ids", tmp_path / "ids.json", "--out", tmp_path / "logits.npy",
                       "--threads", 2, data_limit=LIMIT)
    assert done.returncode != 0


def test_loading_takes_the_model_and_a_tensor(attar, tmp_path):
    """Half floats become float32 tensor by tensor: nothing beside the model, its largest tensor and LibTorch itself is held."""
    size = 2 * sparse_llama(tmp_path / "model")
    (tmp_path / "ids.json").write_text("[[1]]")
    words = ("logits", "--model", tmp_path / "model", "--ids", tmp_path / "ids.json", "--out", tmp_path / "logits.npy", "--threads", 2)
    largest = 4 * HIDDEN * FFN
    done = run_limited(attar, *words, data_limit=size + largest + 200_000_000)
    assert done.returncode == 0, done.stderr
    assert 200_000_000 < size / 2, "a second copy, even in half floats, would not fit"


def test_a_large_onnx_keeps_its_weights_beside(attar, tmp_path, monkeypatch):
    """Above 1.5 GB the weights lie in model.onnx.data; others read the two files as one."""
    onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    if shutil.disk_usage(tmp_path).free < 6_000_000_000:
        pytest.skip("SKIPPED LOUDLY: less than 6 GB free for a large ONNX file")
    monkeypatch.setitem(globals(), "LAYERS", 16)
    size = sparse_llama(tmp_path / "model")
    assert size > 1_500_000_000
    attar("export", "--model", tmp_path / "model", "--format", "onnx", "--type", "fp16", "--out", tmp_path / "out", check=0)
    assert (tmp_path / "out" / "model.onnx").stat().st_size < 10_000_000 < size <= (tmp_path / "out" / "model.onnx.data").stat().st_size
    onnx.checker.check_model(str(tmp_path / "out" / "model.onnx"))
    session = onnxruntime.InferenceSession(str(tmp_path / "out" / "model.onnx"), providers=["CPUExecutionProvider"])
    assert {entry.name for entry in session.get_inputs()} >= {"input_ids", "attention_mask", "position_ids"}
    del session
    shutil.rmtree(tmp_path / "out")
