"""Blocks of ggml types: attar's bytes and values against ggml's own library, beside llama_cpp's module.

About 1 million values for each type and way; ATTAR_LONG=1 takes 10 million. ATTAR_BUILD names the build folder.
"""
import ctypes
import importlib.util
import os
import pathlib
import subprocess

import numpy
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("ATTAR_BUILD", ROOT / "build" / "release"))
PROGRAM = BUILD / "bin" / "block_bytes"
VALUES = 10_000_000 if os.environ.get("ATTAR_LONG") else 1_000_000

# name: number, weights of a block, bytes of a block
TYPES = {
    "f32": (0, 1, 4), "f16": (1, 1, 2), "bf16": (30, 1, 2),
    "q4_0": (2, 32, 18), "q4_1": (3, 32, 20), "q5_0": (6, 32, 22), "q5_1": (7, 32, 24), "q8_0": (8, 32, 34),
    "iq4_nl": (20, 32, 18), "mxfp4": (39, 32, 17),
    "q2_k": (10, 256, 84), "q3_k": (11, 256, 110), "q4_k": (12, 256, 144), "q5_k": (13, 256, 176), "q6_k": (14, 256, 210),
    "tq1_0": (34, 256, 54), "tq2_0": (35, 256, 66),
}
WITH_IMPORTANCE = ["q4_0", "q4_1", "q5_0", "q5_1", "iq4_nl", "q2_k", "q3_k", "q4_k", "q5_k", "q6_k"]
KINDS = ["normal", "heavy", "tiny", "subnormal", "huge", "zeros", "spike", "coarse", "offset"]


class TypeTraits(ctypes.Structure):
    _fields_ = [("type_name", ctypes.c_char_p), ("blck_size", ctypes.c_int64), ("blck_size_interleave", ctypes.c_int64),
                ("type_size", ctypes.c_size_t), ("is_quantized", ctypes.c_bool), ("to_float", ctypes.c_void_p),
                ("from_float_ref", ctypes.c_void_p)]


def open_ggml():
    spec = importlib.util.find_spec("llama_cpp")
    if spec is None:
        pytest.skip("SKIPPED LOUDLY: llama_cpp is not installed, ggml's bytes cannot be asked for")
    folder = pathlib.Path(spec.submodule_search_locations[0]) / "lib"
    library = ctypes.CDLL(str(folder / "libggml-base.so"))
    library.ggml_quantize_chunk.restype = ctypes.c_size_t
    library.ggml_quantize_chunk.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64,
                                            ctypes.c_void_p]
    library.ggml_get_type_traits.restype = ctypes.POINTER(TypeTraits)
    library.ggml_get_type_traits.argtypes = [ctypes.c_int]
    # The halves' table is filled when a context is made.
    class InitParams(ctypes.Structure):
        _fields_ = [("mem_size", ctypes.c_size_t), ("mem_buffer", ctypes.c_void_p), ("no_alloc", ctypes.c_bool)]
    library.ggml_init.restype = ctypes.c_void_p
    library.ggml_init.argtypes = [InitParams]
    library.ggml_free.argtypes = [ctypes.c_void_p]
    library.ggml_free(library.ggml_init(InitParams(1 << 16, None, False)))
    return library


@pytest.fixture(scope="module")
def ggml():
    return open_ggml()


def values_of(kind, count, random):
    x = random.standard_normal(count, dtype=numpy.float32)
    if kind == "heavy":
        x = random.standard_t(2, count).astype(numpy.float32)
    elif kind == "tiny":
        x *= numpy.float32(1e-7)
    elif kind == "subnormal":
        x *= numpy.float32(10.0) ** random.integers(-44, -30, count // 256).repeat(256).astype(numpy.float32)
    elif kind == "huge":
        x = numpy.clip(x * numpy.float32(9000), -60000, 60000)
    elif kind == "zeros":
        x.reshape(-1, 32)[random.random(count // 32) < 0.4] = 0
        x.reshape(-1, 16)[random.random(count // 16) < 0.2] *= numpy.float32(1e-9)
        x.reshape(-1, 256)[random.random(count // 256) < 0.2] = 0
    elif kind == "spike":
        blocks = x.reshape(-1, 256)
        blocks[numpy.arange(len(blocks)), random.integers(0, 256, len(blocks))] = 3000 * random.choice([-1, 1], len(blocks))
    elif kind == "coarse":  # ties and equal values
        x = numpy.round(x * 4).astype(numpy.float32) / 8
    elif kind == "offset":  # sub-blocks of one sign, some constant
        x = x * numpy.float32(0.01) + random.choice([-3, -1, 0.5, 2], count // 16).repeat(16).astype(numpy.float32)
        x.reshape(-1, 32)[random.random(count // 32) < 0.1] = -1.25
    return numpy.ascontiguousarray(x, dtype=numpy.float32)


def run(*words):
    return subprocess.run([str(PROGRAM), *map(str, words)], capture_output=True, text=True)


def ours(folder, name, x, importance, *options):
    x.tofile(folder / "in")
    words = [name, *x.shape, folder / "in", folder / "out"]
    if importance is not None:
        importance.tofile(folder / "importance")
        words.append(folder / "importance")
    done = run(*words, *options)
    assert done.returncode == 0, done.stderr
    return numpy.fromfile(folder / "out", dtype=numpy.uint8)


def theirs(ggml, name, x, importance):
    number, block, size = TYPES[name]
    out = numpy.zeros(x.size // block * size, dtype=numpy.uint8)
    pointer = None if importance is None else importance.ctypes.data
    assert ggml.ggml_quantize_chunk(number, x.ctypes.data, out.ctypes.data, 0, *x.shape, pointer) == out.size
    return out


def say_difference(name, kind, x, mine, reference):
    _, block, size = TYPES[name]
    bad = numpy.unique(numpy.nonzero(mine != reference)[0] // size)
    at = bad[0]
    return (f"{name} {kind}: {len(bad)} of {x.size // block} blocks differ, first {at}: ours {mine[at * size:(at + 1) * size].tobytes().hex()} "
            f"theirs {reference[at * size:(at + 1) * size].tobytes().hex()} values {x.reshape(-1, block)[at].tolist()}")


WAYS = [(name, False) for name in TYPES] + [(name, True) for name in WITH_IMPORTANCE]


@pytest.mark.parametrize("name,weighted", WAYS, ids=[f"{n}{'-importance' if w else ''}" for n, w in WAYS])
def test_bytes_are_ggmls(ggml, tmp_path, name, weighted):
    random = numpy.random.default_rng(5)
    columns = 1280
    rows = VALUES // len(KINDS) // columns + 1
    importance = None
    if weighted:
        importance = random.standard_gamma(0.5, columns).astype(numpy.float32)
        importance[random.random(columns) < 0.02] = 0
        importance[:300] = 0
    x = numpy.stack([values_of(kind, rows * columns, random).reshape(rows, columns) for kind in KINDS])
    reference = theirs(ggml, name, x.reshape(-1, columns), importance).reshape(len(KINDS), -1)
    for option, few in ((None, rows), ("--plain", min(rows, 19)), ("--avx2", min(rows, 200))):
        part = numpy.ascontiguousarray(x[:, :few])
        mine = ours(tmp_path, name, part.reshape(-1, columns), importance, *([option] if option else [])).reshape(len(KINDS), -1)
        for kind in range(len(KINDS)):
            expected = reference[kind, :mine.shape[1]]
            assert numpy.array_equal(mine[kind], expected), say_difference(name, KINDS[kind], part[kind], mine[kind], expected)


@pytest.mark.parametrize("name", TYPES)
def test_values_are_ggmls(ggml, tmp_path, name):
    """Every byte pattern: blocks of random bytes, which no quantizer would write, beside those that one did."""
    number, block, size = TYPES[name]
    if name == "f32":
        pytest.skip("plain fp32 needs no decoding")
    random = numpy.random.default_rng(6)
    columns, rows = 2560, VALUES // 2560 // 2
    count = rows * columns // block
    data = random.integers(0, 256, (count, size), dtype=numpy.uint8)
    written = theirs(ggml, name, values_of("heavy", rows * columns, random).reshape(rows, columns), None).reshape(count, size)
    data[::2] = written[::2]
    data.tofile(tmp_path / "in")
    reference = numpy.zeros(rows * columns, dtype=numpy.float32)
    to_float = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)(ggml.ggml_get_type_traits(number).contents.to_float)
    to_float(data.ctypes.data, reference.ctypes.data, reference.size)
    for options in ([], ["--plain"]):
        done = run(name, rows, columns, tmp_path / "in", tmp_path / "out", "--decode", *options)
        assert done.returncode == 0, done.stderr
        mine = numpy.fromfile(tmp_path / "out", dtype=numpy.float32)
        same = (mine.view(numpy.uint32) == reference.view(numpy.uint32)) | (numpy.isnan(mine) & numpy.isnan(reference))
        assert same.all(), f"{name}: {(~same).sum()} values differ, first at {numpy.argmin(same)}"


def test_threads_do_not_change_bytes(tmp_path):
    x = values_of("heavy", 64 * 1024, numpy.random.default_rng(7)).reshape(16, 4096)
    for name in ("q8_0", "q4_0", "q3_k", "q4_k", "q6_k"):
        outputs = []
        for threads in ("1", "2", "5"):
            x.tofile(tmp_path / "in")
            done = subprocess.run([str(PROGRAM), name, "16", "4096", str(tmp_path / "in"), str(tmp_path / threads)],
                                  env={**os.environ, "OMP_NUM_THREADS": threads}, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            outputs.append((tmp_path / threads).read_bytes())
        assert outputs[0] == outputs[1] == outputs[2], name


@pytest.mark.parametrize("name", TYPES)
def test_values_that_are_not_finite_are_named(tmp_path, name):
    value, named = [(numpy.nan, "nan"), (numpy.inf, "inf"), (-numpy.inf, "-inf")][list(TYPES).index(name) % 3]
    x = numpy.ones((3, 512), dtype=numpy.float32)
    x[2, 300] = value
    x.tofile(tmp_path / "in")
    done = run(name, 3, 512, tmp_path / "in", tmp_path / "out")
    assert done.returncode == 1
    assert "row 2, column 300" in done.stderr and named in done.stderr, done.stderr
    assert done.stderr.count("\n") == 1
