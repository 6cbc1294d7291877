"""The floors of lib/: who includes whom, and how large files may be. The checker itself is tested on small false trees."""
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
WITHOUT_TORCH = {"base", "formats", "jinja", "blocks", "report", "http", "spec", "tokenizer", "stored", "export", "plan", "decide"}
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.MULTILINE)
TORCH = ("ATen/", "torch/", "c10/", "caffe2/")
SOURCES = {".cc", ".h", ".cu", ".cuh", ".inc"}


def read_floors(text):
    """Room -> (floor, rooms that it may include); and the faults of the list itself."""
    floor, rooms, named, faults = 0, {"base": (0, set())}, {}, []
    for number, line in enumerate(text.splitlines(), 1):
        line = line.split("#")[0].strip()
        if not line:
            continue
        if match := re.fullmatch(r"floor (\d+)", line):
            floor = int(match[1])
        elif match := re.fullmatch(r"([a-z_]+):(.*)", line):
            if match[1] in rooms:
                faults.append(f"floors.txt:{number}: {match[1]} stands twice")
            rooms[match[1]] = (floor, set())
            named[match[1]] = match[2].split()
        else:
            faults.append(f"floors.txt:{number}: cannot be read: {line}")
    for room, words in named.items():
        own = rooms[room][0]
        if words == ["everything", "below"]:
            words = [other for other, (at, _) in rooms.items() if at < own]
        for other in words:
            if other not in rooms:
                faults.append(f"floors.txt: {room} names {other}, which is no room")
            elif rooms[other][0] >= own:
                faults.append(f"floors.txt: {room} names {other}, which is not below it")
        rooms[room][1].update(words)
    return rooms, faults


def check_tree(root):
    """Every fault of the tree below `root`, as sentences."""
    lib = root / "lib"
    rooms, faults = read_floors((lib / "floors.txt").read_text())
    for folder in sorted(path for path in lib.iterdir() if path.is_dir()):
        if folder.name not in rooms:
            faults.append(f"lib/{folder.name} stands in no line of floors.txt")
    for room in sorted(rooms):
        if not (lib / room).is_dir():
            faults.append(f"floors.txt names {room}, but there is no lib/{room}")
    for path in sorted(lib.rglob("*")):
        if path.is_file() and path.suffix in SOURCES and path.parent != lib:
            faults += check_source(path, path.relative_to(root), path.relative_to(lib).parts[0], rooms)
    for path in sorted(lib.glob("*")):
        if path.suffix in SOURCES:
            faults.append(f"{path.relative_to(root)} stands in no room")
    for path in sorted((root / "tools").glob("*.cc")):
        text = path.read_text()
        lines = text.count("\n")
        if re.search(r"\bint\s+main\s*\(", text) and lines > 80:
            faults.append(f"tools/{path.name} has a main and {lines} lines, at most 80")
    return faults


def check_source(path, shown, room, rooms):
    text = path.read_text()
    lines = text.count("\n")
    limit = {".cc": 500, ".h": 150}.get(path.suffix)
    if limit and lines > limit:
        yield f"{shown} has {lines} lines, at most {limit}"
    if path.suffix in {".cu", ".cuh"} and room != "kernels":
        yield f"{shown}: only kernels holds CUDA sources"
    allowed = rooms.get(room, (0, set()))[1] | {room, "base"}
    for mark, name in INCLUDE.findall(text):
        where = f"{shown} includes {name}"
        if room in WITHOUT_TORCH and name.startswith(TORCH):
            yield f"{where}, but {room} is a room without LibTorch"
        if room == "base" and path.suffix == ".h" and name.startswith(("spdlog/", "fmt/")):
            yield f"{where}, which headers of base keep to themselves"
        if mark == "<":
            continue
        if ".." in name.split("/"):
            yield f"{where}: an address begins at lib/"
        other = name.split("/")[0]
        if "/" not in name:
            yield f"{where}: an address begins with its room"
        elif other not in rooms:
            yield f"{where}, and {other} is no room"
        elif other not in allowed:
            yield f"{where}, but floors.txt does not let {room} use {other}"
        elif not (path.parents[len(shown.parts) - 2] / name).is_file():
            yield f"{where}, which is not there"


def test_the_tree_keeps_its_floors():
    faults = check_tree(ROOT)
    assert not faults, "\n" + "\n".join(faults)


GOOD = {
    "lib/floors.txt": "# words\nfloor 1\nformats:\nkernels:\nfloor 2\nspec: formats\nfloor 3\nstages: everything below\n",
    "lib/base/check.h": "#pragma once\n#include <string>\n",
    "lib/formats/a.h": '#include "base/check.h"\n',
    "lib/kernels/k.cu": "#include <cuda_runtime.h>\n",
    "lib/kernels/k.h": "#include <ATen/ATen.h>\n",
    "lib/spec/s.cc": '#include "formats/a.h"\n#include <vector>\n',
    "lib/stages/s.cc": '#include "formats/a.h"\n#include "kernels/k.h"\n',
    "tools/attar.cc": "int main() {}\n",
}


def build(tmp_path, **changed):
    for name, text in {**GOOD, **{key: value for key, value in changed.items()}}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return check_tree(tmp_path)


def test_a_good_tree_has_no_faults(tmp_path):
    assert build(tmp_path) == []


@pytest.mark.parametrize(
    "name, text, words",
    [
        ("lib/formats/b.cc", '#include "spec/s.h"\n', "does not let formats use spec"),
        ("lib/formats/b.cc", '  #  include "kernels/k.h"\n', "does not let formats use kernels"),
        ("lib/spec/s.cc", '#include "kernels/k.h"\n', "does not let spec use kernels"),
        ("lib/base/x.cc", '#include "formats/a.h"\n', "does not let base use formats"),
        ("lib/kernels/x_cuda.cu", '#include "spec/s.h"\n', "does not let kernels use spec"),
        ("lib/spec/s.cc", '#include "a.h"\n', "begins with its room"),
        ("lib/spec/s.cc", '#include "../formats/a.h"\n', "begins at lib/"),
        ("lib/spec/s.cc", '#include "formats/none.h"\n', "which is not there"),
        ("lib/spec/s.cc", '#include "cellar/a.h"\n', "cellar is no room"),
        ("lib/cellar/c.cc", "\n", "lib/cellar stands in no line"),
        ("lib/loose.cc", "\n", "stands in no room"),
        ("lib/spec/s.cu", "\n", "only kernels holds CUDA"),
        ("lib/spec/s.cc", "#include <ATen/ATen.h>\n", "without LibTorch"),
        ("lib/formats/deep/er.cc", "#include <torch/csrc/autograd/custom_function.h>\n", "without LibTorch"),
        ("lib/base/log.cc", '#include "c10/core/Device.h"\n', "without LibTorch"),
        ("lib/base/log.h", "#include <spdlog/spdlog.h>\n", "keep to themselves"),
        ("lib/base/log.h", "#include <fmt/format.h>\n", "keep to themselves"),
        ("lib/spec/s.cc", "\n" * 501, "501 lines, at most 500"),
        ("lib/spec/s.h", "\n" * 151, "151 lines, at most 150"),
        ("tools/attar.cc", "int main(int argc, char** argv) {\n" + "\n" * 80 + "}\n", "at most 80"),
        ("lib/floors.txt", GOOD["lib/floors.txt"] + "floor 4\nattic:\n", "no lib/attic"),
        ("lib/floors.txt", GOOD["lib/floors.txt"].replace("spec: formats", "spec: stages"), "not below it"),
        ("lib/floors.txt", GOOD["lib/floors.txt"].replace("spec: formats", "spec: formats cellar"), "which is no room"),
        ("lib/floors.txt", GOOD["lib/floors.txt"] + "spec: formats\n", "stands twice"),
        ("lib/floors.txt", GOOD["lib/floors.txt"] + "spec formats\n", "cannot be read"),
    ],
)
def test_a_fault_is_found(tmp_path, name, text, words):
    faults = build(tmp_path, **{name: text})
    assert any(words in fault for fault in faults), faults


@pytest.mark.parametrize("name, lines", [("lib/spec/s.cc", 500), ("lib/spec/s.h", 150), ("tools/stage.cc", 300)])
def test_sizes_within_their_limits_pass(tmp_path, name, lines):
    assert build(tmp_path, **{name: "\n" * lines}) == []
