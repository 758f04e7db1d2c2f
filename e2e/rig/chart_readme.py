"""`python -m e2e.rig.chart_readme [--check]`: the table of values in the chart's README, made from values.yaml.

A value's comment begins with `# -- ` and stands right above it; a value whose keys are Kubernetes' or the user's is one
row, every other mapping is a row for each of its values.
"""

import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).resolve().parents[2] / "charts" / "restate-invocation-operator"
BEGIN, END = "<!-- values: made from values.yaml by `make crds` -->\n", "<!-- /values -->\n"
_KEY = re.compile(r"( *)([A-Za-z][A-Za-z0-9]*):")


def described(text: str) -> dict[str, str]:
    """Descriptions by the path of their value, as in `image.tag`."""
    found: dict[str, str] = {}
    path: list[str] = []
    comment: list[str] = []
    for line in text.splitlines():
        stripped = line.strip()
        if stripped.startswith("# -- "):
            comment = [stripped.removeprefix("# -- ")]
        elif stripped.startswith("#") and comment:
            comment.append(stripped.removeprefix("#").strip())
        elif match := _KEY.match(line):
            path = [*path[: len(match[1]) // 2], match[2]]
            if comment:
                found[".".join(path)] = " ".join(comment)
            comment = []
    return found


def rows(values: Mapping[str, Any], texts: Mapping[str, str], prefix: str = "") -> Iterator[tuple[str, Any, str]]:
    """Path, default and description of every value. Raises KeyError for one that has no description."""
    for key, value in values.items():
        path = f"{prefix}{key}"
        if isinstance(value, dict) and path not in texts:
            yield from rows(value, texts, f"{path}.")
        else:
            yield path, value, texts[path]


def table() -> str:
    """The table."""
    text = (CHART / "values.yaml").read_text()
    lines = ["| value | default | meaning |", "|---|---|---|"]
    for path, value, meaning in rows(yaml.safe_load(text), described(text)):
        lines.append(f"| `{path}` | `{json.dumps(value, ensure_ascii=False)}` | {meaning} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    file = CHART / "README.md"
    before = file.read_text()
    head, _, rest = before.partition(BEGIN)
    after = f"{head}{BEGIN}{table()}{END}{rest.partition(END)[2]}"
    if "--check" not in sys.argv:
        file.write_text(after)
    elif after != before:
        print(f"{file.name} of the chart differs from values.yaml; run `make crds`", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
