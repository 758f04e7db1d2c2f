"""A model of a Restate engine: invocations, what operations do to them, and when.

Held to the real engine by `tests/conformance`. It knows nothing of the operator. Effects come after a moment, as in the
engine; a restart makes it forget, for a moment, what it has not read of its log again.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from random import Random
from typing import Any

from e2e.simulation.tables import Tables

EPOCH = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
ALIVE = ("scheduled", "pending", "ready", "running", "suspended", "backing-off", "paused")
NOT_STARTED = ("scheduled", "pending")


def written(seconds: float) -> str:
    """Seconds since 1970 as the engine writes a time."""
    moment = datetime.fromtimestamp(seconds, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


@dataclass(frozen=True)
class Script:
    """How a handler behaves: where it comes to rest, and what it makes of a cancel."""

    rests: str = "suspended"
    """suspended, running, backing-off, paused, completed."""
    on_cancel: str = "cancelled"
    """cancelled, compensate, swallow (the first one), succeed, ignore (it throws before it awaits anything)."""
    seconds: float = 0.0
    """How long a compensation lasts, or a block that is not interrupted."""
    failure: str | None = None
    """A completed one ended with this failure."""
    retained: bool = True
    """Whether a completed one stays."""


SCRIPTS: dict[str, Script] = {
    "echo": Script("completed"),
    "fail_terminal": Script("completed", failure="[418] boom"),
    "zero_echo": Script("completed", retained=False),
    "sleep_long": Script("suspended"),
    "obj_sleep": Script("suspended"),
    "run": Script("suspended"),
    "hold": Script("running"),
    "busy": Script("running", seconds=2.0),
    "fail_slow_retry": Script("backing-off", "ignore"),
    "run_fails_slow": Script("backing-off"),
    "fail_then_pause": Script("paused", "ignore"),
    "run_fails_then_pause": Script("paused"),
    "saga": Script("suspended", "compensate", seconds=2.0),
    "swallow_cancel": Script("suspended", "swallow"),
    "swallow_and_succeed": Script("suspended", "succeed"),
}


@dataclass(eq=False)
class Invocation:
    """One invocation, in one life: an id may live again."""

    id: str
    service: str
    handler: str
    created: float
    script: Script
    status: str = "ready"
    key: str | None = None
    service_ty: str = "service"
    deployment: str | None = None
    modified: float = 0.0
    completed: float | None = None
    result: str | None = None
    failure: str | None = None
    last_failure: str | None = None
    retries: int | None = None
    restarted_from: str | None = None
    invoked_by: str = "ingress"
    parent: "Invocation | None" = None
    idempotency_key: str | None = None
    journal: list[tuple[int, str, str, float]] = field(default_factory=list)
    pauses: list[float] = field(default_factory=list)
    purged_journal: bool = False
    cancels: int = 0
    busy_until: float = 0.0
    compensating: bool = False
    aborted: bool = False
    """A second cancel came while it compensated."""
    wants_pause: bool = False
    lives: bool = True
    """Whether the engine still has it."""
    left: list[tuple[float, str]] = field(default_factory=list)
    """Every status that it left, and when: what an effect is judged by."""

    @property
    def identity(self) -> tuple[str, float]:
        """What the operator plans: id and time of creation."""
        return self.id, self.created

    @property
    def alive(self) -> bool:
        """Whether it has not ended."""
        return self.lives and self.status != "completed"


class Refused(Exception):
    """The engine's refusal: status and message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Engine:
    """One cluster. `later` calls something after some seconds, `now` is the engine's clock in seconds since 1970."""

    def __init__(
        self,
        later: Callable[[float, Callable[[], None]], object],
        clock: Callable[[], float],
        random: Random,
        tables: Tables,
        *,
        cluster_name: str = "cluster",
        skew: float = 0.0,
    ) -> None:
        self._later = later
        self._clock = clock
        self._random = random
        self._tables = tables
        self.cluster_name = cluster_name
        self.skew = skew
        self.version = "1.7.12"
        self.slowness = 1.0
        """Effects take so many times as long."""
        self.living: dict[str, Invocation] = {}
        self.history: list[Invocation] = []
        """Every invocation that ever was, in order."""
        self.deployments = [f"dp_{cluster_name}1"]
        self.services: dict[str, str] = {}
        self._dirty: dict[str, None] = {}
        self._known: dict[str, None] = {}
        self.noted: Callable[[str, str, Invocation | None, int], None] = lambda *_: None
        """Told of each operation: on which invocation it came, and the status of its answer."""
        self.down = False
        self._restarts = 0
        self.replaying: str | None = None
        """`nothing` or `old`: what queries show while the log is being read again."""
        tables.reset()

    # Time and ids.

    def now(self) -> float:
        """Seconds since 1970 on the engine's clock, in full milliseconds."""
        return int((EPOCH.timestamp() + self.skew + self._clock()) * 1000) / 1000

    def new_id(self, partition: int | None = None) -> str:
        """An id as the engine makes them."""
        key = self._random.getrandbits(64) if partition is None else partition << 60
        return "inv_1" + _digits(key, 11) + _digits(self._random.getrandbits(127) | 1, 22)

    def _moment(self) -> float:
        return (0.004 + 0.03 * self._random.random()) * self.slowness

    # Making invocations.

    def add(
        self, service: str, handler: str, status: str, *, script: Script | None = None, **fields: Any
    ) -> Invocation:
        """An invocation that has come to rest in `status`."""
        script = script or SCRIPTS[handler]
        made = Invocation(fields.pop("id", None) or self.new_id(), service, handler, self.now(), script, status)
        for name, value in fields.items():
            setattr(made, name, value)
        made.modified = made.created
        if status not in NOT_STARTED:
            made.deployment = made.deployment or self.latest(service)
            self._append(made, "Command: Input")
        if status == "suspended":
            self._append(made, "Command: Sleep")
        if status == "running" and script.seconds:
            made.busy_until = self._clock() + script.seconds
        if status == "backing-off":
            made.retries, made.last_failure = 1, "[500] retryable failure"
        if status == "paused":
            made.pauses.append(self.now())
        self.living[made.id] = made
        self.history.append(made)
        if status == "completed":
            self._append(made, "Command: Output")
            self._complete(made, script.failure)
        self._touch(made)
        return made

    def send(self, service: str, handler: str, **fields: Any) -> Invocation:
        """One that is sent now and comes to rest after a moment."""
        made = self.add(service, handler, "ready", **fields)
        self._later(self._moment(), lambda: self._settle(made))
        return made

    def submit(
        self,
        service: str,
        handler: str,
        *,
        key: str | None = None,
        idempotency_key: str | None = None,
        delayed: bool = False,
    ) -> Invocation:
        """What the ingress does: the same idempotency key finds the same invocation, and gives the same id again when
        that one is gone; a virtual object works on one call after the other.
        """
        fields: dict[str, Any] = {"key": key, "idempotency_key": idempotency_key}
        if idempotency_key is not None:
            number = zlib.crc32(f"{service}/{handler}/{key}/{idempotency_key}".encode())
            fields["id"] = "inv_1" + _digits(number, 11) + _digits(number * 0x9E3779B97F4A7C15, 22)
            if fields["id"] in self.living:
                return self.living[fields["id"]]
        if key is not None:
            fields["service_ty"] = "virtual_object"
        if delayed:
            return self.add(service, handler, "scheduled", **fields)
        holders = (other for other in self.living.values() if other.alive and other.status != "scheduled")
        if key is not None and any((other.service, other.key) == (service, key) for other in holders):
            return self.add(service, handler, "pending", **fields)
        return self.send(service, handler, **fields)

    def latest(self, service: str) -> str:
        """The deployment that new invocations of a service go to."""
        if service not in self.services:
            self.services[service] = self.deployments[-1]
            self._tables.deployments(self.deployments, self.services.items())
        return self.services[service]

    def deploy(self) -> str:
        """A new deployment that takes over every service."""
        self.deployments.append(f"dp_{self.cluster_name}{len(self.deployments) + 1}")
        self.services = dict.fromkeys(self.services, self.deployments[-1])
        self._tables.deployments(self.deployments, self.services.items())
        return self.deployments[-1]

    def finish(self, made: Invocation) -> None:
        """It ends by itself, well."""
        if made.alive and made.status not in NOT_STARTED:
            self._complete(made, None)

    # Operations: each returns the status of its answer, and raises `Refused`.

    def operate(self, op: str, id_: str, *, deployment: str | None = None) -> tuple[int, str | None]:
        """Carry out one operation; the status of the answer and, of a restart, the new id."""
        found = self.living.get(id_)
        try:
            done = self._operate(op, id_, found, deployment)
        except Refused as refused:
            self.noted(op, id_, found, refused.status)
            raise
        self.noted(op, id_, found, done[0])
        return done

    def _operate(self, op: str, id_: str, found: Invocation | None, deployment: str | None) -> tuple[int, str | None]:
        if found is None:
            raise Refused(404, f"The requested invocation '{id_}' does not exist")
        if deployment not in (None, "keep", "latest") and deployment not in self.deployments:
            raise Refused(400, "The given deployment was not found when trying to use it")
        match op:
            case "cancel":
                return self._cancel(found), None
            case "kill":
                return self._kill(found), None
            case "pause":
                return self._pause(found), None
            case "resume":
                return self._resume(found, deployment), None
            case "purge" | "purge-journal":
                return self._purge(found, journal_only=op == "purge-journal"), None
            case "restart-as-new":
                return 200, self._restart(found)
        raise AssertionError(op)

    def _cancel(self, found: Invocation) -> int:
        if found.status == "completed":
            raise Refused(409, f"The invocation '{found.id}' was already completed.")
        if found.status in NOT_STARTED:
            found.cancels += 1
            self._vanish(found)
            return 200
        found.cancels += 1
        self._append(found, "Notification: Signal", '{"SignalIndex":1}')
        if found.compensating:
            found.aborted = True
            self._complete(found, "[409] cancelled")
        elif found.status == "paused":
            self._enter(found, "ready")
            self._later(self._moment(), lambda: self._react(found))
        elif found.status != "backing-off":
            delay = max(self._moment(), found.busy_until - self._clock())
            self._later(delay, lambda: self._react(found))
        return 202

    def _react(self, found: Invocation) -> None:
        """A cancel meets the handler."""
        if not found.alive or not found.cancels or found.status in ("paused", "backing-off"):
            return
        match found.script.on_cancel:
            case "compensate" if not found.compensating:
                found.compensating = True
                self._enter(found, "running")
                self._append(found, "Command: Run")
                self._later(found.script.seconds * self.slowness, lambda: self._complete(found, "[409] cancelled"))
            case "swallow" if found.cancels < 2:
                self._append(found, "Command: Sleep")
                self._enter(found, "running")
            case "succeed":
                self._complete(found, None)
            case "ignore":
                self._settle(found)
            case "cancelled" | "swallow":
                self._complete(found, "[409] cancelled")

    def _kill(self, found: Invocation) -> int:
        if found.status == "completed":
            raise Refused(409, f"The invocation '{found.id}' was already completed.")
        if found.status in NOT_STARTED:
            self._vanish(found)
        else:
            self._complete(found, "[409] killed")
        for child in list(self.living.values()):
            if child.parent is found and child.alive:
                self._kill(child)
        return 200

    def _pause(self, found: Invocation) -> int:
        match found.status:
            case "completed" | "scheduled" | "pending":
                raise Refused(409, f"The invocation '{found.id}' is not running, cannot be paused.")
            case "suspended" | "paused":
                return 200
            case "ready":
                return 202
            case "backing-off":
                self._enter_paused(found)
                return 202
        found.wants_pause = True
        delay = max(self._moment(), found.busy_until - self._clock())
        self._later(delay, lambda: self._paused_now(found))
        return 202

    def _paused_now(self, found: Invocation) -> None:
        if found.alive and found.wants_pause and found.status == "running":
            self._enter_paused(found)

    def _enter_paused(self, found: Invocation) -> None:
        found.wants_pause = False
        found.pauses.append(self.now())
        self._enter(found, "paused")

    def _resume(self, found: Invocation, deployment: str | None) -> int:
        if found.status == "completed":
            raise Refused(409, f"The invocation '{found.id}' is completed, cannot be resumed.")
        if found.status in NOT_STARTED:
            raise Refused(425, f"The invocation '{found.id}' is either inboxed or scheduled, cannot be resumed.")
        elsewhere = deployment not in (None, "keep")
        if elsewhere and found.status in ("ready", "running", "backing-off"):
            raise Refused(
                409,
                f"The invocation '{found.id}' is still running or the deployment id is not pinned yet, deployment id "
                "cannot be changed.",
            )
        if elsewhere:
            found.deployment = self.latest(found.service) if deployment == "latest" else deployment
        if found.status in ("ready", "running"):
            return 200
        self._enter(found, "running")
        self._later(self._moment(), lambda: self._react(found) if found.cancels else self._settle(found))
        return 200

    def _purge(self, found: Invocation, *, journal_only: bool) -> int:
        if found.status != "completed":
            raise Refused(409, f"The invocation '{found.id}' is not yet completed.")
        if journal_only:
            found.purged_journal = True
            found.journal.clear()
            self._touch(found)
        else:
            self._vanish(found)
        return 200

    def _restart(self, found: Invocation) -> str:
        if found.status in NOT_STARTED:
            raise Refused(425, f"The invocation '{found.id}' cannot be restarted because it's not running yet.")
        if found.status != "completed":
            raise Refused(409, f"The invocation '{found.id}' is still running.")
        if found.service_ty == "workflow":
            raise Refused(
                422,
                f"Restarting the invocation '{found.id}' is not supported. Restarting workflows is not supported, use "
                "another key.",
            )
        if not found.journal:
            raise Refused(
                410,
                f"The invocation '{found.id}' cannot be restarted because the input is not available. This indicates "
                "that the journal was already purged, or not retained at all.",
            )
        child = self.send(
            found.service,
            found.handler,
            script=found.script,
            key=found.key,
            service_ty=found.service_ty,
            restarted_from=found.id,
            invoked_by="restart_as_new",
            parent=found,
        )
        return child.id

    # Transitions.

    def _settle(self, found: Invocation) -> None:
        """It runs, and comes to rest where its script says."""
        if not found.alive or found.status in NOT_STARTED:
            return
        match found.script.rests:
            case "completed":
                self._append(found, "Command: Output")
                self._complete(found, found.script.failure)
            case "backing-off":
                found.retries, found.last_failure = (found.retries or 0) + 1, "[500] retryable failure"
                self._enter(found, "backing-off")
            case "paused":
                self._enter_paused(found)
            case rests:
                if all(entry != "Command: Sleep" for _, entry, _, _ in found.journal):
                    self._append(found, "Command: Sleep")
                self._enter(found, rests)
        if found.wants_pause:
            self._paused_now(found)

    def _complete(self, found: Invocation, failure: str | None) -> None:
        if not found.alive and (found.status != "completed" or found.completed is not None):
            return
        found.compensating = False
        found.completed = self.now()
        found.result, found.failure = ("success", None) if failure is None else ("failure", failure)
        self._enter(found, "completed")
        if not found.script.retained:
            self._vanish(found)
        self._wake_next(found)

    def _wake_next(self, found: Invocation) -> None:
        """The key of a virtual object is free: the next call in its inbox begins."""
        if found.key is None:
            return
        for other in list(self.living.values()):
            if other.status == "pending" and (other.service, other.key) == (found.service, found.key):
                other.deployment = self.latest(other.service)
                self._append(other, "Command: Input")
                self._enter(other, "running")
                self._later(self._moment(), partial(self._settle, other))
                return

    def _enter(self, found: Invocation, status: str) -> None:
        found.left.append((self._clock(), found.status))
        found.status = status
        found.modified = self.now()
        self._touch(found)

    def _vanish(self, found: Invocation) -> None:
        found.left.append((self._clock(), found.status))
        found.lives = False
        self.living.pop(found.id, None)
        self._dirty[found.id] = None

    def _append(self, found: Invocation, entry: str, content: str = "{}") -> None:
        found.journal.append((len(found.journal), entry, content, self.now()))
        self._touch(found)

    def _touch(self, found: Invocation) -> None:
        self._dirty[found.id] = None

    # Queries.

    def query(self, sql: str) -> list[dict[str, Any]]:
        """Rows of a statement, of what is known at this moment."""
        if self.replaying is None:
            self._refresh()
        self._tables.now = lambda: written(self.now())
        return self._tables.query(sql)

    def _refresh(self) -> None:
        for id_ in self._dirty:
            found = self.living.get(id_)
            if found is None:
                if id_ in self._known:
                    self._tables.drop(id_)
                    del self._known[id_]
                continue
            self._tables.put(*_rows(found))
            self._known[id_] = None
        self._dirty.clear()

    def restart(self, down: float, unread: float, *, shows: str) -> None:
        """It is gone for `down` seconds, and reads its log for `unread` more; queries show `nothing` or `old` rows."""
        self.replaying = shows
        self.down = True
        if shows == "nothing":
            for id_ in self._known:
                self._tables.drop(id_)
                self._dirty[id_] = None
            self._known.clear()

        self._restarts += 1
        mine = self._restarts

        def up() -> None:
            # One that was restarted again meanwhile is not up yet.
            if mine == self._restarts:
                self.down = False
                self._later(unread, read)

        def read() -> None:
            if mine == self._restarts:
                self.replaying = None

        self._later(down, up)


def _rows(found: Invocation) -> tuple[tuple[Any, ...], list[tuple[Any, ...]], list[tuple[Any, ...]]]:
    row = (
        found.id,
        written(found.created),
        found.status,
        found.service,
        found.handler,
        found.key,
        found.service_ty,
        found.invoked_by,
        found.parent.service if found.parent is not None and found.invoked_by == "service" else None,
        found.parent.id if found.parent is not None and found.invoked_by == "service" else None,
        found.restarted_from,
        found.deployment,
        written(found.modified),
        None if found.completed is None else written(found.completed),
        len(found.journal),
        found.retries,
        found.result,
        found.failure,
        found.idempotency_key,
        None,
        found.last_failure if found.status == "backing-off" else None,
    )
    journal = [(found.id, n, entry, content, written(at), 2, 10) for n, entry, content, at in found.journal]
    events = [(found.id, 0, written(at), "Paused", "{}") for at in found.pauses]
    return row, journal, events


def _digits(value: int, digits: int) -> str:
    text = ""
    for _ in range(digits):
        value, digit = divmod(value, 62)
        text = _ALPHABET[digit] + text
    return text
