"""Types of GGUF files: every one read as a source, and what we write against the gguf package and llama-quantize."""
import subprocess
import sys

import numpy as np
import pytest
import torch
import transformers
from families import SMALL, Case, attar, build, ours, redraw, sequences, theirs
from readers import in_llama, kl
from test_model import needs_attar  # noqa: F401 (fixture)

# Type: where its blocks keep their scales (float16), and what a scale is multiplied with at most.
SCALES = {"F16": ((), 1), "BF16": ((), 1), "Q8_0": ((0,), 127), "Q4_0": ((0,), 8), "Q4_1": ((0, 2), 8), "Q5_0": ((0,), 16), "Q5_1": ((0, 2), 16),
          "IQ4_NL": ((0,), 127), "MXFP4": ((), 1), "Q2_K": ((80, 82), 45), "Q3_K": ((108,), 128), "Q4_K": ((0, 2), 945), "Q5_K": ((0, 2), 1953),
          "Q6_K": ((208,), 4064), "TQ1_0": ((52,), 1), "TQ2_0": ((64,), 1)}


def random_blocks(kind, rows, columns, generator):
    """Bytes of a matrix of a type that no quantizer chose: any code, scales that keep the weights below about a tenth."""
    import gguf
    if kind in ("F16", "BF16"):
        values = torch.from_numpy(generator.normal(size=(rows, columns)) * 0.08).to(torch.float16 if kind == "F16" else torch.bfloat16)
        return values.view(torch.uint8).numpy()
    size, width = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]]
    blocks = generator.integers(0, 256, (rows, columns // size, width), dtype=np.uint8)
    if kind == "MXFP4":
        blocks[..., 0] = generator.integers(122, 126, blocks.shape[:2])
    places, largest = SCALES[kind]
    for at in places:
        scale = (generator.uniform(0.05, 0.2, blocks.shape[:2] + (1,)) / largest).astype(np.float16)
        blocks[..., at:at + 2] = scale.view(np.uint8)
    return blocks.reshape(rows, -1)


def foreign_gguf(path, seed=5):
    """A llama of all types, written by the gguf package."""
    import gguf
    generator, width, heads, vocab = np.random.default_rng(seed), 256, 4, 96
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_context_length(128)
    writer.add_embedding_length(width)
    writer.add_block_count(2)
    writer.add_feed_forward_length(width)
    writer.add_head_count(heads)
    writer.add_head_count_kv(heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(width // heads)
    writer.add_vocab_size(vocab)
    writer.add_tokenizer_model("none")
    kinds = list(SCALES)
    matrices = [f"blk.{i}.{part}" for i in range(2) for part in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")]
    for kind, name in zip(kinds, [*matrices, "token_embd", "output"], strict=True):
        rows = vocab if name in ("token_embd", "output") else width
        data = random_blocks(kind, rows, width, generator)
        writer.add_tensor(name + ".weight", np.ascontiguousarray(data), raw_dtype=gguf.GGMLQuantizationType[kind])
    for name in [f"blk.{i}.{part}" for i in range(2) for part in ("attn_norm", "ffn_norm")] + ["output_norm"]:
        writer.add_tensor(name + ".weight", (1 + 0.3 * generator.normal(size=width)).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_every_type_is_a_source(tmp_path):
    """A file of all types: our values are the gguf package's to the last bit, and the logits transformers' and llama.cpp's on them."""
    import gguf
    from safetensors.torch import load_file
    foreign_gguf(tmp_path / "m.gguf")
    attar("export", "--model", tmp_path / "m.gguf", "--format", "hf", "--type", "fp32", "--out", tmp_path / "folder")
    got = load_file(tmp_path / "folder" / "model.safetensors")
    parts = dict(attn_q="self_attn.q_proj", attn_k="self_attn.k_proj", attn_v="self_attn.v_proj", attn_output="self_attn.o_proj",
                 ffn_gate="mlp.gate_proj", ffn_up="mlp.up_proj", ffn_down="mlp.down_proj", attn_norm="input_layernorm",
                 ffn_norm="post_attention_layernorm")
    plain = {"token_embd.weight": "model.embed_tokens.weight", "output.weight": "lm_head.weight", "output_norm.weight": "model.norm.weight"}
    seen = set()
    for tensor in gguf.GGUFReader(tmp_path / "m.gguf").tensors:
        values = torch.from_numpy(gguf.dequantize(tensor.data, tensor.tensor_type).astype(np.float32))
        name = plain.get(tensor.name)
        if name is None:
            _, layer, part, _ = tensor.name.split(".")
            name = f"model.layers.{layer}.{parts[part]}.weight"
            if part in ("attn_q", "attn_k"):
                values = values.reshape(4, 32, 2, 256).transpose(1, 2).reshape(256, 256)
        assert torch.equal(got[name].view(torch.int32), values.contiguous().view(torch.int32)), (tensor.name, tensor.tensor_type)
        seen.add(tensor.tensor_type.name)
    assert seen == {*SCALES, "F32"}
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "folder", dtype=torch.float32, attn_implementation="eager").eval()
    rows = sequences(96, [50], 4)
    logits = ours(tmp_path / "m.gguf", rows, tmp_path)
    assert np.abs(logits - theirs(model, rows)).max() < 2e-4
    attar("export", "--model", tmp_path / "m.gguf", "--format", "gguf", "--type", "f32", "--out", tmp_path / "copy.gguf")
    assert kl(logits, in_llama(tmp_path / "copy.gguf", rows)) < 1e-5


@pytest.mark.parametrize("kind", ["f16", "bf16", "q8_0", "q4_0", "q4_k_m", "q6_k"])
def test_gguf_types_dequantize_to_our_values(kind, tmp_path, tmp_path_factory):
    """The gguf package's dequantized tensors are ours to the last bit."""
    import gguf
    path = Case.of("llama", tmp_path_factory).path
    attar("export", "--model", path, "--format", "gguf", "--type", kind, "--out", tmp_path / "m.gguf")
    attar("export", "--model", tmp_path / "m.gguf", "--format", "gguf", "--type", "f32", "--out", tmp_path / "copy.gguf")
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


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """A llama whose rows have whole blocks of every type, and beside it its F32 file."""
    folder = tmp_path_factory.mktemp("wide")
    config = transformers.LlamaConfig(**{**SMALL, "hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 4})
    redraw(build(config), 7).save_pretrained(folder / "model")
    attar("export", "--model", folder / "model", "--format", "gguf", "--type", "f32", "--out", folder / "f32.gguf")
    return folder / "model"


@pytest.mark.parametrize("preset,number", [("q4_0", 2), ("q8_0", 7), ("q4_k_m", 15), ("q3_k_s", 11), ("q6_k", 18)])
def test_gguf_equals_llama_quantize(preset, number, wide, tmp_path):
    """Every tensor's type and bytes are those that llama-quantize gives for the same name, and so is general.file_type."""
    import gguf
    attar("export", "--model", wide, "--format", "gguf", "--type", preset, "--out", tmp_path / "ours.gguf")
    # In a process of its own: the log callback that this process has set must not be called from the quantizer.
    quantize = ("import ctypes, llama_cpp, sys; p = llama_cpp.llama_model_quantize_default_params(); p.ftype = int(sys.argv[3]); p.nthread = 2; "
                "sys.exit(llama_cpp.llama_model_quantize(sys.argv[1].encode(), sys.argv[2].encode(), ctypes.byref(p)))")
    command = [sys.executable, "-c", quantize, str(wide / ".." / "f32.gguf"), str(tmp_path / "theirs.gguf"), str(number)]
    subprocess.run(command, check=True, capture_output=True)
    ours_file, theirs_file = gguf.GGUFReader(tmp_path / "ours.gguf"), gguf.GGUFReader(tmp_path / "theirs.gguf")
    left, right = {t.name: t for t in ours_file.tensors}, {t.name: t for t in theirs_file.tensors}
    assert left.keys() == right.keys()
    for name, tensor in left.items():
        assert tensor.tensor_type == right[name].tensor_type, name
        assert np.asarray(tensor.data).tobytes() == np.asarray(right[name].data).tobytes(), name
    for key in ("general.file_type", "general.quantization_version"):
        assert ours_file.fields[key].contents() == theirs_file.fields[key].contents(), key
