"""Models of a recipe judged by others: transformers for the folders, the gguf package and llama.cpp for the GGUF file, ONNX Runtime for the ONNX one."""
import json

import numpy as np
import pytest

IDS = [[1, 40, 300, 7, 99, 512, 33, 8], [1, 5, 6, 700, 1000]]


def ours(attar, model, tmp_path, *more):
    (tmp_path / "ids.json").write_text(json.dumps(IDS))
    attar("logits", "--model", model, "--ids", tmp_path / "ids.json", "--out", tmp_path / "out.npy", *more, check=0)
    return np.load(tmp_path / "out.npy")


@pytest.mark.parametrize("stage", ["teacher", "student", "pruned", "recovered", "qat"])
def test_transformers_agrees(attar, finished, tmp_path, stage):
    import torch
    from transformers import AutoModelForCausalLM
    model = AutoModelForCausalLM.from_pretrained(finished / stage, dtype=torch.float32)
    with torch.no_grad():
        theirs = np.concatenate([model(torch.tensor([ids])).logits[0].numpy() for ids in IDS])
    mine = ours(attar, finished / stage, tmp_path)
    assert mine.shape == theirs.shape and np.abs(theirs).max() > 0.1
    assert np.abs(mine - theirs).max() < 1e-4
    assert np.abs(ours(attar, finished / stage, tmp_path, "--stepwise") - theirs).max() < 1e-4


def test_quantized_folder_holds_its_codes(finished):
    """codes.safetensors, dequantized by the gguf package, are the weights that transformers loads: to the last bit."""
    import gguf
    from safetensors import safe_open
    with safe_open(finished / "qat" / "codes.safetensors", "np") as codes, safe_open(finished / "qat" / "model.safetensors", "np") as weights:
        names = list(codes.keys())
        assert len(names) == 3 * 7 + 1
        for name in names:
            assert np.array_equal(gguf.quants.dequantize(codes.get_tensor(name), gguf.GGMLQuantizationType.Q4_0), weights.get_tensor(name)), name


def test_the_file_holds_the_codes_of_training(finished):
    """The blocks of the GGUF file are those of codes.safetensors, rows of Q and K in llama.cpp's order."""
    import gguf
    from safetensors import safe_open
    tensors = {t.name: t for t in gguf.GGUFReader(finished / "gguf" / "model.gguf").tensors}
    with safe_open(finished / "qat" / "codes.safetensors", "np") as codes:
        for theirs, mine in [("token_embd", "model.embed_tokens"), ("blk.0.ffn_down", "model.layers.0.mlp.down_proj"), ("blk.2.attn_v", "model.layers.2.self_attn.v_proj")]:
            assert np.array_equal(np.asarray(tensors[theirs + ".weight"].data), codes.get_tensor(mine + ".weight")), theirs
        query = codes.get_tensor("model.layers.1.self_attn.q_proj.weight")
        heads = 4
        order = query.reshape(heads, 2, query.shape[0] // heads // 2, -1).swapaxes(1, 2).reshape(query.shape)
        assert np.array_equal(np.asarray(tensors["blk.1.attn_q.weight"].data), order)


def test_llama_cpp_reads_the_same_ids_and_numbers(attar, finished, root, tmp_path):
    llama_cpp = pytest.importorskip("llama_cpp")
    f32 = tmp_path / "f32.gguf"
    attar("export", "--model", finished / "qat", "--format", "gguf", "--type", "f32", "--out", f32, check=0)
    model = llama_cpp.Llama(str(f32), n_ctx=64, n_threads=2, logits_all=True, type_k=0, type_v=0, flash_attn=False, verbose=False)
    rows = [json.loads(line)["text"].replace("\n", " ") for line in open(root / "data" / "support_tickets" / "test.jsonl")][:50]
    (tmp_path / "lines").write_text("\n".join(rows) + "\n")
    mine = [json.loads(line) for line in attar("tokenize", "--tokenizer", finished / "gguf" / "model.gguf", "--input", tmp_path / "lines", check=0).stdout.splitlines()]
    assert mine == [model.tokenize(row.encode(), add_bos=False, special=False) for row in rows]
    expected = ours(attar, finished / "qat", tmp_path).astype(np.float64)
    got = []
    for ids in IDS:
        model.reset()
        model.eval(ids)
        got.append(np.array(model.scores[:len(ids)], np.float64))
    got = np.concatenate(got)

    def log_softmax(x):
        x = x - x.max(-1, keepdims=True)
        return x - np.log(np.exp(x).sum(-1, keepdims=True))

    p, q = log_softmax(expected), log_softmax(got)
    assert (np.exp(p) * (p - q)).sum(-1).max() < 1e-5


def test_onnx_runtime_agrees_with_the_codes(attar, finished, tmp_path):
    import onnx
    import onnxruntime
    path = finished / "onnx" / "model.onnx"
    onnx.checker.check_model(str(path))
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    config = json.loads((finished / "qat" / "config.json").read_text())
    layers, heads = config["num_hidden_layers"], config["num_key_value_heads"]
    size = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    expected = ours(attar, finished / "qat", tmp_path)
    begin = 0
    for ids in IDS:
        feed = {"input_ids": np.array([ids], np.int64), "attention_mask": np.ones((1, len(ids)), np.int64), "position_ids": np.arange(len(ids))[None]}
        for layer in range(layers):
            for part in ("key", "value"):
                feed[f"past_key_values.{layer}.{part}"] = np.zeros((1, heads, 0, size), np.float32)
        logits = session.run(["logits"], {k: v for k, v in feed.items() if k in {i.name for i in session.get_inputs()}})[0][0]
        assert np.abs(logits - expected[begin:begin + len(ids)]).max() < 1e-3
        begin += len(ids)


def test_cache_is_readable_with_h5py(finished):
    import h5py
    manifest = json.loads((finished / "logits" / "manifest.json").read_text())
    shards = sorted((finished / "logits").glob("*.h5"))
    assert shards and manifest["facts"]["cache"]["identity"]
    with h5py.File(shards[0]) as shard:
        assert {"entropy", "top_id", "label_log_prob"} <= set(shard.keys())
        entropy = shard["entropy"][:]
        assert entropy.dtype == np.float16 and np.isfinite(entropy).all() and (entropy >= 0).all()
