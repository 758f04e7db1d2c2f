"""Several runs on one engine, drawn from a seed: a large one and small ones, on sets of their own or each other's."""

from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import Any

from e2e.simulation import sweeping
from e2e.simulation.applied import NAME, SERVICE, Applied
from e2e.simulation.scenarios import POPULATIONS, Event, Scenario

QUICK: dict[str, tuple[tuple[str, str], ...]] = {
    "Cancel": (("sleep_long", "suspended"), ("hold", "running"), ("sleep_long", "scheduled")),
    "Kill": (("sleep_long", "suspended"), ("hold", "running"), ("sleep_long", "scheduled")),
    "Pause": (("hold", "running"),),
    "Resume": (("hold", "paused"), ("sleep_long", "paused")),
    "Purge": POPULATIONS["Purge"],
    "PurgeJournal": POPULATIONS["PurgeJournal"],
    "RestartAsNew": POPULATIONS["RestartAsNew"],
}
"""Those on which an operation takes effect at once: their runs wait for nothing but their turns."""
ON_THE_SAME: dict[str, tuple[str, ...]] = {
    "Cancel": ("Cancel", "Cancel", "Cancel", "Kill", "Pause"),
    "Kill": ("Cancel", "Kill"),
    "Pause": ("Cancel", "Pause", "Kill"),
    "Resume": ("Resume", "Cancel", "Kill"),
    "Purge": ("RestartAsNew", "Purge"),
    "PurgeJournal": ("RestartAsNew", "Purge"),
    "RestartAsNew": ("RestartAsNew", "RestartAsNew", "RestartAsNew", "Purge"),
}
"""What else is done, by another run, to what an action is meant for."""
RATES = (1, 2, 3, 5, 10, 50)
AT_ONCE = (1, 2, 3, 6, 20)


def crowd(base: Scenario, dice: Random, *, most: int) -> Scenario:
    """What was drawn for one run, with others beside it; or a calm history of many."""
    return _calm(dice, most) if dice.random() < 0.35 else _wild(base, dice)


def _limits(dice: Random) -> dict[str, int]:
    found: dict[str, int] = {}
    if dice.random() < 0.8:
        found["operationsPerSecond"] = dice.choice(RATES)
    if dice.random() < 0.6:
        found["maxInFlight"] = dice.choice(AT_ONCE)
    return found


def _small(dice: Random, number: int, others: Sequence[Applied], quick: bool) -> Applied:
    """One more, on its own invocations or also on those of one that is there."""
    action = dice.choice(tuple(POPULATIONS))
    covers: tuple[str, ...] = ()
    if dice.random() < 0.3:
        other = dice.choice(others)
        action, covers = dice.choice(ON_THE_SAME[other.action]), (other.service,)
    populations = QUICK if quick else POPULATIONS
    handlers = tuple(dice.choice(populations[action]) for _ in range(dice.choice((1, 1, 2, 3, 5))))
    spec: dict[str, Any] = {"verification": {"timeout": "90s" if quick else dice.choice(("15s", "40s"))}}
    if dice.random() < 0.25:
        spec["limits"] = dice.choice(({"operationsPerSecond": dice.choice((1, 2))}, {"maxInFlight": 1}))
    after = dice.choice((0.0, dice.uniform(0.0, 0.5), dice.uniform(0.0, 6.0)))
    made = Applied(action, handlers, spec, by_ids=dice.random() < 0.2, covers=covers, after_seconds=after)
    return replace(made, name=f"{NAME}-{number}", service=f"{SERVICE}{number}")


def _calm(dice: Random, most: int) -> Scenario:
    action = dice.choice(tuple(QUICK))
    handlers = tuple(dice.choice(QUICK[action]) for _ in range(dice.randint(most // 2, most)))
    first = Scenario(action, handlers, {"verification": {"timeout": "90s"}}, calm=True)
    others: list[Applied] = [first]
    for number in range(1, dice.randint(2, 6)):
        others.append(_small(dice, number, others, quick=True))
    if dice.random() < 0.3:
        # Another one that is as large.
        others[-1] = replace(others[-1], handlers=others[-1].handlers * (most // 4))
    limits, events = _limits(dice), list[Event]()
    if dice.random() < 0.3:
        events.append(Event(dice.uniform(0.0, 8.0), "engine-limits", _limits(dice)))
    if dice.random() < 0.3:
        events += _suspended(dice, dice.choice(others).name)
    return first.but(
        beside=tuple(others[1:]),
        events=tuple(events),
        engine_spec={**first.engine_spec, "limits": limits},
        batches=dice.random() < 0.6,
        epilogue=dice.random() < 0.2,
    )


def _wild(base: Scenario, dice: Random) -> Scenario:
    others: list[Applied] = [base]
    for number in range(1, dice.choice((2, 2, 3, 4, 6))):
        others.append(_varied(_small(dice, number, others, quick=False), dice))
    if base.sweep == sweeping.TICK and dice.random() < 0.7:
        others[1:] = [replace(one, after_seconds=one.after_seconds + sweeping.TICK_SECONDS - 3.0) for one in others[1:]]
    events = [*base.events]
    for one in others[1:]:
        events += _happens(dice, one)
    if dice.random() < 0.3:
        events.append(Event(dice.uniform(0.0, 15.0), "engine-limits", _limits(dice)))
    size = sum(len(one.handlers) for one in others)
    for _ in range(dice.choice((0, 0, 1, 2))):
        events.append(Event(dice.uniform(0.0, 5.0), dice.choice(("finish", "born-again")), dice.randrange(size)))
    spec = {**base.engine_spec, "limits": _limits(dice)}
    return base.but(beside=tuple(others[1:]), events=tuple(events), engine_spec=spec)


def _varied(one: Applied, dice: Random) -> Applied:
    spec = dict(one.spec)
    if one.action in ("Resume", "RestartAsNew") and dice.random() < 0.25:
        most = dice.choice((0, 1, "50%", "100%", "100%"))
        spec["rollout"] = {"waves": dice.choice(([1], [1, "50%"])), "soak": "2s", "maxUnhealthy": most}
    if one.action == "Cancel" and dice.random() < 0.25:
        spec |= dice.choice(({"expedite": True}, {"escalation": {"killAfter": "5s"}}))
    if dice.random() < 0.1:
        spec["mode"] = "Approve"
    return replace(one, spec=spec)


def _suspended(dice: Random, of: str) -> list[Event]:
    begin = dice.uniform(0.0, 6.0)
    end = begin + dice.uniform(0.5, 10.0)
    return [Event(begin, "patch", {"suspend": True}, of), Event(end, "patch", {"suspend": False}, of)]


def _happens(dice: Random, one: Applied) -> list[Event]:
    """What people do to it while the others go on."""
    at = one.after_seconds + dice.choice((dice.uniform(0.0, 0.5), dice.uniform(0.0, 8.0)))
    if one.approved:
        return [Event(one.after_seconds + 0.5, "approve-from-now-on", None, one.name)]
    match dice.choice((None, None, None, "suspend", "delete", "again", "limits")):
        case "suspend":
            return [replace(event, at=event.at + one.after_seconds) for event in _suspended(dice, one.name)]
        case "delete":
            return [Event(at, "delete", None, one.name)]
        case "again":
            again = Event(at + dice.uniform(0.05, 5.0), "create", None, one.name)
            return [Event(at, "delete", None, one.name), again]
        case "limits":
            limits = {"maxInFlight": dice.choice((1, 3)), "operationsPerSecond": dice.choice((1, 5))}
            return [Event(at, "patch", {"limits": limits}, one.name)]
    return []
