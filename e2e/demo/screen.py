"""What the demo shows: headings, sentences, commands with their output, and checks. Plain text when nobody watches."""

import os
import re
import shutil
import sys
import textwrap
import time
from collections.abc import Sequence

MARGIN = "   "
WIDEST = 100

_YAML_KEY = re.compile(r"^(\s*(?:- )?)([\w./-]+:)( .*|)$")
_COMMENT = re.compile(r"(^|\s)#.*$")


class Screen:
    """Writes to standard output. ``pace`` scales the pauses for reading; 0 leaves them out."""

    def __init__(self, *, pace: float) -> None:
        self._pace = pace
        self._colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
        self._chapters = 0
        self.checks: list[tuple[str, str]] = []
        """What was checked: the chapter's title and the fact."""
        self._title = ""

    @property
    def width(self) -> int:
        return min(shutil.get_terminal_size((WIDEST, 24)).columns, WIDEST)

    def read(self, seconds: float) -> None:
        """Leave time to read."""
        time.sleep(seconds * self._pace)

    def banner(self, title: str, text: str) -> None:
        self._line()
        self._line(self._paint(title, "1"))
        self._line(self._paint("─" * len(title), "2"))
        self._wrapped(text, "")
        self._line()

    def chapter(self, title: str, text: str = "") -> None:
        """A step of the story."""
        self._chapters += 1
        self._title = title
        self._line()
        self._line(self._paint(f"{self._chapters:>2} ", "1;36") + self._paint(title, "1"))
        if text:
            self.say(text)

    def say(self, text: str) -> None:
        self._wrapped(text, MARGIN)

    def aside(self, text: str) -> None:
        """A sentence between two commands."""
        self._line()
        self.say(text)

    def progress(self, name: str, text: str, seconds: float) -> None:
        """One line of the set-up."""
        self._line(f" {self._paint('✓', '32')} {name:<15} {text} {self._paint(f'{seconds:.1f} s', '2')}")

    def command(self, line: str) -> None:
        """A command that the reader could have typed."""
        self._line()
        self._line(f"{MARGIN}{self._paint('$', '2')} {self._paint(line, '1')}")

    def output(self, text: str) -> None:
        """What a command printed; long lines are folded under themselves."""
        for line in text.rstrip("\n").splitlines():
            self._folded(line)

    def row(self, line: str) -> None:
        """One line of a command that is still running."""
        self._folded(line)

    def manifest(self, text: str) -> None:
        """A manifest, between two rules."""
        rule = self._paint("┄" * (self.width - 2 * len(MARGIN)), "2")
        self._line()
        self._line(f"{MARGIN}{rule}")
        for line in text.rstrip("\n").splitlines():
            self._line(f"{MARGIN}{self._yaml(line)}")
        self._line(f"{MARGIN}{rule}")

    def checked(self, fact: str) -> None:
        """A fact that was looked up in the engine or the services, and holds."""
        self.checks.append((self._title, fact))
        self._marked("✓", "32", fact)

    def failed(self, fact: str) -> None:
        self._marked("✗", "31", fact)

    def table(self, rows: Sequence[Sequence[str]]) -> None:
        """A small table, the first row its head."""
        self._line()
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        for number, row in enumerate(rows):
            line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            self._line(MARGIN + (self._paint(line, "2") if number == 0 else line))

    def summary(self, seconds: float) -> None:
        """Everything that was checked, by chapter."""
        self._line()
        self._line(self._paint("What happened, each looked up in the engine or in the services' own record", "1"))
        self._line()
        known = ""
        for title, fact in self.checks:
            if title != known:
                self._line(f" {self._paint(title, '36')}")
                known = title
            self._marked("✓", "32", fact)
        self._line()
        self._line(self._paint(f"{len(self.checks)} checks, all of them hold; {seconds:.0f} s.", "1;32"))

    def _marked(self, mark: str, colour: str, text: str) -> None:
        lines = textwrap.wrap(text, self.width - len(MARGIN) - 2) or [""]
        self._line(f"{MARGIN}{self._paint(mark, colour)} {lines[0]}")
        for line in lines[1:]:
            self._line(f"{MARGIN}  {line}")

    def _wrapped(self, text: str, margin: str) -> None:
        for line in textwrap.wrap(" ".join(text.split()), self.width - len(margin), break_on_hyphens=False):
            self._line(f"{margin}{line}")

    def _folded(self, line: str) -> None:
        room = self.width - len(MARGIN) - 2
        plain = line.replace("\t", "  ").rstrip()
        if len(plain) <= room:
            self._line(f"{MARGIN}  {plain}".rstrip())
            return
        # Under the value of `Message:  …`, or under the text itself.
        head = re.match(r"\s*(?:[\w .-]+:\s+|\S+(?:  +\S+)*?  +(?=\S+ \S))?", plain)
        indent = " " * min(len(head[0]) if head else 0, room // 2)
        folded = textwrap.wrap(
            plain,
            room,
            subsequent_indent=indent,
            drop_whitespace=True,
            replace_whitespace=False,
            break_on_hyphens=False,
        )
        for part in folded:
            self._line(f"{MARGIN}  {part}")

    def _yaml(self, line: str) -> str:
        if not self._colour:
            return line
        comment = _COMMENT.search(line)
        code, rest = (line[: comment.start()], line[comment.start() :]) if comment else (line, "")
        key = _YAML_KEY.match(code)
        if key:
            code = f"{key[1]}{self._paint(key[2], '36')}{key[3]}"
        return code + (self._paint(rest, "2") if rest else "")

    def _paint(self, text: str, code: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._colour else text

    def _line(self, text: str = "") -> None:
        print(text, flush=True)
