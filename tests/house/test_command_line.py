"""The command line is a contract: exit codes, one error line a fault, help without LibTorch, and speed of the front door."""
import json
import os
import subprocess
import time

import pytest

TOOLS = ["run", "plan", "init", "doctor", "tokenizer train", "tokenizer inspect", "tokenize", "data dedup", "data split",
         "data decontaminate", "data mix", "data pack", "capture", "distill", "synthesize", "prune", "calibrate", "quantize", "export", "eval", "drift", "logits",
         "generate", "bench generate", "bench train", "bench latency", "report", "inspect", "verify", "clean", "completion", "route", "registry add", "registry list", "registry compare",
         "registry promote", "registry rollback", "registry lineage", "registry recheck"]


def test_no_argument_helps(attar):
    out = attar(check=0).stdout
    assert all(tool in out for tool in TOOLS)


@pytest.mark.parametrize("tool", TOOLS)
def test_every_tool_has_help(attar, tool):
    out = attar(*tool.split(), "--help", check=0).stdout
    assert f"attar {tool}" in out
    for option in ["--device", "--threads", "--seed", "--log-level"]:
        assert option in out


def test_help_and_plan_do_not_load_libtorch(attar, root):
    needed = subprocess.run(["ldd", str(attar.path)], capture_output=True, text=True).stdout
    assert "torch" not in needed and "libc10" not in needed


@pytest.mark.parametrize("words,part", [
    (["frobnicate"], "frobnicate"),
    (["run"], "recipe"),
    (["exprot"], "export"),
    (["plan", "recipes/support_triage.yaml", "--jsn"], "json"),
    (["tokenize"], "tokenizer"),
    (["bench"], "bench generate"),
    (["export", "--model", "x", "--format"], "format"),
])
def test_wrong_usage_is_exit_2_with_one_line(attar, words, part):
    lines = attar.error(*words, code=2)
    assert len(lines) == 1 and part in lines[0], lines


def test_version_names_libtorch(attar):
    out = attar("--version", check=0).stdout
    assert "attar 0." in out and "LibTorch 2." in out and "CUDA" in out


@pytest.mark.parametrize("words,expected", [
    (["exp"], ["export"]),
    (["tokenizer", ""], ["train", "inspect"]),
    (["export", "--form"], ["--format"]),
    (["bench", "train", "--stu"], ["--student"]),
    (["export", "--zzz"], []),
    (["export", "--model", "x"], []),
])
def test_bash_completes_tools_and_options(attar, words, expected):
    script = attar("completion", "bash", check=0).stdout + (
        'COMP_WORDS=(attar "$@"); COMP_CWORD=$#; _attar; printf "%s\\n" "${COMPREPLY[@]}"\n')
    done = subprocess.run(["bash", "-u", "-c", script, "bash", *words], capture_output=True, text=True, check=True)
    assert done.stdout.split() == expected, done.stderr


def test_completion_knows_every_tool_and_only_bash(attar):
    script = attar("completion", "bash", check=0).stdout
    for tool in TOOLS:
        assert f"'{tool}') options='--" in script
    assert "bash" in attar.error("completion", "fish", code=1)[0]


def test_schema_is_one(attar):
    schema = json.loads(attar("run", "--schema", check=0).stdout)
    assert schema["properties"]["stages"]["additionalProperties"]["oneOf"]


def test_plan_says_what_run_would_do(attar, root, tmp_path):
    plan = attar.json("plan", "recipes/support_triage.yaml", "--out", tmp_path / "none")
    assert [stage["id"] for stage in plan["stages"]] == ["tokenizer", "teacher", "logits", "student", "pruned", "recovered", "qat", "gguf", "onnx", "report"]
    for stage in plan["stages"]:
        assert stage["state"] == "needed"
        assert set(stage) >= {"id", "kind", "state", "reason", "parameters", "peak_bytes", "disk_bytes", "tokens", "flops", "seconds"}
    by_id = {stage["id"]: stage for stage in plan["stages"]}
    assert by_id["pruned"]["parameters"] < by_id["student"]["parameters"] < by_id["teacher"]["parameters"]


@pytest.mark.parametrize("recipe", sorted(p.name for p in (__import__("pathlib").Path(__file__).resolve().parents[2] / "recipes").glob("*.yaml")))
def test_every_recipe_is_whole_and_shows_its_commands(attar, root, data, recipe, tmp_path):
    head = (root / "recipes" / recipe).read_text().splitlines()
    assert any(line.strip("# ").startswith(f"attar run recipes/{recipe}") for line in head)
    attar("plan", f"recipes/{recipe}", "--out", tmp_path, check=0)
