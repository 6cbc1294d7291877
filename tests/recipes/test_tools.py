"""Tools by themselves, on what the short run left: the words of cli.md, one by one."""
import json

import numpy as np
import pytest


def test_eval_gives_the_report_s_keys(attar, finished, root, tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("\n".join(json.loads(line)["text"] for line in open(root / "data" / "support_tickets" / "test.jsonl"))[:20000])
    result = attar.json("eval", "--model", finished / "gguf" / "model.gguf", "--base", finished / "recovered", "--text", text, "--ctx", 128)
    assert result["perplexity"]["value"] > 1 and "128" in result["perplexity"]["protocol"]
    assert 0 < result["kld"]["mean"] < 1 and result["kld"]["p50"] <= result["kld"]["p99"] <= result["kld"]["max"]
    assert 0 < result["top1_agreement"]["value"] <= 1
    same = attar.json("eval", "--model", finished / "recovered", "--base", finished / "recovered", "--text", text, "--ctx", 128)
    assert same["kld"]["mean"] == 0 and same["kld"]["max"] == 0 and same["top1_agreement"]["value"] == 1


def test_perplexity_is_llama_cpp_s_protocol(attar, finished, root, tmp_path):
    """Chunks of 64, first token BOS, second half scored: the same number from our own logits by NumPy."""
    text = tmp_path / "text.txt"
    text.write_text("\n".join(json.loads(line)["text"] for line in open(root / "data" / "support_tickets" / "test.jsonl"))[:3000])
    ids = json.loads(attar("tokenize", "--tokenizer", finished / "teacher", "--input", text, "--whole", "--specials", check=0).stdout)
    chunks = [[1] + ids[i + 1:i + 64] for i in range(0, len(ids) - 63, 64)]
    (tmp_path / "ids.json").write_text(json.dumps(chunks))
    attar("logits", "--model", finished / "teacher", "--ids", tmp_path / "ids.json", "--out", tmp_path / "l.npy", check=0)
    logits = np.load(tmp_path / "l.npy").astype(np.float64).reshape(len(chunks), 64, -1)
    top = logits.max(-1, keepdims=True)
    logp = logits - top - np.log(np.exp(logits - top).sum(-1, keepdims=True))
    scored = [-logp[c, t, chunks[c][t + 1]] for c in range(len(chunks)) for t in range(32, 63)]
    result = attar.json("eval", "--model", finished / "teacher", "--text", text, "--ctx", 64)
    assert result["perplexity"]["tokens"] == len(scored)
    assert result["perplexity"]["value"] == pytest.approx(np.exp(np.mean(scored)), rel=1e-5)


def test_generate_is_the_argmax_of_logits(attar, finished, tmp_path):
    ids = json.loads(attar("generate", "--model", finished / "student", "--prompt", "I want my money back", "--max-tokens", 5, "--ids", "--ignore-eos", check=0).stdout)
    prompt = json.loads(attar("tokenize", "--tokenizer", finished / "student", "--specials", check=0, input="I want my money back\n").stdout)
    (tmp_path / "ids.json").write_text(json.dumps([prompt + ids[:-1]]))
    attar("logits", "--model", finished / "student", "--ids", tmp_path / "ids.json", "--out", tmp_path / "l.npy", check=0)
    assert list(np.load(tmp_path / "l.npy")[len(prompt) - 1:].argmax(-1)) == ids


def test_verify_against_finds_one_changed_code(attar, finished, tmp_path):
    attar("verify", finished / "gguf" / "model.gguf", "--against", finished / "qat", check=0)
    attar("verify", finished / "onnx", "--against", finished / "qat", check=0)
    lines = attar.error("verify", finished / "gguf" / "model.gguf", "--against", finished / "recovered")
    assert "model.gguf" in " ".join(lines) or "weight" in lines[0]


def test_inspect_says_what_things_are(attar, finished):
    assert attar.json("inspect", finished / "gguf" / "model.gguf")["kind"] == "gguf"
    assert attar.json("inspect", finished / "teacher")["model"]["family"] == "llama"
    assert attar.json("inspect", finished / "logits")["kind"] == "cache"
    assert attar.json("inspect", finished / "tokenizer")["tokenizer"]["size"] == 1024
    assert attar.json("inspect", finished)["kind"] == "run"


def test_bench_train_runs_real_steps(attar, finished, root):
    result = attar.json("bench", "train", "--student", root / "configs/models/student_700k.yaml", "--teacher", finished / "teacher", "--vocab", 1024,
                        "--batch", 2, "--seq", 32, "--steps", 2)
    assert result["tokens_per_s"] > 0 and result["step_s"] > 0 and result["peak_rss_bytes"] > 1e7 and result["loss"] > 0


def test_bench_generate(attar, finished):
    result = attar.json("bench", "generate", "--model", finished / "gguf" / "model.gguf", "--prompt-tokens", 8, "--max-tokens", 4, "--repeats", 1)
    assert result["tokens_per_s"] > 0 and result["time_to_first_token_s"] > 0


def test_doctor(attar):
    result = attar.json("doctor")
    assert result["cores"] > 0 and result["matrix_gflops"] > 0 and result["libtorch"].startswith("2.")


def test_lone_capture_and_distillation(attar, finished, root, tmp_path):
    rows = [json.loads(line) for line in open(root / "data" / "support_tickets" / "train.jsonl")][:200]
    (tmp_path / "text.jsonl").write_text("".join(json.dumps({"text": row["text"]}) + "\n" for row in rows))
    words = ["--data", tmp_path / "text.jsonl", "--seq", 64, "--seed", 3]
    attar("capture", "--teacher", finished / "teacher", "--codec", "top_k", "--k", 16, "--out", tmp_path / "cache", *words, check=0)
    attar("capture", "--teacher", finished / "teacher", "--codec", "top_k", "--k", 16, "--out", tmp_path / "again", *words, check=0)
    first, again = (sorted((p.name, p.read_bytes()) for p in (tmp_path / name).glob("*.h5")) for name in ("cache", "again"))
    assert first and first == again
    attar("verify", tmp_path / "cache", check=0)
    attar("distill", "--model", root / "configs/models/student_700k.yaml", "--teacher", tmp_path / "cache", "--steps", 2, "--batch", 4, "--out", tmp_path / "student", *words, check=0)
    assert (tmp_path / "student" / "model.safetensors").exists()
    line = attar.error("distill", "--model", root / "configs/models/student_700k.yaml", "--teacher", tmp_path / "cache", "--steps", 2, "--loss.temperature", 2,
                       "--out", tmp_path / "other", *words)
    assert len(line) == 1 and "temperature" in line[0]


def test_init_makes_a_recipe_that_plans(attar, tmp_path):
    rows = ["question,kind"] + [f'"where is order {i}, please?",{"delivery" if i % 3 else "refund"}' for i in range(80)]
    (tmp_path / "q.csv").write_text("\n".join(rows) + "\n")
    out = attar("init", tmp_path / "mine", "--from", tmp_path / "q.csv", check=0).stdout
    assert "'question'" in out and "'kind'" in out
    plan = attar.json("plan", tmp_path / "mine" / "recipe.yaml", "--out", tmp_path / "run")
    assert [stage["id"] for stage in plan["stages"]][-1] == "report"
    assert "a new or empty folder" in attar.error("init", tmp_path / "mine", "--from", tmp_path / "q.csv")[0]


def test_clean_says_what_it_keeps(attar, finished, tmp_path):
    out = attar("clean", finished, "--dry-run", check=0).stdout
    assert "logits" in out and "teacher" in out
