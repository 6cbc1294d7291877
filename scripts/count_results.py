"""Adds up the results of ctest, GoogleTest and pytest and prints the closing line. Exit 1 if anything failed or nothing ran."""
import pathlib
import sys
import xml.etree.ElementTree as ET


def count(file):
    """(passed, failed, skipped) of one JUnit-like file."""
    passed = failed = skipped = 0
    for case in ET.parse(file).getroot().iter("testcase"):
        if case.find("failure") is not None or case.find("error") is not None or case.get("status") == "fail":
            failed += 1
        elif case.find("skipped") is not None or case.get("result") == "skipped" or case.get("status") in ("notrun", "disabled"):
            skipped += 1
        else:
            passed += 1
    return passed, failed, skipped


def main(folder):
    total = [0, 0, 0]
    results = pathlib.Path(folder)
    for file in sorted(results.glob("*/*.xml")) + sorted(results.glob("*.xml")):
        if file.name.endswith(".ctest.xml"):
            # ctest counts programs; a program that crashed left no file of its own.
            own = {f.stem for f in (results / file.name.removesuffix(".ctest.xml")).glob("*.xml")}
            for case in ET.parse(file).getroot().iter("testcase"):
                if case.get("status") == "fail" and "test_" + case.get("name") not in own:
                    total[1] += 1
            continue
        total = [a + b for a, b in zip(total, count(file))]
    print(f"{total[0]} passed, {total[1]} failed, {total[2]} skipped")
    return 1 if total[1] or not total[0] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
