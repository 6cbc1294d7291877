"""Post-training quantization against others: importance matrices, llama-quantize with one, GPTQ from the paper in NumPy, files in their readers."""
import ctypes
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from families import attar, error_line, ours
from readers import QUIET, Onnx, in_llama, kl
from test_model import stories_folder

DATA = Path(os.environ.get("ATTAR_TEST_DATA") or Path(__file__).resolve().parents[3] / "shared" / "data")
VOCAB = 512
TEXT = "Once upon a time, there was a little girl named Lily. She loved to play outside in the park with her big red ball. "

gguf = pytest.importorskip("gguf")


@pytest.fixture(scope="module")
def stories(tmp_path_factory):
    """A trained model of 260 thousand parameters, rows of 64 and 172."""
    if not (DATA / "stories260K").exists():
        pytest.skip("SKIPPED LOUDLY: shared data stories260K is missing; set ATTAR_TEST_DATA")
    folder = tmp_path_factory.mktemp("stories") / "model"
    stories_folder(folder)
    return folder


@pytest.fixture(scope="module")
def wide(stories, tmp_path_factory):
    """A random llama whose rows hold superblocks, with the stories' tokenizer."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    torch.manual_seed(2)
    folder = tmp_path_factory.mktemp("wide") / "model"
    config = transformers.LlamaConfig(vocab_size=VOCAB, hidden_size=256, intermediate_size=512, num_hidden_layers=3, num_attention_heads=4,
                                      num_key_value_heads=2, max_position_embeddings=128, tie_word_embeddings=False)
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    for file in stories.iterdir():
        if file.name.startswith("tokenizer"):
            shutil.copy(file, folder)
    return folder


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    file = tmp_path_factory.mktemp("text") / "text.jsonl"
    words = (TEXT * 3).split()
    documents = [" ".join(words[i % 20:i % 20 + 30]) for i in range(48)]
    file.write_text("".join(json.dumps({"text": d}) + "\n" for d in documents))
    return file


@pytest.fixture(scope="module")
def matrix(wide, text, tmp_path_factory):
    folder = tmp_path_factory.mktemp("calibrated") / "statistics"
    attar("calibrate", "--model", wide, "--data", text, "--seq", "64", "--out", folder)
    return folder


def to_gguf(model, file, *words):
    # The stories' tokenizer drops repeated spaces, which GGUF cannot say.
    attar("export", "--model", model, "--format", "gguf", "--allow-deviation", *words, "--out", file)


def tensors_of(path):
    return {t.name: t for t in gguf.GGUFReader(str(path)).tensors}


def test_imatrix_is_what_the_inputs_were(stories, tmp_path):
    """Documents all alike, so that any of them are the rows; transformers' hooks see the same sums of squares."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    (tmp_path / "same.jsonl").write_text((json.dumps({"text": TEXT.strip()}) + "\n") * 24)
    attar("calibrate", "--model", stories, "--data", tmp_path / "same.jsonl", "--seq", "128", "--data.pack", "false", "--out", tmp_path / "out")
    reader = gguf.GGUFReader(str(tmp_path / "out" / "imatrix.gguf"))
    assert reader.fields["general.type"].contents() == "imatrix"
    assert reader.fields["imatrix.datasets"].contents() == ["same.jsonl"]
    tensors = {t.name: np.asarray(t.data, np.float64).ravel() for t in reader.tensors}
    model = transformers.LlamaForCausalLM.from_pretrained(stories)
    (tmp_path / "same.txt").write_text(TEXT.strip())
    body = json.loads(attar("tokenize", "--tokenizer", stories, "--input", tmp_path / "same.txt", "--whole").stdout)
    ids = [1, *[i for i in body if i not in (1, 2)], 2]
    seen = {}
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear) and "layers" in name:
            module.register_forward_hook(lambda m, inputs, out, name=name: seen.__setitem__(name, inputs[0][0].double().square().mean(0).numpy()))
    with torch.no_grad():
        model(torch.tensor([ids]))
    parts = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
             "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}
    assert len(tensors) == 2 * len(seen)
    for name, means in seen.items():
        _, _, layer, module = name.split(".", 3)
        own = f"blk.{layer}.{parts[module]}.weight"
        count = tensors[own + ".counts"]
        assert count.shape == (1,) and count[0] % len(ids) == 0
        assert np.allclose(tensors[own + ".in_sum2"] / count[0], means, rtol=2e-4), own


def llama_quantize(source, target, ftype, imatrix):
    import llama_cpp
    llama_cpp.llama_log_set(ctypes.cast(QUIET, llama_cpp.llama_log_callback), ctypes.c_void_p(0))
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype, params.nthread = ftype, 1
    tensors = tensors_of(imatrix)
    names = [name[:-len(".in_sum2")] for name in tensors if name.endswith(".in_sum2")]
    entry = llama_cpp.llama_cpp.llama_model_imatrix_data
    entries, kept = (entry * (len(names) + 1))(), []
    for i, name in enumerate(names):
        sums, count = np.asarray(tensors[name + ".in_sum2"].data, np.float32).ravel(), float(tensors[name + ".counts"].data.ravel()[0])
        kept.append(np.ascontiguousarray(sums / np.float32(count)))
        entries[i].name, entries[i].size = name.encode(), kept[-1].size
        entries[i].data = kept[-1].ctypes.data_as(ctypes.POINTER(ctypes.c_float))
    params.imatrix = ctypes.cast(entries, type(params.imatrix))
    assert llama_cpp.llama_model_quantize(str(source).encode(), str(target).encode(), ctypes.byref(params)) == 0


@pytest.mark.parametrize("scheme,ftype", [("q4_k_m", 15), ("q3_k_m", 12), ("q5_k_s", 16), ("q6_k", 18), ("q2_k", 10), ("q4_0", 2), ("q5_1", 9), ("iq4_nl", 25)])
def test_llama_quantize_takes_our_imatrix_and_writes_our_bytes(scheme, ftype, wide, matrix, tmp_path):
    to_gguf(wide, tmp_path / "f16.gguf", "--type", "f16")
    llama_quantize(tmp_path / "f16.gguf", tmp_path / "theirs.gguf", ftype, matrix / "imatrix.gguf")
    attar("quantize", "--model", tmp_path / "f16.gguf", "--scheme", scheme, "--mix", "--imatrix", matrix, "--out", tmp_path / "quantized")
    to_gguf(tmp_path / "quantized", tmp_path / "ours.gguf")
    mine, theirs = tensors_of(tmp_path / "ours.gguf"), tensors_of(tmp_path / "theirs.gguf")
    assert mine.keys() == theirs.keys()
    for name, tensor in theirs.items():
        assert mine[name].tensor_type == tensor.tensor_type, name
        assert np.array_equal(np.asarray(mine[name].data), np.asarray(tensor.data)), name
    attar("verify", tmp_path / "ours.gguf", "--against", tmp_path / "quantized")


def test_every_type_of_ggml_is_a_scheme(wide, tmp_path):
    """Codes of each type, one throughout, are the gguf package's dequantized weights and pass the proof of the export."""
    from safetensors import safe_open
    for scheme in ("q4_1", "q5_0", "q2_k", "q3_k", "q5_k", "iq4_nl", "mxfp4", "tq1_0", "tq2_0"):
        attar("quantize", "--model", wide, "--scheme", scheme, "--method", "search" if scheme == "tq2_0" else "ptq", "--out", tmp_path / scheme)
        kind = gguf.GGMLQuantizationType[scheme.upper()]
        with safe_open(tmp_path / scheme / "codes.safetensors", "np") as codes, safe_open(tmp_path / scheme / "model.safetensors", "np") as weights:
            assert len(list(codes.keys())) == 3 * 7 + 2
            for name in list(codes.keys())[::5]:
                assert np.array_equal(gguf.quants.dequantize(codes.get_tensor(name), kind), weights.get_tensor(name)), (scheme, name)
        to_gguf(tmp_path / scheme, tmp_path / f"{scheme}.gguf")
        assert {t.tensor_type for t in tensors_of(tmp_path / f"{scheme}.gguf").values()} == {kind, gguf.GGMLQuantizationType.F32}
        shutil.rmtree(tmp_path / scheme)


def test_rows_without_whole_blocks_fall_back_and_it_is_said(stories, tmp_path):
    done = attar("quantize", "--model", stories, "--scheme", "q4_k", "--out", tmp_path / "out")
    assert "no multiple of 256: q5_0" in done.stderr and "no multiple of 256: f16" in done.stderr
    to_gguf(tmp_path / "out", tmp_path / "m.gguf")
    kinds = {name: t.tensor_type.name for name, t in tensors_of(tmp_path / "m.gguf").items()}
    assert kinds["blk.0.attn_q.weight"] == "Q5_0" and kinds["blk.0.ffn_down.weight"] == "F16"


def gptq_in_numpy(weight, hessian, round_block, block, damping=0.01):
    """Frantar et al. 2023, algorithm 1, in float64: H^-1's upper Cholesky factor, a column at a time."""
    w, h = weight.astype(np.float64), hessian.astype(np.float64)
    h = h + np.eye(len(h)) * damping * np.mean(np.diag(h))
    upper = np.linalg.cholesky(np.linalg.inv(h)).T
    out = np.empty_like(w)
    for i in range(w.shape[1]):
        if i % block == 0:
            rounder = round_block(w[:, i:i + block])
        out[:, i] = rounder(w[:, i])
        w[:, i:] -= np.outer((w[:, i] - out[:, i]) / upper[i, i], upper[i, i:])
    return out


def files_of(folder, tmp_path, name):
    to_gguf(folder, tmp_path / f"{name}.gguf")
    return tmp_path / f"{name}.gguf"


def held_rows(stories, text, tmp_path):
    (tmp_path / "held.txt").write_text("One day, Lily saw a big dog. The dog was sad. Lily said, \"Do not be sad. We can play with my red ball.\"\n")
    ids = json.loads(attar("tokenize", "--tokenizer", stories, "--input", tmp_path / "held.txt", "--whole").stdout)
    return [[1, *[i for i in ids if i not in (1, 2)]][:60]]


def test_gptq_and_search_are_nearer_to_the_model_and_run_everywhere(stories, text, tmp_path):
    rows = held_rows(stories, text, tmp_path)
    reference = ours(stories, rows, tmp_path)
    loss = {}
    for method, words in {"ptq": [], "search": [], "gptq": ["--data", text, "--seq", "64"]}.items():
        attar("quantize", "--model", stories, "--scheme", "int4", "--embeddings", "false", "--method", method, *words, "--out", tmp_path / method)
        expected = ours(tmp_path / method, rows, tmp_path)
        loss[method] = kl(reference, expected)
        file = files_of(tmp_path / method, tmp_path, method)
        assert np.array_equal(ours(file, rows, tmp_path), expected)
        attar("verify", file, "--against", tmp_path / method)
    # A few hundred words of calibration text: enough for a gain, not for the whole of it.
    assert loss["search"] < loss["ptq"] and loss["gptq"] < 0.95 * loss["ptq"], loss
    to_gguf(tmp_path / "gptq.gguf", tmp_path / "copy.gguf", "--type", "f32")
    assert kl(expected, in_llama(tmp_path / "copy.gguf", rows)) < 1e-5
    attar("export", "--model", tmp_path / "gptq", "--format", "onnx", "--out", tmp_path / "onnx")
    assert np.array_equal(ours(tmp_path / "onnx", rows, tmp_path), expected)
    assert np.abs(Onnx(tmp_path / "onnx").prefill(rows[0]) - expected).max() < 1e-3


def test_first_linear_of_gptq_is_the_papers(wide, text, tmp_path):
    """q_proj of the first layer: its inputs are the embedding's, norms are ones, so that NumPy has all it needs."""
    from safetensors import safe_open
    attar("quantize", "--model", wide, "--scheme", "q8_0", "--embeddings", "false", "--method", "gptq", "--data", text, "--seq", "64", "--out", tmp_path / "q")
    attar("calibrate", "--model", wide, "--data", text, "--seq", "64", "--out", tmp_path / "c")
    name = "model.layers.0.self_attn.q_proj.weight"
    with safe_open(wide / "model.safetensors", "np") as f:
        weight, table = f.get_tensor(name), f.get_tensor("model.embed_tokens.weight")
    with safe_open(tmp_path / "q" / "model.safetensors", "np") as f:
        got = f.get_tensor(name)
    documents = [json.loads(line)["text"] for line in text.read_text().splitlines()]
    (tmp_path / "lines.txt").write_text("\n".join(documents) + "\n")
    ids = np.concatenate([[1, *[i for i in json.loads(line) if i not in (1, 2)], 2]
                          for line in attar("tokenize", "--tokenizer", wide, "--input", tmp_path / "lines.txt").stdout.splitlines()])
    x = table[ids].astype(np.float64)
    x /= np.sqrt((x * x).mean(1, keepdims=True) + 1e-6)
    hessian = x.T @ x

    def round_block(block):  # q8_0: the largest magnitude becomes 127, in float16
        scale = (np.abs(block).max(1).astype(np.float32) / np.float32(127)).astype(np.float16).astype(np.float64)
        return lambda column: np.clip(np.rint(column / scale), -127, 127) * scale

    theirs = gptq_in_numpy(weight, hessian, round_block, 32)
    plain = gptq_in_numpy(weight, np.eye(256), round_block, 32)

    def error(rounded):
        return float((((weight - rounded) @ hessian) * (weight - rounded)).sum())

    # A twentieth of the rows is held apart, so the Hessians are not quite the same.
    assert error(theirs) < 0.9 * error(plain)
    assert abs(error(got) / error(theirs) - 1) < 0.1


def test_budget_is_kept_and_explained(stories, text, tmp_path):
    words = ["--model", stories, "--data", text, "--seq", "64", "--budget.types", "q4_0", "--budget.types", "q5_0", "--budget.types", "q8_0"]
    attar("quantize", *words, "--budget.bits", "8", "--out", tmp_path / "mixed")
    facts = json.loads((tmp_path / "mixed" / "manifest.json").read_text())["facts"]
    budget = facts["budget"]
    assert budget["bytes"] <= budget["limit"] and budget["granularity"] == 1
    file = files_of(tmp_path / "mixed", tmp_path, "mixed")
    kinds = {name: t.tensor_type.name.lower() for name, t in tensors_of(file).items()}
    assert {t["tensor"]: t["type"] for t in budget["tensors"]} == {name: kind for name, kind in kinds.items() if kind != "f32"}
    assert sum(int(t.n_bytes) for t in tensors_of(file).values()) == budget["bytes"] == facts["tensor_bytes"]
    line = error_line(attar("quantize", *words, "--budget.bytes", "1000", "--out", tmp_path / "none", ok=False))
    smallest = int(line.split("expected ")[1].split()[0])
    attar("quantize", *words, "--budget.bytes", str(smallest), "--out", tmp_path / "smallest")
    error_line(attar("quantize", *words, "--budget.bytes", str(smallest - 1), "--out", tmp_path / "none", ok=False))


@pytest.mark.parametrize("scheme,words", [
    ("q2_k", ["--start", "gptq"]),
    ("q4_k", ["--lora.rank", "4"]),
    ("tq2_0", ["--scales", "learned", "--start", "search"]),
    ("q4_1", ["--scales", "learned", "--activations", "int8", "--delay", "1"]),
])
def test_trained_grid_is_what_ggufs_reader_sees(scheme, words, wide, text, tmp_path):
    """The folder holds what training's forward used (its own tests); the file's values by the gguf package are the same, every element."""
    safetensors = pytest.importorskip("safetensors.numpy")
    attar("quantize", "--model", wide, "--data", text, "--seq", "64", "--scheme", scheme, "--method", "qat", *words, "--steps", "2", "--batch", "2",
          "--calibration-rows", "8", "--lr", "1e-3", "--out", tmp_path / "qat")
    trained = safetensors.load_file(tmp_path / "qat" / "model.safetensors")
    tensors = tensors_of(files_of(tmp_path / "qat", tmp_path, "qat"))
    names = {"token_embd": "model.embed_tokens", "output": "lm_head"}
    for layer in range(3):  # q and k have their rows in another order there
        for theirs, mine in {"attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
                             "ffn_down": "mlp.down_proj"}.items():
            names[f"blk.{layer}.{theirs}"] = f"model.layers.{layer}.{mine}"
    for theirs, mine in names.items():
        tensor = tensors[theirs + ".weight"]
        assert tensor.tensor_type.name.lower() == scheme, theirs
        assert np.array_equal(gguf.quants.dequantize(tensor.data, tensor.tensor_type), trained[mine + ".weight"]), theirs


def test_a_caches_cost_stands_beside_the_models_own_numbers(wide, text, tmp_path):
    (tmp_path / "text.txt").write_text("\n".join(json.loads(line)["text"] for line in text.read_text().splitlines()))
    words = ["--model", wide, "--text", tmp_path / "text.txt", "--ctx", "64", "--text-tokens", "640", "--json"]
    plain = json.loads(attar("eval", *words).stdout)
    cost = {}
    for kind in ("f16", "q8_0", "q4_0"):
        result = json.loads(attar("eval", *words, "--kv-cache", kind).stdout)
        assert result["perplexity"] == plain["perplexity"] and result["kv_cache"]["type"] == kind
        cost[kind] = result["kv_cache"]["kld"]["mean"]
    assert "kv_cache" not in plain
    assert 0 < cost["f16"] < cost["q8_0"] < cost["q4_0"], cost
    assert "q8_0" in error_line(attar("eval", *words, "--kv-cache", "q5_1", ok=False))


@pytest.mark.parametrize("words,part", [
    (["--scheme", "q4_k_x"], "q4_k"),
    (["--scheme", "f16"], "quantized"),
    (["--method", "magic"], "gptq"),
    (["--method", "gptq", "--damping", "0"], "damping"),
    (["--budget.bits", "4", "--budget.bytes", "4"], "bits or bytes"),
    (["--imatrix", "OTHER"], "another model"),
    (["--method", "qat", "--start", "search", "--scales", "recomputed"], "kept or learned"),
    (["--method", "qat", "--delay", "200"], "train.steps"),
])
def test_bad_input_is_one_line(words, part, stories, matrix, text, tmp_path):
    words = [str(matrix) if w == "OTHER" else w for w in words]
    line = error_line(attar("quantize", "--model", stories, "--data", text, *words, "--out", tmp_path / "out", ok=False))
    assert part in line, line
    assert not (tmp_path / "out").exists()
