"""The model engine against the real one: every operation in every status, alone and in a batch; what queries show."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from invocation_operator.api.v1alpha1.target import InvocationStatus
from invocation_operator.engine.batch import status_of
from invocation_operator.target.freeze import FrozenLeaf, FrozenTarget
from invocation_operator.target.row import row_from_json
from invocation_operator.target.sql import count_by_service, count_by_status, select, select_ids
from invocation_operator.values.ids import sibling
from invocation_operator.values.times import parse_time
from tests.conformance.conftest import AnyEngine, Row

MALFORMED = "inv_1bogus"
STATUSES = ("scheduled", "pending", "running", "suspended", "backing-off", "paused", "completed")
OPERATIONS = ("cancel", "kill", "pause", "resume", "purge", "purge-journal", "restart-as-new", "resume-latest")

# Answers by operation, in the order of STATUSES; then unknown and malformed.
ANSWERS: dict[str, tuple[int, ...]] = {
    "cancel": (200, 200, 202, 202, 202, 202, 409, 404, 400),
    "kill": (200, 200, 200, 200, 200, 200, 409, 404, 400),
    "pause": (409, 409, 202, 200, 202, 200, 409, 404, 400),
    "resume": (425, 425, 200, 200, 200, 200, 409, 404, 400),
    "purge": (409, 409, 409, 409, 409, 409, 200, 404, 400),
    "purge-journal": (409, 409, 409, 409, 409, 409, 200, 404, 400),
    "restart-as-new": (425, 425, 409, 409, 409, 409, 200, 404, 400),
    "resume-latest": (425, 425, 409, 200, 409, 200, 409, 404, 400),
}
CANCELLED, KILLED = ("completed", "[409] cancelled"), ("completed", "[409] killed")
GONE = ("absent", None)

# What becomes of it, where that is not what it was: status and failure.
EFFECTS: dict[tuple[str, str], tuple[str, str | None]] = {
    ("cancel", "scheduled"): GONE,
    ("cancel", "pending"): GONE,
    ("cancel", "running"): CANCELLED,
    ("cancel", "suspended"): CANCELLED,
    ("cancel", "paused"): CANCELLED,  # a cancel resumes it
    ("kill", "scheduled"): GONE,
    ("kill", "pending"): GONE,
    ("kill", "running"): KILLED,
    ("kill", "suspended"): KILLED,
    ("kill", "backing-off"): KILLED,
    ("kill", "paused"): KILLED,
    ("pause", "running"): ("paused", None),
    ("pause", "backing-off"): ("paused", None),
    ("purge", "completed"): GONE,
}


@dataclass
class Population:
    """Invocations in every status, one for each operation alone and one for each in a batch."""

    engine: AnyEngine
    ids: dict[tuple[str, str], str] = field(default_factory=dict)
    _names: Iterator[int] = field(default_factory=itertools.count)

    def make(self, status: str) -> str:
        send = self.engine.send
        match status:
            case "scheduled":
                return send("LabSvc", "sleep_long", 3600.0, delay="1h")
            case "pending":
                key = f"conformance-{next(self._names)}"
                send("LabObj", "obj_sleep", 3600.0, key=key)
                return send("LabObj", "obj_sleep", 3600.0, key=key)
            case "running":
                return send("LabSvc", "hold", 3600.0)
            case "suspended":
                return send("LabSvc", "sleep_long", 3600.0)
            case "backing-off":
                return send("LabSvc", "run_fails_slow", "x")
            case "paused":
                return send("LabSvc", "run_fails_then_pause", "x")
        return send("LabSvc", "echo", "x")

    def settle(self) -> None:
        """Wait until each is in its status."""

        def settled() -> bool:
            found = rows(self.engine, list(self.ids.values()))
            return all(found.get(id_, {}).get("status") == status for (_, status), id_ in self.ids.items())

        self.engine.until(settled, 30.0)


def rows(engine: AnyEngine, ids: list[str]) -> dict[str, Row]:
    status, answer = engine.ask("POST", "/query", {"query": select_ids(ids, scopes_supported=True)})
    assert status == 200, answer
    return {row["id"]: row for row in answer["rows"]}


def row_of(engine: AnyEngine, id_: str) -> Row | None:
    return rows(engine, [id_]).get(id_)


def sql(engine: AnyEngine, statement: str) -> list[Row]:
    status, answer = engine.ask("POST", "/query", {"query": statement})
    assert status == 200, answer
    found: list[Row] = answer["rows"]
    return found


@pytest.fixture(scope="module")
def population(any_engine: AnyEngine) -> Population:
    made = Population(any_engine)
    for op, status in itertools.product((*OPERATIONS, *(f"batch-{op}" for op in OPERATIONS)), STATUSES):
        made.ids[op, status] = made.make(status)
    made.settle()
    return made


def path(op: str, id_: str) -> str:
    if op == "resume-latest":
        return f"/invocations/{id_}/resume?deployment=latest"
    return f"/invocations/{id_}/{op}"


@pytest.mark.parametrize("op", OPERATIONS)
def test_operation_in_each_status_is_answered_and_does_the_same(population: Population, op: str) -> None:
    engine = population.engine
    pauses = {status: paused(engine, population.ids[op, status]) for status in STATUSES}
    for status, wanted in zip(STATUSES, ANSWERS[op], strict=False):
        code, answer = engine.ask("PATCH", path(op, population.ids[op, status]))
        assert code == wanted, (status, answer)
        if code < 300 and op != "restart-as-new":
            assert answer == "", "an answer without a body"
        if code >= 400:
            assert isinstance(answer["message"], str)
    for status in STATUSES:
        id_ = population.ids[op, status]
        wanted_status, failure = EFFECTS.get((op, status), (status, None))

        def there(id_: str = id_, wanted_status: str = wanted_status, failure: str | None = failure) -> bool:
            row = row_of(engine, id_)
            if wanted_status == "absent":
                return row is None
            return (
                row is not None and row["status"] == wanted_status and failure in (None, row.get("completion_failure"))
            )

        engine.until(there)
        if op.startswith("resume") and status == "paused":
            # It runs, fails and is paused anew.
            engine.until(lambda id_=id_: paused(engine, id_) == pauses["paused"] + 1)  # type: ignore[misc]


def paused(engine: AnyEngine, id_: str) -> int:
    found = sql(engine, f"select count(*) as n from sys_journal_events where id = '{id_}' and event_type = 'Paused'")
    return int(found[0]["n"])


@pytest.mark.parametrize("op", OPERATIONS)
def test_operation_on_what_is_not_there_is_refused(any_engine: AnyEngine, population: Population, op: str) -> None:
    unknown = sibling(population.ids["kill", "running"])
    for id_, wanted in ((unknown, 404), (MALFORMED, 400)):
        code, answer = any_engine.ask("PATCH", path(op, id_))
        assert code == wanted
        assert isinstance(answer["message"], str)


@pytest.mark.parametrize("op", OPERATIONS)
def test_batch_answers_each_item_as_the_single_call_does(population: Population, op: str) -> None:
    engine, body = population.engine, {"deployment": "latest"} if op == "resume-latest" else {}
    ids = {status: population.ids[f"batch-{op}", status] for status in STATUSES}
    ids["unknown"] = sibling(ids["running"])
    url = f"/internal/invocations_batch_operations/{op.removesuffix('-latest')}"
    code, answer = engine.ask("POST", url, {"invocation_ids": list(ids.values()), **body})
    assert code == 200
    refused = {item["invocation_id"]: status_of(item["error"]) for item in answer["failed"]}
    taken = {item["old_invocation_id"] if isinstance(item, dict) else item for item in answer["succeeded"]}
    for status, wanted in zip(ids, ANSWERS[op], strict=False):
        if wanted < 300:
            assert ids[status] in taken, status
        else:
            assert refused.get(ids[status]) == wanted, status


@pytest.mark.parametrize(
    ("op", "ids", "wanted"),
    [
        ("cancel", [], 200),
        ("cancel", ["inv_none"], 422),
        ("cancel", 1001, 400),
        ("undo", [], 404),
        ("cancel", None, 422),
    ],
    ids=["nothing", "malformed", "too-many", "unknown-operation", "no-list"],
)
def test_batch_as_a_whole(any_engine: AnyEngine, population: Population, op: str, ids: Any, wanted: int) -> None:
    if isinstance(ids, int):
        ids = [sibling(population.ids["kill", "running"])] * ids
    body = {} if ids is None else {"invocation_ids": ids}
    code, answer = any_engine.ask("POST", f"/internal/invocations_batch_operations/{op}", body)
    assert code == wanted
    if wanted == 200:
        assert answer == {"succeeded": [], "failed": []}


def test_restart_makes_a_new_invocation_each_time(any_engine: AnyEngine) -> None:
    original = any_engine.send("LabSvc", "echo", "x", idempotency_key="conformance-restart")
    any_engine.until(lambda: (row_of(any_engine, original) or {}).get("status") == "completed")
    made = []
    for _ in range(2):
        code, answer = any_engine.ask("PATCH", path("restart-as-new", original))
        assert code == 200
        made.append(answer["new_invocation_id"])
    found = sql(
        any_engine,
        f"select id, created_at, restarted_from from sys_invocation where restarted_from in ('{original}')",
    )
    assert {row["id"] for row in found} == set(made)
    assert all(parse_time(row["created_at"]) for row in found)
    any_engine.until(lambda: (row_of(any_engine, made[0]) or {}).get("status") == "completed")
    child = row_of(any_engine, made[0])
    assert child is not None
    assert (child["invoked_by"], child["restarted_from"]) == ("restart_as_new", original)


@pytest.mark.parametrize(("kind", "wanted"), [("workflow", 422), ("purged", 410)])
def test_restart_of_what_cannot_be_restarted_is_refused(any_engine: AnyEngine, kind: str, wanted: int) -> None:
    if kind == "workflow":
        id_ = any_engine.send("LabWf", "run", 0.0, key="conformance-workflow")
    else:
        id_ = any_engine.send("LabSvc", "echo", "x")
    any_engine.until(lambda: (row_of(any_engine, id_) or {}).get("status") == "completed")
    if kind == "purged":
        assert any_engine.ask("PATCH", path("purge-journal", id_))[0] == 200
        row = row_of(any_engine, id_)
        assert row is not None
        assert row["journal_size"] == 0
    assert any_engine.ask("PATCH", path("restart-as-new", id_))[0] == wanted


@pytest.mark.parametrize("how", ["purge", "cancel"])
def test_key_gives_the_same_id_again_with_a_later_creation(any_engine: AnyEngine, how: str) -> None:
    options: dict[str, Any] = {"idempotency_key": f"conformance-again-{how}"}
    if how == "cancel":
        options["delay"] = "1h"
    first = any_engine.send("LabSvc", "echo", "x", **options)
    before = "completed" if how == "purge" else "scheduled"
    any_engine.until(lambda: (row_of(any_engine, first) or {}).get("status") == before)
    assert any_engine.send("LabSvc", "echo", "x", **options) == first, "the key finds it while it is there"
    born = row_of(any_engine, first)
    any_engine.until(lambda: any_engine.ask("PATCH", path(how, first))[0] in (200, 404))
    any_engine.until(lambda: row_of(any_engine, first) is None)
    assert any_engine.send("LabSvc", "echo", "x", **options) == first
    any_engine.until(lambda: row_of(any_engine, first) is not None)
    again = row_of(any_engine, first)
    assert born is not None
    assert again is not None
    assert parse_time(again["created_at"]) > parse_time(born["created_at"])


def test_cancels_are_signals_in_the_journal_and_each_adds_one(any_engine: AnyEngine) -> None:
    id_ = any_engine.send("LabSvc", "run_fails_slow", "x")
    any_engine.until(lambda: (row_of(any_engine, id_) or {}).get("status") == "backing-off")
    is_cancel = "entry_type = 'Notification: Signal' and entry_lite_json like '%\"SignalIndex\":1}%'"
    statement = (
        f"select id, max(index) as last, count(*) filter (where version < 2) as old,"
        f" count(*) filter (where {is_cancel}) as cancels, max(index) filter (where {is_cancel}) as cancel_index,"
        f" max(appended_at) filter (where {is_cancel}) as cancel_at"
        f" from sys_journal where id in ('{id_}') group by id"
    )
    (before,) = sql(any_engine, statement)
    assert before["cancels"] == 0
    assert "cancel_at" not in before, "null columns are left out"
    for number in (1, 2):
        assert any_engine.ask("PATCH", path("cancel", id_))[0] == 202
        any_engine.until(lambda number=number: sql(any_engine, statement)[0]["cancels"] == number)  # type: ignore[misc]
    (after,) = sql(any_engine, statement)
    assert after["cancel_index"] == after["last"]
    assert parse_time(after["cancel_at"])


def test_second_cancel_aborts_a_compensation(any_engine: AnyEngine) -> None:
    id_ = any_engine.send("LabSvc", "saga", 3600.0)
    any_engine.until(lambda: (row_of(any_engine, id_) or {}).get("status") == "suspended")
    assert any_engine.ask("PATCH", path("cancel", id_))[0] == 202
    any_engine.until(lambda: (row_of(any_engine, id_) or {}).get("status") == "running")
    assert any_engine.ask("PATCH", path("cancel", id_))[0] == 202
    any_engine.until(lambda: (row_of(any_engine, id_) or {}).get("completion_failure") == "[409] cancelled", 1.5)


def test_cancel_of_the_holder_frees_the_key(any_engine: AnyEngine) -> None:
    first = any_engine.send("LabObj", "obj_sleep", 3600.0, key="conformance-freed")
    any_engine.until(lambda: (row_of(any_engine, first) or {}).get("status") == "suspended")
    second = any_engine.send("LabObj", "obj_sleep", 3600.0, key="conformance-freed")
    any_engine.until(lambda: (row_of(any_engine, second) or {}).get("status") == "pending")
    assert any_engine.ask("PATCH", path("cancel", first))[0] == 202
    any_engine.until(lambda: (row_of(any_engine, second) or {}).get("status") == "suspended")


@pytest.mark.parametrize("handler", ["swallow_cancel", "swallow_and_succeed"])
def test_cancel_may_not_end_it_as_cancelled(any_engine: AnyEngine, handler: str) -> None:
    id_ = any_engine.send("LabSvc", handler, 3600.0)
    any_engine.until(lambda: (row_of(any_engine, id_) or {}).get("status") == "suspended")
    assert any_engine.ask("PATCH", path("cancel", id_))[0] == 202
    if handler == "swallow_and_succeed":
        any_engine.until(lambda: (row_of(any_engine, id_) or {}).get("completion_result") == "success")
        return
    last = f"select max(index) as last from sys_journal where id = '{id_}'"
    # Input, a sleep, the signal, and the sleep that it went on with.
    any_engine.until(lambda: sql(any_engine, last)[0]["last"] == 3)
    assert (row_of(any_engine, id_) or {})["status"] == "running"
    assert any_engine.ask("PATCH", path("cancel", id_))[0] == 202
    any_engine.until(lambda: (row_of(any_engine, id_) or {}).get("completion_failure") == "[409] cancelled")


def test_rows_hold_what_the_operator_reads(any_engine: AnyEngine) -> None:
    done = any_engine.send("LabSvc", "fail_terminal", "boom")
    held = any_engine.send("LabSvc", "hold", 3600.0)
    any_engine.until(lambda: (row_of(any_engine, done) or {}).get("status") == "completed")
    any_engine.until(lambda: (row_of(any_engine, held) or {}).get("status") == "running")
    found = rows(any_engine, [done, held])
    told = {name: found[done].get(name) for name in ("completion_result", "completion_failure", "target_service_ty")}
    assert told == {
        "completion_result": "failure",
        "completion_failure": "[418] boom",
        "target_service_ty": "service",
    }
    assert found[done]["journal_size"] > 0
    assert {"completed_at", "completion_result", "completion_failure", "target_service_key"}.isdisjoint(found[held])
    for row in found.values():
        assert row_from_json(row).source == "ingress"
        assert row_from_json(row).pinned_deployment_id


def test_query_of_the_target_language_selects_and_counts(any_engine: AnyEngine) -> None:
    held = any_engine.send("LabSvc", "hold", 3600.0)
    any_engine.until(lambda: (row_of(any_engine, held) or {}).get("status") == "running")
    born = parse_time((row_of(any_engine, held) or {})["created_at"])
    leaf = FrozenLeaf(services=("LabSv*",), handlers=("hold",), created_after=born)
    frozen = FrozenTarget(leaf=leaf, default_statuses=frozenset({InvocationStatus.RUNNING}))
    found = sql(any_engine, select(frozen, scopes_supported=True, limit=10))
    assert held in {row["id"] for row in found}
    counted = {row["status"]: row["count"] for row in sql(any_engine, count_by_status(frozen, scopes_supported=True))}
    assert counted["running"] == len(found)
    by_service = sql(any_engine, count_by_service(["LabSvc"], [InvocationStatus.RUNNING]))
    assert by_service[0]["service"] == "LabSvc"
    assert by_service[0]["count"] >= len(found)


def test_query_with_a_malformed_id_fails_as_a_whole(any_engine: AnyEngine) -> None:
    code, answer = any_engine.ask("POST", "/query", {"query": "select id from sys_invocation where id = 'inv_bogus'"})
    assert code == 500
    assert "non valid invocation id" in answer["message"]


def test_engine_tells_its_version_name_clock_and_deployments(any_engine: AnyEngine) -> None:
    code, version = any_engine.ask("GET", "/version")
    assert code == 200
    assert version["version"] == "1.7.12"
    code, health = any_engine.ask("GET", "/cluster-health")
    assert code == 200
    assert isinstance(health["cluster_name"], str)
    assert parse_time(sql(any_engine, "select now() as now")[0]["now"])
    any_engine.send("LabSvc", "echo", "x")
    deployments = {row["id"] for row in sql(any_engine, "select id from sys_deployment")}
    services = sql(any_engine, "select name, deployment_id from sys_service")
    assert {row["deployment_id"] for row in services if row["name"] == "LabSvc"} <= deployments
    columns = sql(any_engine, "select column_name from information_schema.columns where table_name = 'sys_invocation'")
    assert {"scope", "restarted_from", "journal_size"} <= {row["column_name"] for row in columns}
