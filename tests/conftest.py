"""What every Python test needs: where the programs and the data lie."""
import json
import os
import pathlib
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = pathlib.Path(os.environ.get("ATTAR_BUILD", ROOT / "build" / "release"))
DATA = pathlib.Path(os.environ.get("ATTAR_TEST_DATA") or ROOT / ".." / "shared" / "data")


class Attar:
    """Runs build/release/bin/attar; keeps exit code, stdout and stderr."""

    def __init__(self):
        self.path = BUILD / "bin" / "attar"

    def __call__(self, *words, cwd=ROOT, timeout=600, input=None, env=None, check=None):
        done = subprocess.run([str(self.path), *map(str, words)], cwd=cwd, timeout=timeout, input=input, capture_output=True, text=True,
                              env={**os.environ, **(env or {})})
        if check is not None:
            assert done.returncode == check, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def json(self, *words, **more):
        return json.loads(self(*words, "--json", check=0, **more).stdout)

    def error(self, *words, code=1, **more):
        """The error lines of a call that must fail, each beginning 'error:'."""
        done = self(*words, **more)
        assert done.returncode == code, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        lines = [line for line in done.stderr.splitlines() if line.startswith("error:")]
        assert lines, done.stderr
        return lines


@pytest.fixture(scope="session")
def attar():
    tool = Attar()
    assert tool.path.exists(), f"{tool.path} is missing; build first or set ATTAR_BUILD"
    return tool


@pytest.fixture(scope="session")
def data():
    if not DATA.exists():
        pytest.skip(f"SKIPPED LOUDLY: {DATA} is missing; set ATTAR_TEST_DATA")
    return DATA


@pytest.fixture(scope="session")
def root():
    return ROOT
