"""Real input: Banking77 from its CSV files. The short run always, the whole recipe by scripts/test --long."""
import json
import os
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from short import short_run


def test_short_run_reads_the_real_data(attar, root, data, tmp_path):
    words = [word for word in short_run(root, "banking77") if not word.startswith("stages.report.task_rows")]
    done = attar("run", "recipes/banking77.yaml", *words, "stages.report.task_rows=4", "stages.report.latency=false", "--out", tmp_path / "run")
    assert done.returncode in (0, 3), done.stderr
    report = json.loads((tmp_path / "run" / "report" / "report.json").read_text())
    assert len(report["artifacts"]["gguf"]["task_details"]["banking77"]["labels"]) == 77
    # The file's first rows are all of one class, so this says nothing of quality; what is judged is that gate, verdict and exit code agree.
    accuracy, gate = report["artifacts"]["gguf"]["tasks"]["banking77"]["accuracy"], report["gates"][0]
    assert accuracy["n"] == 4 and gate["value"] == accuracy["value"]
    assert gate["passed"] == (gate["value"] >= 0.75) and report["verdict"] == ("pass" if gate["passed"] else "fail")
    assert done.returncode == (0 if gate["passed"] else 3)


def test_whole_recipe(attar, root, data, tmp_path):
    if not os.environ.get("ATTAR_LONG"):
        pytest.skip("SKIPPED LOUDLY: the whole of recipes/banking77.yaml runs by scripts/test --long")
    attar("run", "recipes/banking77.yaml", "--out", tmp_path / "run", timeout=3600, check=0)
