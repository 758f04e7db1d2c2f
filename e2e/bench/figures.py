"""Tables of figures: on the screen, and between the marks of a topic in docs/explanation/performance.md."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from e2e.rig.toolchain import ROOT

PAGE = ROOT / "docs" / "explanation" / "performance.md"


@dataclass(frozen=True)
class Figure:
    """One line: what was measured, the figure, and how it stands to a goal or to something else of the same run."""

    what: str
    value: str
    remark: str = ""
    met: bool | None = None
    """Whether a goal was met; None without one."""

    @property
    def verdict(self) -> str:
        return {None: self.remark, True: f"{self.remark}: met", False: f"{self.remark}: MISSED"}[self.met]


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that ``share`` (0 to 1) of all do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, min(len(ordered) - 1, -(-int(share * 1000) * len(ordered) // 1000) - 1))]


def median(values: Sequence[float]) -> float:
    return percentile(values, 0.5)


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds >= 0.01 else f"{seconds * 1000:.1f} ms"


def table(figures: Sequence[Figure]) -> str:
    """Plain columns for the screen."""
    what, value = (max(len(getattr(f, name)) for f in figures) for name in ("what", "value"))
    return "\n".join(f"  {f.what:<{what}}  {f.value:>{value}}  {f.verdict}".rstrip() for f in figures)


def write(topic: str, figures: Sequence[Figure], note: str, machine: str, page: Path = PAGE) -> None:
    """Replace what is between the topic's marks."""
    rows = ["| measured | figure | |", "|---|---|---|", *(f"| {f.what} | {f.value} | {f.verdict} |" for f in figures)]
    text = "\n".join([*rows, "", f"{note} Machine: {machine}. Repeat: `make bench`, or `python -m e2e.bench {topic}`."])
    marks = re.compile(rf"(<!-- figures:{topic} -->\n).*?(<!-- /figures:{topic} -->)", re.DOTALL)
    before = page.read_text()
    if not marks.search(before):
        raise RuntimeError(f"{page} has no place for {topic}: <!-- figures:{topic} --> … <!-- /figures:{topic} -->")
    page.write_text(marks.sub(lambda found: f"{found[1]}{text}\n{found[2]}", before))


def machine() -> str:
    return f"{os.cpu_count()} cores"
