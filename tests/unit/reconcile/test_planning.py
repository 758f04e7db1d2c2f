"""The plan, whatever the engine answers: rows of a newer engine, rows that come twice, hints that cannot be had."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from invocation_operator.api.v1alpha1.action import ActionSpec, Outcome
from invocation_operator.api.v1alpha1.base import EngineIdentity
from invocation_operator.api.v1alpha1.engine import EngineSpec, Guardrails
from invocation_operator.api.v1alpha1.record import RecordSpec
from invocation_operator.engine import errors
from invocation_operator.engine.client import Connection, EngineClient
from invocation_operator.engine.models import EngineCapabilities, Handler, Service
from invocation_operator.engine.rows import Row
from invocation_operator.engine.version import Version
from invocation_operator.plan.identity import canonical_json, canonical_spec, plan_hash, plan_place
from invocation_operator.plan.refusal import Refusal
from invocation_operator.reconcile import planning
from invocation_operator.reconcile.budget import Budget
from invocation_operator.reconcile.cascade import Descendants
from invocation_operator.reconcile.engines import Probe, Resolved, Station
from invocation_operator.reconcile.planning import SPECIFICATION_LIMIT, Planning, check_target, make_plan

NOW = datetime(2026, 1, 2, tzinfo=UTC)
BORN = datetime(2026, 1, 1, tzinfo=UTC)


def inv(number: int) -> str:
    return f"inv_1{number:033d}"


def row(number: int, *, born: int = 0, **fields: Any) -> Row:
    base: Row = {
        "id": inv(number),
        "created_at": (BORN + timedelta(seconds=born)).isoformat(),
        "status": "running",
        "target_service_name": "checkout",
        "target_handler_name": "pay",
    }
    return {name: value for name, value in (base | fields).items() if value is not None}


async def no_time(_: float) -> None:
    """What is asked again need not be waited for."""


class MemoryEngine:
    """Answers by what a statement asks for."""

    def __init__(self, *rows: Row) -> None:
        self.found = list(rows)
        self.named: list[Row] = []
        self.counted: list[Row] = []
        self.schemas: list[str] | errors.EngineError = ["checkout"]
        self.names: list[str] | errors.EngineError = ["checkout"]
        self.asked: list[str] = []
        self.failures: dict[str, int] = {}
        """How often what holds this text fails before it is answered."""

    def fail(self, sql: str) -> None:
        for text, left in self.failures.items():
            if left and text in sql:
                self.failures[text] -= 1
                raise errors.CutOff("the answer stopped")

    async def query(self, sql: str) -> AsyncIterator[Row]:
        limit = int(sql.rpartition("limit ")[2]) if " limit " in sql else len(self.found)
        for found in [] if "invoked_by_id is not null" in sql else self.found[:limit]:
            yield found
        self.fail(sql)

    async def rows(self, sql: str) -> list[Row]:
        self.fail(sql)
        if "count(*)" in sql:
            return self.counted
        return self.found if "order by" in sql else self.named

    async def services(self) -> list[Service]:
        self.asked.append("services")
        if isinstance(self.schemas, errors.EngineError):
            raise self.schemas
        pay = Handler("pay", None, {})
        return [Service(name, "Service", "dp_1", 1, (pay,), None, None, None, {}) for name in self.schemas]

    async def deployments_of_services(self) -> dict[str, str]:
        self.asked.append("names")
        if isinstance(self.names, errors.EngineError):
            raise self.names
        return dict.fromkeys(self.names, "dp_1")

    def resolved(self) -> Resolved:
        client = cast("EngineClient", self)
        budget = Budget(1, 1, lambda: 0.0)
        budget.repeats.sleep = no_time
        station = Station("e:9070", Connection("http://e:9070"), 30.0, client, budget, asyncio.Semaphore(1))
        offered = EngineCapabilities(True, True, True, True, True)
        version = Version("1.7.12", (1, 7, 12))
        probe = Probe(version, "c", offered, 0.0)
        return Resolved(EngineIdentity(namespace="shop", name="e"), EngineSpec(), station, probe, [], {})


def spec(**fields: Any) -> ActionSpec:
    return ActionSpec.model_validate({"action": "Cancel", "target": {"services": ["checkout"]}} | fields)


async def planned(engine: MemoryEngine, **fields: Any) -> Planning:
    found = await make_plan(spec(**fields), engine.resolved(), NOW)
    assert isinstance(found, Planning), found
    return found


@pytest.mark.parametrize("oldest_first", [False, True])
async def test_plan_holds_a_row_that_comes_twice_once(oldest_first: bool) -> None:
    rows = [row(1), row(1), row(2, born=1), row(3, born=2), row(3, born=2)]
    if oldest_first:
        rows.append(row(1, born=9))
    target = {"services": ["checkout"], **({"oldestFirst": True} if oldest_first else {})}
    plan = (await planned(MemoryEngine(*rows), target=target)).plan
    assert [t.id for t in plan.targets] == [inv(1), inv(2), inv(3)]
    assert plan.by_service == {"checkout": 3}


async def test_plan_that_the_limit_cut_off_is_refused_even_if_rows_came_twice() -> None:
    engine = MemoryEngine(row(1), row(1), row(2))
    engine.counted = [{"status": "running", "count": 9}, {"status": "dreaming", "count": 5}]
    found = await make_plan(spec(limits={"maxTargets": 2}), engine.resolved(), NOW)
    assert isinstance(found, Refusal)
    assert "9 invocations match" in found.message


@pytest.mark.parametrize(
    "odd",
    [
        pytest.param(row(2, status="dreaming"), id="a status of a newer engine"),
        pytest.param(row(2, status=None), id="no status"),
        pytest.param(row(2, created_at="yesterday"), id="no time"),
        pytest.param(row(2, id=None), id="no id"),
    ],
)
async def test_plan_with_a_row_that_cannot_be_read_is_no_plan(odd: Row) -> None:
    with pytest.raises(errors.BadReply):
        await planned(MemoryEngine(row(1), odd))


@pytest.mark.parametrize(
    ("action", "target", "read"),
    [
        ("Resume", {"services": ["checkout"]}, True),  # it may be paused again, and then that tells
        ("Resume", {"ids": [inv(1)]}, True),
        ("Cancel", {"services": ["checkout"]}, False),  # of hundreds of thousands no more is read than is needed
    ],
)
async def test_plan_reads_when_rows_had_changed_where_they_are_judged_by_it(
    action: str, target: dict[str, Any], read: bool
) -> None:
    engine = MemoryEngine(row(1, status="paused", modified_at="2026-01-02T00:00:00Z"))
    engine.named = engine.found
    planning = await planned(engine, action=action, target=target)
    assert planning.plan.total == 1
    assert planning.plan.changed_at == datetime(2026, 1, 2, tzinfo=UTC)
    assert ("i.modified_at" in planning.statement) is read


async def test_plan_takes_a_row_without_names() -> None:
    bare = row(1, target_service_name=None, target_handler_name=None)
    assert (await planned(MemoryEngine(bare))).plan.total == 1


async def test_plan_counts_statuses_that_it_does_not_know_by_the_engines_word() -> None:
    engine = MemoryEngine(row(1))
    engine.counted = [{"status": "completed", "count": 2}, {"status": "dreaming", "count": 5}]
    shown = (await planned(engine)).plan.status().excluded_by_status
    assert [(c.name, c.count) for c in shown or ()] == [("dreaming", 5), ("Completed", 2)]


@pytest.mark.parametrize("counted", [{"count": 1}, {"status": "completed"}, {"status": ["completed"], "count": 1}])
async def test_plan_with_counts_that_cannot_be_read_is_no_plan(counted: Row) -> None:
    engine = MemoryEngine(row(1))
    engine.counted = [counted]
    with pytest.raises(errors.BadReply):
        await planned(engine)


async def test_named_id_in_a_status_of_a_newer_engine_is_skipped_alone() -> None:
    engine = MemoryEngine(row(1))
    engine.named = [row(1), row(2, status="dreaming")]
    plan = (await planned(engine, target={"ids": [inv(1), inv(2), inv(3)]})).plan
    assert [t.id for t in plan.targets] == [inv(1)]
    assert [(r.id, r.outcome, r.reason) for r in plan.named] == [
        (inv(2), Outcome.SKIPPED, "UnknownStatus"),
        (inv(3), Outcome.FAILED, "NotFound"),
    ]


@pytest.mark.parametrize(
    ("part", "fields"),
    [
        pytest.param("created_at", {}, id="the set, after its last row"),
        pytest.param("group by i.status", {}, id="what the default statuses leave out"),
        pytest.param("invoked_by_id is not null", {}, id="descendants"),
        pytest.param("as service", {"limits": {"maxPercentOfService": 100}}, id="the share of a service"),
        pytest.param("i.id in", {"target": {"ids": [inv(1), inv(2)]}}, id="named ids"),
        pytest.param(
            "i.status in", {"target": {"ids": [inv(1), inv(2)], "services": ["checkout"]}}, id="which of them fit"
        ),
    ],
)
@pytest.mark.parametrize(("failures", "made"), [(2, True), (3, False)])
async def test_plan_of_which_a_query_fails_asks_that_query_again_and_is_the_same(
    part: str, fields: dict[str, Any], failures: int, made: bool
) -> None:
    def engine() -> MemoryEngine:
        engine = MemoryEngine(row(1), row(2))
        engine.named, engine.counted = [row(1), row(2)], [{"status": "running", "service": "checkout", "count": 2}]
        return engine

    troubled = engine()
    troubled.failures[part] = failures
    if made:
        found, wanted = (await planned(troubled, **fields)).plan, (await planned(engine(), **fields)).plan
        assert (found.hash, found.status(), found.named) == (wanted.hash, wanted.status(), wanted.named)
    else:
        with pytest.raises(errors.CutOff):
            await planned(troubled, **fields)
    assert troubled.failures == {part: 0}


@pytest.mark.parametrize(
    ("more", "planned_ids", "left"),
    [
        pytest.param({}, [1, 2, 3], {4: "Completed"}, id="in the order of their ids"),
        pytest.param({"oldestFirst": True}, [3, 1, 2], {4: "Completed"}, id="oldest first"),
        pytest.param({"limit": 2}, [1, 2], {3: "BeyondLimit", 4: "Completed"}, id="no more than the limit"),
        pytest.param(
            {"oldestFirst": True, "limit": 1},
            [3],
            {1: "BeyondLimit", 2: "BeyondLimit", 4: "Completed"},
            id="the oldest within the limit",
        ),
        pytest.param({"statuses": ["Suspended"]}, [2], {1: "Running", 3: "Running", 4: "Completed"}, id="in a status"),
    ],
)
async def test_ids_that_are_named_and_no_more_are_planned_from_one_look_at_their_rows(
    more: dict[str, Any], planned_ids: list[int], left: dict[int, str]
) -> None:
    engine = MemoryEngine()
    engine.named = [
        row(3, born=0),
        row(2, born=2, status="suspended"),
        row(1, born=1),
        row(4, born=3, status="completed"),
    ]
    target = {"ids": [inv(4), inv(2), inv(3), inv(1)], **more}
    plan = (await planned(engine, target=target)).plan
    assert [t.id for t in plan.targets] == [inv(number) for number in planned_ids]
    assert {r.id: r.reason for r in plan.named} == {inv(number): reason for number, reason in left.items()}


@pytest.mark.parametrize("more", [{}, {"olderThan": "1h"}], ids=["ids alone", "ids and a filter"])
async def test_ids_that_were_shown_are_not_pushed_out_of_the_limit_by_what_fits_since(more: dict[str, Any]) -> None:
    engine = MemoryEngine()
    target = {"ids": [inv(1), inv(2), inv(3)], "statuses": ["Running"], "limit": 1, **more}
    engine.named = [row(1, status="suspended"), row(2), row(3)]
    engine.found = [row(2), row(3)]
    shown = (await planned(engine, target=target)).plan
    assert [t.id for t in shown.targets] == [inv(2)]
    engine.named = [row(1), row(2), row(3)]
    engine.found = [row(1), row(2), row(3)]
    approved = await make_plan(spec(target=target), engine.resolved(), NOW, only=shown.targets)
    assert isinstance(approved, Planning)
    assert [t.id for t in approved.plan.targets] == [inv(2)]
    assert {r.id: r.reason for r in approved.plan.named} == {inv(1): "NotInPreview", inv(3): "NotInPreview"}


LARGE = errors.BadReply("the answer is larger than what is taken")


@pytest.mark.parametrize(
    ("target", "schemas", "names", "told", "asked"),
    [
        pytest.param({"services": ["chekout"]}, LARGE, ["checkout"], ["checkout"], ["names"], id="by names alone"),
        pytest.param({"services": ["checkout"]}, LARGE, ["checkout"], [], ["names"], id="nothing to hint at"),
        pytest.param({"services": ["chekout"]}, LARGE, LARGE, [], ["names"], id="nothing to be had"),
        pytest.param(
            {"services": ["chekout"], "handlers": ["payy"]},
            ["checkout"],
            LARGE,
            ["checkout", "pay"],
            ["services"],
            id="handlers",
        ),
        pytest.param(
            {"services": ["chekout"], "handlers": ["payy"]},
            LARGE,
            ["checkout"],
            ["checkout"],
            ["services", "names"],
            id="handlers that cannot be had",
        ),
    ],
)
async def test_plan_hints_at_names_as_far_as_the_engine_tells_them(
    target: Any, schemas: Any, names: Any, told: list[str], asked: list[str]
) -> None:
    engine = MemoryEngine(row(1))
    engine.schemas, engine.names = schemas, names
    warnings = (await planned(engine, target=target)).plan.warnings
    assert len(warnings) == len(told)
    assert all(f"did you mean '{name}'" in warning for name, warning in zip(told, warnings, strict=True))
    assert engine.asked == asked


@pytest.mark.parametrize("at_once", [0, 100])
async def test_plan_hash_is_that_of_the_set(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    monkeypatch.setattr(planning, "HASHED_AT_ONCE", at_once)
    rows = [row(number, born=-number) for number in (3, 1, 2)]
    plan = (await planned(MemoryEngine(*rows))).plan
    pairs = [(t.id, t.created_at.isoformat()) for t in plan.targets]
    assert plan.hash == plan_hash(plan_place(MemoryEngine().resolved().identity, None), canonical_spec(spec()), pairs)


def test_specification_that_its_record_cannot_hold_is_refused() -> None:
    def of(keys: int, last: int) -> ActionSpec:
        listed = [f"{number:0256d}" for number in range(keys)]
        branches = [{"keys": [*listed[part::8]]} for part in range(8)]
        return spec(target={"services": ["checkout"], "anyOf": branches, "keyPrefixes": ["x" * last]})

    def length(of: ActionSpec) -> int:
        return len(canonical_json(canonical_spec(of)))

    keys = (SPECIFICATION_LIMIT - length(of(8, 1))) // 259 + 8
    last = 1 + SPECIFICATION_LIMIT - length(of(keys, 1))
    fits, long = of(keys, last), of(keys, last + 1)
    assert length(fits) == SPECIFICATION_LIMIT
    assert check_target(fits) is None
    refused = check_target(long)
    assert refused is not None
    assert "several actions" in refused.message
    field = RecordSpec.model_fields["specification"]
    assert any(getattr(rule, "max_length", None) == SPECIFICATION_LIMIT for rule in field.metadata)


@pytest.mark.parametrize(
    ("limits", "rails", "refused"),
    [
        ({"maxTargets": 1000}, {}, False),  # even all calls of the engine would be within it
        ({"maxTargets": 20}, {}, True),
        ({"maxTargets": 1000, "maxPercentOfService": 60}, {}, True),
        ({"maxTargets": 1000}, {"maxTargets": 20}, True),
        ({"maxTargets": 1000}, {"protectedServices": ["ledger"]}, True),
        ({"maxTargets": 1000}, {"protectedServices": ["other"]}, False),
        ({"maxTargets": 1000}, {"namespaces": [{"selector": {}, "services": ["checkout"]}]}, True),
        ({"maxTargets": 1000}, {"namespaces": [{"selector": {}}]}, False),
    ],
)
async def test_plan_whose_descendants_cannot_be_counted_is_refused_where_a_ceiling_might_be_broken(
    monkeypatch: pytest.MonkeyPatch, limits: dict[str, int], rails: dict[str, Any], refused: bool
) -> None:
    async def uncounted(*_: Any, **__: Any) -> Descendants:
        return Descendants(Counter(), truncated=True, at_most=Counter({"ledger": 30}))

    monkeypatch.setattr(planning, "descendants", uncounted)
    engine = MemoryEngine(row(1))
    counts = {"checkout": 10, "ledger": 40}
    engine.counted = [{"status": "running", "service": name, "count": count} for name, count in counts.items()]
    resolved = replace(engine.resolved(), guardrails=[Guardrails.model_validate(rails)])
    found = await make_plan(spec(limits=limits), resolved, NOW)
    assert isinstance(found, Refusal) is refused, found
    if isinstance(found, Refusal):
        assert found.reason == "TooManyDescendants"
        assert "30 calls" in found.message
