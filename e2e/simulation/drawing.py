"""Scenarios drawn from a seed: what it is that runs, how, and what happens meanwhile."""

from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import Any

from e2e.simulation import crowds, sweeping
from e2e.simulation.scenarios import POPULATIONS, SOMETHING_ELSE, Event, Scenario
from invocation_operator.cluster.chunks import SetSizes

SEVERAL_FROM = 200_000
"""The first seed that draws several runs on one engine."""
AGAIN_FROM = 1_000_000
"""The first seed whose runs may be looked at before, and done again."""
WAVES: tuple[list[int | str], ...] = ([1], [1, "50%"], ["10%", "50%"], [2, 4], ["1%"])


def drawn(seed: int, *, most: int = 40) -> Scenario:
    """A scenario drawn from a seed."""
    dice = Random(f"{seed}/scenario")
    action = dice.choice(("Cancel", "Cancel", "RestartAsNew", "RestartAsNew", *POPULATIONS))
    size = dice.choice((1, 2, 3, 5, 8, dice.randint(1, most)))
    handlers = tuple(dice.choice(POPULATIONS[action]) for _ in range(size))
    spec: dict[str, Any] = {"verification": {"timeout": dice.choice(("15s", "40s", "90s"))}}
    limits: dict[str, Any] = {}
    if dice.random() < 0.5:
        limits["maxInFlight"] = dice.choice((1, 2, 5))
    if dice.random() < 0.25:
        limits["operationsPerSecond"] = dice.choice((2, 10, 50))
    if limits:
        spec["limits"] = limits
    if action == "Cancel" and dice.random() < 0.2:
        spec["escalation"] = {"killAfter": "5s"}
    if action == "Cancel" and dice.random() < 0.2:
        spec["expedite"] = True
    if action == "Resume" and dice.random() < 0.4:
        spec["resume"] = {"deployment": "Latest"}
        spec["target"] = {"statuses": ["Paused", "BackingOff", "Suspended"]}
        handlers = tuple(dice.choice((*POPULATIONS[action], ("fail_slow_retry", "backing-off"))) for _ in range(size))
    if dice.random() < 0.1:
        spec["timeout"] = dice.choice(("5s", "100s"))
    batches = dice.random() < 0.6
    made = Scenario(
        action,
        handlers,
        spec,
        by_ids=dice.random() < 0.3,
        events=tuple(_events(dice, size)),
        batches=batches,
        slowness=dice.choice((1.0, 1.0, 5.0, 100.0)),
        skew_seconds=dice.choice((0.0, 0.0, -3600.0, 7200.5)),
        lease_seconds=dice.choice((15.0, 15.0, 4.0)),
        call_timeout_seconds=dice.choice((10.0, 10.0, 2.0)),
        faulty_seconds=dice.choice((1.0, 5.0, 30.0)),
        fault_rate=dice.choice((0.0, 0.003, 0.01, 0.03, 0.1)),
        epilogue=dice.random() < 0.4,
    )
    varied = _varied(made, Random(f"{seed}/variants"))
    alone = _held(_swept(varied, Random(f"{seed}/sweeps")), Random(f"{seed}/holds"))
    if seed >= AGAIN_FROM:
        dice = Random(f"{seed}/again")
        alone = alone if alone.sweep is not None else _again(alone, dice)
        if dice.random() < 0.7:
            return alone
    return alone if seed < SEVERAL_FROM else crowds.crowd(alone, Random(f"{seed}/several"), most=most)


def _again(scenario: Scenario, dice: Random) -> Scenario:
    """Some are looked at before they are carried out, some are done again, with a new ``runId``."""
    events, spec = list(scenario.events), dict(scenario.spec)
    if spec.get("mode") is None and dice.random() < 0.4:
        spec["mode"] = "DryRun"
        at = dice.choice((dice.uniform(0.0, 0.3), dice.uniform(0.0, 5.0)))
        events.append(Event(at, "say", {"mode": "Execute"}))
        while dice.random() < 0.4:
            at += dice.choice((dice.uniform(0.0, 0.1), dice.uniform(0.0, 1.0), dice.uniform(0.0, 10.0)))
            events.append(Event(at, "say", {"mode": dice.choice(("DryRun", "Execute"))}))
        events.append(Event(at + dice.uniform(0.0, 10.0), "say", {"mode": "Execute"}))
    at = 0.0
    while dice.random() < 0.6:
        at += dice.choice((dice.uniform(0.0, 0.3), dice.uniform(0.0, 3.0), dice.uniform(0.0, 20.0)))
        events.append(Event(at, "again", f"run-{len(events)}"))
        if dice.random() < 0.3:
            events.append(Event(at + dice.uniform(0.0, 3.0), "patch", {"ttlSecondsAfterFinished": 86400}))
    while dice.random() < 0.4:
        events.append(Event(dice.uniform(0.0, 20.0), dice.choice(("second", "kill", "drain")), 0))
    return scenario.but(spec=spec, events=tuple(events))


def _swept(scenario: Scenario, dice: Random) -> Scenario:
    """Half of what purges is a policy's sweep, now at its tick, now because it was asked for."""
    if scenario.action not in ("Purge", "PurgeJournal") or dice.random() < 0.5:
        return scenario
    events = [event for event in scenario.events if event.kind not in ("approve", "revoke")]
    events = [event for event in events if event.kind != "patch" or "limits" not in event.value]
    spec = {"limits": scenario.spec["limits"]} if "limits" in scenario.spec else {}
    if dice.random() < 0.6:
        return scenario.but(sweep=sweeping.ASKED, spec=spec, events=tuple(events))
    begin = sweeping.TICK_SECONDS - dice.choice((0.0, 0.5, 5.0))
    later = tuple(replace(event, at=event.at + begin) if event.at > 0 else event for event in events)
    seconds = scenario.faulty_seconds + sweeping.TICK_SECONDS
    return scenario.but(sweep=sweeping.TICK, spec=spec, events=later, faulty_seconds=seconds)


def _held(scenario: Scenario, dice: Random) -> Scenario:
    """Now and then somebody holds some of what would be purged, before or after it is asked for."""
    if scenario.action not in ("Purge", "PurgeJournal") or dice.random() < 0.4:
        return scenario
    events, size, spec = list(scenario.events), len(scenario.handlers), dict(scenario.spec)
    if dice.random() < 0.5:
        # Slowly, so that a hold comes in mid-run.
        spec["limits"] = {**spec.get("limits", {}), "operationsPerSecond": 1}
    for name in dice.choice((("legal",), ("legal",), ("legal", "audit"))):
        # The last of them more often than others: their turn comes late.
        some = tuple({*dice.sample(range(size), dice.randint(1, size)), size - 1})
        at = dice.choice((dice.uniform(-0.15, 0.0), dice.uniform(0.0, 0.2), dice.uniform(0.0, size / 2)))
        if scenario.sweep == sweeping.TICK and at > 0:
            at += sweeping.TICK_SECONDS
        events.append(Event(at, "hold", (name, dice.choice((some, some, "fail_terminal")))))
        if dice.random() < 0.3:
            events.append(Event(at + dice.uniform(0.1, 20.0), "let-go", name))
    return scenario.but(spec=spec, events=tuple(events))


def _varied(scenario: Scenario, dice: Random) -> Scenario:
    """Now and then in waves, with an approval, in chunks, with an election; or several of these."""
    spec, changes = dict(scenario.spec), dict[str, Any]()
    events = list(scenario.events)
    if scenario.action in ("Resume", "RestartAsNew") and dice.random() < 0.5:
        spec["rollout"] = {"waves": dice.choice(WAVES), "soak": dice.choice(("1s", "6s", "20s"))}
        if (most := dice.choice((None, 0, 1, 3, "20%", "50%", "100%", "100%"))) is not None:
            spec["rollout"]["maxUnhealthy"] = most
    if dice.random() < 0.25:
        spec["mode"] = "Approve"
        drift, age = dice.choice(("Subset", "Subset", "Exact")), dice.choice(("1m", "1h"))
        spec["approval"] = {"drift": drift, "planMaxAge": age}
        for _ in range(dice.choice((0, 1, 1, 2, 4))):
            at = dice.choice((dice.uniform(0.1, 3.0), dice.uniform(0.1, 30.0), dice.uniform(50.0, 80.0)))
            delay = dice.choice((0.0, dice.uniform(0.0, 3.0)))
            other = (Event(at, "approve", delay), Event(at, "revoke"), Event(at, "revoke", SOMETHING_ELSE))
            events.append(dice.choice((other[0], *other)))
    if dice.random() < 0.25:
        inline = dice.choice((0, 2))
        changes["sizes"] = SetSizes(inline=inline, chunk=dice.choice((1, 2, 5)))
    if dice.random() < 0.2:
        changes["elected"] = True
        for _ in range(dice.choice((0, 1, 1, 2))):
            event = Event(dice.uniform(0.0, 20.0), "stand-still", (dice.randrange(3), dice.uniform(1.0, 40.0)))
            events.append(event)
    return scenario.but(spec=spec, events=tuple(events), **changes)


def _events(dice: Random, size: int) -> Sequence[Event]:
    found: list[Event] = []

    def at() -> float:
        return dice.choice((dice.uniform(0.0, 0.4), dice.uniform(0.0, 3.0), dice.uniform(0.0, 25.0)))

    for _ in range(dice.choice((0, 1, 1, 2, 4))):
        kind = dice.choice(KINDS)
        match kind:
            case "finish" | "born-again":
                found.append(Event(at(), kind, dice.randrange(size)))
            case "more":
                found.append(Event(at(), kind, dice.randint(1, 3)))
            case "suspend":
                begin = at()
                found += [Event(begin, "patch", {"suspend": True})]
                found += [Event(begin + dice.uniform(0.5, 20.0), "patch", {"suspend": False})]
            case "limit":
                found.append(Event(at(), "patch", {"limits": {"maxInFlight": dice.choice((1, 3, 7))}}))
            case "delete-create":
                begin = at()
                found += [Event(begin, "delete"), Event(begin + dice.uniform(0.05, 5.0), "create")]
            case "delete":
                found.append(Event(at(), kind))
            case "kill-switch":
                begin = at()
                found += [Event(begin, kind, True), Event(begin + dice.uniform(0.5, 20.0), kind, False)]
            case "engine-restarts":
                value = (dice.uniform(0.1, 15.0), dice.uniform(0.02, 1.0), dice.choice(("nothing", "old")))
                found.append(Event(at(), kind, value))
            case "api-down":
                found.append(Event(at(), kind, dice.uniform(0.5, 30.0)))
            case "isolate":
                found.append(Event(at(), kind, (dice.randrange(3), dice.uniform(1.0, 40.0))))
                found.append(Event(at(), "second", 0))
            case "stand-still":
                found.append(Event(at(), kind, (dice.randrange(3), dice.choice((1.0, 3.0)))))
            case _:
                found.append(Event(at(), kind, dice.randrange(3)))
    return found


KINDS = (
    "finish",
    "born-again",
    "born-again",
    "more",
    "suspend",
    "limit",
    "delete-create",
    "delete",
    "kill-switch",
    "engine-restarts",
    "engine-restarts",
    "api-down",
    "watches-break",
    "kill",
    "kill",
    "drain",
    "second",
    "stand-still",
    "isolate",
)
