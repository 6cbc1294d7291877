"""Records what transformers makes of one small configuration after another: config.json as it writes it and as older versions wrote it,
names and shapes of all parameters, inverse rotary frequencies below and above the original context. Writes family_golden.json.

Run with a Python that has transformers:  python tests/spec/make_family_golden.py
"""
import json
import pathlib

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

BASE = dict(vocab_size=320, hidden_size=64, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
            max_position_embeddings=256)
LLAMA3 = dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=64)
LONG = dict(type="longrope", short_factor=[1.0 + 0.05 * i for i in range(8)], long_factor=[1.5 + i for i in range(8)])
CASES = {
    "llama": ("llama", {}),
    "llama_tied_biased": ("llama", dict(tie_word_embeddings=True, attention_bias=True, mlp_bias=True, head_dim=24)),
    "llama3": ("llama", dict(rope_theta=500000.0, rope_scaling=LLAMA3, eos_token_id=[2, 3])),
    "llama_linear": ("llama", dict(rope_scaling=dict(type="linear", factor=4.0))),
    "llama_yarn": ("llama", dict(rope_scaling=dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=64))),
    "llama_yarn_all": ("llama", dict(head_dim=64, rope_theta=20000.0, rope_scaling=dict(
        rope_type="yarn", factor=8.0, original_max_position_embeddings=128, beta_fast=16.0, beta_slow=2.0, attention_factor=1.25,
        truncate=False))),
    "llama_yarn_mscale": ("llama", dict(rope_scaling=dict(
        rope_type="yarn", factor=4.0, original_max_position_embeddings=64, mscale=0.707, mscale_all_dim=1.2))),
    "llama_longrope": ("llama", dict(rope_scaling=dict(LONG, original_max_position_embeddings=32, factor=6.0))),
    "mistral": ("mistral", dict(sliding_window=16, head_dim=32)),
    "mistral_full": ("mistral", dict(sliding_window=None, rope_theta=1000000.0)),
    "qwen2": ("qwen2", dict(rope_theta=1000000.0, tie_word_embeddings=True)),
    "qwen2_window": ("qwen2", dict(use_sliding_window=True, sliding_window=24, max_window_layers=1)),
    "qwen3": ("qwen3", dict(head_dim=32, rope_theta=1000000.0)),
    "qwen3_biased": ("qwen3", dict(attention_bias=True, num_key_value_heads=1)),
    "gemma": ("gemma", dict(head_dim=32, num_key_value_heads=1)),
    "gemma2": ("gemma2", dict(head_dim=32, query_pre_attn_scalar=48, sliding_window=16)),
    "gemma3": ("gemma3_text", dict(head_dim=32, num_hidden_layers=7, query_pre_attn_scalar=32, sliding_window=16,
                                   rope_scaling=dict(rope_type="linear", factor=8.0))),
    "gemma3_pattern": ("gemma3_text", dict(head_dim=32, num_hidden_layers=7, sliding_window=16, sliding_window_pattern=3)),
    "phi3": ("phi3", dict(sliding_window=40)),
    "phi3_longrope": ("phi3", dict(rope_scaling=LONG, original_max_position_embeddings=64)),
    "phi3_partial": ("phi3", dict(tie_word_embeddings=True, partial_rotary_factor=0.75, original_max_position_embeddings=64, hidden_size=128,
                                  rope_scaling=dict(LONG, short_factor=[1.0 + 0.1 * i for i in range(12)],
                                                    long_factor=[2.0 + i for i in range(12)]))),
}


def rope(config, layer_type=None):
    """Inverse frequencies below and above the original context, as the model's rotary embedding computes them, and the magnitude."""
    p = config.rope_parameters[layer_type] if layer_type else config.rope_parameters
    kind = p["rope_type"]
    if kind == "default":
        head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        dims = int(head * p.get("partial_rotary_factor", 1.0))
        inverse = 1.0 / (p["rope_theta"] ** (torch.arange(0, dims, 2, dtype=torch.int64).to(torch.float) / dims))
        return dict(short=inverse.tolist(), long=inverse.tolist(), magnitude=1.0)
    original = p.get("original_max_position_embeddings", config.max_position_embeddings)
    short, magnitude = ROPE_INIT_FUNCTIONS[kind](config, "cpu", seq_len=1, layer_type=layer_type)
    long, _ = ROPE_INIT_FUNCTIONS[kind](config, "cpu", seq_len=original + 1, layer_type=layer_type)
    return dict(short=short.tolist(), long=long.tolist(), magnitude=float(magnitude))


def main():
    cases = []
    for name, (family, extra) in CASES.items():
        fields = dict(BASE, **extra)
        if family == "phi3":
            fields["pad_token_id"] = 0
        config = AutoConfig.for_model(family, **json.loads(json.dumps(fields)))
        config.architectures = [type(AutoModelForCausalLM.from_config(config)).__name__]
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
        old = dict(fields, model_type=family, architectures=config.architectures, torch_dtype="float32")
        case = dict(name=name, new=json.loads(config.to_json_string(use_diff=True)), old=old, parameters=sum(p.numel() for p in model.parameters()),
                    shapes={n: list(p.shape) for n, p in model.named_parameters()})
        if family == "gemma3_text":
            case["rope"] = rope(config, "full_attention")
            case["local_rope"] = rope(config, "sliding_attention")
        else:
            case["rope"] = rope(config)
        case["layer_types"] = getattr(config, "layer_types", None)
        cases.append(case)
    head = dict(made_by="tests/spec/make_family_golden.py", transformers=transformers.__version__)
    text = json.dumps(dict(head, cases=cases), indent=None, separators=(",", ":")).replace('{"name"', '\n{"name"')
    (pathlib.Path(__file__).resolve().parent / "family_golden.json").write_text(text + "\n")


main()
