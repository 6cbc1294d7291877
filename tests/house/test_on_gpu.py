"""benchmarks/on_gpu.py runs to its end on a machine without a GPU, saying what it skips, and with one (a stand-in) gives lines for RESULTS.md."""
import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "benchmarks" / "on_gpu.py"
PARTS = ("tests", "kernels", "linear", "step", "deterministic", "graph")


def run(folder, path, *words):
    return subprocess.run([sys.executable, str(SCRIPT), "--folder", str(folder), "--commit", "abc", *words], capture_output=True, text=True, timeout=120,
                          env={**os.environ, "PATH": str(path), "ATTAR_LIBTORCH": "/nowhere"})


def program(place, text):
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text)
    place.chmod(0o755)


def test_without_a_gpu_every_part_is_skipped_in_a_sentence(tmp_path):
    done = run(tmp_path, tmp_path)
    assert done.returncode == 0, done.stderr
    for part in PARTS:
        assert f"skipped: {part}: this machine has no NVIDIA GPU" in done.stdout
    assert done.stdout.endswith("nothing was measured\n")


def stand_in(folder, tests="[  PASSED  ] 3 tests.", status=0):
    program(folder / "nvidia-smi", "#!/bin/sh\necho A card\n")
    step = {"step_s": 0.5, "tokens_per_s": 32768.0, "mfu": 0.46, "peak_device_bytes": 40 * 10**9}
    program(folder / "bin" / "attar", f"#!/bin/sh\necho '{json.dumps(step)}'\n")
    for name in ("test_device", "test_kernels", "test_train", "test_quant"):  # test_stages is missing
        program(folder / "bin" / name, f"#!/bin/sh\necho '{tests}'\nexit {status}\n")
    program(folder / "bin" / "cuda_kernels_speed",
            """#!/bin/sh\necho '{"kernel": "rms_norm", "us": 80.0, "gb_per_s": 3300.0, "libtorch_us": 100.0, "times_as_fast": 1.25}'\n""")
    loss = {"seconds": 0.05, "peak_device_bytes": 4_900_000_000}
    program(folder / "bin" / "linear_loss_speed", f"#!/bin/sh\nfor i in 1 2 3 4 5 6 7 8; do echo '{json.dumps(loss)}'; done\n")


def test_with_one_it_gives_lines_and_says_which_peers_are_missing(tmp_path):
    stand_in(tmp_path)
    done = run(tmp_path, f"{tmp_path}:/usr/bin:/bin", "--only", "tests,kernels,deterministic")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("| ")]
    assert len(lines) == 3 and all(line.count(" | ") == 3 and line.endswith("A card, abc |") for line in lines), lines
    assert "12 passed" in lines[0] and "1.25x LibTorch's" in lines[1] and "1.000x of the plain step's time" in lines[2]
    assert "skipped: test_stages" in done.stdout


def test_a_failing_test_is_an_exit_status_and_is_shown(tmp_path):
    stand_in(tmp_path, tests="[  FAILED  ] CudaGrids.KernelsEqualTheCpu", status=1)
    done = run(tmp_path, f"{tmp_path}:/usr/bin:/bin", "--only", "tests")
    assert done.returncode == 1
    assert "wrong: test_quant: [  FAILED  ] CudaGrids.KernelsEqualTheCpu" in done.stdout


def test_an_unknown_part_is_named(tmp_path):
    done = run(tmp_path, tmp_path, "--only", "tests,speed")
    assert done.returncode == 2 and "part speed: known are tests" in done.stderr
