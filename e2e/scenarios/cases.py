"""One case for each action: what it is done to, and what the engine must show afterwards, however the operator died."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from e2e.rig import Engine, ServicesProcess
from e2e.scenarios import truth
from e2e.scenarios.truth import Problems

SIZE = 3


class Case(Protocol):
    """An action and its truth."""

    @property
    def action(self) -> str: ...

    @property
    def spec(self) -> dict[str, Any]:
        """Fields beside action and target."""

    def prepare(self, size: int = SIZE) -> list[str]:
        """Make invocations that the action applies to; their ids."""

    def wrong(self, ids: Sequence[str]) -> Problems:
        """What is not as it should be after the action."""


@dataclass
class World:
    """The engine and the lab's services that cases play with."""

    engine: Engine
    lab: ServicesProcess

    def send(self, handler: str, body: Any, status: str, size: int, service: str = "LabSvc") -> list[str]:
        ids = [self.engine.send(service, handler, body) for _ in range(size)]
        for id_ in ids:
            self.engine.wait_status(id_, status, timeout=60)
        return ids


@dataclass
class RestartAsNew:
    world: World
    action: str = "RestartAsNew"
    spec: dict[str, Any] = field(default_factory=dict)

    def prepare(self, size: int = SIZE) -> list[str]:
        return self.world.send("echo", "x", "completed", size)

    def wrong(self, ids: Sequence[str]) -> Problems:
        return truth.one_child_each(self.world.engine, ids)


SOAK_SECONDS = 0.3


@dataclass
class RestartInWaves(RestartAsNew):
    """One first, and the others only when it was left alone for a while and is well."""

    spec: dict[str, Any] = field(default_factory=lambda: {"rollout": {"waves": [1], "soak": f"{SOAK_SECONDS}s"}})

    def wrong(self, ids: Sequence[str]) -> Problems:
        rows = self.world.engine.sql(
            f"select restarted_from, created_at from sys_invocation where restarted_from in ({truth.listed(ids)})"
        )
        born = {row["restarted_from"]: datetime.fromisoformat(row["created_at"]) for row in rows}
        first, *others = sorted(ids)
        after = {id_: (born[id_] - born[first]).total_seconds() for id_ in others if {id_, first} <= born.keys()}
        early = [f"{id_} was restarted {gone} s after the first" for id_, gone in after.items() if gone < SOAK_SECONDS]
        return super().wrong(ids) + early


@dataclass
class Cancel:
    """Sagas whose compensation takes two seconds: a second signal would abort it."""

    world: World
    action: str = "Cancel"
    spec: dict[str, Any] = field(default_factory=dict)

    def prepare(self, size: int = SIZE) -> list[str]:
        return self.world.send("saga", 3600.0, "suspended", size)

    def wrong(self, ids: Sequence[str]) -> Problems:
        return truth.cancelled_once(self.world.engine, self.world.lab, ids)


@dataclass
class Kill:
    world: World
    action: str = "Kill"
    spec: dict[str, Any] = field(default_factory=dict)

    def prepare(self, size: int = SIZE) -> list[str]:
        return self.world.send("sleep_long", 3600.0, "suspended", size)

    def wrong(self, ids: Sequence[str]) -> Problems:
        signals = truth.cancel_signals(self.world.engine, ids)
        problems = [f"{id_} was cancelled {count} times" for id_, count in signals.items()]
        return problems + truth.ended_as(self.world.engine, ids, "killed")


@dataclass
class Pause:
    world: World
    action: str = "Pause"
    spec: dict[str, Any] = field(default_factory=dict)

    def prepare(self, size: int = SIZE) -> list[str]:
        return self.world.send("hold", 3600.0, "running", size)

    def wrong(self, ids: Sequence[str]) -> Problems:
        return truth.statuses(self.world.engine, ids, "paused")


@dataclass
class Resume:
    world: World
    action: str = "Resume"
    spec: dict[str, Any] = field(default_factory=dict)

    def prepare(self, size: int = SIZE) -> list[str]:
        ids = self.world.send("hold", 3600.0, "running", size)
        for id_ in ids:
            self.world.engine.operate(id_, "pause").expect()
        for id_ in ids:
            self.world.engine.wait_status(id_, "paused", timeout=60)
        return ids

    def wrong(self, ids: Sequence[str]) -> Problems:
        return truth.statuses(self.world.engine, ids, "running")


@dataclass
class ResumePausedAgain:
    """Those that fail, so that their policy pauses them again at once: each resume shows in the engine's events."""

    world: World
    action: str = "Resume"
    spec: dict[str, Any] = field(default_factory=dict)

    def prepare(self, size: int = SIZE) -> list[str]:
        return self.world.send("fail_then_pause", "x", "paused", size)

    def wrong(self, ids: Sequence[str]) -> Problems:
        for id_ in ids:
            self.world.engine.wait_status(id_, "paused", timeout=60)
        paused = truth.pauses(self.world.engine, ids)
        return [f"{id_} was paused {paused[id_]} times, not twice" for id_ in ids if paused[id_] != 2]


@dataclass
class ResumeInWaves(Resume):
    """Every wave of one."""

    spec: dict[str, Any] = field(default_factory=lambda: {"rollout": {"waves": [1, 2], "soak": f"{SOAK_SECONDS}s"}})


@dataclass
class ResumeOntoLatest:
    """From BackingOff: pause, wait, resume onto a deployment that is registered after they began to back off.

    `world.lab` is a lab of this case alone (`prefix`), because its latest deployment changes with every round.
    """

    world: World
    prefix: str
    action: str = "Resume"
    spec: dict[str, Any] = field(
        default_factory=lambda: {"resume": {"deployment": "Latest"}, "verification": {"timeout": "60s"}}
    )
    _deployments: int = 0
    _latest: dict[str, str] = field(default_factory=dict)

    def prepare(self, size: int = SIZE) -> list[str]:
        self.world.lab.break_()
        self._register()
        ids = self.world.send("fail_slow_after_step", "x", "backing-off", size, service=f"{self.prefix}LabSvc")
        latest = self._register()
        self._latest.update(dict.fromkeys(ids, latest))
        self.world.lab.heal()
        return ids

    def wrong(self, ids: Sequence[str]) -> Problems:
        for id_ in ids:
            self.world.engine.wait_status(id_, "completed", "paused", "backing-off", "absent", timeout=60)
        found = truth.rows(self.world.engine, ids)
        problems = truth.statuses(self.world.engine, ids, "completed")
        for id_ in ids:
            pinned = found.get(id_, {}).get("pinned_deployment_id")
            if pinned != self._latest[id_]:
                problems.append(f"{id_} is pinned to {pinned}, not {self._latest[id_]}")
        return problems

    def target(self) -> dict[str, Any]:
        return {"statuses": ["BackingOff"]}

    def _register(self) -> str:
        self._deployments += 1
        return self.world.engine.register(f"{self.world.lab.uri}/{self._deployments}")


@dataclass
class Purge:
    world: World
    action: str = "Purge"
    spec: dict[str, Any] = field(default_factory=dict)

    def prepare(self, size: int = SIZE) -> list[str]:
        return self.world.send("echo", "x", "completed", size)

    def wrong(self, ids: Sequence[str]) -> Problems:
        return truth.statuses(self.world.engine, ids, "absent")


@dataclass
class PurgeJournal:
    world: World
    action: str = "PurgeJournal"
    spec: dict[str, Any] = field(default_factory=dict)

    def prepare(self, size: int = SIZE) -> list[str]:
        return self.world.send("echo", "x", "completed", size)

    def wrong(self, ids: Sequence[str]) -> Problems:
        found = truth.rows(self.world.engine, ids)
        sizes = {id_: found.get(id_, {}).get("journal_size") for id_ in ids}
        return [f"{id_} has a journal of {size} entries" for id_, size in sizes.items() if size != 0]


SIMPLE: tuple[Callable[[World], Case], ...] = (
    RestartAsNew,
    Cancel,
    Kill,
    Pause,
    Resume,
    ResumePausedAgain,
    Purge,
    PurgeJournal,
)
"""Each action, as it is without further fields."""
