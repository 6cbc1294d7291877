"""Records which type llama.cpp's own quantizer gives each tensor of small random models, for every preset: writes preset_golden.inc.

Run with a Python that has gguf and llama_cpp:  python tests/spec/make_preset_golden.py
"""
import ctypes
import pathlib
import sys
import tempfile

import gguf
import llama_cpp
import numpy as np

# name of ours -> number of llama_ftype. mxfp4 is left out: llama-quantize gives it to experts only.
PRESETS = {
    "q8_0": 7, "q4_0": 2, "q4_1": 3, "q5_0": 8, "q5_1": 9, "q2_k": 10, "q3_k_s": 11, "q3_k_m": 12, "q3_k_l": 13, "q4_k_s": 14,
    "q4_k_m": 15, "q5_k_s": 16, "q5_k_m": 17, "q6_k": 18, "iq4_nl": 25, "tq1_0": 36, "tq2_0": 37, "f32": 0, "f16": 1, "bf16": 32,
}
# (name, architecture, layers, hidden, ffn, heads, kv heads, tied)
MODELS = [
    ("wide_tied", "llama", 10, 256, 512, 4, 4, True),
    ("wide_grouped", "llama", 10, 256, 512, 8, 2, False),
    ("deep", "llama", 33, 256, 256, 4, 2, False),
    ("narrow", "llama", 10, 192, 352, 4, 2, False),
    ("narrow_tied", "llama", 10, 192, 352, 4, 1, True),
    ("mixed", "llama", 9, 256, 352, 4, 2, False),
    ("odd", "llama", 3, 72, 172, 4, 2, True),
    ("odd_untied", "llama", 3, 72, 172, 4, 2, False),
    ("fused", "phi3", 10, 256, 512, 4, 2, False),
    ("seventy", "llama", 80, 256, 256, 8, 1, False),
    ("eighty_pairs", "llama", 80, 256, 256, 8, 4, False),
    ("qwen", "qwen2", 10, 256, 512, 4, 1, True),
    ("qwen_eighty", "qwen2", 80, 256, 256, 8, 1, False),
    ("gemma2", "gemma2", 10, 256, 512, 4, 2, True),
    ("gemma3", "gemma3", 10, 256, 512, 4, 2, True),
    ("qwen3", "qwen3", 10, 256, 512, 8, 2, False),
]
VOCAB = 64


def tensors_of(arch, layers, hidden, ffn, heads, kv, tied):
    d = hidden // heads
    gemma = arch in ("gemma2", "gemma3")
    yield "token_embd.weight", (VOCAB, hidden)
    for i in range(layers):
        b = f"blk.{i}."
        yield b + "attn_norm.weight", (hidden,)
        if arch == "phi3":
            yield b + "attn_qkv.weight", ((heads + 2 * kv) * d, hidden)
        else:
            yield b + "attn_q.weight", (heads * d, hidden)
            yield b + "attn_k.weight", (kv * d, hidden)
            yield b + "attn_v.weight", (kv * d, hidden)
        if arch in ("qwen3", "gemma3"):
            yield b + "attn_q_norm.weight", (d,)
            yield b + "attn_k_norm.weight", (d,)
        yield b + "attn_output.weight", (hidden, heads * d)
        if gemma:
            yield b + "post_attention_norm.weight", (hidden,)
        yield b + "ffn_norm.weight", (hidden,)
        if arch == "phi3":
            yield b + "ffn_up.weight", (2 * ffn, hidden)
        else:
            yield b + "ffn_gate.weight", (ffn, hidden)
            yield b + "ffn_up.weight", (ffn, hidden)
        yield b + "ffn_down.weight", (hidden, ffn)
        if gemma:
            yield b + "post_ffw_norm.weight", (hidden,)
    yield "output_norm.weight", (hidden,)
    if not tied:
        yield "output.weight", (VOCAB, hidden)


def write(path, arch, layers, hidden, ffn, heads, kv, tied):
    w = gguf.GGUFWriter(str(path), arch)
    w.add_context_length(512)
    w.add_embedding_length(hidden)
    w.add_block_count(layers)
    w.add_feed_forward_length(ffn)
    w.add_head_count(heads)
    w.add_head_count_kv(kv)
    w.add_key_length(hidden // heads)
    w.add_value_length(hidden // heads)
    w.add_layer_norm_rms_eps(1e-5)
    w.add_rope_dimension_count(hidden // heads)
    w.add_vocab_size(VOCAB)
    if arch in ("phi3", "gemma2", "gemma3"):
        w.add_sliding_window(512)
    w.add_tokenizer_model("llama")
    w.add_token_list([f"<{i}>" for i in range(VOCAB)])
    w.add_token_scores([0.0] * VOCAB)
    w.add_token_types([1] * VOCAB)
    rng = np.random.default_rng(0)
    for name, shape in tensors_of(arch, layers, hidden, ffn, heads, kv, tied):
        w.add_tensor(name, (rng.standard_normal(shape) * 0.05).astype(np.float32))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def quantize(source, target, ftype):
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = ftype
    params.nthread = 2
    if llama_cpp.llama_model_quantize(str(source).encode(), str(target).encode(), ctypes.byref(params)) != 0:
        return None
    reader = gguf.GGUFReader(str(target))
    file_type = int(reader.fields["general.file_type"].parts[-1][0])
    return file_type, {t.name: t.tensor_type.name.lower() for t in reader.tensors}


def main():
    folder = pathlib.Path(__file__).resolve().parent
    quiet = llama_cpp.llama_log_callback(lambda level, text, data: None)
    llama_cpp.llama_log_set(quiet, ctypes.c_void_p(0))
    lines = ["// Types by llama.cpp's own quantizer (llama-cpp-python " + llama_cpp.__version__ + "), recorded by make_preset_golden.py.",
             "// model, architecture, layers, hidden, ffn, heads, kv heads, tied; preset, general.file_type; one letter a matrix in file order."]
    letters = {"f32": "f", "f16": "h", "bf16": "b", "q8_0": "8", "q4_0": "4", "q4_1": "v", "q5_0": "5", "q5_1": "w", "q2_k": "B", "q3_k": "C",
               "q4_k": "D", "q5_k": "E", "q6_k": "F", "iq4_nl": "n", "tq1_0": "t", "tq2_0": "u", "mxfp4": "m"}
    with tempfile.TemporaryDirectory() as tmp:
        for name, *model in MODELS:
            arch, layers, hidden, ffn, heads, kv, tied = model
            source = pathlib.Path(tmp) / "source.gguf"
            write(source, *model)
            matrices = [n for n, shape in tensors_of(*model) if len(shape) == 2]
            for preset, ftype in PRESETS.items():
                if layers == 80 and preset in ("f32", "f16", "bf16", "tq1_0", "tq2_0", "q4_1", "q5_1", "q5_0", "q8_0"):
                    continue
                got = quantize(source, pathlib.Path(tmp) / "target.gguf", ftype)
                code = "refused" if got is None else "".join(letters[got[1][n]] for n in matrices)
                number = -1 if got is None else got[0]
                pieces = "\n ".join(f'"{code[i:i + 120]}"' for i in range(0, len(code), 120))
                shape = f'"{arch}", {layers}, {hidden}, {ffn}, {heads}, {kv}, {str(tied).lower()}'
                lines.append(f'{{"{name}", {shape}, "{preset}", {number},\n {pieces}}},')
                print(name, preset, number, code[:60], file=sys.stderr, flush=True)
    (folder / "preset_golden.inc").write_text("\n".join(lines) + "\n")


main()
