"""Whom a bulk run is about: what the action does to them, what others do meanwhile, and what the engine must show.

Each crowd looks at one handler of a service of its own (a lab with a prefix). Beside those of the run it may have
latecomers, which are older than the run and come to match when it has begun, or submit again under its key what the
action has just ended. The run must touch neither.
"""

import re
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from e2e.rig.wire import exchange
from e2e.scenarios import truth
from e2e.scenarios.cases import World
from e2e.scenarios.lane import until
from e2e.scenarios.truth import Problems

PREFIX = "Bulk"
SERVICE, WORKFLOW = f"{PREFIX}LabSvc", f"{PREFIX}LabWf"
LATECOMERS = 40
AT_ONCE = 4
"""How many of them come to match in one go."""
LAG_SECONDS = 0.2
LISTED = 500
"""How many ids a query names."""


def _many(work: Callable[[Any], Any], over: Iterable[Any]) -> list[Any]:
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(work, over))


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

    def of_round(self, columns: str) -> dict[str, dict[str, Any]]:
        """Rows of this round by id."""
        return {row["id"]: row for row in self.rows(f"id, {columns}", f"created_at > '{self.since}'")}

    def sent(self, count: int, body: Any) -> set[str]:
        return set(_many(lambda _: self.world.engine.send(self.service, self.handler, body), range(count)))

    def all_are(self, status: str, size: int) -> None:
        """Wait until those of this round are all in that status."""
        mine = f"created_at > '{self.since}' and status = '{status}'"
        told = f"status, count(*) as n, count(*) filter (where created_at > '{self.since}') as new"
        until(
            lambda: self.rows("count(*) as n", mine)[0]["n"] == size,
            lambda: f"after {self.since} not {size} became {status}: {self.rows(told, 'true group by status')}",
            timeout=300,
        )

    def pause(self, ids: Iterable[str]) -> None:
        """Ask until each is paused: what is suspended is woken first, because a pause does nothing to it."""

        def settle(id_: str) -> None:
            until(lambda: self._paused(id_), lambda: f"{id_} is not paused: {self.world.engine.invocation(id_)}")

        _many(settle, ids)

    def _paused(self, id_: str) -> bool:
        status = (self.world.engine.invocation(id_) or {}).get("status")
        if status == "suspended":
            self.world.engine.operate(id_, "resume").expect()
        if status != "paused":
            self.world.engine.operate(id_, "pause")
        return status == "paused"

    def target(self, **more: Any) -> dict[str, Any]:
        return {"services": [self.service], "handlers": [self.handler], "createdAfter": self.since, **more}

    def meddle(self) -> None:
        return


@dataclass
class _WithLatecomers(_OfOneHandler):
    """Some that are older than the action come to match, a few at a time, from its first call on."""

    late: set[str] = field(default_factory=set)
    came: set[str] = field(default_factory=set)

    def come(self, id_: str) -> None:
        """Let one match from now on."""
        raise NotImplementedError

    def meddle(self) -> None:
        for id_ in sorted(self.late - self.came)[:AT_ONCE]:
            self.come(id_)
            self.came.add(id_)

    def left_alone(self, columns: str, as_it_was: Callable[[dict[str, Any]], bool]) -> Problems:
        """Those that came are there and as they were; the others must only be there."""
        found = self.of_round(columns)
        told = "which came to match later, was touched"
        problems = [f"{id_}, {told}: it is gone" for id_ in self.late - found.keys()]
        there = self.came & found.keys()
        problems += [f"{id_}, {told}: {found[id_]}" for id_ in there if not as_it_was(found[id_])]
        if not self.came:
            problems.append("none came to match during the run")
        return problems


@dataclass
class Restarts(_WithLatecomers):
    """Each round restarts what the round before has made. Some that are older end, and so match, in mid-run."""

    handler: str = "sleep_echo"
    action: str = "RestartAsNew"
    originals: set[str] = field(default_factory=set)

    def prepare(self, size: int) -> dict[str, Any]:
        send = self.world.engine.send
        if len(self.originals) == size:
            # What the last round has made; nothing else was created since it began, but for its latecomers.
            self.since = self.until
        else:
            self.since = self.now()
            _many(lambda number: send(SERVICE, self.handler, [0.0, f"{number}"]), range(size))
        self.all_are("completed", size)
        mine = f"created_at > '{self.since}' and status = 'completed'"
        self.originals = {row["id"] for row in self.rows("id", mine)}
        self.late, self.came = self.sent(LATECOMERS, [36000.0, "late"]), set()
        target = self.target()
        self.until = self.now()
        return target

    def come(self, id_: str) -> None:
        self.world.engine.operate(id_, "cancel").expect()

    def wrong(self) -> Problems:
        found = Counter(
            row["restarted_from"]
            for row in self.rows("restarted_from", f"created_at > '{self.until}' and restarted_from is not null")
        )
        problems = [f"{id_} has {found[id_]} children, not 1" for id_ in self.originals if found[id_] != 1]
        problems += self.left_alone("status", lambda row: row["id"] not in found)
        strangers = found.keys() - self.originals - self.late
        problems += [f"{id_}, a child, was restarted" for id_ in strangers]
        for id_ in self.late - self.came:
            self.come(id_)
        return problems


@dataclass
class Purges(_WithLatecomers):
    """What has completed is purged. Some that are older complete in mid-run."""

    handler: str = "sleep_echo"
    action: str = "Purge"
    ids: set[str] = field(default_factory=set)

    def prepare(self, size: int) -> dict[str, Any]:
        self.since = self.now()
        self.ids = self.sent(size, [0.0, "done"])
        self.all_are("completed", size)
        self.late, self.came = self.sent(LATECOMERS, [36000.0, "late"]), set()
        return self.target()

    def come(self, id_: str) -> None:
        self.world.engine.operate(id_, "cancel").expect()

    def wrong(self) -> Problems:
        problems = self.untouched() + self.left_alone("journal_size", lambda row: row["journal_size"] > 0)
        for id_ in self.late - self.came:
            self.come(id_)
        return problems

    def untouched(self) -> Problems:
        """Which of those of the run are as they were."""
        return [f"{id_} was not purged" for id_ in self.ids & self.of_round("status").keys()]


@dataclass
class JournalPurges(Purges):
    """The rows stay."""

    action: str = "PurgeJournal"

    def untouched(self) -> Problems:
        left = self.of_round("journal_size")
        problems = [f"{id_} is gone" for id_ in self.ids - left.keys()]
        return problems + [
            f"{id_} has a journal: {left[id_]}" for id_ in self.ids & left.keys() if left[id_]["journal_size"]
        ]


@dataclass
class _Suspended(_WithLatecomers):
    """Those that are suspended; some that are older were paused, and are suspended again in mid-run."""

    def prepare(self, size: int) -> dict[str, Any]:
        self.since = self.now()
        self.sent(size, 3600.0)
        self.all_are("suspended", size)
        self.late, self.came = self.sent(LATECOMERS, 3600.0), set()
        self.pause(self.late)
        return self.target(statuses=["Suspended"])

    def come(self, id_: str) -> None:
        self.world.engine.operate(id_, "resume").expect()

    def left_alive(self) -> Problems:
        """What came to match later is alive, and nobody has asked it to end; it is taken away after that."""
        problems = self.left_alone("status", lambda row: row["status"] != "completed")
        signals = truth.cancel_signals(self.world.engine, sorted(self.late))
        problems += [f"{id_}, which came to match later, has {n} cancel signals" for id_, n in signals.items()]
        for id_ in self.late:
            self.world.engine.operate(id_, "kill")
        return problems

    def ids(self) -> list[list[str]]:
        """Those of the run, in lists that a query may name."""
        found = sorted(self.of_round("status").keys() - self.late)
        return [found[start : start + LISTED] for start in range(0, len(found), LISTED)]


@dataclass
class Sagas(_Suspended):
    """Compensations take two seconds; a second signal aborts one."""

    handler: str = "saga"
    action: str = "Cancel"

    def wrong(self) -> Problems:
        engine, lab = self.world.engine, self.world.lab
        return [
            problem for some in self.ids() for problem in truth.cancelled_once(engine, lab, some)
        ] + self.left_alive()


@dataclass
class Kills(_Suspended):
    """Nothing may be cancelled instead."""

    handler: str = "sleep_long"
    action: str = "Kill"

    def wrong(self) -> Problems:
        engine = self.world.engine
        problems: Problems = []
        for some in self.ids():
            problems += truth.ended_as(engine, some, "killed")
            problems += [f"{id_} was cancelled" for id_ in truth.cancel_signals(engine, some)]
        return problems + self.left_alive()


@dataclass
class Pausing(_WithLatecomers):
    """Paused in one round, resumed in the next. Some that were paused already are resumed by others in mid-run, and so
    match a Pause; and the other way round.
    """

    handler: str = "hold"
    action: str = "Resume"
    wanted: str = "running"
    ids: set[str] = field(default_factory=set)

    def prepare(self, size: int) -> dict[str, Any]:
        if len(self.ids) != size:
            self.since = self.now()
            self.ids, self.late = self.sent(size, 36000.0), self.sent(LATECOMERS, 36000.0)
            self.all_are("running", size + LATECOMERS)
        self.action, self.wanted = ("Resume", "running") if self.wanted == "paused" else ("Pause", "paused")
        self.came = set()
        self._bring(self.late, self.wanted)
        return self.target()

    def come(self, id_: str) -> None:
        self._bring([id_], "running" if self.wanted == "paused" else "paused")

    def _bring(self, ids: Iterable[str], status: str) -> None:
        if status == "paused":
            return self.pause(ids)
        for id_ in ids:
            self.world.engine.operate(id_, "resume").expect()
            self.world.engine.wait_status(id_, "running", timeout=60)
        return None

    def wrong(self) -> Problems:
        found = {id_: row["status"] for id_, row in self.of_round("status").items()}
        problems = [
            f"{id_} is {found.get(id_)}, not {self.wanted}" for id_ in self.ids if found.get(id_) != self.wanted
        ]
        return problems + self.left_alone("status", lambda row: row["status"] != self.wanted)


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
        _many(self.submit, sorted(self.keys))
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
