"""A sweep from end to end: two students by two types, gates with intervals, prices, scores of every example, a router each; then the portfolio."""
import json

import pytest

RECIPE = """name: small_sweep
seed: 3
task: configs/tasks/support_triage.yaml
data: {{learn: all, pack: false, seq: 96, limit: 240}}
stages:
  tokenizer: {{kind: train_tokenizer, data: data/support_tickets, vocab_size: 400}}
  teacher: {{kind: distill, model: {models}/large.yaml, tokens: tokenizer, loss: {{ce: 1.0}}, train: {{steps: 12, batch: 16, lr: 3.0e-3, warmup: 2}}}}
  student: {{kind: distill, model: {models}/tiny.yaml, tokens: tokenizer, loss: {{ce: 1.0}}, train: {{steps: 6, batch: 16, lr: 3.0e-3, warmup: 2}}}}
  gguf: {{kind: export, model: student, format: gguf}}
  report: {{kind: evaluate, of: [teacher, student, gguf], base: teacher, text_tokens: 1024, task_rows: 60, prices: configs/prices/example.yaml,
           running: {{prompt_tokens: [32, 64, 4096], new_tokens: 8, runs: 3}}}}
  router: {{kind: route, of: report, small: gguf, large: teacher, error: 0.3}}
sweep:
  student.model: [{models}/tiny.yaml, {models}/small.yaml]
  gguf.type: [f16, q8_0]
gates:
  gguf.tasks.triage.accuracy: {{at_least: 0.0, within: {{of: student, margin: 0.2}}}}
  gguf.bytes: {{at_most: 10_000_000}}
"""


@pytest.fixture(scope="module")
def swept(attar, root, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep")
    for name, width in (("tiny", 32), ("small", 64), ("large", 96)):
        (folder / f"{name}.yaml").write_text(f"hidden_size: {width}\nnum_attention_heads: 2\nnum_hidden_layers: 2\nintermediate_size: {2 * width}\nmax_position_embeddings: 256\n")
    (folder / "r.yaml").write_text(RECIPE.format(models=folder))
    done = attar("run", folder / "r.yaml", "--out", folder / "run")
    assert done.returncode in (0, 3), done.stderr
    return folder, done


def test_candidates_are_judged_and_the_smallest_is_named(swept):
    folder, done = swept
    report = json.loads((folder / "run" / "report" / "report.json").read_text())
    files = [f"gguf-{size}-{type}" for size in ("tiny", "small") for type in ("f16", "q8_0")]
    assert set(report["artifacts"]) == {"teacher", "student-tiny", "student-small", *files}
    decision = report["decision"]
    candidates = {c["artifact"]: c for c in decision["candidates"]}
    assert candidates["gguf-small-q8_0"]["values"]["gguf.type"] == "q8_0" and set(files) < set(candidates)
    gates = {g["path"]: g for g in report["gates"]}
    assert len(gates) == 8 and all(g["family"] == "gguf" for g in gates.values())
    for file in files:
        gate, size = gates[f"{file}.tasks.triage.accuracy"], file.split("-")[1]
        assert gate["of"] == f"student-{size}" and gate["method"] == "paired, Tango 1998" and gate["difference"]["n"] == 60
        assert gate["passed"] == (gate["difference"]["low"] >= -0.2)
    passing = [f for f in files if all(g["passed"] for p, g in gates.items() if p.startswith(f + "."))]
    assert report["verdict"] == ("pass" if passing else "fail") and done.returncode == (0 if passing else 3)
    assert decision["choice"] == (min(passing, key=lambda f: report["artifacts"][f]["bytes"]) if passing else None)
    assert report["summary"]["choice"] == decision["choice"]
    assert set(decision["fronts"]) == {"size", "latency", "cost"}
    for what, paid in (("size", lambda a: a["bytes"]), ("latency", lambda a: 1 / a["latency"]["tokens_per_s"]["value"]),
                       ("cost", lambda a: a["cost"]["per_million_conversations"])):
        points = {i: (paid(a), -a["tasks"]["triage"]["accuracy"]["value"]) for i, a in report["artifacts"].items()}
        best = {i for i, (x, y) in points.items() if not any(a <= x and b <= y and (a, b) != (x, y) for a, b in points.values())}
        assert {points[i] for i in decision["fronts"][what]} == {points[i] for i in best}
    for file in files:
        errors = {t["name"]: t["error"] for t in report["lineage"][file]["facts"]["tensors"]}
        matrices = [error for name, error in errors.items() if "norm" not in name]
        assert len(matrices) > 8 and all((1e-3 < e < 1e-2) if file.endswith("q8_0") else (1e-5 < e < 1e-3) for e in matrices)
        assert all(error == 0 for name, error in errors.items() if "norm" in name)
    html = (folder / "run" / "report" / "report.html").read_text()
    assert "Candidates of the sweep" in html and "What it costs" in html and str(report["artifacts"][files[0]]["cost"]["per_million_conversations"]) in html


def test_the_report_follows_its_schema_and_shows_every_router(root, attar, swept):
    jsonschema = pytest.importorskip("jsonschema")
    folder, _ = swept
    place = folder / "run" / "report"
    report = json.loads((place / "report.json").read_text())
    schema = json.loads((root / "docs" / "report.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(report, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**report, "verdict": "perhaps"}, schema)
    for artifact in report["artifacts"].values():
        latency = artifact["latency"]
        assert [(p["prompt_tokens"], p["new_tokens"]) for p in latency["grid"].values()] == [(32, 8), (64, 8)] and latency["load_s"]["value"] > 0
        assert latency["left_out"] == [f"p4096_n8_t{latency['threads']}: the context holds 256 tokens"]
    assert "data-chart=latency data-of=ttft_s" in (place / "report.html").read_text()
    assert set(report["routers"]) == {f"router-{size}-{type}" for size in ("tiny", "small") for type in ("f16", "q8_0")}
    for name, router in report["routers"].items():
        kept = json.loads((folder / "run" / name / "router.json").read_text())
        assert router == {key: value for key, value in kept.items() if key not in ("labels", "learned")}
    assert 'data-chart=route data-router="router-tiny-q8_0"' in (place / "report.html").read_text()
    assert "## Routing" in (place / "report.md").read_text() and "## Candidates" in (place / "report.md").read_text()
    attar("verify", place, check=0)


def test_scores_agree_with_the_report(swept):
    folder, _ = swept
    report = json.loads((folder / "run" / "report" / "report.json").read_text())
    for name, artifact in report["artifacts"].items():
        head, *rows = [json.loads(line) for line in (folder / "run" / "report" / "scores" / "triage" / f"{name}.jsonl").read_text().splitlines()]
        assert head["artifact"] == name and head["model_sha256"] == artifact["sha256"] and len(rows) == 60
        assert sum(r["correct"] for r in rows) / 60 == pytest.approx(artifact["tasks"]["triage"]["accuracy"]["value"])
        assert sum(r["brier"] for r in rows) / 60 == pytest.approx(artifact["tasks"]["triage"]["brier"]["value"], rel=1e-9)


def test_routers_and_a_finished_run(attar, swept):
    folder, _ = swept
    router = json.loads((folder / "run" / "router-tiny-q8_0" / "router.json").read_text())
    assert router["small"]["artifact"] == "gguf-tiny-q8_0" and router["large"]["artifact"] == "teacher" and router["cost"]["small_share_of_large"] > 0
    plan = attar.json("plan", folder / "r.yaml", "--out", folder / "run")
    assert {s["state"] for s in plan["stages"]} == {"done"} and len(plan["stages"]) == 3 + 2 + 4 + 4
    # Another threshold of the router runs the routers alone.
    plan = attar.json("plan", folder / "r.yaml", "stages.router.error=0.2", "--out", folder / "run")
    assert {s["kind"] for s in plan["stages"] if s["state"] == "needed"} == {"route"}


def test_portfolio_of_a_real_run(attar, swept):
    folder, _ = swept
    db = folder / "r.db"
    assert attar.json("registry", "add", folder / "run", "--artifact", "gguf-tiny-q8_0", "--registry", db)["model"] == "small_sweep@1"
    attar("registry", "promote", "small_sweep", "--anyway", "--registry", db, check=0)
    lineage = attar.json("registry", "lineage", "small_sweep@1", "--registry", db)
    assert [s["stage"] for s in lineage["stages"]] == ["tokenizer", "student-tiny", "gguf-tiny-q8_0"] and len(lineage["data"]["test"]["sha256"]) == 64
    checks = attar.json("registry", "recheck", "--task", "configs/tasks/support_triage.yaml", "--task-rows", "60", "--registry", db)["checks"]
    assert checks[0]["recorded"] == checks[0]["measured"] and not checks[0]["worse"]
