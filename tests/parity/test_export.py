"""Exported files in other software: llama.cpp reads our GGUF, onnx.checker and ONNX Runtime our ONNX, for every family; and back again."""
import json

import numpy as np
import pytest
from families import LONG_ROW, VARIANTS, attar, error_line, make, ours, redraw, sequences, theirs
from readers import Llama, Onnx, in_llama, kl
from test_model import assert_same_model, case, greedy_ids, needs_attar, stories  # noqa: F401 (fixtures)

# What GGUF cannot say of the variants: by the words of the refusal, or by the context that the file is capped at.
REFUSED = {"gemma2_scale": "attention scale", "gemma3_scale": "attention scale", "qwen3_biased": "bias", "gemma_untied": "tied output"}
CAPPED = {"mistral_window": 7, "qwen2_window": 6, "qwen3_window": 6, "phi3_window": 6}
GGUF = [name for name in VARIANTS if name not in REFUSED and name not in CAPPED]
FAMILIES = ["llama_tied_biased", "llama_llama3", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3", "phi3_mini4"]


def export(model, out, form, *more):
    attar("export", "--model", model, "--format", form, "--out", out, *more)
    return out


@pytest.mark.parametrize("name", GGUF)
def test_gguf_in_llama_cpp(name, case, tmp_path):
    # Of the size of longrope's original context: its short factors.
    rows, context = sequences(96, [1, 17, 40, 60], 3), 256
    f32 = case.file("f32.gguf", "--format", "gguf", "--type", "f32")
    reference = theirs(case.model, rows)
    assert kl(reference, in_llama(f32, rows, context)) < 1e-5
    if case.is_longrope:
        long = sequences(96, [LONG_ROW], 5)
        assert kl(theirs(case.model, long), in_llama(f32, long, 512)) < 1e-5
    # Read back as a source: the same logits again.
    assert np.abs(ours(f32, rows, tmp_path) - reference).max() < 2e-4
    # Eight bits: exact on the file's dequantized copy, near as run.
    q8 = case.file("q8_0.gguf", "--format", "gguf", "--type", "q8_0")
    copy = case.file("copy.gguf", "--format", "gguf", "--type", "f32", of=q8)
    of_values = ours(q8, rows, tmp_path)
    assert kl(of_values, in_llama(copy, rows, context)) < 1e-5
    assert kl(of_values, in_llama(q8, rows, context)) < 2e-2


@pytest.mark.parametrize("name", GGUF)
def test_gguf_back_to_a_folder(name, case):
    """HF -> GGUF -> HF: transformers loads the same class with the same tensors (Mistral comes back as the llama that its file says it is)."""
    f32 = case.file("f32.gguf", "--format", "gguf", "--type", "f32")
    back = case.file("back", "--format", "hf", of=f32)
    if name.startswith("mistral"):
        config = json.loads((back / "config.json").read_text())
        assert config["model_type"] == "llama"
        import transformers
        again = transformers.AutoModelForCausalLM.from_pretrained(back, dtype="float32", attn_implementation="eager").eval()
        rows = sequences(96, [50], 9)
        assert np.abs(theirs(case.model, rows) - theirs(again, rows)).max() < 1e-6
    elif "Gemma" in type(case.model).__name__:
        # The file's norms are 1 + w in float32: w comes back rounded.
        import transformers
        again = transformers.AutoModelForCausalLM.from_pretrained(back, dtype="float32", attn_implementation="eager").eval()
        right = dict(again.named_parameters())
        for key, tensor in case.model.named_parameters():
            assert (tensor - right[key]).abs().max() <= (2.4e-7 if key.endswith("norm.weight") else 0), key
        rows = sequences(96, [50], 9)
        assert np.abs(theirs(case.model, rows) - theirs(again, rows)).max() < 1e-4
    else:
        # Numbers of the architecture, as yarn's magnitude, are float32 in the file.
        assert_same_model(case.model, back, 1e-4)


@pytest.mark.parametrize("name", REFUSED)
def test_what_gguf_cannot_say_is_refused(name, case, tmp_path):
    done = attar("export", "--model", case.path, "--format", "gguf", "--type", "f32", "--out", tmp_path / "m.gguf", ok=False)
    lines = done.stderr.strip().splitlines()
    assert done.returncode == 1 and all(line.startswith("error: GGUF architecture") for line in lines)
    assert any(REFUSED[name] in line for line in lines)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", CAPPED)
def test_windows_that_llama_cpp_lacks_cap_the_context(name, case, tmp_path):
    import gguf
    done = attar("export", "--model", case.path, "--format", "gguf", "--type", "f32", "--out", tmp_path / "m.gguf")
    assert "window" in done.stderr and str(CAPPED[name]) in done.stderr
    keys = [field.contents() for key, field in gguf.GGUFReader(tmp_path / "m.gguf").fields.items() if key.endswith(".context_length")]
    assert keys == [CAPPED[name]]
    # As far as the file promises it computes the model.
    rows = sequences(96, [CAPPED[name], 3], 3)
    assert kl(theirs(case.model, rows), in_llama(tmp_path / "m.gguf", rows)) < 1e-5


@pytest.mark.parametrize("name", VARIANTS)
def test_onnx_in_onnxruntime(name, case):
    import onnx
    rows = sequences(96, [31, 40, 9, 22] + ([LONG_ROW] if case.is_longrope else []), 3)
    reference = theirs(case.model, rows)
    folder = case.file("onnx", "--format", "onnx", "--type", "fp32")
    onnx.checker.check_model(str(folder / "model.onnx"), full_check=True)
    runtime = Onnx(folder)
    assert np.abs(np.concatenate([runtime.prefill(row) for row in rows]) - reference).max() < 1e-3
    short = rows[:4]  # a row beyond longrope's original length changes the angles of what is cached: decoding cannot equal prefill there
    reference = reference[:sum(map(len, short))]
    assert np.abs(np.concatenate([runtime.stepwise(row, 1 + i * 3) for i, row in enumerate(short)]) - reference).max() < 1e-3
    assert np.abs(runtime.left_padded(short) - reference).max() < 1e-3


@pytest.mark.parametrize("name,kind", [(name, "int4") for name in FAMILIES] + [("qwen3", "fp32"), ("gemma3", "fp16"), ("llama_tied_biased", "fp16"),
                                                                              ("phi3_mini4", "int8"), ("qwen3", "int8")])
def test_onnx_types(name, kind, case, tmp_path):
    """ONNX Runtime on the file equals our forward on the file's own numbers."""
    import onnx
    import onnxruntime
    rows = sequences(96, [33], 6)
    export(case.path, tmp_path / "onnx", "onnx", "--type", kind)
    onnx.checker.check_model(str(tmp_path / "onnx" / "model.onnx"))
    expected = ours(tmp_path / "onnx", rows, tmp_path)
    # int8: all optimizations would round activations too.
    level = onnxruntime.GraphOptimizationLevel
    options = {"graph_optimization_level": level.ORT_ENABLE_BASIC} if kind == "int8" else {}
    runtime = Onnx(tmp_path / "onnx", **options)
    assert np.abs(runtime.prefill(rows[0]) - expected).max() < 1e-3
    assert np.abs(runtime.stepwise(rows[0], 5) - expected).max() < 1e-3
    moved = np.abs(expected - theirs(case.model, rows)).max()
    assert moved < 2e-4 if kind == "fp32" else moved > 1e-4
    attar("verify", tmp_path / "onnx", "--against", case.path)


@pytest.mark.parametrize("words", [[], ["--method", "search"]])
def test_int8_rows_reach_onnx_runtime(words, tmp_path):
    """A folder of int8 codes: ONNX Runtime computes with its very numbers; GGUF holds their values."""
    import onnx
    import onnxruntime
    make("qwen3", tmp_path / "model")
    attar("quantize", "--model", tmp_path / "model", "--scheme", "int8", *words, "--out", tmp_path / "quantized")
    rows = sequences(96, [40], 4)
    expected = ours(tmp_path / "quantized", rows, tmp_path)
    export(tmp_path / "quantized", tmp_path / "onnx", "onnx")
    stored = onnx.load(tmp_path / "onnx" / "model.onnx").graph.initializer
    assert any(t.data_type == onnx.TensorProto.INT8 for t in stored)
    runtime = Onnx(tmp_path / "onnx", graph_optimization_level=onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC)
    assert np.abs(runtime.prefill(rows[0]) - expected).max() < 1e-3
    export(tmp_path / "quantized", tmp_path / "m.gguf", "gguf")
    assert np.array_equal(ours(tmp_path / "m.gguf", rows, tmp_path), expected)
    for file in ("m.gguf", "onnx"):
        attar("verify", tmp_path / file, "--against", tmp_path / "quantized")


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
    redraw(model, 99).save_pretrained(tmp_path / "other")
    for file in ("m.gguf", "onnx"):
        done = attar("verify", tmp_path / file, "--against", tmp_path / "other", ok=False)
        assert done.returncode == 1 and "tensor model." in done.stderr


def cut_layer(name, folder):
    """A variant whose second layer has a third of the FFN's width and, where it has heads of 8, one head: as pruning leaves it."""
    from safetensors.torch import load_file, save_file
    make(name, folder)
    weights = load_file(folder / "model.safetensors")
    for part, axis, size in [("mlp.gate_proj", 0, 16), ("mlp.up_proj", 0, 16), ("mlp.down_proj", 1, 16), ("self_attn.q_proj", 0, 8),
                             ("self_attn.k_proj", 0, 8), ("self_attn.v_proj", 0, 8), ("self_attn.o_proj", 1, 8)]:
        for kind in ("weight", "bias"):
            key = f"model.layers.1.{part}.{kind}"
            if key in weights and (kind == "weight" or axis == 0):
                weights[key] = weights[key].narrow(axis, 0, size).contiguous()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    config["attar_layers"] = dict(intermediate_size=[48, 16, 48], num_attention_heads=[4, 1, 4], num_key_value_heads=[2, 1, 2])
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_layers_of_different_widths(tmp_path):
    """A pruned model's own FFN width and heads per layer: in llama.cpp (arrays of architecture deci), ONNX Runtime, and read back."""
    model = cut_layer("llama_tied_biased", tmp_path / "model")
    rows = sequences(96, [30], 8)
    expected = ours(model, rows, tmp_path)
    runtime = Onnx(export(model, tmp_path / "onnx", "onnx", "--type", "fp32"))
    assert np.abs(runtime.prefill(rows[0]) - expected).max() < 1e-3
    assert np.abs(runtime.stepwise(rows[0], 4) - expected).max() < 1e-3
    file = export(model, tmp_path / "m.gguf", "gguf", "--type", "f32")
    assert kl(expected, in_llama(file, rows)) < 1e-5
    assert np.array_equal(ours(file, rows, tmp_path), expected)


@pytest.mark.parametrize("form,words", [(("gguf", "--type", "f32"), "the same widths and heads in every layer"), (("onnx", "--genai"), "kv heads")])
def test_layers_that_a_reader_cannot_take_are_refused_before_writing(form, words, tmp_path):
    model = cut_layer("qwen2", tmp_path / "model")
    done = attar("export", "--model", model, "--format", *form, "--out", tmp_path / "out", ok=False)
    assert words in error_line(done)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_folder_that_transformers_cannot_load_is_said(tmp_path):
    model = cut_layer("qwen2", tmp_path / "model")
    done = attar("export", "--model", model, "--format", "hf", "--out", tmp_path / "out")
    assert "transformers does not" in done.stderr
    rows = sequences(96, [30], 8)
    assert np.array_equal(ours(tmp_path / "out", rows, tmp_path), ours(model, rows, tmp_path))


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
