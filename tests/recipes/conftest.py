"""One finished short run that the tests of this folder share."""
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from short import short_run


@pytest.fixture(scope="session")
def finished(attar, root, tmp_path_factory):
    run = tmp_path_factory.mktemp("triage") / "run"
    done = attar("run", "recipes/support_triage.yaml", *short_run(root, "support_triage"), "--out", run)
    assert done.returncode in (0, 3), done.stderr
    return run
