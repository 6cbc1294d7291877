"""cmake --install gives a folder that can be moved: small, with relative run paths, and with a sentence where LibTorch is missing."""
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy
import pytest

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("ATTAR_BUILD", ROOT / "build" / "release"))
LIMIT = 60_000_000
# glibc, the compiler's own, and LibTorch's (libgomp among them): these are not brought along.
OUTSIDE = re.compile(r"^(ld-linux|lib(c|m|dl|rt|pthread|util|resolv|anl)\.so|lib(stdc\+\+|gcc_s|gomp)\.so|libtorch|libc10)")


def libtorch():
    given = os.environ.get("ATTAR_LIBTORCH")
    if given:
        return Path(given)
    match = re.search(r"^LIBTORCH:PATH=(.+)$", (BUILD / "CMakeCache.txt").read_text(), re.MULTILINE)
    return Path(match[1])


def clean_environment(home, **more):
    return {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(home), "LC_ALL": "C.UTF-8", **more}


def dynamic(file):
    """Needed libraries and run paths of an ELF file."""
    text = subprocess.run(["readelf", "-d", str(file)], capture_output=True, text=True, check=True).stdout
    return re.findall(r"\(NEEDED\).*\[(.+)\]", text), re.findall(r"\((?:RUNPATH|RPATH)\).*\[(.*)\]", text)


@pytest.fixture(scope="module")
def moved(tmp_path_factory):
    """The installed folder, after it was moved."""
    if not (BUILD / "bin" / "attar-engine").exists():
        pytest.skip(f"SKIPPED LOUDLY: {BUILD} holds no built attar; set ATTAR_BUILD")
    base = tmp_path_factory.mktemp("install")
    done = subprocess.run(["cmake", "--install", str(BUILD), "--prefix", str(base / "first")], capture_output=True, text=True,
                          env=clean_environment(base))
    assert done.returncode == 0, done.stdout + done.stderr
    shutil.move(base / "first", base / "second place")
    return base / "second place"


def elf_files(folder):
    return sorted(path for part in ("bin", "lib") for path in (folder / part).iterdir() if path.is_file())


def run(folder, *words, **environment):
    return subprocess.run([str(folder / "bin" / "attar"), *words], capture_output=True, text=True, timeout=300,
                          cwd=folder, env=clean_environment(folder, **environment))


def test_it_is_small_and_whole(moved):
    size = sum(path.stat().st_size for path in moved.rglob("*") if path.is_file())
    assert size < LIMIT
    assert not [path for path in moved.rglob("*") if path.is_symlink()]
    for name in ("recipes/support_triage.yaml", "configs", "docs", "data/support_tickets/train.jsonl", "LICENSE"):
        assert (moved / "share" / "attar" / name).exists(), name
    assert "_attar" in (moved / "share" / "bash-completion" / "completions" / "attar").read_text()
    if (BUILD / "lib" / "libattar_cuda.so").exists():
        assert (moved / "lib" / "libattar_cuda.so").exists()


def test_run_paths_are_relative(moved):
    for file in elf_files(moved):
        for path in dynamic(file)[1]:
            for word in path.split(":"):
                assert word == "$ORIGIN" or word.startswith("$ORIGIN/"), f"{file.name}: {path}"


def test_every_library_is_brought_along(moved):
    brought = {path.name for path in (moved / "lib").iterdir()}
    for file in elf_files(moved):
        for name in dynamic(file)[0]:
            assert name in brought or OUTSIDE.match(name), f"{file.name} needs {name}"
    assert not [name for name in brought if OUTSIDE.match(name)], "what belongs to the system or to LibTorch was copied"


def test_the_front_door_opens(moved):
    help_text = run(moved, "--help")
    assert help_text.returncode == 0 and "attar" in help_text.stdout, help_text.stderr
    assert run(moved, "--version").returncode == 0
    plan = subprocess.run([str(moved / "bin" / "attar"), "plan", "recipes/support_triage.yaml"], capture_output=True, text=True,
                          cwd=moved / "share" / "attar", env=clean_environment(moved))
    assert plan.returncode == 0, plan.stderr


def test_the_engine_starts_with_libtorch(moved):
    done = run(moved, "doctor", "--json", ATTAR_LIBTORCH=str(libtorch()))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["cores"] >= 1


def write_model(folder):
    """A llama of one layer, every number drawn."""
    shapes = {"model.embed_tokens.weight": (40, 64), "model.norm.weight": (64,)}
    own = "model.layers.0."
    shapes |= {own + "input_layernorm.weight": (64,), own + "post_attention_layernorm.weight": (64,)}
    shapes |= {own + f"self_attn.{name}_proj.weight": (64, 64) for name in "qkvo"}
    shapes |= {own + "mlp.gate_proj.weight": (96, 64), own + "mlp.up_proj.weight": (96, 64), own + "mlp.down_proj.weight": (64, 96)}
    header, data = {}, b""
    for name, shape in shapes.items():
        values = numpy.random.default_rng(len(data)).standard_normal(shape, dtype=numpy.float32).tobytes()
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + len(values)]}
        data += values
    text = json.dumps(header).encode()
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + data)
    (folder / "config.json").write_text(json.dumps({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64, "num_hidden_layers": 1, "intermediate_size": 96,
        "num_attention_heads": 2, "num_key_value_heads": 2, "vocab_size": 40, "rms_norm_eps": 1e-5, "max_position_embeddings": 64,
        "tie_word_embeddings": True}))
    return folder


def test_a_file_is_quantized_and_proven_without_libtorch(moved, tmp_path):
    model = write_model(tmp_path / "model")
    nowhere = {"ATTAR_LIBTORCH": str(tmp_path)}
    made = run(moved, "export", "--model", str(model), "--format", "gguf", "--type", "q4_0", "--out", str(tmp_path / "q.gguf"), **nowhere)
    assert made.returncode == 0, made.stderr
    proven = run(moved, "verify", str(tmp_path / "q.gguf"), "--against", str(model), **nowhere)
    assert proven.returncode == 0, proven.stderr
    whole = (tmp_path / "q.gguf").read_bytes()
    (tmp_path / "other.gguf").write_bytes(whole[:-3] + bytes([whole[-3] ^ 0x11]) + whole[-2:])
    other = run(moved, "verify", str(tmp_path / "other.gguf"), "--against", str(model), **nowhere)
    assert other.returncode == 1 and other.stderr.startswith("error: tensor"), other.stderr
    needed = subprocess.run(["ldd", str(moved / "bin" / "attar")], capture_output=True, text=True, env=clean_environment(moved)).stdout
    assert "lib/openmp/libgomp" in needed and "libtorch" not in needed


def test_a_wrong_libtorch_is_one_sentence(moved, tmp_path):
    done = run(moved, "doctor", "--json", ATTAR_LIBTORCH=str(tmp_path))
    assert done.returncode == 1
    assert "ATTAR_LIBTORCH" in done.stderr and str(tmp_path) in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_the_systems_own_folders_are_refused(moved, tmp_path):
    done = subprocess.run(["cmake", "--install", str(BUILD), "--prefix", "/usr/local"], capture_output=True, text=True,
                          env=clean_environment(moved, DESTDIR=str(tmp_path)))
    assert done.returncode != 0 and "--prefix DIR" in done.stderr


def test_nothing_is_built_for_this_machine_alone():
    commands = BUILD / "compile_commands.json"
    if not commands.exists():
        pytest.skip(f"SKIPPED LOUDLY: {commands} is missing; set ATTAR_BUILD")
    for entry in json.loads(commands.read_text()):
        assert not re.search(r"-m(arch|tune|cpu)=native", entry["command"]), entry["file"]
