"""Rounds: one run of an action with the operator struck at one write, and what was wrong at its end."""

import itertools
import queue
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from e2e.rig.killproxy import Cut
from e2e.scenarios import truth
from e2e.scenarios.cases import Case
from e2e.scenarios.lane import TERMINAL, Lane, until

_numbers = itertools.count(1)

LATE_SECONDS = 2.0
"""Later than the call timeout, sooner than a call whose answer was lost is judged."""


@dataclass(frozen=True)
class Strike:
    """Where a round is struck: at the nth write from 1."""

    nth: int
    cut: Cut


@dataclass
class Round:
    """What a round showed."""

    case: Case
    strike: Strike | None
    lane: Lane
    name: str
    ids: list[str]
    writes: list[str] = field(default_factory=list)
    hit: str | None = None
    """The write that was cut; None when the run ended before it."""
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        where = f"{self.strike.cut.value}, write {self.strike.nth} ({self.hit})" if self.strike else "undisturbed"
        return f"{type(self.case).__name__} {where}: " + ("; ".join(self.problems) or "fine")


def play(lane: Lane, case: Case, name: str, strike: Strike | None) -> Round:
    """Run the action once, strike, revive, wait for the end and look."""
    victim = lane.revive()
    ids = case.prepare()
    played = Round(case, strike, lane, name, ids)
    nth, cut = (strike.nth, strike.cut) if strike else (0, None)
    lane.script.arm(nth, cut, victim, late_seconds=LATE_SECONDS)
    try:
        lane.create(lane.manifest(name, case.action, {"ids": ids, **_filters(case)}, **case.spec))
        until(lambda: not victim.running or _ended(lane, name), lambda: f"{name} did not end\n{lane.logs()}")
        lane.revive()
        lane.ended(name)
        played.problems = truth.evidence(lane.engine, truth.told(lane, name, len(ids)) + case.wrong(ids))
    except TimeoutError as error:
        played.problems = [str(error)]
    played.writes = [write.what for write in lane.script.writes]
    played.hit = lane.script.hit.what if lane.script.hit else None
    lane.script.arm(0, None)
    return played


def look_again(rounds: Sequence[Round]) -> None:
    """At the end of all rounds everything must still be as it was: nothing came late."""
    for played in rounds:
        if not played.problems:
            later = truth.told(played.lane, played.name, len(played.ids)) + played.case.wrong(played.ids)
            played.problems = [f"later: {problem}" for problem in later]


def play_all(lanes: Sequence[Lane], planned: Sequence[tuple[Case, Strike]]) -> list[Round]:
    """Play these rounds on all lanes side by side."""
    waiting: queue.SimpleQueue[tuple[Case, Strike]] = queue.SimpleQueue()
    for one in planned:
        waiting.put(one)

    def work(lane: Lane) -> list[Round]:
        played: list[Round] = []
        while True:
            try:
                case, strike = waiting.get_nowait()
            except queue.Empty:
                return played
            played.append(play(lane, case, f"{case.action.lower()}-{next(_numbers)}", strike))

    with ThreadPoolExecutor(len(lanes)) as pool:
        rounds = [played for some in pool.map(work, lanes) for played in some]
    look_again(rounds)
    return rounds


def at_every_write(case: Case, writes: int, *cuts: Cut) -> list[tuple[Case, Strike]]:
    return [(case, Strike(nth, cut)) for nth in range(1, writes + 1) for cut in cuts]


def failures(rounds: Sequence[Round]) -> str:
    """What a test says when something was wrong; empty when nothing was."""
    bad = [f"{played}\n{played.lane.logs()}" for played in rounds if played.problems]
    return f"{len(bad)} of {len(rounds)} rounds were wrong:\n" + "\n".join(bad) if bad else ""


def kinds(rounds: Sequence[Round]) -> Counter[str]:
    """What was cut, by kind of write (without ids), so that a test can say that nothing was left out."""
    return Counter(" ".join(played.hit.split()[:2]) for played in rounds if played.hit)


def _ended(lane: Lane, name: str) -> bool:
    return lane.get(name).get("status", {}).get("phase") in TERMINAL


def _filters(case: Case) -> dict[str, object]:
    target = getattr(case, "target", None)
    return dict(target()) if target else {}
