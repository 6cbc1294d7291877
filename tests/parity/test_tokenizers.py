"""attar's tokenizers against the originals: sentencepiece, Hugging Face tokenizers, llama.cpp, transformers."""
import json
import os
import random
import subprocess
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
ATTAR = Path(os.environ.get("ATTAR_BUILD", REPO / "build" / "release")) / "bin" / "attar"
DATA = Path(os.environ.get("ATTAR_TEST_DATA", REPO.parent / "shared" / "data"))
TOKENIZERS = DATA / "tokenizers"

pytestmark = pytest.mark.skipif(not TOKENIZERS.exists(), reason=f"SKIPPED LOUDLY: {TOKENIZERS} is missing; set ATTAR_TEST_DATA")

PUBLISHED = {
    "llama3": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "qwen2": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "gpt4o": r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
             r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
             r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
}


def nasty_texts():
    texts = [
        " ", "  ", "   ", "\t", "\n", "\n\n", " \n ", "\r\n", "a", " a", "a ", " a ", "Hello world", " Hello  world ",
        "Hello, y'all! How are you 😁 ?我想在apple工作1314151天～", "👨‍👩‍👧‍👦 family", "🚀 (normal) 😶‍🌫️ (joined) ✅ 🦙🦙 3 33 333 3333 3.3 3..3",
        "កាន់តែពិសេសអាច😁", "e\u0301 cafe\u0301 café Å Å ﬁ ½ Ⅳ ａｂｃ", "<s>", "</s>", "<unk>", "<s>hello</s>", "a<s>b", "<|endoftext|>", "<0x0A>", "<0x41>bc",
        "[PAD5]", "▁", "a▁b", "\u00a0nbsp\u2009thin\u3000ideo", "\u200b\u200czw\ufeffbom", "日本語のテキスト、漢字とカタカナ。", "한국어 텍스트", "العربية نص",
        "हिन्दी पाठ", "ไทย", "1234567890", "12 345,678.90", "0x1F", "I'm you're he'll I'VE we'd it's can't 'tis", "don’t", "snake_case camelCase",
        "def f(x):\n    return x ** 2\n\n\tif True:\n\t\tpass\n", "a\u0000b", "\u0001\u007f", "!!!???", "http://example.com/a?b=c&d=%20#x", "x" * 300, " " * 100,
        "\n" * 50, "=" * 200, "ab " * 100, "\u0301\u0302abc", "𝔘𝔫𝔦", "🏳️‍🌈🇺🇸👍🏽", "ß ẞ İ ı ǅ", "\u2028line", "\ufffd", "\U0010ffff", "tail \n", "  \n\n  x",
        "\x85next", "a\u1680b\u180ec", "“quotes” — dash… ‘x’",
    ]
    pools = [" \t", "abcdefghijklmnopqrstuvwxyz", "ABCXYZ", "0123456789", "'’.,!?-_/\\\"<>|()[]{}#$%&*+=@^`~", "éüñçßøåÅ", "你好世界漢字", "😀😁🦙🚀\u200d\ufe0f",
             "\u0301\u0308", "\u00a0\u2003\u3000", "कखगािी", "абвгд", "한국어"]
    generator = random.Random(11)
    for _ in range(160):
        text = ""
        while len(text) < 4 + generator.randrange(40):
            pool = generator.choice(pools)
            text += "".join(generator.choice(pool) for _ in range(generator.randint(1, 6)))
        texts.append(text)
    return texts


TEXTS = nasty_texts()


def attar(*arguments, check=True):
    return subprocess.run([str(ATTAR), *map(str, arguments)], capture_output=True, check=check)


def attar_ids(tokenizer, texts, folder, *flags):
    """Lines go in one call, texts with a line break one by one."""
    lines = [text for text in texts if "\n" not in text]
    path = folder / "lines.txt"
    path.write_bytes("".join(line + "\n" for line in lines).encode())
    output = attar("tokenize", "--tokenizer", tokenizer, "--input", path, *flags).stdout.decode().splitlines()
    assert len(output) == len(lines)
    found = dict(zip(lines, map(json.loads, output)))
    # Texts with a line break each need a call of their own.
    for text in texts:
        if text not in found:
            path.write_bytes(text.encode())
            found[text] = json.loads(attar("tokenize", "--tokenizer", tokenizer, "--input", path, "--whole", *flags).stdout)
    return [found[text] for text in texts]


def agree(texts, ours, theirs):
    wrong = [(text, a, b) for text, a, b in zip(texts, ours, theirs) if list(a) != list(b)]
    assert not wrong, f"{len(wrong)} of {len(texts)} differ, the first: {wrong[0]!r}"


@pytest.mark.parametrize("name", ["tokenizers/llama2/tokenizer.model", "stories260K/tok512.model"])
def test_sentencepiece_bpe(name, tmp_path):
    sentencepiece = pytest.importorskip("sentencepiece")
    processor = sentencepiece.SentencePieceProcessor(model_file=str(DATA / name))
    ours = attar_ids(DATA / name, TEXTS, tmp_path)
    agree(TEXTS, ours, [processor.encode(text) for text in TEXTS])


def test_sentencepiece_unigram(tmp_path):
    sentencepiece = pytest.importorskip("sentencepiece")
    name = TOKENIZERS / "unigram_bytefallback_2000.model"
    processor = sentencepiece.SentencePieceProcessor(model_file=str(name))
    agree(TEXTS, attar_ids(name, TEXTS, tmp_path), [processor.encode(text) for text in TEXTS])


def test_malformed_bytes_as_sentencepiece(tmp_path):
    sentencepiece = pytest.importorskip("sentencepiece")
    name = TOKENIZERS / "llama2" / "tokenizer.model"
    processor = sentencepiece.SentencePieceProcessor(model_file=str(name))
    for raw in [b"caf\xe9 \xff\xfe", b"\x80", b"a\xe2\x96", b"\xc0\xaf", b"\xed\xa0\x80x", b"\xf8\x88\x80\x80\x80", b"ok \xf0\x9f\x9a end"]:
        path = tmp_path / "raw.txt"
        path.write_bytes(raw)
        ours = json.loads(attar("tokenize", "--tokenizer", name, "--input", path, "--whole").stdout)
        assert ours == processor.encode(raw), raw


@pytest.mark.parametrize("name", ["gpt2", "phi-2", "llama2"])
def test_huggingface_tokenizers(name, tmp_path):
    tokenizers = pytest.importorskip("tokenizers")
    folder = TOKENIZERS / name
    if name == "gpt2":
        theirs = tokenizers.Tokenizer(tokenizers.models.BPE.from_file(str(folder / "vocab.json"), str(folder / "merges.txt")))
        theirs.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
        theirs.decoder = tokenizers.decoders.ByteLevel()
        theirs.add_special_tokens(["<|endoftext|>"])
        path = folder
    else:
        path = folder / "tokenizer.json"
        theirs = tokenizers.Tokenizer.from_file(str(path))
    agree(TEXTS, attar_ids(path, TEXTS, tmp_path, "--specials"), [theirs.encode(text).ids for text in TEXTS])
    theirs.encode_special_tokens = True
    agree(TEXTS, attar_ids(path, TEXTS, tmp_path), [theirs.encode(text, add_special_tokens=False).ids for text in TEXTS])


@pytest.mark.parametrize("rule", list(PUBLISHED) + ["digits", "falcon"])
def test_published_pre_tokenizers(rule, tmp_path):
    """GPT-2's merges under the split rules of other models."""
    tokenizers = pytest.importorskip("tokenizers")
    base = json.loads((TOKENIZERS / "phi-2" / "tokenizer.json").read_text())
    plain = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    if rule == "digits":
        steps = [{"type": "Digits", "individual_digits": True}, dict(plain, use_regex=True)]
    elif rule == "falcon":
        three = {"type": "Split", "pattern": {"Regex": "[0-9][0-9][0-9]"}, "behavior": "Isolated", "invert": False}
        steps = [{"type": "Punctuation", "behavior": "Contiguous"}, dict(plain, use_regex=True), {"type": "Digits", "individual_digits": False}, three]
    else:
        steps = [{"type": "Split", "pattern": {"Regex": PUBLISHED[rule]}, "behavior": "Isolated", "invert": False}, plain]
    base["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": steps}
    base["model"]["ignore_merges"] = rule == "llama3"
    base["normalizer"] = {"type": "NFC"} if rule == "qwen2" else None
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(base))
    theirs = tokenizers.Tokenizer.from_file(str(path))
    agree(TEXTS, attar_ids(path, TEXTS, tmp_path, "--specials"), [theirs.encode(text).ids for text in TEXTS])


def unigram_json(normalizers, pre_tokenizer, byte_fallback, pieces):
    """A tokenizer.json of a unigram model: pieces are (text, score, special)."""
    added = [{"id": i, "content": text, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
             for i, (text, _, special) in enumerate(pieces) if special]
    post = {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                                                     {"SpecialToken": {"id": "</s>", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}, "</s>": {"id": "</s>", "ids": [2], "tokens": ["</s>"]}}}
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added,
            "normalizer": {"type": "Sequence", "normalizers": normalizers} if normalizers else None,
            "pre_tokenizer": pre_tokenizer, "post_processor": post, "decoder": pre_tokenizer,
            "model": {"type": "Unigram", "unk_id": 0, "vocab": [[text, score] for text, score, _ in pieces], "byte_fallback": byte_fallback}}


def charsmap_of(model):
    """Field 2 of the normalizer's message (field 3 of the model), read from the wire format."""
    def varint(data, at):
        value = shift = 0
        while True:
            value |= (data[at] & 127) << shift
            shift += 7
            at += 1
            if data[at - 1] < 128:
                return value, at

    def fields(data):
        at = 0
        while at < len(data):
            key, at = varint(data, at)
            if key & 7 == 0:
                value, at = varint(data, at)
            elif key & 7 == 2:
                size, at = varint(data, at)
                value, at = data[at:at + size], at + size
            else:
                size = 4 if key & 7 == 5 else 8
                value, at = data[at:at + size], at + size
            yield key >> 3, value

    spec = [value for number, value in fields(model) if number == 3][0]
    return [value for number, value in fields(spec) if number == 2][0]


@pytest.fixture(scope="module")
def mapped_models(tmp_path_factory):
    """SentencePiece models whose normalizer is nmt_nfkc, with user-defined pieces, as the library's defaults make them."""
    sentencepiece = pytest.importorskip("sentencepiece")
    folder = tmp_path_factory.mktemp("mapped")
    lines = [line for line in (DATA / "wikitext2" / "valid.txt").read_text().splitlines() if line.strip()][:1500]
    for kind in ("unigram", "bpe"):
        for fallback in (False, True):
            sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(lines), model_prefix=str(folder / f"{kind}_{fallback}"), model_type=kind,
                                                     vocab_size=1200, byte_fallback=fallback, user_defined_symbols=["<sep>", "ab▁c", "日本"], minloglevel=3)
    return folder


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
@pytest.mark.parametrize("fallback", [False, True])
def test_sentencepiece_with_normalizer_and_own_pieces(kind, fallback, mapped_models, tmp_path):
    import sentencepiece
    name = mapped_models / f"{kind}_{fallback}.model"
    processor = sentencepiece.SentencePieceProcessor(model_file=str(name))
    texts = TEXTS + ["a<sep>b <sep> c", "xab cde", "日本語 日本", "<sep", "<sep><sep>", "\u304b\u3099 か゛", "e\u0301\u0302", "①②㍿ ﷺ", "\ufb01n \u00adsoft"]
    agree(texts, attar_ids(name, texts, tmp_path), [processor.encode(text) for text in texts])


@pytest.mark.parametrize("rule", ["metaspace", "precompiled", "bytes"])
def test_huggingface_unigram(rule, mapped_models, tmp_path):
    import base64
    import sentencepiece
    tokenizers = pytest.importorskip("tokenizers")
    name = TOKENIZERS / "unigram_bytefallback_2000.model" if rule == "bytes" else mapped_models / "unigram_False.model"
    processor = sentencepiece.SentencePieceProcessor(model_file=str(name))
    pieces = [(processor.id_to_piece(i), processor.get_score(i), processor.is_control(i) or processor.is_unknown(i)) for i in range(processor.vocab_size())]
    metaspace = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
    normalizers = []
    if rule == "precompiled":
        squeeze = {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}
        normalizers = [{"type": "Precompiled", "precompiled_charsmap": base64.b64encode(charsmap_of(name.read_bytes())).decode()},
                       {"type": "Strip", "strip_left": False, "strip_right": True}, squeeze]
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(unigram_json(normalizers, metaspace, rule == "bytes", pieces)))
    theirs = tokenizers.Tokenizer.from_file(str(path))
    texts = TEXTS + ["\u304b\u3099 か゛", "e\u0301\u0302", "①②㍿ ﷺ", "\ufb01n \u00adsoft", "가각"]
    agree(texts, attar_ids(path, texts, tmp_path, "--specials"), [theirs.encode(text).ids for text in texts])
    theirs.encode_special_tokens = True
    agree(texts, attar_ids(path, texts, tmp_path), [theirs.encode(text, add_special_tokens=False).ids for text in texts])


@pytest.mark.parametrize("step", ["whitespace", "delimiter", "accents", "lowercase", "digits then metaspace"])
def test_steps_before_the_model(step, tmp_path):
    """Steps that the files in shared/data do not have, over Llama 2's vocabulary."""
    tokenizers = pytest.importorskip("tokenizers")
    base = json.loads((TOKENIZERS / "llama2" / "tokenizer.json").read_text())
    metaspace = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False}
    base["normalizer"], base["pre_tokenizer"] = {
        "whitespace": (None, {"type": "Whitespace"}),
        "delimiter": (None, {"type": "CharDelimiterSplit", "delimiter": "e"}),
        "accents": ({"type": "Sequence", "normalizers": [{"type": "NFKD"}, {"type": "StripAccents"}]}, metaspace),
        "lowercase": ({"type": "Sequence", "normalizers": [{"type": "NFKC"}, {"type": "Lowercase"}, {"type": "Strip", "strip_left": True, "strip_right": True}]},
                      None),
        "digits then metaspace": (None, {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, metaspace]}),
    }[step]
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(base))
    theirs = tokenizers.Tokenizer.from_file(str(path))
    texts = [text for text in TEXTS if "\n" not in text]
    agree(texts, attar_ids(path, texts, tmp_path, "--specials"), [theirs.encode(text).ids for text in texts])


@pytest.mark.parametrize("name", ["ggml-vocab-gpt-2", "ggml-vocab-llama-spm", "ggml-vocab-phi-3"])
@pytest.mark.parametrize("specials", [False, True])
def test_llama_cpp_vocabularies(name, specials, tmp_path):
    llama_cpp = pytest.importorskip("llama_cpp")
    path = TOKENIZERS / "vocab-tests" / f"{name}.gguf"
    theirs = llama_cpp.Llama(str(path), vocab_only=True, verbose=False)
    ours = attar_ids(path, TEXTS, tmp_path, *(["--specials"] if specials else []))
    agree(TEXTS, ours, [theirs.tokenize(text.encode(), add_bos=specials, special=specials) for text in TEXTS])


def test_million_characters_without_a_space(tmp_path):
    tokenizers = pytest.importorskip("tokenizers")
    sentencepiece = pytest.importorskip("sentencepiece")
    generator = random.Random(2)
    text = "".join(generator.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(1_000_000))
    path = tmp_path / "word.txt"
    path.write_text(text)

    def ours(tokenizer):
        return json.loads(attar("tokenize", "--tokenizer", tokenizer, "--input", path, "--whole").stdout)

    processor = sentencepiece.SentencePieceProcessor(model_file=str(TOKENIZERS / "llama2" / "tokenizer.model"))
    expected = processor.encode(text)
    assert ours(TOKENIZERS / "llama2" / "tokenizer.model") == expected
    assert ours(TOKENIZERS / "vocab-tests" / "ggml-vocab-llama-spm.gguf") == expected
    theirs = tokenizers.Tokenizer.from_file(str(TOKENIZERS / "phi-2" / "tokenizer.json"))
    assert ours(TOKENIZERS / "phi-2") == theirs.encode(text, add_special_tokens=False).ids


@pytest.mark.parametrize("name", ["gpt2", "phi-2", "llama2", "vocab-tests/ggml-vocab-llama-spm.gguf"])
def test_decode_gives_the_text_back(name, tmp_path):
    # SentencePiece's own mark of a space comes back as one; no such promise there.
    marks = "" if name in ("gpt2", "phi-2") else "▁"
    lines = [text for text in TEXTS if "\n" not in text and "\r" not in text and not (marks and marks in text)]
    path = tmp_path / "ids.txt"
    path.write_text("".join(json.dumps(ids) + "\n" for ids in attar_ids(TOKENIZERS / name, lines, tmp_path)))
    output = attar("tokenize", "--tokenizer", TOKENIZERS / name, "--input", path, "--decode").stdout.decode()
    assert output.split("\n")[:-1] == lines


@pytest.mark.parametrize("name", ["gpt2", "phi-2", "llama2/tokenizer.model", "unigram_bytefallback_2000.model"])
def test_any_number_of_threads_gives_the_same_bytes(name, tmp_path):
    tokenizers = pytest.importorskip("tokenizers")
    text = (DATA / "wikitext2" / "valid.txt").read_text() + "\n".join(line for line in TEXTS) + "\n\n last line without an end"
    path = tmp_path / "lines.txt"
    path.write_text(text)
    outputs = [attar("tokenize", "--tokenizer", TOKENIZERS / name, "--input", path, "--threads", threads).stdout for threads in (1, 2, 7)]
    assert outputs[0] == outputs[1] == outputs[2]
    with open(path, "rb") as stream:
        command = [str(ATTAR), "tokenize", "--tokenizer", str(TOKENIZERS / name), "--threads", "3"]
        assert subprocess.run(command, stdin=stream, capture_output=True, check=True).stdout == outputs[0]
    rows = [json.loads(line) for line in outputs[0].decode().splitlines()]
    assert len(rows) == len(text.split("\n")) and rows[-1]
    if name == "phi-2":
        theirs = tokenizers.Tokenizer.from_file(str(TOKENIZERS / name / "tokenizer.json"))
        theirs.encode_special_tokens = True
        agree(text.split("\n"), rows, [one.ids for one in theirs.encode_batch(text.split("\n"), add_special_tokens=False)])
    if name.endswith(".model"):
        sentencepiece = pytest.importorskip("sentencepiece")
        agree(text.split("\n"), rows, sentencepiece.SentencePieceProcessor(model_file=str(TOKENIZERS / name)).encode(text.split("\n")))


def test_memory_does_not_grow_with_the_file(tmp_path):
    """64 MB of lines in far less memory than that."""
    path = tmp_path / "large.txt"
    with open(path, "w") as out:
        for _ in range(64):
            out.write("the same line again and again \n" * 32768)
    result = subprocess.run(["/usr/bin/env", "python3", "-c", f"""
import resource, subprocess, sys
subprocess.run([{str(ATTAR)!r}, 'tokenize', '--tokenizer', {str(TOKENIZERS / 'gpt2')!r}, '--input', {str(path)!r}], stdout=subprocess.DEVNULL, check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024)"""], capture_output=True, check=True)
    assert int(result.stdout) < 128


def test_the_first_bad_line_ends_it_and_nothing_before_is_lost(tmp_path):
    path = tmp_path / "ids.txt"
    path.write_text("[1]\n" * 100_000 + "[-5]\n" + "[1]\n" * 200_000)
    for threads in (1, 4):
        result = attar("tokenize", "--tokenizer", TOKENIZERS / "gpt2", "--input", path, "--decode", "--threads", threads, check=False)
        assert result.returncode == 1 and b"line 100001" in result.stderr
        assert result.stdout == b'"\n' * 100_000


@pytest.mark.parametrize("name", ["gpt2", "phi-2", "llama2"])
def test_llama_cpp_reads_the_written_vocabulary_alike(name, tmp_path):
    """A tiny model around each tokenizer, exported: llama.cpp's ids are ours, with special tokens and without."""
    llama_cpp = pytest.importorskip("llama_cpp")
    transformers = pytest.importorskip("transformers")
    size = {"gpt2": 50257, "phi-2": 51200, "llama2": 32000}[name]
    config = transformers.LlamaConfig(vocab_size=size, hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=1,
                                      num_key_value_heads=1, max_position_embeddings=64, tie_word_embeddings=True)
    folder = tmp_path / "model"
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    for file in (TOKENIZERS / name).iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    done = attar("export", "--model", folder, "--format", "gguf", "--type", "f32", "--out", tmp_path / "m.gguf", check=False)
    assert done.returncode == 0, done.stderr.decode()
    theirs = llama_cpp.Llama(str(tmp_path / "m.gguf"), vocab_only=True, verbose=False)
    texts = [text for text in TEXTS if "\n" not in text] + ["def f(x):\n    return x ** 2\n\n\tif True:\n\t\tpass\n"]
    for specials in (False, True):
        ours = attar_ids(folder, texts, tmp_path, *(["--specials"] if specials else []))
        agree(texts, ours, [theirs.tokenize(text.encode(), add_bos=specials, special=specials) for text in texts])


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_trained_tokenizer_in_other_software(kind, tmp_path):
    """What `attar tokenizer train` writes, read by sentencepiece and by transformers."""
    sentencepiece = pytest.importorskip("sentencepiece")
    transformers = pytest.importorskip("transformers")
    corpus = tmp_path / "corpus.txt"
    corpus.write_text((DATA / "wikitext2" / "valid.txt").read_text()[:400_000])
    folder = tmp_path / "trained"
    attar("tokenizer", "train", "--data", corpus, "--vocab-size", 1500, "--model", kind, "--out", folder)
    processor = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    assert processor.vocab_size() == 1500 and (processor.unk_id(), processor.bos_id(), processor.eos_id()) == (0, 1, 2)
    ours = attar_ids(folder, TEXTS, tmp_path)
    if kind == "bpe":
        agree(TEXTS, ours, [processor.encode(text) for text in TEXTS])
        loaded = transformers.AutoTokenizer.from_pretrained(str(folder))
        assert (loaded.unk_token_id, loaded.bos_token_id, loaded.eos_token_id) == (0, 1, 2)
        specials = attar_ids(folder, TEXTS, tmp_path, "--specials")
        agree(TEXTS, specials, [loaded(text).input_ids for text in TEXTS])
        assert loaded("hello").input_ids[0] == 1
    else:
        # Ties between segmentations of equal score are broken differently by versions of the library; the pieces spell the same text.
        for text, ids in zip(TEXTS, ours):
            if "▁" not in text and "\u0000" not in text:
                assert processor.decode(ids) == text
    again = tmp_path / "again"
    attar("tokenizer", "train", "--data", corpus, "--vocab-size", 1500, "--model", kind, "--out", again)
    assert (again / "tokenizer.model").read_bytes() == (folder / "tokenizer.model").read_bytes()


def test_bad_tokenizers_end_in_one_sentence(tmp_path):
    cut = tmp_path / "tokenizer.model"
    cut.write_bytes((TOKENIZERS / "llama2" / "tokenizer.model").read_bytes()[:100_001])
    broken = tmp_path / "tokenizer.json"
    broken.write_text('{"model": {"type": "WordPiece", "vocab": {}}}')
    for path in [cut, broken, tmp_path / "absent"]:
        result = attar("tokenize", "--tokenizer", path, "--input", __file__, check=False)
        assert result.returncode == 1, path
        errors = [line for line in result.stderr.decode().splitlines() if line.startswith("error:")]
        assert len(errors) == 1 and path.name in errors[0], result.stderr
