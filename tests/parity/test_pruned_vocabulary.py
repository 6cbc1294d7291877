"""Pruned tokenizers load in sentencepiece, transformers and llama.cpp, and agree with ours; texts of the domain keep their pieces."""
import csv
import json
import os
import shutil
from pathlib import Path

import pytest
from families import attar
from readers import Llama

DATA = Path(os.environ.get("ATTAR_TEST_DATA") or Path(__file__).resolve().parents[3] / "shared" / "data")

OTHERS = ["Größe 漢字 😀", "zxqj\tVWK", "3.14159 = π", "  two  spaces"]


def tokenizer_files(name):
    folder = DATA / "tokenizers" / name
    return [file for file in folder.iterdir() if file.is_file()]


@pytest.fixture(scope="module", params=["llama2", "gpt2"])
def pruned(request, tmp_path_factory):
    for name in (f"tokenizers/{request.param}", "banking77"):
        if not (DATA / name).exists():
            pytest.skip(f"SKIPPED LOUDLY: {DATA / name} is missing; set ATTAR_TEST_DATA")
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp(request.param)
    whole = folder / "whole"
    vocab = {"llama2": 32000, "gpt2": 50257}[request.param]
    torch.manual_seed(1)
    config = transformers.LlamaConfig(vocab_size=vocab, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
                                      num_key_value_heads=1, max_position_embeddings=256)
    transformers.LlamaForCausalLM(config).save_pretrained(whole)
    for file in tokenizer_files(request.param):
        shutil.copy(file, whole)
    attar("prune", "--model", whole, "--vocabulary", "1", "--criterion", "magnitude", "--data", DATA / "banking77/train.csv", "--seq", "128",
          "--out", folder / "small")
    texts = [row["text"] for row in csv.DictReader(open(DATA / "banking77/train.csv"))][::50]
    return request.param, whole, folder / "small", texts


def ids_of(model, texts, folder):
    (folder / "texts.txt").write_text("\n".join(texts) + "\n")
    done = attar("tokenize", "--tokenizer", model, "--input", folder / "texts.txt")
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_domain_keeps_its_pieces_and_the_model_its_logits(pruned, tmp_path):
    name, whole, small, texts = pruned
    config = json.loads((small / "config.json").read_text())
    before = json.loads((whole / "config.json").read_text())
    assert config["vocab_size"] < before["vocab_size"] / 3
    mine, theirs = ids_of(small, texts, tmp_path), ids_of(whole, texts, tmp_path)
    assert [len(row) for row in mine] == [len(row) for row in theirs]
    assert max(max(row) for row in mine if row) < config["vocab_size"]


def test_originals_agree_with_the_pruned_tokenizer(pruned, tmp_path):
    name, whole, small, texts = pruned
    texts = [text for text in texts if "\n" not in text] + OTHERS
    mine = ids_of(small, texts, tmp_path)
    transformers = pytest.importorskip("transformers")
    if name == "llama2":
        spm = pytest.importorskip("sentencepiece").SentencePieceProcessor(model_file=str(small / "tokenizer.model"))
        assert [spm.encode(text) for text in texts] == mine
    if (small / "tokenizer.json").exists():
        tokenizers = pytest.importorskip("tokenizers")
        fast = tokenizers.Tokenizer.from_file(str(small / "tokenizer.json"))
        assert [fast.encode(text, add_special_tokens=False).ids for text in texts] == mine
    else:
        slow = transformers.GPT2TokenizerFast(str(small / "vocab.json"), str(small / "merges.txt"))
        assert [slow(text, add_special_tokens=False)["input_ids"] for text in texts] == mine


def test_llama_cpp_reads_the_pruned_vocabulary_alike(pruned, tmp_path):
    name, whole, small, texts = pruned
    pytest.importorskip("llama_cpp")
    attar("export", "--model", small, "--format", "gguf", "--type", "f32", "--out", tmp_path / "small.gguf")
    texts = [text for text in texts if "\n" not in text] + OTHERS
    mine = ids_of(small, texts, tmp_path)
    llama = Llama(tmp_path / "small.gguf")
    for text, ids in zip(texts, mine):
        assert llama.tokenize(text) == ids, text
