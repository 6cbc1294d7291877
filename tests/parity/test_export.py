"""Exported files in other software: llama.cpp and the gguf package read our GGUF, onnx.checker and ONNX Runtime our ONNX, for every family."""
import ctypes
import json
import subprocess
import sys

import numpy as np
import pytest
import test_model
from test_model import LONGROPE, attar, greedy_ids, make, needs_attar, ours, sequences, stories, theirs  # noqa: F401 (fixtures)

# What GGUF can say of the variants of test_model.
GGUF = ["llama", "llama_tied_biased", "llama_one_kv_head", "llama_head_dim", "llama_linear", "llama_llama3", "llama_yarn", "mistral", "qwen2",
    "qwen3",
        "gemma", "gemma2", "gemma3", "phi3", "phi3_longrope", "phi3_partial_tied"]
ONNX = GGUF + ["mistral_window", "qwen2_window"]
# What llama.cpp infers instead of reading must be so: the scores' scale by the head's size; longrope's factors by a context of 256 at least.
GGUF_CHANGES = {
    "gemma2": dict(query_pre_attn_scalar=16), "gemma3": dict(query_pre_attn_scalar=16),
    "phi3_longrope": dict(max_position_embeddings=512, original_max_position_embeddings=256,
                          rope_parameters={**LONGROPE, "original_max_position_embeddings": 256}),
}


def export(model, out, form, *more):
    attar("export", "--model", model, "--format", form, "--out", out, *more)
    return out


def log_softmax(x):
    x = x.astype(np.float64)
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def kl(reference, got):
    p, q = log_softmax(reference), log_softmax(got)
    return float((np.exp(p) * (p - q)).sum(-1).mean())


class Llama:
    """A GGUF file in llama.cpp: float32 cache, no flash attention, so that nothing but the weights' types rounds."""

    def __init__(self, path, context=128):
        import llama_cpp
        self.lib = llama_cpp
        llama_cpp.llama_backend_init()
        quiet = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(lambda level, text, data: None)
        self.quiet = quiet
        llama_cpp.llama_log_set(ctypes.cast(quiet, llama_cpp.llama_log_callback), ctypes.c_void_p(0))
        settings = llama_cpp.llama_model_default_params()
        settings.n_gpu_layers = 0
        self.model = llama_cpp.llama_load_model_from_file(str(path).encode(), settings)
        assert self.model, f"llama.cpp does not load {path}"
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = params.n_batch = params.n_ubatch = context
        params.type_k = params.type_v = 0
        params.flash_attn_type = 0
        params.n_threads = params.n_threads_batch = 2
        self.context = llama_cpp.llama_new_context_with_model(self.model, params)
        self.vocab = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self.model))

    def decode(self, ids, start=0):
        batch = self.lib.llama_batch_init(len(ids), 0, 1)
        batch.n_tokens = len(ids)
        for i, token in enumerate(ids):
            batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = token, start + i, 1, 1
            batch.seq_id[i][0] = 0
        assert self.lib.llama_decode(self.context, batch) == 0
        rows = [np.ctypeslib.as_array(self.lib.llama_get_logits_ith(self.context, i), (self.vocab,)).copy() for i in range(len(ids))]
        self.lib.llama_batch_free(batch)
        return np.stack(rows)

    def logits(self, rows):
        out = []
        for row in rows:
            self.lib.llama_memory_clear(self.lib.llama_get_memory(self.context), True)
            out.append(self.decode(row))
        return np.concatenate(out)

    def tokenize(self, text):
        vocab, data = self.lib.llama_model_get_vocab(self.model), text.encode()
        room = (self.lib.llama_token * (len(data) + 8))()
        count = self.lib.llama_tokenize(vocab, data, len(data), room, len(room), False, False)
        return list(room[:count])

    def close(self):
        self.lib.llama_free(self.context)
        self.lib.llama_free_model(self.model)


def in_llama(path, rows, context=128):
    llama = Llama(path, context)
    got = llama.logits(rows)
    llama.close()
    return got


class Onnx:
    def __init__(self, folder, **options):
        import onnxruntime
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = 2
        settings.log_severity_level = 3
        for key, value in options.items():
            setattr(settings, key, value)
        self.session = onnxruntime.InferenceSession(str(folder / "model.onnx"), settings, providers=["CPUExecutionProvider"])
        self.past = [i for i in self.session.get_inputs() if i.name.startswith("past_key_values")]

    def empty(self, batch):
        return {i.name: np.zeros((batch, i.shape[1], 0, i.shape[3]), np.float32) for i in self.past}

    def run(self, ids, mask, positions, cache):
        out = self.session.run(None, {"input_ids": ids, "attention_mask": mask, "position_ids": positions, **cache})
        names = [o.name.replace("present", "past_key_values") for o in self.session.get_outputs()]
        return out[0], dict(zip(names[1:], out[1:]))

    def prefill(self, row):
        ids = np.array([row], np.int64)
        return self.run(ids, np.ones_like(ids), np.arange(len(row))[None], self.empty(1))[0][0]

    def stepwise(self, row, first=1):
        """The first ids together, the others one by one through the cache."""
        cache, rows, done = self.empty(1), [], 0
        for count in [first] + [1] * (len(row) - first):
            ids = np.array([row[done:done + count]], np.int64)
            done += count
            logits, cache = self.run(ids, np.ones((1, done), np.int64), np.arange(done - count, done)[None], cache)
            rows.append(logits[0])
        return np.concatenate(rows)

    def left_padded(self, rows):
        """All rows in one batch, padded on the left; the last id of each is fed through the cache."""
        width = max(map(len, rows))
        ids = np.array([[0] * (width - len(r)) + r for r in rows], np.int64)
        mask = np.array([[0] * (width - len(r)) + [1] * len(r) for r in rows], np.int64)
        positions = np.maximum(mask.cumsum(-1) - 1, 0)
        first, cache = self.run(ids[:, :-1], mask[:, :-1], positions[:, :-1], self.empty(len(rows)))
        last, _ = self.run(ids[:, -1:], mask, positions[:, -1:], cache)
        both = np.concatenate([first, last], 1)
        return np.concatenate([both[i, width - len(r):] for i, r in enumerate(rows)])


@pytest.mark.parametrize("name", GGUF)
def test_gguf_in_llama_cpp(name, tmp_path, monkeypatch):
    kind, changes = test_model.VARIANTS[name]
    monkeypatch.setitem(test_model.VARIANTS, name, (kind, {**changes, **GGUF_CHANGES.get(name, {})}))
    model = make(name, tmp_path / "model")
    rows = sequences(96, [1, 17, 40, 60], 3)
    context = 256
    export(tmp_path / "model", tmp_path / "f32.gguf", "gguf", "--type", "f32")
    reference = theirs(model, rows)
    assert kl(reference, in_llama(tmp_path / "f32.gguf", rows, context)) < 1e-5
    # Read back as a source: the same logits again.
    assert np.abs(ours(tmp_path / "f32.gguf", rows, tmp_path) - reference).max() < 2e-4
    # Eight bits: exact on the file's dequantized copy, near as run.
    export(tmp_path / "model", tmp_path / "q8_0.gguf", "gguf", "--type", "q8_0")
    export(tmp_path / "q8_0.gguf", tmp_path / "copy.gguf", "gguf", "--type", "f32")
    of_values = ours(tmp_path / "q8_0.gguf", rows, tmp_path)
    assert kl(of_values, in_llama(tmp_path / "copy.gguf", rows, context)) < 1e-5
    assert kl(of_values, in_llama(tmp_path / "q8_0.gguf", rows, context)) < 2e-2


@pytest.mark.parametrize("name,words", [("gemma2", "attention scale"), ("gemma3", "attention scale"), ("qwen2_window", None), ("mistral_window",
    None)])
def test_what_gguf_cannot_say(name, words, tmp_path):
    """Refused in a line, or the context is capped at the window and the user told."""
    import gguf
    make(name, tmp_path / "model")
    done = attar("export", "--model", tmp_path / "model", "--format", "gguf", "--type", "f32", "--out", tmp_path / "m.gguf", ok=False)
    if words:
        lines = [line for line in done.stderr.splitlines() if line.startswith("error:")]
        assert done.returncode == 1 and len(lines) == 1 and words in lines[0]
        assert not (tmp_path / "m.gguf").exists()
    else:
        assert done.returncode == 0 and "window" in done.stderr
        keys = [(key, field.contents()) for key, field in gguf.GGUFReader(tmp_path / "m.gguf").fields.items() if key.endswith(".context_length")]
        assert keys[0][1] in (6, 7)


@pytest.mark.parametrize("kind", ["f16", "bf16", "q8_0", "q4_0", "q4_k_m", "q6_k"])
def test_gguf_types_dequantize_to_our_values(kind, tmp_path):
    """The gguf package's dequantized tensors are ours to the last bit."""
    import gguf
    make("llama", tmp_path / "model")
    export(tmp_path / "model", tmp_path / "m.gguf", "gguf", "--type", kind)
    export(tmp_path / "m.gguf", tmp_path / "copy.gguf", "gguf", "--type", "f32")
    file, copy = gguf.GGUFReader(tmp_path / "m.gguf"), gguf.GGUFReader(tmp_path / "copy.gguf")
    assert [t.name for t in file.tensors] == [t.name for t in copy.tensors]
    quantized = 0
    for left, right in zip(file.tensors, copy.tensors):
        values = gguf.dequantize(left.data, left.tensor_type)
        quantized += left.tensor_type != gguf.GGMLQuantizationType.F32
        assert np.array_equal(values.reshape(-1).view(np.uint32), np.asarray(right.data).reshape(-1).view(np.uint32)), left.name
    assert quantized > 10
    rows = sequences(96, [50], 4)
    assert kl(ours(tmp_path / "m.gguf", rows, tmp_path), in_llama(tmp_path / "copy.gguf", rows)) < 1e-5


@pytest.mark.parametrize("preset,number", [("q4_0", 2), ("q8_0", 7), ("q4_k_m", 15), ("q3_k_s", 11), ("q6_k", 18)])
def test_gguf_equals_llama_quantize(preset, number, tmp_path, monkeypatch):
    """Every tensor's type and bytes are those that llama-quantize gives for the same name, and so is general.file_type."""
    import gguf
    wide = dict(hidden_size=256, intermediate_size=768, num_hidden_layers=4, num_attention_heads=4)
    monkeypatch.setitem(test_model.VARIANTS, "llama", ("llama", wide))
    make("llama", tmp_path / "model")
    export(tmp_path / "model", tmp_path / "f32.gguf", "gguf", "--type", "f32")
    export(tmp_path / "model", tmp_path / "ours.gguf", "gguf", "--type", preset)
    # In a process of its own: the log callback that this process has set must not be called from the quantizer.
    quantize = ("import ctypes, llama_cpp, sys; p = llama_cpp.llama_model_quantize_default_params(); p.ftype = int(sys.argv[3]); p.nthread = 2; "
                "sys.exit(llama_cpp.llama_model_quantize(sys.argv[1].encode(), sys.argv[2].encode(), ctypes.byref(p)))")
    subprocess.run([sys.executable, "-c", quantize, str(tmp_path / "f32.gguf"), str(tmp_path / "theirs.gguf"), str(number)], check=True, capture_output=True)
    ours_file, theirs_file = gguf.GGUFReader(tmp_path / "ours.gguf"), gguf.GGUFReader(tmp_path / "theirs.gguf")
    left, right = {t.name: t for t in ours_file.tensors}, {t.name: t for t in theirs_file.tensors}
    assert left.keys() == right.keys()
    for name, tensor in left.items():
        assert tensor.tensor_type == right[name].tensor_type, name
        assert np.asarray(tensor.data).tobytes() == np.asarray(right[name].data).tobytes(), name
    for key in ("general.file_type", "general.quantization_version"):
        assert ours_file.fields[key].contents() == theirs_file.fields[key].contents(), key


@pytest.mark.parametrize("scheme", ["q8_0", "q4_0"])
def test_codes_reach_both_files(scheme, tmp_path):
    """A quantized folder's own codes: the same numbers in GGUF and in ONNX."""
    model = make("qwen3", tmp_path / "model")
    attar("quantize", "--model", tmp_path / "model", "--scheme", scheme, "--out", tmp_path / "quantized")
    rows = sequences(96, [40], 4)
    expected = ours(tmp_path / "quantized", rows, tmp_path)
    export(tmp_path / "quantized", tmp_path / "m.gguf", "gguf")
    assert np.array_equal(ours(tmp_path / "m.gguf", rows, tmp_path), expected)
    export(tmp_path / "m.gguf", tmp_path / "copy.gguf", "gguf", "--type", "f32")
    assert kl(expected, in_llama(tmp_path / "copy.gguf", rows)) < 1e-5
    export(tmp_path / "quantized", tmp_path / "onnx", "onnx")
    assert np.array_equal(ours(tmp_path / "onnx", rows, tmp_path), expected)
    assert np.abs(Onnx(tmp_path / "onnx").prefill(rows[0]) - expected).max() < 1e-3
    for file in ("m.gguf", "onnx"):
        attar("verify", tmp_path / file, "--against", tmp_path / "quantized")
    test_model.redraw(model, 99).save_pretrained(tmp_path / "other")
    for file in ("m.gguf", "onnx"):
        done = attar("verify", tmp_path / file, "--against", tmp_path / "other", ok=False)
        assert done.returncode == 1 and "tensor model." in done.stderr


@pytest.mark.parametrize("name", ONNX)
def test_onnx_in_onnxruntime(name, tmp_path):
    import onnx
    model = make(name, tmp_path / "model")
    rows = sequences(96, [31, 40, 9, 22] + ([90] if "longrope" in name else []), 3)
    reference = theirs(model, rows)
    export(tmp_path / "model", tmp_path / "onnx", "onnx", "--type", "fp32")
    onnx.checker.check_model(str(tmp_path / "onnx" / "model.onnx"), full_check=True)
    runtime = Onnx(tmp_path / "onnx")
    assert np.abs(np.concatenate([runtime.prefill(row) for row in rows]) - reference).max() < 1e-3
    short = rows[:4]  # a row beyond longrope's original length changes the angles of what is cached: decoding cannot equal prefill there
    reference = reference[:sum(map(len, short))]
    assert np.abs(np.concatenate([runtime.stepwise(row, 1 + i * 3) for i, row in enumerate(short)]) - reference).max() < 1e-3
    assert np.abs(runtime.left_padded(short) - reference).max() < 1e-3
    assert np.abs(ours(tmp_path / "onnx", short, tmp_path) - reference).max() < 2e-4


@pytest.mark.parametrize("name", ["llama", "llama_tied_biased", "qwen3", "gemma3", "phi3"])
@pytest.mark.parametrize("kind", ["fp16", "int8", "int4"])
def test_onnx_types(name, kind, tmp_path):
    """ONNX Runtime on the file equals our forward on the file's own numbers."""
    import onnx
    import onnxruntime
    make(name, tmp_path / "model")
    rows = sequences(96, [33], 6)
    export(tmp_path / "model", tmp_path / "onnx", "onnx", "--type", kind)
    onnx.checker.check_model(str(tmp_path / "onnx" / "model.onnx"))
    expected = ours(tmp_path / "onnx", rows, tmp_path)
    # int8: all optimizations would round activations too.
    level = onnxruntime.GraphOptimizationLevel
    options = {"graph_optimization_level": level.ORT_ENABLE_BASIC} if kind == "int8" else {}
    runtime = Onnx(tmp_path / "onnx", **options)
    assert np.abs(runtime.prefill(rows[0]) - expected).max() < 1e-3
    assert np.abs(runtime.stepwise(rows[0], 5) - expected).max() < 1e-3
    assert np.abs(expected - ours(tmp_path / "model", rows, tmp_path)).max() > 1e-4
    attar("verify", tmp_path / "onnx", "--against", tmp_path / "model")


def test_layers_of_different_widths(tmp_path):
    """A pruned model's own FFN width and heads per layer, in llama.cpp and ONNX Runtime."""
    from safetensors.torch import load_file, save_file
    make("llama_tied_biased", tmp_path / "model")
    weights = load_file(tmp_path / "model" / "model.safetensors")
    cut = {"mlp.gate_proj.weight": (0, 16), "mlp.gate_proj.bias": (0, 16), "mlp.up_proj.weight": (0, 16), "mlp.up_proj.bias": (0, 16),
           "mlp.down_proj.weight": (1, 16), "self_attn.q_proj.weight": (0, 8), "self_attn.q_proj.bias": (0, 8), "self_attn.k_proj.weight": (0, 8),
           "self_attn.k_proj.bias": (0, 8), "self_attn.v_proj.weight": (0, 8), "self_attn.v_proj.bias": (0, 8), "self_attn.o_proj.weight": (1, 8)}
    for name, (axis, size) in cut.items():
        key = "model.layers.1." + name
        weights[key] = weights[key].narrow(axis, 0, size).contiguous()
    save_file(weights, tmp_path / "model" / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    config["attar_layers"] = dict(intermediate_size=[48, 16, 48], num_attention_heads=[4, 1, 4], num_key_value_heads=[2, 1, 2])
    (tmp_path / "model" / "config.json").write_text(json.dumps(config))
    rows = sequences(96, [30], 8)
    expected = ours(tmp_path / "model", rows, tmp_path)
    export(tmp_path / "model", tmp_path / "onnx", "onnx", "--type", "fp32")
    runtime = Onnx(tmp_path / "onnx")
    assert np.abs(runtime.prefill(rows[0]) - expected).max() < 1e-3
    assert np.abs(runtime.stepwise(rows[0], 4) - expected).max() < 1e-3
    export(tmp_path / "model", tmp_path / "m.gguf", "gguf", "--type", "f32")
    assert kl(expected, in_llama(tmp_path / "m.gguf", rows)) < 1e-5


def test_genai_folder(tmp_path):
    """onnxruntime-genai runs the folder: greedy ids equal those of our own logits."""
    og = pytest.importorskip("onnxruntime_genai", reason="SKIPPED LOUDLY: onnxruntime-genai is not installed")
    make("qwen3", tmp_path / "model")
    export(tmp_path / "model", tmp_path / "onnx", "onnx", "--type", "fp32", "--genai")
    generator_model = og.Model(str(tmp_path / "onnx"))
    params = og.GeneratorParams(generator_model)
    params.set_search_options(max_length=24, do_sample=False)
    generator = og.Generator(generator_model, params)
    start = sequences(96, [9], 3)[0]
    generator.append_tokens(np.array([start], np.int32))
    while not generator.is_done():
        generator.generate_next_token()
    made = [int(i) for i in generator.get_sequence(0)]
    assert made[:9] == start and len(made) > 10
    assert ours(tmp_path / "model", [made], tmp_path)[8:-1].argmax(-1).tolist() == made[9:]


def test_stories_greedy_in_both(stories, tmp_path):
    """A checkpoint no one here trained gives its known text in llama.cpp and in ONNX Runtime."""
    folder, _ = stories
    ids = greedy_ids()
    export(folder, tmp_path / "m.gguf", "gguf", "--type", "f32", "--allow-deviation")
    llama, row = Llama(tmp_path / "m.gguf", 512), [1]
    while len(row) < len(ids):
        row.append(int(llama.decode(row[-1:], len(row) - 1)[-1].argmax()))
    llama.close()
    assert row == ids
    export(folder, tmp_path / "onnx", "onnx", "--type", "fp32")
    runtime, row = Onnx(tmp_path / "onnx"), [1]
    cache = runtime.empty(1)
    while len(row) < len(ids):
        count = len(row)
        logits, cache = runtime.run(np.array([row[-1:]], np.int64), np.ones((1, count), np.int64), np.array([[count - 1]], np.int64), cache)
        row.append(int(logits[0, -1].argmax()))
    assert row == ids


def test_tokenizer_in_the_file(stories, tmp_path):
    """llama.cpp reads the same ids from the file as attar where the tokenizer promises it."""
    folder, _ = stories
    text = "Once upon a time, there was a little girl named Lily."
    export(folder, tmp_path / "m.gguf", "gguf", "--type", "q8_0", "--allow-deviation")
    llama = Llama(tmp_path / "m.gguf", 64)
    (tmp_path / "text").write_text(text)
    printed = attar("tokenize", "--tokenizer", tmp_path / "m.gguf", "--input", tmp_path / "text").stdout
    assert llama.tokenize(text) == json.loads(printed)
    llama.close()
