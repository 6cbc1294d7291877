"""Tiny random checkpoints of every family that transformers makes, and attar's and transformers' logits on them."""
import copy
import json
import os
import pathlib
import subprocess

import numpy as np
import torch
import transformers

torch.set_num_threads(1)
ROOT = pathlib.Path(__file__).resolve().parents[2]
ATTAR = pathlib.Path(os.environ.get("ATTAR_BUILD", ROOT / "build" / "release")) / "bin" / "attar"
DATA = pathlib.Path(os.environ.get("ATTAR_TEST_DATA", ROOT / ".." / "shared" / "data"))

SMALL = dict(vocab_size=96, hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4,
             num_key_value_heads=2, max_position_embeddings=128, tie_word_embeddings=False, bos_token_id=1, eos_token_id=2,
             pad_token_id=0)
# Angles of heads of 8 dimensions turn by 1, 0.1, 0.01 ... a position at the usual theta: most of them hardly in so short a text. A small
# theta makes all of them, and so whatever scales them, matter.
THETA = 40.0
LLAMA3 = dict(rope_type="llama3", rope_theta=THETA, factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32)
YARN = dict(rope_type="yarn", rope_theta=THETA, factor=4.0, original_max_position_embeddings=32)
LINEAR = dict(rope_type="linear", rope_theta=THETA, factor=3.0)


def longrope(pairs):
    # 256: llama.cpp rounds its context up to it, and chooses the factors by its context.
    return dict(rope_type="longrope", rope_theta=THETA, short_factor=[1.0 + 0.4 * i for i in range(pairs)],
                long_factor=[1.5 + i for i in range(pairs)], original_max_position_embeddings=256)


LONG = dict(max_position_embeddings=512, original_max_position_embeddings=256)
LONG_ROW = 300  # beyond longrope's original context
GEMMA3_ROPES = dict(full_attention=LINEAR, sliding_attention=dict(rope_type="default", rope_theta=10.0))
# name: (model_type, configuration beside SMALL)
VARIANTS = {
    "llama": ("llama", {}),                                                                                # Llama 2, TinyLlama
    "llama_tied_biased": ("llama", dict(tie_word_embeddings=True, attention_bias=True, mlp_bias=True)),
    "llama_smollm2": ("llama", dict(hidden_size=36, num_attention_heads=3, num_key_value_heads=1, tie_word_embeddings=True)),
    "llama_head_dim": ("llama", dict(head_dim=12)),
    "llama_linear": ("llama", dict(rope_parameters=LINEAR)),
    "llama_llama3": ("llama", dict(rope_parameters=LLAMA3, tie_word_embeddings=True)),                       # Llama 3.1, 3.2
    "llama_yarn": ("llama", dict(rope_parameters=YARN)),
    "llama_yarn_factor": ("llama", dict(rope_parameters=dict(YARN, attention_factor=1.4))),
    "llama_longrope": ("llama", dict(rope_parameters=longrope(4), **LONG)),
    "mistral": ("mistral", dict(head_dim=12, sliding_window=None)),                                        # v0.2 and later, Nemo
    "mistral_tied_one_kv_head": ("mistral", dict(num_key_value_heads=1, sliding_window=None, tie_word_embeddings=True)),
    "mistral_window": ("mistral", dict(head_dim=16, sliding_window=7)),                                    # v0.1
    "qwen2": ("qwen2", {}),
    "qwen2_yarn_tied": ("qwen2", dict(num_key_value_heads=1, rope_parameters=YARN, tie_word_embeddings=True)),
    "qwen2_window": ("qwen2", dict(use_sliding_window=True, sliding_window=6, max_window_layers=1, tie_word_embeddings=True)),
    "qwen3": ("qwen3", dict(head_dim=16)),
    "qwen3_yarn_tied": ("qwen3", dict(head_dim=16, num_key_value_heads=1, rope_parameters=YARN, tie_word_embeddings=True)),
    "qwen3_biased": ("qwen3", dict(head_dim=16, attention_bias=True)),
    "qwen3_window": ("qwen3", dict(head_dim=16, use_sliding_window=True, sliding_window=6, max_window_layers=1)),
    "gemma": ("gemma", dict(head_dim=16, tie_word_embeddings=True)),
    "gemma_one_kv_head": ("gemma", dict(head_dim=16, num_key_value_heads=1, tie_word_embeddings=True)),
    "gemma_untied": ("gemma", dict(head_dim=16)),
    "gemma2": ("gemma2", dict(head_dim=16, sliding_window=8, query_pre_attn_scalar=16, attn_logit_softcapping=2.0,
                              final_logit_softcapping=3.0, tie_word_embeddings=True)),
    "gemma2_scale": ("gemma2", dict(head_dim=16, num_key_value_heads=1, sliding_window=8, query_pre_attn_scalar=4, attn_logit_softcapping=2.0,
                                    final_logit_softcapping=3.0, tie_word_embeddings=True)),
    "gemma3": ("gemma3_text", dict(head_dim=16, sliding_window=8, num_hidden_layers=7, query_pre_attn_scalar=16, rope_parameters=GEMMA3_ROPES,
                                   tie_word_embeddings=True)),
    "gemma3_scale": ("gemma3_text", dict(head_dim=16, num_key_value_heads=1, sliding_window=8, num_hidden_layers=7, query_pre_attn_scalar=4,
                                         tie_word_embeddings=True)),
    "phi3": ("phi3", {}),
    "phi3_window": ("phi3", dict(sliding_window=6)),
    "phi3_longrope": ("phi3", dict(rope_parameters=longrope(4), **LONG)),                                   # Phi-3.5
    "phi3_partial_tied": ("phi3", dict(num_attention_heads=2, num_key_value_heads=1, tie_word_embeddings=True,
                                       rope_parameters=dict(rope_type="default", rope_theta=THETA, partial_rotary_factor=0.5))),
    "phi3_mini4": ("phi3", dict(num_attention_heads=2, num_key_value_heads=1, tie_word_embeddings=True, **LONG,
                                rope_parameters=dict(longrope(6), partial_rotary_factor=0.75))),            # Phi-4-mini
}


def attar(*words, ok=True):
    # One thread that sleeps where it waits: tiny models, and many programs at a time.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
    done = subprocess.run([str(ATTAR), *map(str, words)], capture_output=True, text=True, timeout=300, env=environment)
    assert not ok or done.returncode == 0, done.stderr
    return done


def error_line(done):
    """The one line of a refusal."""
    lines = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert done.returncode == 1 and len(lines) == 1, done.stderr
    return lines[0]


def redraw(model, seed):
    """Every parameter anew: at initial values norms are constant, biases 0, and half of the model could be missing unseen."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in sorted(model.named_parameters()):
            if tensor.dim() == 1:
                centre = 1.0 if name.endswith("norm.weight") and "Gemma" not in type(model).__name__ else 0.0
                spread = 0.4 if name.endswith("norm.weight") else 0.8
                tensor.copy_(torch.randn(tensor.shape, generator=generator) * spread + centre)
            else:
                tensor.copy_(torch.randn(tensor.shape, generator=generator) * tensor.shape[-1] ** -0.5 * 1.5)
    return model


def build(config, state=None):
    config._attn_implementation = "eager"
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    if state is not None:
        model.load_state_dict(state)
    return model


# Where the first draw left a feature below a tenth of the logits' spread (test_features.py), another was taken.
SEEDS = {"qwen3_biased": 20}


def make(name, folder):
    kind, changes = VARIANTS[name]
    config = transformers.AutoConfig.for_model(kind, **{**SMALL, **changes})
    model = redraw(build(config), seed=SEEDS.get(name, len(name)))
    model.save_pretrained(folder)
    return model


class Case:
    """A variant's checkpoint, made once for all tests."""
    made = {}

    def __init__(self, name, folder):
        self.name, self.folder = name, folder
        self.model = make(name, folder / "model")
        self.path = folder / "model"
        self.is_longrope = "longrope" in str(self.model.config.rope_parameters)

    @classmethod
    def of(cls, name, factory):
        if name not in cls.made:
            cls.made[name] = cls(name, factory.mktemp(name))
        return cls.made[name]

    def file(self, name, *words, of=None):
        """An export of the checkpoint (or of another export of it), made once."""
        if not (self.folder / name).exists():
            attar("export", "--model", of or self.path, "--out", self.folder / name, *words)
        return self.folder / name


def sequences(vocab, lengths, seed):
    generator = np.random.default_rng(seed)
    return [generator.integers(0, vocab, n).tolist() for n in lengths]


def theirs(model, rows):
    with torch.no_grad():
        return np.concatenate([model(torch.tensor([row])).logits[0].float().numpy() for row in rows])


def ours(model, rows, scratch, *more):
    (scratch / "ids.json").write_text(json.dumps(rows))
    attar("logits", "--model", model, "--ids", scratch / "ids.json", "--out", scratch / "logits.npy", *more)
    return np.load(scratch / "logits.npy")


def rewired(model, **changes):
    """The same parameters under another configuration."""
    config = copy.deepcopy(model.config)
    for key, value in changes.items():
        setattr(config, key, value)
    return build(config, model.state_dict())


def without(model):
    """Every feature of a model by name, and the model with that one switched off or changed into its neighbour."""
    config, gemma = model.config, "Gemma" in type(model).__name__
    kinds = sorted({name.split(".", 3)[-1] if ".layers." in name else name for name, t in model.named_parameters() if t.dim() == 1})
    for kind in kinds:
        off = copy.deepcopy(model)
        with torch.no_grad():
            for name, tensor in off.named_parameters():
                if name.endswith(kind) and tensor.dim() == 1:
                    tensor.fill_(0.0 if gemma or name.endswith("bias") else 1.0)
        yield kind, off
    if gemma:
        off = copy.deepcopy(model)
        with torch.no_grad():
            for name, tensor in off.named_parameters():
                if name.endswith("norm.weight"):
                    tensor.sub_(1.0)
        yield "norm offset", off
        off = copy.deepcopy(model)
        off.get_input_embeddings().register_forward_hook(lambda module, args, out: out / config.hidden_size ** 0.5)
        yield "embedding scale", off
    for part in ("q_norm", "k_norm", "post_attention_layernorm", "post_feedforward_layernorm"):
        off, found = copy.deepcopy(model), False
        for layer in off.model.layers:
            owner = layer.self_attn if part in ("q_norm", "k_norm") else layer
            if hasattr(owner, part):
                setattr(owner, part, torch.nn.Identity())
                found = True
        if found:
            yield part + " altogether", off
    act = "hidden_activation" if hasattr(config, "hidden_activation") else "hidden_act"
    yield "activation", rewired(model, **{act: "silu" if "gelu" in (getattr(config, act) or "gelu") else "gelu"})
    types = getattr(config, "layer_types", None)
    if getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True):
        full = {"layer_types": ["full_attention"] * len(types)} if types and not hasattr(config, "query_pre_attn_scalar") else {}
        yield "sliding window", rewired(model, sliding_window=None if not types else 10 ** 6, **full)
        if types and len(set(types)) > 1:
            yield "window's pattern", rewired(model, layer_types=types[::-1] if types[::-1] != types else types[1:] + types[:1])
    for cap in ("attn_logit_softcapping", "final_logit_softcapping"):
        if getattr(config, cap, None):
            yield cap, rewired(model, **{cap: None})
    if hasattr(config, "query_pre_attn_scalar"):
        yield "query scale", rewired(model, query_pre_attn_scalar=config.query_pre_attn_scalar * 4)
    yield from without_rope(model)


def without_rope(model):
    config = model.config
    ropes = config.rope_parameters
    layered = "full_attention" in ropes
    for key in (("full_attention", "sliding_attention") if layered else (None,)):
        rope, what = (ropes[key], key + ": ") if key else (ropes, "")

        def changed(new):
            off = copy.deepcopy(config)
            off.rope_parameters = {**ropes, key: new} if key else new
            return build(off, model.state_dict())

        yield what + "rope theta", changed({**rope, "rope_theta": rope["rope_theta"] * 25})
        plain = {k: rope[k] for k in ("rope_theta", "partial_rotary_factor") if k in rope}
        if rope["rope_type"] != "default":
            yield what + "rope kind " + rope["rope_type"], changed({"rope_type": "default", **plain})
        if rope["rope_type"] == "yarn":
            yield what + "yarn's magnitude", changed({**rope, "attention_factor": 1.0})
        if rope["rope_type"] == "longrope":
            yield what + "longrope's magnitude", changed({**rope, "attention_factor": 1.0})
            yield what + "longrope's long factors", changed({**rope, "long_factor": rope["short_factor"]})
            yield what + "longrope's short factors", changed({**rope, "short_factor": [1.0] * len(rope["short_factor"])})
        if rope.get("partial_rotary_factor", 1.0) < 1 and rope["rope_type"] == "default":
            yield what + "partial rotation", changed({**rope, "partial_rotary_factor": 1.0})
