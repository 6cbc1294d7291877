"""The short run that a recipe's head shows."""
import re
import shlex


def short_run(root, name):
    """Overrides of the line `# attar run recipes/NAME.yaml key=value ...` in a recipe's head."""
    for line in (root / "recipes" / f"{name}.yaml").read_text().splitlines():
        found = re.match(rf"#\s*attar run recipes/{name}\.yaml (\S.*)$", line)
        if found:
            return shlex.split(found.group(1))
    raise AssertionError(f"recipes/{name}.yaml shows no short run in its head")
