"""Bulk: hundreds or thousands of invocations in one run, while the operator is killed and the world moves on meanwhile.

Each case has a service of its own to look at (a lab with a prefix), says what the engine must show at the end, and may
meddle during the run: submit again what has just ended, let older invocations come to match.
"""

import random
import re
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

from e2e.rig.wire import NOBODY_THERE, exchange
from e2e.scenarios import truth
from e2e.scenarios.cases import World
from e2e.scenarios.lane import TERMINAL, Lane, until
from e2e.scenarios.truth import Problems

PREFIX = "Bulk"
SERVICE, WORKFLOW = f"{PREFIX}LabSvc", f"{PREFIX}LabWf"
SLEEPERS = 40
LAG_SECONDS = 0.2
VERBS = r"(?:restart-as-new|cancel|kill|purge|pause|resume)"


class Bulk(Protocol):
    """An action on many, and its truth. Rounds follow each other on one object."""

    @property
    def action(self) -> str: ...

    @property
    def handler(self) -> str:
        """Whom the target names, for the name of the run."""

    def prepare(self, size: int) -> dict[str, Any]:
        """Make `size` invocations that the action applies to; the target that selects them."""

    def meddle(self) -> None:
        """Do, again and again during the run, what others do meanwhile."""

    def wrong(self) -> Problems:
        """What is not as it should be after the action."""


@dataclass
class Round:
    """What a round was."""

    size: int
    kills: int = 0
    seconds: float = 0.0
    problems: Problems = field(default_factory=list)


def play(lane: Lane, bulk: Bulk, name: str, size: int, kills: int, dice: random.Random) -> Round:
    """Run the action, kill its operator that often at random instants, wait for the end and look."""
    target = bulk.prepare(size)
    lane.revive()
    lane.script.arm(0, None)
    limits = {"maxTargets": 2 * size, "operationsPerSecond": max(50, size // 8)}
    started, seen = time.monotonic(), Round(size)
    lane.create(lane.manifest(name, bulk.action, target, limits=limits, verification={"timeout": "5m"}))
    with _meddling(bulk):
        for moment in sorted(dice.randrange(size) for _ in range(kills)):
            until(
                lambda moment=moment: operations(lane) >= moment or _ended(lane, name),  # type: ignore[misc]
                lambda: f"{name} did not go on\n{lane.logs()}",
                timeout=180,
            )
            if _ended(lane, name):
                break
            time.sleep(dice.random() / 4)
            lane.operator.kill()
            seen.kills += 1
            lane.revive()
        lane.ended(name, timeout=300)
    seen.seconds = time.monotonic() - started
    seen.problems = truth.told(lane, name, size) + bulk.wrong()
    return seen


def operations(lane: Lane) -> int:
    """How many operations were sent since the script was armed, singly or in batches."""
    found = (re.fullmatch(rf"PATCH {VERBS} \S+|POST batch-{VERBS} of (\d+)", w.what) for w in list(lane.script.writes))
    return sum(int(match[1] or 1) for match in found if match)


@contextmanager
def _meddling(bulk: Bulk):  # type: ignore[no-untyped-def]
    over = threading.Event()

    def work() -> None:
        while not over.wait(0.1):
            with suppress(*NOBODY_THERE):
                bulk.meddle()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _ended(lane: Lane, name: str) -> bool:
    return lane.get(name).get("status", {}).get("phase") in TERMINAL


def _many(work: Callable[[int], Any], size: int) -> list[Any]:
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(work, range(size)))


@dataclass
class _OfOneHandler:
    world: World
    handler: str
    service: str = SERVICE
    since: str = ""
    """The engine's time before the first invocation of this round."""
    until: str = ""
    """The engine's time before the action was made."""

    def now(self) -> str:
        """The engine's time, in a form that a manifest takes too. What is made from then on counts as later: the
        engine dates what comes in by whole milliseconds, and so perhaps before the time that it has just told.
        """
        said = str(self.world.engine.sql("select now() as now")[0]["now"])
        day, clock = re.fullmatch(r"(\S+)[T ](\d\d:\d\d:\d\d\.\d{1,6})\d*Z?", said).groups()  # type: ignore[union-attr]
        time.sleep(LAG_SECONDS)
        return f"{day}T{clock}Z"

    def rows(self, columns: str, condition: str = "true") -> list[dict[str, Any]]:
        mine = f"target_service_name = '{self.service}' and target_handler_name = '{self.handler}'"
        return self.world.engine.sql(f"select {columns} from sys_invocation where {mine} and {condition}")

    def all_are(self, status: str, size: int) -> None:
        """Wait until those of this round are all in that status."""
        mine = f"created_at > '{self.since}' and status = '{status}'"
        told = f"status, count(*) as n, count(*) filter (where created_at > '{self.since}') as new"
        until(
            lambda: self.rows("count(*) as n", mine)[0]["n"] == size,
            lambda: f"after {self.since} not {size} became {status}: {self.rows(told, 'true group by status')}",
            timeout=300,
        )

    def target(self, **more: Any) -> dict[str, Any]:
        return {"services": [self.service], "handlers": [self.handler], "createdAfter": self.since, **more}

    def meddle(self) -> None:
        return


@dataclass
class Restarts(_OfOneHandler):
    """Each round restarts what the round before has made. Some that are older end, and so match, in mid-run."""

    handler: str = "sleep_echo"
    action: str = "RestartAsNew"
    originals: set[str] = field(default_factory=set)
    sleepers: set[str] = field(default_factory=set)
    awake: set[str] = field(default_factory=set)

    def prepare(self, size: int) -> dict[str, Any]:
        send = self.world.engine.send
        if len(self.originals) == size:
            # What the last round has made; nothing else was created since it began, but for its sleepers.
            self.since = self.until
        else:
            self.since = self.now()
            _many(lambda number: send(SERVICE, self.handler, [0.0, f"{number}"]), size)
        self.all_are("completed", size)
        mine = f"created_at > '{self.since}' and status = 'completed'"
        self.originals = {row["id"] for row in self.rows("id", mine)}
        self.sleepers = {send(SERVICE, self.handler, [36000.0, "late"]) for _ in range(SLEEPERS)}
        self.awake = set()
        target = self.target()
        self.until = self.now()
        return target

    def meddle(self) -> None:
        """Once the run has begun: some of the older ones end, and match from then on."""
        if self.rows("id", f"created_at > '{self.until}' and restarted_from is not null limit 1"):
            for id_ in sorted(self.sleepers - self.awake)[:4]:
                self.world.engine.operate(id_, "cancel").expect()
                self.awake.add(id_)

    def wrong(self) -> Problems:
        found = Counter(
            row["restarted_from"]
            for row in self.rows("restarted_from", f"created_at > '{self.until}' and restarted_from is not null")
        )
        problems = [f"{id_} has {found[id_]} children, not 1" for id_ in self.originals if found[id_] != 1]
        problems += [f"{id_}, which came to match later, was restarted" for id_ in self.sleepers & found.keys()]
        strangers = found.keys() - self.originals - self.sleepers
        problems += [f"{id_}, a child, was restarted" for id_ in strangers]
        if not self.awake:
            problems.append("none came to match during the run")
        for id_ in self.sleepers - self.awake:
            self.world.engine.operate(id_, "cancel").expect()
        return problems


@dataclass
class Sagas(_OfOneHandler):
    """Compensations take two seconds; a second signal aborts one."""

    handler: str = "saga"
    action: str = "Cancel"

    def prepare(self, size: int) -> dict[str, Any]:
        self.since = self.now()
        _many(lambda _: self.world.engine.send(SERVICE, self.handler, 3600.0), size)
        self.all_are("suspended", size)
        return self.target()

    def wrong(self) -> Problems:
        ids = [row["id"] for row in self.rows("id", f"created_at > '{self.since}'")]
        problems: Problems = []
        for start in range(0, len(ids), 500):
            problems += truth.cancelled_once(self.world.engine, self.world.lab, ids[start : start + 500])
        return problems


@dataclass
class Pausing(_OfOneHandler):
    """Paused in one round, resumed in the next."""

    handler: str = "hold"
    action: str = "Resume"
    wanted: str = "running"
    ids: set[str] = field(default_factory=set)

    def prepare(self, size: int) -> dict[str, Any]:
        if len(self.ids) != size:
            self.since = self.now()
            self.ids = set(_many(lambda _: self.world.engine.send(SERVICE, self.handler, 36000.0), size))
            self.all_are("running", size)
        self.action, self.wanted = ("Resume", "running") if self.wanted == "paused" else ("Pause", "paused")
        return self.target()

    def wrong(self) -> Problems:
        found = {row["id"]: row["status"] for row in self.rows("id, status", f"created_at > '{self.since}'")}
        return [f"{id_} is {found.get(id_)}, not {self.wanted}" for id_ in self.ids if found.get(id_) != self.wanted]


@dataclass
class BornAgain(_OfOneHandler):
    """What the action ends is submitted again under its key at once, gets the same id, and must survive."""

    column: str = ""
    status: str = ""
    keys: set[str] = field(default_factory=set)
    again: set[str] = field(default_factory=set)
    rounds: int = 0

    def prepare(self, size: int) -> dict[str, Any]:
        self.rounds += 1
        self.since = self.now()
        self.keys, self.again = {f"{self.handler}-{self.since}-{number}" for number in range(size)}, set()
        keys = sorted(self.keys)
        _many(lambda number: self.submit(keys[number]), size)
        self.all_are(self.status, size)
        target = self.target(statuses=[self.status.title()])
        self.until = self.now()
        return target

    def submit(self, key: str) -> bool:
        """Whether that is a new invocation."""
        raise NotImplementedError

    def meddle(self) -> None:
        alive = {row[self.column] for row in self.rows(self.column, f"created_at > '{self.since}'")}
        self.again |= {key for key in self.keys - alive - self.again if self.submit(key)}

    def wrong(self) -> Problems:
        young = f"created_at > '{self.until}'"
        # The last of them were submitted a moment ago.
        on_their_way = f"{young} and status <> '{self.status}'"
        until(lambda: not self.rows("id", on_their_way), lambda: f"{self.rows('id, status', on_their_way)}")
        survived = {row[self.column] for row in self.rows(self.column, young)}
        old = self.rows("id", f"created_at > '{self.since}' and created_at <= '{self.until}'")
        problems = [f"{key} was born again and did not survive" for key in self.again - survived]
        problems += [f"{row['id']} was not touched" for row in old]
        if len(self.again) < len(self.keys) // 10:
            problems.append(f"only {len(self.again)} of {len(self.keys)} were born again during the run")
        return problems

    def _post(self, path: str, key: str | None = None) -> bool:
        headers = {"idempotency-key": key} if key else {}
        reply = exchange("POST", self.world.engine.ingress_url + path, 0.0, headers=headers).expect()
        return bool(reply.json()["status"] == "Accepted")


@dataclass
class Workflows(BornAgain):
    """Completed runs, purged; the young ones complete at once, and could be purged too."""

    handler: str = "run"
    service: str = WORKFLOW
    action: str = "Purge"
    column: str = "target_service_key"
    status: str = "completed"

    def submit(self, key: str) -> bool:
        return self._post(f"/{WORKFLOW}/{key}/run/send")


@dataclass
class Scheduled(BornAgain):
    """Scheduled calls with an idempotency key, killed; the young ones are scheduled too."""

    handler: str = "sleep_long"
    action: str = "Kill"
    column: str = "idempotency_key"
    status: str = "scheduled"

    def submit(self, key: str) -> bool:
        return self._post(f"/{SERVICE}/{self.handler}/send?delay=2h", key)
