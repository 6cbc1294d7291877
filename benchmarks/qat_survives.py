"""What is left of QAT when its weights are saved in bfloat16 and quantized by llama.cpp, beside the file that holds the codes that training chose.

    python benchmarks/qat_survives.py QUANTIZED --base MODEL --text FILE [--text-tokens 65536] [--type q4_0]

QUANTIZED is what `attar quantize --method qat --masters bf16` wrote: its codes, the values of those codes (model.safetensors) and the float weights
behind them (masters/). Four files of one type and size: MODEL quantized by llama.cpp; masters and the codes' values, both by way of bfloat16 and
llama_model_quantize; attar's own export. Each is judged from its bytes by `attar eval`: KL to MODEL and agreement on the first token.
"""
import argparse
import ctypes
import json
import os
import pathlib
import subprocess
import sys
import tempfile

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
ATTAR = pathlib.Path(os.environ.get("ATTAR_BUILD", REPOSITORY / "build" / "release")) / "bin" / "attar"
FILE_TYPES = {"q4_0": 2, "q8_0": 7, "q5_0": 8, "q2_k": 10, "q4_k": 15, "q5_k": 17, "q6_k": 18, "tq2_0": 37}
QUIET = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(lambda level, text, data: None)


def attar(*words):
    done = subprocess.run([str(ATTAR), *map(str, words)], capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return done.stdout


def by_llama(source, target, type):
    """The bf16 GGUF `source` as one type throughout, as llama-quantize --pure does it."""
    import llama_cpp
    llama_cpp.llama_log_set(ctypes.cast(QUIET, llama_cpp.llama_log_callback), ctypes.c_void_p(0))
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype, params.pure = FILE_TYPES[type], True
    if llama_cpp.llama_model_quantize(str(source).encode(), str(target).encode(), ctypes.byref(params)):
        sys.exit(f"llama.cpp does not quantize {source}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("quantized", type=pathlib.Path)
    parser.add_argument("--base", required=True)
    parser.add_argument("--text", required=True)
    parser.add_argument("--text-tokens", type=int, default=65536)
    parser.add_argument("--type", choices=FILE_TYPES, default="q4_0")
    options = parser.parse_args()
    print("| file | bytes | KL to the model | same top token |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        for name, source in (("the model, rounded by llama.cpp", options.base), ("QAT's float weights, saved in bf16, rounded by llama.cpp", options.quantized / "masters"),
                             ("QAT's rounded weights, saved in bf16, rounded by llama.cpp", options.quantized), ("QAT's codes, as attar exports them", None)):
            file = folder / "file.gguf"
            if source is None:
                attar("export", "--model", options.quantized, "--format", "gguf", "--out", file)
            else:
                attar("export", "--model", source, "--format", "gguf", "--type", "bf16", "--out", folder / "bf16.gguf")
                by_llama(folder / "bf16.gguf", file, options.type)
            told = json.loads(attar("eval", "--model", file, "--base", options.base, "--text", options.text, "--text-tokens", options.text_tokens, "--json"))
            kl, top = told["kld"], told["top1_agreement"]
            print(f"| {name} | {file.stat().st_size:,} | {kl['mean']:.6f} ± {kl['stderr']:.6f} | {100 * top['value']:.1f}% |", flush=True)


if __name__ == "__main__":
    main()
