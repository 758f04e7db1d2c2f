"""Invocations in every status, with every kind of name, on an engine that then stays as it is.

Used by the tests that compare the target language's SQL with the same predicate in Python.
"""

import time
from collections.abc import Callable
from urllib.parse import quote

from e2e.rig import Engine, ServicesProcess
from e2e.rig.wire import exchange
from invocation_operator.api.v1alpha1.target import InvocationStatus
from invocation_operator.target.freeze import FrozenLeaf, FrozenTarget
from invocation_operator.target.row import InvocationRow, row_from_json
from invocation_operator.target.sql import ALL_COLUMNS, select

EVERYTHING = FrozenTarget(leaf=FrozenLeaf(), default_statuses=frozenset(InvocationStatus))

KEYS = (
    "plain",
    "Plain",
    "plain ",
    "it's",
    "''",
    "a'b''c",
    "back\\slash",
    "\\'",
    "50%",
    "a_b",
    "axb",
    "star*",
    "star",
    "*",
    "'; drop table sys_invocation; --",
    "x') or ('1'='1",
    "/* */ -- #",
    "new\nline",
    "new",
    "tab\tend",
    "\u00e9",
    "e\u0301",
    "e",
    "\U0001d4b3astral",
    "\U0010ffff",
    "\U0010ffffz",
    "\ue000private",
    "\ud7ffbefore",
    "\u05e9\u05dc\u05d5\u05dd",
    "a\u202eb",
    "a/slash",
    " ",
    "null",
    "true",
    "{ids}",
    "%s{0}${x}",
    "\u00df",
    "SS",
    "a\x00b",
    "a",
)
IDEMPOTENCY_KEYS = ("it's", "a_b", "axb", "50%", "x' or '1'='1", "back\\slash", "*", "plain", "PLAIN", "a b")
MESSAGES = (
    "boom",
    "Boom",
    "it's 50% of_it",
    "[503] nested] [x",
    "multi\nline",
    "\u00e9 e\u0301 \U0001d4b3",
    "cancelled",
    "x') or 1=1 --",
    'back\\slash "quoted"',
    "] ",
)
SETTINGS = {"RESTATE_DEFAULT_NUM_PARTITIONS": "1", "RESTATE_WORKER__INVOKER__CONCURRENT_INVOCATIONS_LIMIT": "12"}
"""Beyond this many that run (in a partition), invocations stay ready."""

_PATIENCE = 60.0
"""Seconds to wait for a status on a busy machine."""

SCOPES = {
    "RESTATE_EXPERIMENTAL_ENABLE_VQUEUES": "true",
    "RESTATE_EXPERIMENTAL_ENABLE_PROTOCOL_V7": "true",
    "RESTATE_EXPERIMENTAL_ENABLE_SCOPED_VIRTUAL_OBJECTS": "true",
}
"""Scopes are behind an experiment in 1.7."""


def populate_scopes(engine: Engine, services: ServicesProcess) -> list[InvocationRow]:
    """The same keys with and without scopes: the engine finds rows by the hash of either."""
    engine.register(services.uri)
    for prefix in ("", "restate/scope/s1/send/", "restate/scope/a_b/send/", "restate/scope/axb/send/"):
        for key in ("s1", "a_b", "k"):
            for path, body in ((f"LabObj/{key}/obj_echo", "x"), (f"LabWf/{key}/run", 0), (f"LabWf/{key}w/run", 36000)):
                exchange("POST", f"{engine.ingress_url}/{prefix}{path}{'' if prefix else '/send'}", body).expect()
        exchange(
            "POST", f"{engine.ingress_url}/{prefix}LabSvc/fail_terminal{'' if prefix else '/send'}", "boom"
        ).expect()
    return _at_rest(engine)


def populate(engine: Engine, services: ServicesProcess, similar: ServicesProcess) -> list[InvocationRow]:
    """Start and settle everything; the rows at rest. ``similar`` serves the same under names that begin alike."""
    engine.register(services.uri)
    engine.register(similar.uri)
    for n, key in enumerate(KEYS):
        service = ("LabObj", "LabObj_LabObj")[n % 2]
        send(engine, service, key, "obj_sleep" if n % 3 == 0 else "obj_echo", 36000 if n % 3 == 0 else "x")
        send(engine, service, key, "obj_echo", "waits behind the key, or not")
    for n, key in enumerate(KEYS[:8]):
        send(engine, ("LabWf", "LabObj_LabWf")[n % 2], key, "run", 36000 if n % 2 else 0)
    for key in IDEMPOTENCY_KEYS:
        engine.send("LabSvc", "echo", "x", idempotency_key=key)
    for message in MESSAGES:
        engine.send("LabSvc", "fail_terminal", message)
    _failing(engine)
    _called(engine)
    _ended(engine)
    engine.send("LabSvc", "echo", "x", delay="10h")
    engine.send("LabObj_LabSvc", "steps", "x", delay="10h", idempotency_key="later")
    _paused(engine)
    _paused_again_for_another_reason(engine, similar)
    for _ in range(20):
        engine.send("LabSvc", "hold", 36000)
    return _at_rest(engine)


def send(engine: Engine, service: str, key: str, handler: str, body: object) -> None:
    """Like ``Engine.send``, for keys that are nothing but odd."""
    path = "/".join(quote(part, safe="") for part in (service, key, handler))
    exchange("POST", f"{engine.ingress_url}/{path}/send", body).expect()


def _failing(engine: Engine) -> None:
    for service in ("LabSvc", "LabObj_LabSvc"):
        for handler in ("fail_slow_retry", "fail_slow_after_step", "run_fails_slow", "fail_then_kill"):
            engine.send(service, handler, "x")
        for handler in ("fail_then_pause", "run_fails_then_pause"):
            engine.send(service, handler, "x")
    again = engine.send("LabSvc", "fail_slow_retry", "x")
    engine.wait_status(again, "backing-off", timeout=_PATIENCE)
    for attempt in (2, 3):
        assert engine.operate(again, "resume").status in {200, 202}
        # A resume in the midst of an attempt would start no other.
        _until(lambda attempt=attempt: _backs_off(engine, again, attempt))


def _backs_off(engine: Engine, invocation: str, attempt: int) -> bool:
    row = engine.invocation(invocation) or {}
    return (row.get("status"), row.get("retry_count")) == ("backing-off", attempt)


def _called(engine: Engine) -> None:
    for service in ("LabSvc", "LabObj_LabSvc"):
        engine.send(service, "call_tree2", 36000)
        engine.send(service, "send_children", 36000)


def _ended(engine: Engine) -> None:
    for operation in ("cancel", "kill"):
        for handler in ("sleep_long", "swallow_and_refail", "swallow_and_succeed"):
            ended = engine.send("LabSvc", handler, 36000)
            engine.wait_status(ended, "suspended", timeout=_PATIENCE)
            engine.operate(ended, operation)
            engine.wait_status(ended, "completed", timeout=_PATIENCE)
    for handler in ("steps", "fail_terminal"):
        first = engine.send("LabSvc", handler, "x")
        engine.wait_status(first, "completed", timeout=_PATIENCE)
        assert engine.operate(first, "restart-as-new").status == 200
    purged = engine.send("LabSvc", "steps", "x")
    engine.wait_status(purged, "completed", timeout=_PATIENCE)
    assert engine.operate(purged, "purge-journal").status == 200


def _paused(engine: Engine) -> None:
    by_hand = engine.send("LabSvc", "hold", 36000)
    engine.wait_status(by_hand, "running", timeout=_PATIENCE)
    while_backing_off = engine.send("LabSvc", "fail_slow_retry", "x")
    engine.wait_status(while_backing_off, "backing-off", timeout=_PATIENCE)
    for paused in (by_hand, while_backing_off):
        assert engine.operate(paused, "pause").status in {200, 202}
        engine.wait_status(paused, "paused", timeout=_PATIENCE)
    twice = engine.send("LabSvc", "fail_then_pause", "x")
    engine.wait_status(twice, "paused", timeout=_PATIENCE)
    assert engine.operate(twice, "resume").status in {200, 202}
    _until(lambda: _pauses(engine, twice) == 2)
    # The event stays when the invocation is not paused any more, and must not count then.
    was_paused = engine.send("LabSvc", "fail_then_pause", "x")
    engine.wait_status(was_paused, "paused", timeout=_PATIENCE)
    engine.operate(was_paused, "kill")
    engine.wait_status(was_paused, "completed", timeout=_PATIENCE)


def _paused_again_for_another_reason(engine: Engine, similar: ServicesProcess) -> None:
    """First by hand, without a failure; then by hand while nobody answers. ``similar`` stays away."""
    again = engine.send("LabObj_LabSvc", "hold", 36000)
    engine.wait_status(again, "running", timeout=_PATIENCE)
    assert engine.operate(again, "pause").status in {200, 202}
    engine.wait_status(again, "paused", timeout=_PATIENCE)
    similar.stop()
    assert engine.operate(again, "resume").status in {200, 202}
    engine.wait_status(again, "backing-off", timeout=_PATIENCE)
    assert engine.operate(again, "pause").status in {200, 202}
    engine.wait_status(again, "paused", timeout=_PATIENCE)
    assert _pauses(engine, again) == 2


def _pauses(engine: Engine, invocation: str) -> int:
    rows = engine.sql(f"select id from sys_journal_events where id = '{invocation}' and event_type = 'Paused'")
    return len(rows)


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def rows(engine: Engine, *, scopes: bool) -> list[InvocationRow]:
    """Everything that is there."""
    return [row_from_json(row) for row in engine.sql(select(EVERYTHING, ALL_COLUMNS, scopes_supported=scopes))]


def _at_rest(engine: Engine) -> list[InvocationRow]:
    columns = "select column_name from information_schema.columns where table_name = 'sys_invocation'"
    scopes = {"column_name": "scope"} in engine.sql(columns)
    seen: list[list[InvocationRow]] = []
    for _ in range(60):
        seen.append(rows(engine, scopes=scopes))
        if len(seen) > 2 and seen[-1] == seen[-2] == seen[-3]:
            return seen[-1]
        time.sleep(0.7)
    raise AssertionError(f"still moving: {set(seen[-1]) - set(seen[-2])}")
