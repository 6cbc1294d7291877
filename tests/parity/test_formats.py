"""Containers against other software: files written here by the gguf, safetensors, numpy, h5py and csv packages are read by attar's readers,
and attar's files by those packages and by ggml's own loader. The C++ side is tests/formats/interchange_test.cc."""
import csv
import ctypes
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("ATTAR_BUILD", ROOT / "build" / "release"))
BINARY = BUILD / "bin" / "test_formats"


def values(*shape):
    return (np.arange(np.prod(shape)) * 0.5).astype(np.float32).reshape(shape)


def write_theirs(folder):
    import gguf
    import h5py
    import safetensors.numpy

    writer = gguf.GGUFWriter(folder / "theirs.gguf", "llama")
    writer.add_block_count(2)
    writer.add_bool("tokenizer.ggml.add_bos_token", False)
    writer.add_token_list(["<unk>", "é"])
    writer.add_token_scores([0.0, -1.5])
    writer.add_tensor("wide", values(3, 5))
    writer.add_tensor("blocks", np.full((2, 68), 1, np.uint8), raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

    tensors = {"w": values(2, 3), "codes": np.array([7, 8, 9], np.uint8), "none": np.zeros((0, 2), np.float16), "scalar": np.array(0, np.float32)}
    safetensors.numpy.save_file(tensors, folder / "theirs.safetensors", metadata={"format": "pt"})
    np.save(folder / "theirs.npy", values(4, 3))

    halves = np.array([[1, -2], [65504, 2.0**-24]], np.float16)
    with h5py.File(folder / "theirs.h5", "w") as file:
        file["halves"] = halves
        file["ids"] = np.array([1, 65535], np.uint16)
        file.create_dataset("deflated", data=np.arange(30000, dtype=np.uint16).reshape(15000, 2), chunks=(700, 2), compression="gzip", shuffle=True)
    with h5py.File(folder / "chunked.h5", "w") as file:
        file.create_dataset("halves", data=halves, chunks=(1, 2), compression="gzip")
    with h5py.File(folder / "linked.h5", "w") as file:
        file["halves"] = h5py.ExternalLink("theirs.h5", "/halves")
    with open(folder / "theirs.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["text", "label"], ['a "quoted", text\nof two lines', "é"], ["", " x "]])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    if not BINARY.exists():
        pytest.skip(f"SKIPPED LOUDLY: {BINARY} is missing; build the tests, or set ATTAR_BUILD")
    folder = tmp_path_factory.mktemp("interchange")
    write_theirs(folder)
    environment = {**os.environ, "ATTAR_INTERCHANGE": str(folder)}
    done = subprocess.run([BINARY, "--gtest_filter=Interchange.*"], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "PASSED  ] 5 tests" in done.stdout, done.stdout
    return folder


def test_gguf_package_reads_ours(folder):
    import gguf

    reader = gguf.GGUFReader(folder / "ours.gguf")
    kinds = gguf.GGUFValueType
    expected = {
        "general.architecture": ("llama", [kinds.STRING]),
        "llama.block_count": (2, [kinds.UINT32]),
        "llama.rope.freq_base": (10000.0, [kinds.FLOAT32]),
        "tokenizer.ggml.add_bos_token": (False, [kinds.BOOL]),
        "tokenizer.ggml.tokens": (["<unk>", "é"], [kinds.ARRAY, kinds.STRING]),
        "tokenizer.ggml.scores": ([0.0, -1.5], [kinds.ARRAY, kinds.FLOAT32]),
        "tokenizer.ggml.token_type": ([2, 1], [kinds.ARRAY, kinds.INT32]),
        "list.bool": ([True, False], [kinds.ARRAY, kinds.BOOL]),
    }
    for key, (value, types) in expected.items():
        field = reader.get_field(key)
        assert field.types == types, key
        assert field.contents() == value, key
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    assert list(tensors) == ["wide", "blocks", "last"]
    assert tensors["wide"].shape.tolist() == [5, 3]
    np.testing.assert_array_equal(tensors["wide"].data, values(3, 5))
    assert tensors["blocks"].tensor_type == gguf.GGMLQuantizationType.Q8_0
    assert tensors["blocks"].data.shape == (2, 68)
    assert (folder / "ours.gguf").stat().st_size % 32 == 0


def test_ggml_loads_ours_and_refuses_what_we_refuse(folder):
    import llama_cpp

    library = next(Path(llama_cpp.__file__).parent.rglob("libggml-base.so"))

    class Params(ctypes.Structure):
        _fields_ = [("no_alloc", ctypes.c_bool), ("ctx", ctypes.c_void_p)]

    ggml = ctypes.CDLL(str(library))
    ggml.gguf_init_from_file.restype = ctypes.c_void_p
    ggml.gguf_init_from_file.argtypes = [ctypes.c_char_p, Params]
    ggml.gguf_free.argtypes = [ctypes.c_void_p]
    ggml.gguf_get_n_tensors.restype = ctypes.c_int64
    ggml.gguf_get_n_tensors.argtypes = [ctypes.c_void_p]
    ggml.gguf_get_tensor_offset.restype = ctypes.c_size_t
    ggml.gguf_get_tensor_offset.argtypes = [ctypes.c_void_p, ctypes.c_int64]

    context = ggml.gguf_init_from_file(str(folder / "ours.gguf").encode(), Params(True, None))
    assert context
    assert ggml.gguf_get_n_tensors(context) == 3
    assert [ggml.gguf_get_tensor_offset(context, i) for i in range(3)] == [0, 64, 224]
    ggml.gguf_free(context)

    whole = (folder / "ours.gguf").read_bytes()
    cut = folder / "cut.gguf"
    cut.write_bytes(whole[:200])
    assert not ggml.gguf_init_from_file(str(cut).encode(), Params(True, None))


def test_safetensors_package_reads_ours(folder):
    import safetensors
    import safetensors.numpy

    tensors = safetensors.numpy.load_file(folder / "ours.safetensors")
    assert sorted(tensors) == ["codes", "none", "scalar", "w"]
    np.testing.assert_array_equal(tensors["w"], values(2, 3))
    assert tensors["codes"].tolist() == [7, 8, 9]
    assert tensors["none"].shape == (0, 2) and tensors["none"].dtype == np.float16
    assert tensors["scalar"].shape == () and tensors["scalar"] == 0
    with safetensors.safe_open(folder / "ours.safetensors", "np") as file:
        assert file.metadata() == {"format": "pt"}


def test_numpy_reads_ours(folder):
    array = np.load(folder / "ours.npy", allow_pickle=False)
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array, values(4, 3))


def test_h5py_reads_our_shard(folder):
    import h5py

    with h5py.File(folder / "ours.h5") as file:
        assert sorted(file) == ["deflated", "floats", "halves", "ids", "none", "offsets"]
        assert file["halves"].dtype == np.float16
        np.testing.assert_array_equal(file["halves"][:], np.array([[1, -2], [65504, 2.0**-24]], np.float16))
        np.testing.assert_array_equal(file["floats"][:], values(2, 3))
        assert file["offsets"][:].tolist() == [-1, 2**63 - 1]
        assert file["ids"].dtype == np.uint16 and file["ids"][:].tolist() == [1, 65535]
        assert file["none"].shape == (0, 3) and file["none"].dtype == np.int32
        assert file.attrs["kind"] == b"attar shard"
        np.testing.assert_array_equal(file["deflated"][:], np.arange(30000, dtype=np.uint16).reshape(15000, 2))
        assert file["deflated"].compression == "gzip" and file["deflated"].shuffle and file["deflated"].id.get_storage_size() < 30000
        assert all(dataset.chunks is None and dataset.compression is None for name, dataset in file.items() if name != "deflated")
