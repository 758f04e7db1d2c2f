"""`python -m e2e.simulation`: searches, and replays of what they found.

python -m e2e.simulation --seeds 0:1000         histories drawn from seeds
python -m e2e.simulation --exhaustive           every fault at every boundary of the smallest runs
python -m e2e.simulation --pairs                every pair of faults, for the smallest of all
python -m e2e.simulation --replay 279           one seed, with everything that happened
python -m e2e.simulation --replay Cancel:1 --faults 62=crash-after,70=late:9
"""

import argparse
import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator

from e2e.simulation import farm, search
from e2e.simulation.drawing import drawn
from e2e.simulation.history import Outcome
from e2e.simulation.scenarios import POPULATIONS
from e2e.simulation.wires import Fault

CHUNK = 50
"""Histories that a worker plays in one go."""


def main() -> int:
    """Run one command."""
    parser = argparse.ArgumentParser(prog="python -m e2e.simulation", description=__doc__.split("\n\n")[0])
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--seeds", metavar="FIRST:LAST", help="histories drawn from these seeds")
    what.add_argument("--exhaustive", action="store_true", help="every fault at every boundary")
    what.add_argument("--pairs", action="store_true", help="every pair of faults")
    what.add_argument(
        "--replay",
        metavar="SEED|ACTION:SIZE[+VARIANT...]",
        help="one history, told in full; ACTION:SIZE+waves+approval+chunks+election+sweep+tick+several for such ones",
    )
    parser.add_argument("--faults", default="", help="N=KIND[:SECONDS],... for a replay of ACTION:SIZE")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    if options.replay:
        return _replay(options.replay, options.faults)
    return _search(list(_work(options)), options.jobs)


def _work(options: argparse.Namespace) -> Iterator[farm.Work]:
    if options.seeds:
        first, _, last = options.seeds.partition(":")
        for start in range(int(first), int(last), CHUNK):
            yield "seeds", start, min(start + CHUNK, int(last))
    elif options.exhaustive:
        for action in POPULATIONS:
            for size in (1, 2):
                for part in range(PARTS):
                    yield f"{action}:{size}", part, PARTS
        for variant in ALSO:
            for part in range(PARTS):
                yield variant, part, PARTS
    else:
        for action in ("RestartAsNew", "Cancel"):
            for part in range(PAIR_PARTS):
                yield f"pairs {action}:1", part, PAIR_PARTS


ALSO = (
    "RestartAsNew:2+waves",
    "Resume:2+waves",
    "Cancel:2+approval",
    "RestartAsNew:2+chunks",
    "Cancel:2+chunks+approval",
    "Cancel:2+election",
    "RestartAsNew:2+election+waves",
    "RestartAsNew:2+waves+approval+chunks",
    "Purge:2+sweep",
    "PurgeJournal:2+tick+chunks+election",
    "Cancel:2+several",
    "RestartAsNew:2+several",
)
"""What is searched beside each action on one and two invocations."""
PARTS = 8
PAIR_PARTS = 64


def _search(work: list[farm.Work], jobs: int) -> int:
    began, total, seconds = time.monotonic(), search.Tally(), 0.0
    kinds: Counter[str] = Counter()
    # Workers are made anew now and then: whatever a history leaves behind goes with its process.
    with multiprocessing.get_context("spawn").Pool(jobs, maxtasksperchild=20) as pool:
        for number, (tally, used) in enumerate(pool.imap_unordered(farm.play, work), 1):
            total.histories += tally.histories
            total.faults += tally.faults
            total.boundaries += tally.boundaries
            total.calls += tally.calls
            seconds += used
            for outcome in tally.failed:
                kinds[outcome.problems[0].partition(":")[0]] += 1
                total.failed.append(outcome)
                print(_told(outcome), flush=True)
            if number % 20 == 0 or number == len(work):
                print(f"{number}/{len(work)} parts, {_summary(total, began, seconds)}", flush=True)
    print(_summary(total, began, seconds), dict(kinds) or "")
    return 1 if total.failed else 0


def _told(outcome: Outcome) -> str:
    faults = ",".join(f"{number}={fault}" for number, fault in outcome.faults.items())
    return f"FAILED seed {outcome.seed} faults {faults or 'none'}\n   " + "\n   ".join(outcome.problems[:3])


def _summary(total: search.Tally, began: float, used: float) -> str:
    return (
        f"{total.histories} histories, {total.boundaries} boundaries, {total.faults} faults, {total.calls} calls, "
        f"{len(total.failed)} failed; {time.monotonic() - began:.0f} s ({used:.0f} s of CPU)"
    )


def _replay(what: str, faults: str) -> int:
    if what.isdigit():
        scenario = drawn(int(what))
        outcome = search.play(int(what), scenario, _faults(faults) if faults else None, disorder=True)
    else:
        scenario = farm.scenario_of(what)
        outcome = search.play(0, scenario, _faults(faults))
    print(scenario)
    print("\n".join(outcome.trace))
    print(_told(outcome) if outcome.problems else f"no guarantee broken; the object says {outcome.phase}")
    return 1 if outcome.problems else 0


def _faults(text: str) -> dict[int, Fault]:
    found = {}
    for part in filter(None, text.split(",")):
        number, _, fault = part.partition("=")
        kind, _, seconds = fault.partition(":")
        found[int(number)] = Fault(kind, float(seconds or 0.0))
    return found


if __name__ == "__main__":
    sys.exit(main())
