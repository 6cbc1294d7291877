"""attar data mix and pack: a mixture written once, its ids packed once, and both read by capture and distill as the text itself would be."""
import json
import shutil

import pytest
from small_world import MODEL


@pytest.fixture(scope="module")
def world(attar, tmp_path_factory):
    folder = tmp_path_factory.mktemp("packed")
    for name, count in (("a", 120), ("b", 60)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps({"text": f"{name} parcel {i} came late to street {i % 7}."}) + "\n" for i in range(count)))
    (folder / "model.yaml").write_text(MODEL)
    said = attar.json("data", "mix", "--in", folder / "a.jsonl", "--in", folder / "b.jsonl", "--weight", 3, "--weight", 1, "--out", folder / "mixed.jsonl")
    assert [part["written"] for part in said["files"]][0] == 120 and said["kept"] == sum(part["written"] for part in said["files"])
    attar("tokenizer", "train", "--data", folder / "mixed.jsonl", "--vocab-size", "300", "--model", "bpe", "--out", folder / "tokens", check=0)
    words = ["--tokenizer", folder / "tokens", "--seq", 32]
    said = attar.json("data", "pack", "--in", folder / "mixed.jsonl", "--out", folder / "rows", "--shard-rows", 16, *words)
    assert said["seq"] == 32 and said["rows"] > 32
    attar("distill", "--model", folder / "model.yaml", "--data", folder / "rows", "--steps", 4, "--batch", 4, "--out", folder / "teacher", *words, check=0)
    return folder


def test_a_capture_of_packed_rows_is_that_of_their_text(attar, world):
    for name, data in (("text", "mixed.jsonl"), ("packed", "rows")):
        attar("capture", "--teacher", world / "teacher", "--data", world / data, "--seq", 32, "--codec", "top_k", "--k", 8, "--out", world / f"cache_{name}", check=0)
    text, packed = (sorted((p.name, p.read_bytes()) for p in (world / f"cache_{name}").glob("*.h5")) for name in ("text", "packed"))
    assert text and text == packed
    # The cache of the text serves a student that reads the packed rows.
    attar("distill", "--model", world / "model.yaml", "--tokenizer", world / "tokens", "--teacher", world / "cache_text", "--data", world / "rows", "--steps", 2, "--batch", 4,
          "--out", world / "student", check=0)
    assert (world / "student" / "model.safetensors").exists()


def test_packed_rows_that_do_not_fit_are_refused(attar, world, tmp_path):
    attar("tokenizer", "train", "--data", world / "b.jsonl", "--vocab-size", "290", "--model", "bpe", "--out", tmp_path / "other", check=0)
    line = attar.error("distill", "--model", world / "model.yaml", "--tokenizer", tmp_path / "other", "--data", world / "rows", "--steps", 2, "--out", tmp_path / "out")
    assert len(line) == 1 and "tokenizer" in line[0]
    line = attar.error("distill", "--model", world / "model.yaml", "--tokenizer", world / "tokens", "--data", world / "rows", "--data.limit", 5, "--steps", 2, "--out", tmp_path / "out")
    assert len(line) == 1 and "data.limit" in line[0]
    line = attar.error("data", "pack", "--in", world / "mixed.jsonl", "--tokenizer", world / "tokens", "--out", world / "rows")
    assert len(line) == 1 and "packed.json" in line[0]
    line = attar.error("data", "mix", "--in", world / "a.jsonl", "--in", world / "b.jsonl", "--weight", 3, "--out", tmp_path / "out.jsonl")
    assert len(line) == 1 and "--weight" in line[0]


def test_a_packed_folder_says_what_it_is_and_whether_it_is_whole(attar, world, tmp_path):
    facts = attar.json("inspect", world / "rows")
    said = json.loads((world / "rows" / "packed.json").read_text())
    assert facts["kind"] == "packed" and facts["rows"] == said["rows"] and facts["seq"] == 32 and facts["shards"] == len(said["shards"]) > 1
    attar("verify", world / "rows", check=0)
    shutil.copytree(world / "rows", tmp_path / "rows")
    shard = tmp_path / "rows" / said["shards"][1]["file"]
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-5] + bytes([whole[-5] ^ 1]) + whole[-4:])
    (line,) = attar.error("verify", tmp_path / "rows")
    assert shard.name in line and "bytes that were packed" in line
    shard.write_bytes(whole)
    attar("verify", tmp_path / "rows", check=0)
    shard.rename(tmp_path / "rows" / "rows-77777777.h5")
    lines = attar.error("verify", tmp_path / "rows")
    assert len(lines) == 2 and "rows-77777777.h5" in "".join(lines)
    (tmp_path / "rows" / "packed.json").write_text(json.dumps(said | {"shards": [said["shards"][0] | {"file": "../model.yaml"}]}))
    (line,) = attar.error("verify", tmp_path / "rows")
    assert "shard 0" in line
