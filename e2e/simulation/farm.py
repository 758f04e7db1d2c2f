"""What the workers of a search do: one part of it, in a process of their own. Called by `__main__`."""

import time

from e2e.simulation import search
from e2e.simulation.scenarios import Scenario, drawn, smallest

Work = tuple[str, int, int]
"""What to search: `seeds` from one to another, or `ACTION:SIZE` (`pairs ACTION:SIZE`), of so many parts one."""


def play(work: Work) -> tuple[search.Tally, float]:
    """Play the histories of one part; the tally and the seconds of CPU."""
    what, first, last = work
    began, tally = time.process_time(), search.Tally()
    if what == "seeds":
        for seed in range(first, last):
            outcome = search.play_seed(seed)
            if outcome.problems:
                outcome = search.shrunk(seed, drawn(seed), outcome, disorder=True)
            tally.add(outcome)
        return tally, time.process_time() - began
    scenario, pairs = scenario_of(what.removeprefix("pairs ")), what.startswith("pairs ")
    found = search.pairs(scenario, part=(first, last)) if pairs else search.singles(scenario)
    for number, faults in enumerate(found):
        if pairs or number % last == first:
            tally.add(search.play(0, scenario.but(epilogue=not pairs), faults))
    return tally, time.process_time() - began


def scenario_of(text: str) -> Scenario:
    """The scenario that `ACTION:SIZE` names."""
    action, _, size = text.partition(":")
    return smallest(action, int(size or 1))
