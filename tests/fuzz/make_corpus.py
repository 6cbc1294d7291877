"""Makes the seeds of the fuzz targets: tests/fuzz/corpus/<target>/. Small sound files, written byte by byte; run again after a change of it."""
import hashlib
import json
import pathlib
import struct

CORPUS = pathlib.Path(__file__).parent / "corpus"
FAMILIES = {
    "llama": {"architectures": ["LlamaForCausalLM"], "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
                                                                      "high_freq_factor": 4.0, "original_max_position_embeddings": 32}},
    "mistral": {"architectures": ["MistralForCausalLM"], "sliding_window": 16},
    "qwen2": {"architectures": ["Qwen2ForCausalLM"], "use_sliding_window": False},
    "qwen3": {"architectures": ["Qwen3ForCausalLM"], "attention_bias": False, "rope_scaling": {"rope_type": "yarn", "factor": 4.0,
                                                                                            "original_max_position_embeddings": 16}},
    "gemma": {"architectures": ["GemmaForCausalLM"], "hidden_act": "gelu_pytorch_tanh"},
    "gemma2": {"architectures": ["Gemma2ForCausalLM"], "sliding_window": 8, "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0,
               "query_pre_attn_scalar": 8, "hidden_activation": "gelu_pytorch_tanh"},
    "gemma3_text": {"architectures": ["Gemma3ForCausalLM"], "sliding_window": 8, "query_pre_attn_scalar": 8, "rope_local_base_freq": 10000.0,
                    "layer_types": ["sliding_attention", "full_attention"], "hidden_activation": "gelu_pytorch_tanh"},
    "phi3": {"architectures": ["Phi3ForCausalLM"], "original_max_position_embeddings": 16, "pad_token_id": 0,
             "rope_scaling": {"type": "longrope", "short_factor": [1.0, 1.0, 1.1, 1.2], "long_factor": [1.0, 1.5, 2.0, 4.0]}},
}


def put(target, name, content):
    folder = CORPUS / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)


def safetensors(tensors, metadata=None):
    header, data = ({"__metadata__": metadata} if metadata else {}), b""
    for name, (dtype, shape, content) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def gguf_text(text):
    return struct.pack("<Q", len(text.encode())) + text.encode()


def gguf_value(value):
    if isinstance(value, bool):
        return struct.pack("<iB", 7, value)
    if isinstance(value, int):
        return struct.pack("<iI", 4, value)
    if isinstance(value, float):
        return struct.pack("<if", 6, value)
    if isinstance(value, str):
        return struct.pack("<i", 8) + gguf_text(value)
    kind = 8 if isinstance(value[0], str) else 6 if isinstance(value[0], float) else 5
    items = b"".join(gguf_text(v) if kind == 8 else struct.pack("<f" if kind == 6 else "<i", v) for v in value)
    return struct.pack("<iiQ", 9, kind, len(value)) + items


def gguf(metadata, tensors=()):
    """tensors: (name, type number, sizes innermost first, bytes)"""
    out = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata))
    for key, value in metadata.items():
        out += gguf_text(key) + gguf_value(value)
    offset, data = 0, b""
    for name, kind, sizes, content in tensors:
        out += gguf_text(name) + struct.pack(f"<I{len(sizes)}QiQ", len(sizes), *sizes, kind, offset)
        content += b"\0" * (-len(content) % 32)
        offset += len(content)
        data += content
    return out + (b"\0" * (-len(out) % 32) if tensors else b"") + data


def varint(value):
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def field(number, value):
    if isinstance(value, (bytes, str)):
        value = value.encode() if isinstance(value, str) else value
        return varint(number << 3 | 2) + varint(len(value)) + value
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    return varint(number << 3) + varint(value)


def make_safetensors():
    floats = struct.pack("<4f", 1, 2, 3, 4)
    put("safetensors", "two", safetensors({"a": ("F32", [2, 2], floats), "b": ("BF16", [3], b"\0\x3f" * 3)}, {"format": "pt"}))
    put("safetensors", "kinds", safetensors({k.lower(): (k, [1], bytes(n)) for k, n in
                                             {"F64": 8, "F16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}.items()}))
    put("safetensors", "empty", safetensors({}))
    put("safetensors", "header_of_2_63", struct.pack("<Q", 1 << 63) + b"{}")
    put("safetensors", "overlap", b"\x6e\0\0\0\0\0\0\0" + b'{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}}    '
        + bytes(3))
    names = {"a": 1, "b": 1, "c": 2, "d": 2}
    index = {"metadata": {"total_size": 32}, "weight_map": {k: f"model-0000{n}-of-00002.safetensors" for k, n in names.items()}}
    put("safetensors_index", "two", json.dumps(index))
    put("safetensors_index", "escape", json.dumps({"weight_map": {"outside": "../outside.safetensors"}}))


def make_gguf():
    llama = {"general.architecture": "llama", "general.name": "tiny", "llama.block_count": 1, "llama.context_length": 32,
             "llama.embedding_length": 8, "llama.feed_forward_length": 16, "llama.attention.head_count": 2, "llama.attention.head_count_kv": 1,
             "llama.attention.layer_norm_rms_epsilon": 1e-5, "llama.rope.freq_base": 10000.0, "llama.rope.dimension_count": 4,
             "llama.vocab_size": 4}
    shapes = {"token_embd.weight": [8, 4], "blk.0.attn_norm.weight": [8], "blk.0.attn_q.weight": [8, 8], "blk.0.attn_k.weight": [8, 4],
              "blk.0.attn_v.weight": [8, 4], "blk.0.attn_output.weight": [8, 8], "blk.0.ffn_norm.weight": [8], "blk.0.ffn_gate.weight": [8, 16],
              "blk.0.ffn_up.weight": [8, 16], "blk.0.ffn_down.weight": [16, 8], "output_norm.weight": [8]}
    elements = lambda sizes: sizes[0] * (sizes[1] if len(sizes) > 1 else 1)
    put("gguf", "llama", gguf(llama, [(n, 1, s, b"\0\x3c" * elements(s)) for n, s in shapes.items()]))
    for number, block, size in [(2, 32, 18), (3, 32, 20), (6, 32, 22), (7, 32, 24), (8, 32, 34), (10, 256, 84), (11, 256, 110), (12, 256, 144),
                                (13, 256, 176), (14, 256, 210), (20, 32, 18), (30, 1, 2), (34, 256, 54), (35, 256, 66), (39, 32, 17)]:
        put("gguf", f"type_{number}", gguf({"general.architecture": "llama"}, [("x", number, [block, 2], bytes(range(size)) * 2)]))
    put("gguf", "kinds", gguf({"a": True, "b": 3, "c": 0.5, "d": "text", "e": [1, 2, 3, 4], "f": [0.5, 1.5], "g": ["x", "yy"], "general.alignment": 64}))
    pieces = ["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)] + ["\u2581", "a", "b", "\u2581a", "ab", "H", "e", "l", "o"]
    spm = {"tokenizer.ggml.model": "llama", "tokenizer.ggml.pre": "default", "tokenizer.ggml.tokens": pieces,
           "tokenizer.ggml.scores": [0.0] * 259 + [float(-i) for i in range(9)], "tokenizer.ggml.token_type": [2, 3, 3] + [6] * 256 + [1] * 9,
           "tokenizer.ggml.bos_token_id": 1, "tokenizer.ggml.eos_token_id": 2, "tokenizer.ggml.unknown_token_id": 0, "tokenizer.ggml.add_bos_token": True}
    put("gguf_tokenizer", "spm", gguf(spm))
    letters = byte_letters()
    put("gguf_tokenizer", "gpt2", gguf({"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "gpt-2", "tokenizer.ggml.tokens": letters + ["he", "hel", "<|endoftext|>"],
                                        "tokenizer.ggml.token_type": [1] * 258 + [3], "tokenizer.ggml.merges": ["h e", "he l"],
                                        "tokenizer.ggml.bos_token_id": 258, "tokenizer.ggml.eos_token_id": 258}))
    put("gguf_tokenizer", "t5", gguf({"tokenizer.ggml.model": "t5", "tokenizer.ggml.tokens": ["<pad>", "</s>", "<unk>", "\u2581", "a", "\u2581a", "l", "o"],
                                      "tokenizer.ggml.scores": [0.0, 0.0, 0.0, -2.0, -3.0, -3.5, -4.0, -4.5],
                                      "tokenizer.ggml.token_type": [3, 3, 2, 1, 1, 1, 1, 1], "tokenizer.ggml.eos_token_id": 1,
                                      "tokenizer.ggml.unknown_token_id": 2, "tokenizer.ggml.padding_token_id": 0, "tokenizer.ggml.add_bos_token": False}))
    put("imatrix", "gguf", gguf({"general.type": "imatrix", "imatrix.datasets": ["text"], "imatrix.chunk_count": 2, "imatrix.chunk_size": 512},
                                [("x.weight.in_sum2", 0, [4], struct.pack("<4f", 1, 2, 3, 4)), ("x.weight.counts", 0, [1], struct.pack("<f", 2))]))
    put("imatrix", "binary", struct.pack("<i", 1) + struct.pack("<i", 8) + b"x.weight" + struct.pack("<ii4f", 2, 4, 1, 2, 3, 4) +
        struct.pack("<ii", 2, 4) + b"text")


def byte_letters():
    """GPT-2's letter of each byte."""
    plain = [b for b in range(256) if 33 <= b <= 126 or 161 <= b <= 172 or 174 <= b <= 255]
    others = iter(range(256, 512))
    return [chr(b) if b in plain else chr(next(others)) for b in range(256)]


def make_tokenizers():
    letters = byte_letters()
    vocab = {letter: i for i, letter in enumerate(letters)} | {"he": 256, "hel": 257}
    added = [{"id": 258, "content": "<|endoftext|>", "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}]
    base = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None,
            "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}, "post_processor": None,
            "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
            "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
                      "fuse_unk": False, "byte_fallback": False, "vocab": vocab, "merges": ["h e", "he l"]}}
    put("tokenizer_json", "byte_bpe", json.dumps(base))
    split = {"type": "Sequence", "pretokenizers": [
        {"type": "Split", "pattern": {"Regex": "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|"
         "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"}, "behavior": "Isolated", "invert": False},
        {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}]}
    put("tokenizer_json", "split", json.dumps(base | {"pre_tokenizer": split, "normalizer": {"type": "NFC"}, "model": base["model"] | {"ignore_merges": True}}))
    pieces = ["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)] + ["\u2581", "a", "b", "\u2581a"]
    special = [{"id": i, "content": pieces[i], "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True} for i in range(3)]
    spm = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": special,
           "normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "\u2581"},
                                                              {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}]},
           "pre_tokenizer": None,
           "post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
                              "pair": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                                       {"SpecialToken": {"id": "<s>", "type_id": 1}}, {"Sequence": {"id": "B", "type_id": 1}}],
                              "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}},
           "decoder": {"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "}, {"type": "ByteFallback"},
                                                        {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
           "model": {"type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None, "end_of_word_suffix": None,
                     "fuse_unk": True, "byte_fallback": True, "vocab": {p: i for i, p in enumerate(pieces)}, "merges": ["\u2581 a"]}}
    put("tokenizer_json", "spm_bpe", json.dumps(spm))
    unigram = spm | {"normalizer": None, "pre_tokenizer": {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always", "split": True},
                     "decoder": {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always", "split": True},
                     "model": {"type": "Unigram", "unk_id": 0, "byte_fallback": True, "vocab": [[p, -float(i)] for i, p in enumerate(pieces)]}}
    put("tokenizer_json", "unigram", json.dumps(unigram))
    for name, kind in [("unigram", 1), ("bpe", 2)]:
        kinds = [2, 3, 3] + [6] * 256 + [1] * 4
        model = b"".join(field(1, field(1, p) + field(2, float(-i)) + field(3, k)) for i, (p, k) in enumerate(zip(pieces, kinds)))
        model += field(2, field(3, kind) + field(4, len(pieces)) + field(35, 1) + field(40, 0) + field(41, 1) + field(42, 2))
        model += field(3, field(1, "identity") + field(3, 1) + field(4, 0) + field(5, 1))
        put("tokenizer_model", name, model)
    small = [("<unk>", 2), ("<s>", 3), ("</s>", 3), ("\u2581", 1), ("a", 1), ("\u2581a", 1), ("user", 4)]
    put("tokenizer_model", "small", b"".join(field(1, field(1, p) + field(2, float(-i)) + field(3, k)) for i, (p, k) in enumerate(small)) +
        field(2, field(3, 1)) + field(3, field(1, "identity")))


def make_texts():
    base = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8,
            "vocab_size": 24, "max_position_embeddings": 64, "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "tie_word_embeddings": True, "hidden_act": "silu"}
    for family, own in FAMILIES.items():
        put("config_json", family, json.dumps(base | {"model_type": family} | own))
    put("config_json", "pruned", json.dumps(base | {"model_type": "llama", "architectures": ["LlamaForCausalLM"],
                                                    "attar_layers": {"ffn": [32, 16], "heads": [2, 2], "kv_heads": [1, 1]},
                                                    "rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0}}))
    put("recipe", "recipe", """name: tiny
seed: 7
license: MIT
task: {train: a.jsonl, labels: [x, 'y'], prompt: "{text}\\n"}
stages:
  teacher: {kind: distill, model: tiny.yaml, train: {steps: 1_000, lr: 1e-3}, data: {path: a.txt, seq: 64}}
  cache:
    kind: capture
    teacher: teacher
    codec: {kind: sampled, samples: 50}
  student:
    kind: distill
    model: small.yaml
    teacher: cache
  file: {kind: export, model: student, format: gguf, type: q8_0}
  judged: {kind: evaluate, of: [teacher, file]}
gates:
  - {of: file, metric: kl, max: 0.01}
""")
    put("recipe", "model", "model_type: llama\nhidden_size: 64\nintermediate_size: 128\nnum_hidden_layers: 2\nnum_attention_heads: 4\nnum_key_value_heads: 2\n")
    put("recipe", "task", "name: t\ntrain: ${DATA:-x}/train.csv\ntext: text\nlabel: label\nlabels: [a, b]\nmetric: accuracy\n")
    put("recipe", "forms", "a: |\n  lines\n   more\nb: >-\n  folded\n  text\nc: [1, 010, no, 1e3, ~, .nan, 0x1F]\n? d\n: {e: 'it''s', \"f\\n\": \"\\u00e9\"}\n")
    identity = {"teacher": "t", "tokenizer": "k", "data": "d", "rows": "r", "vocab": 300, "temperature": 1.0, "seed": 11, "codec": {"kind": "sampled", "samples": 50, "draws": "systematic"}}
    shards = [{"file": f"rows-{first:08d}.h5", "sha256": hashlib.sha256(b"").hexdigest(), "first": first, "rows": rows, "positions": 4, "bytes": 100,
               "distinct": 8.0, "kept_mass": 3.5, "entropy": 2.0} for first, rows in [(0, 2), (2, 1)]]
    cache = {"kind": "teacher_cache", "version": 1, "identity": identity, "rows": 3, "shard_rows": 2, "shards": shards, "statistics": {"tokens": 8}, "checksum": ""}
    put("cache_manifest", "sampled", json.dumps(cache))
    put("cache_manifest", "top_k", json.dumps(cache | {"identity": identity | {"codec": {"kind": "top_k", "k": 6}}}))
    artifact = {"kind": "distill", "version": 1, "name": "student", "key": "00", "seed": 7, "configuration": {}, "inputs": {},
                "outputs": [{"path": "model.safetensors", "bytes": 12, "sha256": "00"}], "facts": {"loss": 1.5}, "seconds": 1.5, "code": {}}
    put("cache_manifest", "artifact", json.dumps(artifact))
    put("cache_manifest", "inside", json.dumps(artifact | {"kind": "capture", "facts": {"cache": cache}}))


def make_arrays():
    names = ["row_begin", "entropy", "label_log_prob", "top_id", "distinct", "ids", "counts", "entries", "log_probs", "tail"]
    types = {"u8": (0, "B"), "u16": (1, "H"), "i32": (2, "i"), "i64": (3, "q"), "f16": (4, "e")}

    def array(name, dtype, shape, values):
        number, letter = types[dtype]
        return bytes([names.index(name), number, len(shape)]) + struct.pack(f"<{len(shape)}H", *shape) + struct.pack(f"<{len(values)}{letter}", *values)

    def start(kind, vocab, number, ids, top):
        return bytes([kind, vocab, number, 2]) + array("row_begin", "i64", [3], [0, 1, 2]) + array("entropy", "f16", [2], [0.5, 1.5]) + \
            array("label_log_prob", "f16", [2], [-0.5, -1.5]) + array("top_id", ids, [2], top)

    counts = array("distinct", "u8", [2], [2, 1])
    put("codec_arrays", "sampled", start(0, 2, 5, "u16", [7, 9]) + counts + array("ids", "u16", [3], [7, 8, 9]) + array("counts", "u8", [3], [3, 2, 5]))
    packed = b"".join(struct.pack("<I", i | c << 17)[:3] for i, c in [(7, 3), (8, 2), (9, 5)])
    put("codec_arrays", "packed", start(0, 5, 5, "i32", [7, 9]) + counts + bytes([7, 0, 2]) + struct.pack("<2H", 3, 3) + packed)
    put("codec_arrays", "wide", start(0, 6, 5, "i32", [7, 9]) + counts + array("ids", "i32", [3], [7, 8, 9]) + array("counts", "u8", [3], [3, 2, 5]))
    put("codec_arrays", "top_k", start(1, 2, 2, "u16", [7, 9]) + array("ids", "u16", [2, 2], [7, 8, 9, 3]) +
        array("log_probs", "f16", [2, 2], [-0.5, -1, -0.25, -3]) + array("tail", "f16", [2], [0.1, 0.0]))
    put("codec_arrays", "full", start(2, 1, 0, "u16", [1, 4]) + array("log_probs", "f16", [2, 5], [-1.5] * 10))


def make_others():
    for name, text in {
            "chatml": "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}{% endfor %}"
                      "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}",
            "llama": "{{- bos_token }}{%- if messages[0]['role'] == 'system' %}{%- set system = messages[0]['content']|trim %}{%- set messages = messages[1:] %}"
                     "{%- else %}{%- set system = \"\" %}{%- endif %}{{- system }}{%- for m in messages %}{%- if not (m.role == 'user' or 'tool_calls' in m) %}"
                     "{{- m['content'] | trim + '<|eot_id|>' }}{%- endif %}{%- endfor %}",
            "namespace": "{%- set ns = namespace(found=false, n=0) -%}{%- for m in messages[::-1] -%}{%- set ns.n = ns.n + loop.index0 % 2 -%}"
                         "{%- if m.content is string and m.content.startswith('H') -%}{%- set ns.found = true -%}{%- endif -%}{%- endfor -%}"
                         "{{ ns.found }} {{ ns.n }} {{ range(3) | list | tojson }} {# words #}{{ raise_exception('no') if ns.n > 99 else 'a' ~ 1 }}",
    }.items():
        put("chat_template", name, text)
    csv, jsonl = b'text,label\n"a ""b""\nc",x\nd,y\n', b'{"text": "a\\n\\u00e9", "label": 3}\n\n{"text": "b", "label": true, "more": [1, {"x": null}]}\n'
    packed = lambda text: b"\x28\xb5\x2f\xfd\x20" + bytes([len(text)]) + struct.pack("<I", len(text) << 3 | 1)[:3] + text
    for number, content in [(0, jsonl), (1, csv), (2, packed(jsonl)), (3, packed(csv))]:
        put("rows", f"kind_{number}", bytes([number]) + content)
    for dtype, letter in [("<f4", "f"), ("<i8", "q"), ("|u1", "B")]:
        header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': (2, 2), }}"
        header += " " * (-(10 + len(header) + 1) % 64) + "\n"
        put("npy", dtype.strip("<|"), b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header.encode() + struct.pack(f"<4{letter}", 1, 2, 3, 4))
    tensor = field(1, 2) + field(1, 2) + field(2, 1) + field(8, "w") + field(9, struct.pack("<4f", 1, 2, 3, 4))
    node = field(1, "x") + field(1, "w") + field(2, "y") + field(3, "n") + field(4, "MatMul") + field(7, "") + \
        field(5, field(1, "axis") + field(3, 1) + field(20, 2)) + field(5, field(1, "scale") + field(2, 0.5) + field(20, 1)) + \
        field(5, field(1, "axes") + field(8, 1) + field(8, 2) + field(20, 7))
    value = lambda name: field(1, name) + field(2, field(1, field(1, 1) + field(2, field(1, field(1, 2)) + field(1, field(2, "n")))))
    graph = field(1, node) + field(2, "g") + field(5, tensor) + field(11, value("x")) + field(12, value("y"))
    model = field(1, 10) + field(2, "attar") + field(7, graph) + field(8, field(1, "") + field(2, 21)) + field(14, field(1, "k") + field(2, "v"))
    put("onnx", "matmul", model)
    outside = field(1, 4) + field(2, 1) + field(8, "w") + field(13, field(1, "location") + field(2, "model.onnx.data")) + \
        field(13, field(1, "offset") + field(2, "0")) + field(13, field(1, "length") + field(2, "16")) + field(14, 1)
    put("onnx", "external", field(1, 10) + field(7, field(1, node) + field(2, "g") + field(5, outside)) + field(8, field(1, "") + field(2, 21)))


if __name__ == "__main__":
    for make in (make_safetensors, make_gguf, make_tokenizers, make_texts, make_arrays, make_others):
        make()
    print(sum(f.stat().st_size for f in CORPUS.rglob("*") if f.is_file()), "bytes")
