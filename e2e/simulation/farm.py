"""What the workers of a search do: one part of it, in a process of their own. Called by `__main__`."""

import gc
import time

from e2e.simulation import search
from e2e.simulation.drawing import drawn
from e2e.simulation.scenarios import VARIANTS, Scenario, smallest

Work = tuple[str, int, int]
"""What to search: `seeds` from one to another, or what `scenario_of` reads (or `pairs` of it), of so many parts one."""


def play(work: Work) -> tuple[search.Tally, float]:
    """Play the histories of one part; the tally and the seconds of CPU."""
    what, first, last = work
    # What is there by now stays, and a history has its own few cycles: looking for them took a twelfth of the time.
    gc.freeze()
    gc.set_threshold(20_000, 50, 100)
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
    """The scenario that `ACTION:SIZE` names, or `ACTION:SIZE+VARIANT+...`."""
    name, *variants = text.split("+")
    action, _, size = name.partition(":")
    scenario = smallest(action, int(size or 1))
    for variant in variants:
        scenario = VARIANTS[variant](scenario)
    return scenario
