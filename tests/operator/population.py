"""Invocations in every status that an action can meet, for tables of outcomes by status."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from tests.operator.conftest import Object, Stage, results, unique

HOUR = 3600.0


@dataclass(frozen=True)
class Maker:
    """Sends one invocation, waits for ``status``, then operates on it until it is in ``end`` (default: no more)."""

    send: Callable[[Stage], str]
    status: str
    operation: str = ""
    end: str = ""


def _holder(stage: Stage) -> str:
    return stage.send("obj_sleep", HOUR, service="LabObj", key=unique("held"))


def _behind_another(stage: Stage) -> str:
    key = unique("busy")
    stage.send("obj_sleep", HOUR, service="LabObj", key=key, status="suspended")
    return stage.send("obj_sleep", HOUR, service="LabObj", key=key)


def _workflow(stage: Stage) -> str:
    return stage.send("run", 0.0, service="LabWf", key=unique("order"))


MAKERS = {
    "scheduled": Maker(lambda s: s.send("echo", "x", delay="1h"), "scheduled"),
    "pending behind a key": Maker(_behind_another, "pending"),
    "running an open sleep": Maker(lambda s: s.send("hold", HOUR), "running"),
    "suspended": Maker(lambda s: s.send("sleep_long", HOUR), "suspended"),
    "suspended and holding a key": Maker(_holder, "suspended"),
    "backing off": Maker(lambda s: s.send("run_fails_slow", "x"), "backing-off"),
    "paused by its policy": Maker(lambda s: s.send("run_fails_then_pause", "x"), "paused"),
    "paused by hand": Maker(lambda s: s.send("hold", HOUR), "running", "pause", "paused"),
    "succeeded": Maker(lambda s: s.send("echo", "x"), "completed"),
    "failed": Maker(lambda s: s.send("fail_terminal", "boom"), "completed"),
    "killed": Maker(lambda s: s.send("hold", HOUR), "running", "kill", "completed"),
    "cancelled": Maker(lambda s: s.send("hold", HOUR), "running", "cancel", "completed"),
    "workflow run": Maker(_workflow, "completed"),
    "object call": Maker(lambda s: s.send("obj_echo", "x", service="LabObj", key=unique("done")), "completed"),
    "journal purged": Maker(lambda s: s.send("echo", "x"), "completed", "purge-journal", "completed"),
    "nothing retained": Maker(lambda s: s.send("zero_echo", "x", service="LabZero"), "absent"),
}

ALIVE = (
    "scheduled",
    "pending behind a key",
    "running an open sleep",
    "suspended",
    "suspended and holding a key",
    "backing off",
    "paused by its policy",
    "paused by hand",
)
ENDED = ("succeeded", "failed", "killed", "cancelled", "workflow run", "object call", "journal purged")


def populate(stage: Stage, names: Iterable[str]) -> dict[str, str]:
    """Make one invocation for each of ``names`` (of ``MAKERS``), side by side; name to id."""
    made = {name: MAKERS[name].send(stage) for name in names}
    for name, id_ in made.items():
        maker = MAKERS[name]
        stage.engine.wait_status(id_, maker.status, timeout=60)
        if maker.operation:
            stage.engine.operate(id_, maker.operation)
    for name, id_ in made.items():
        if MAKERS[name].end:
            stage.engine.wait_status(id_, MAKERS[name].end, timeout=60)
    return made


def outcomes(action: Object, made: Mapping[str, str]) -> dict[str, tuple[str, str | None]]:
    """What an action says of a population: name to outcome and reason."""
    found = results(action)
    return {name: found.get(id_, ("no result", None)) for name, id_ in made.items()}
