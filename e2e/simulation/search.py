"""Histories by the thousand: every fault at every boundary, every pair of them, and seeds; what fails is made small."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from e2e.simulation.drawing import drawn
from e2e.simulation.history import Outcome, World
from e2e.simulation.scenarios import Scenario
from e2e.simulation.wall import PARTITIONS_ASKED
from e2e.simulation.wires import (
    CRASH_AFTER,
    CRASH_BEFORE,
    ENGINE_FAULTS,
    KUBE_FAULTS,
    LASTING,
    LATE,
    LOST_ANSWER,
    Fault,
)

SECONDS_LATE = (0.5, 9.0)
"""A request that is late comes while its answer is waited for, or just before the timeout."""
PAIRED = (CRASH_BEFORE, CRASH_AFTER, LOST_ANSWER, LATE)
"""Faults that pairs are made of."""
PROBES_LOOKED_AT = 2
"""Of all requests that only ask whether the engine has read its log, so many are boundaries of a search."""


def play(
    seed: int, scenario: Scenario, faults: Mapping[int, Fault] | None = None, *, disorder: bool = False
) -> Outcome:
    """One history."""
    return World(seed, scenario, faults, disorder=disorder).play()


def play_seed(seed: int, *, most: int = 40) -> Outcome:
    """The history that a seed alone gives."""
    return play(seed, drawn(seed, most=most), disorder=True)


def singles(
    scenario: Scenario,
    *,
    kinds: Iterable[str] | None = None,
    begun: bool = False,
    seconds: Sequence[float] = SECONDS_LATE,
) -> Iterator[dict[int, Fault]]:
    """Every fault at every boundary of the history without faults; with `begun` from the run's record on."""
    clean = play(0, scenario.but(epilogue=False), {})
    assert not clean.problems, clean.problems
    first = _record(clean) if begun else 0
    for number, side in _boundaries(clean, first):
        for fault in _faults(side, kinds, seconds):
            yield {number: fault}


def pairs(scenario: Scenario, *, part: tuple[int, int] = (0, 1)) -> Iterator[dict[int, Fault]]:
    """Every pair of faults, the second at every boundary of what the first one leads to; of so many parts one."""
    mine, parts = part
    for count, one in enumerate(singles(scenario, kinds=PAIRED)):
        (number,) = one
        if count % parts != mine:
            continue
        after = play(0, scenario.but(epilogue=False), one)
        for other, side in _boundaries(after, number + 1):
            for fault in _faults(side, PAIRED):
                yield {**one, other: fault}


def _record(outcome: Outcome) -> int:
    """The boundary at which the record is created."""
    line = next(line for line in outcome.trace if "POST" in line and line.endswith("/invocationrecords"))
    return int(line.partition("#")[2].split()[0])


def _boundaries(outcome: Outcome, first: int) -> Iterator[tuple[int, str]]:
    probes = 0
    for number, side in enumerate(outcome.sides):
        if side == "probe":
            probes += 1
            if probes % PARTITIONS_ASKED >= PROBES_LOOKED_AT:
                continue
        if number >= first:
            yield number, side


def _faults(side: str, kinds: Iterable[str] | None, late: Sequence[float] = SECONDS_LATE) -> Iterator[Fault]:
    known = KUBE_FAULTS if side == "kube" else ENGINE_FAULTS
    for kind in known:
        if kinds is not None and kind not in kinds:
            continue
        if kind in LASTING:
            yield from (Fault(kind, seconds) for seconds in late)
        else:
            yield Fault(kind)


@dataclass
class Tally:
    """What a search did and found."""

    histories: int = 0
    faults: int = 0
    boundaries: int = 0
    calls: int = 0
    failed: list[Outcome] = field(default_factory=list)

    def add(self, outcome: Outcome) -> None:
        """Count one history."""
        self.histories += 1
        self.faults += len(outcome.faults)
        self.boundaries += outcome.boundaries
        self.calls += outcome.calls
        if outcome.problems:
            self.failed.append(outcome)


def shrunk(seed: int, scenario: Scenario, outcome: Outcome, *, disorder: bool) -> Outcome:
    """The same failure with fewer faults and fewer events, as far as they can be left out one by one."""
    kind = outcome.problems[0].partition(":")[0]

    def fails(candidate: Scenario, faults: Mapping[int, Fault]) -> Outcome | None:
        found = play(seed, candidate, faults, disorder=disorder)
        return found if any(problem.startswith(f"{kind}:") for problem in found.problems) else None

    best, faults = outcome, dict(outcome.faults)
    for number in list(faults):
        fewer = {n: fault for n, fault in faults.items() if n != number}
        found = fails(scenario, fewer)
        if found is not None:
            best, faults = found, fewer
    for event in scenario.events:
        candidate = scenario.but(events=tuple(e for e in scenario.events if e is not event))
        found = fails(candidate, faults)
        if found is not None:
            best, scenario = found, candidate
    return best
