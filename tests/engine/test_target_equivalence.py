"""The target language means the same to the engine (SQL) and to us (Python), whatever characters names hold."""

from collections.abc import Callable, Iterator
from datetime import datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from e2e.rig import NEWEST, OLDEST, Engine, ServicesProcess
from invocation_operator.api.v1alpha1.target import InvocationStatus, Target
from invocation_operator.target.freeze import FrozenTarget, freeze
from invocation_operator.target.predicate import matcher
from invocation_operator.target.row import InvocationRow, row_from_json
from invocation_operator.target.sql import ALL_COLUMNS, count_by_status, select, select_ids
from tests.engine.target_examples import STATUSES, moments, targets
from tests.engine.target_population import SCOPES, SETTINGS, populate, populate_scopes

Population = tuple[Engine, list[InvocationRow]]
EXAMPLES = {"newest": 300, "oldest": 100, "scopes": 60}


def _populated(version: str) -> Iterator[Population]:
    with (
        ServicesProcess() as own,
        ServicesProcess(prefix="LabObj_") as similar,
        Engine(version, env=SETTINGS) as engine,
    ):
        yield engine, populate(engine, own, similar)


@pytest.fixture(scope="module")
def newest() -> Iterator[Population]:
    yield from _populated(NEWEST)


@pytest.fixture(scope="module")
def oldest() -> Iterator[Population]:
    yield from _populated(OLDEST)


@pytest.fixture(scope="module")
def scoped() -> Iterator[Population]:
    with ServicesProcess() as own, Engine(env=SCOPES) as engine:
        yield engine, populate_scopes(engine, own)


def _property(examples: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    return settings(
        max_examples=examples,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
    )


def _agree(population: Population, target: Target, now: datetime, defaults: frozenset[InvocationStatus]) -> None:
    engine, rows = population
    scopes = engine.version != OLDEST
    frozen = freeze(target, now, defaults)
    for any_status in (False, True):
        meant = sorted(filter(matcher(frozen, any_status=any_status), rows), key=_order(frozen))[: frozen.limit]
        asked = engine.sql(select(frozen, ["id"], scopes_supported=scopes, any_status=any_status))
        assert [row["id"] for row in asked] == [row.id for row in meant]
    counted = {row["status"]: row["count"] for row in engine.sql(count_by_status(frozen, scopes_supported=scopes))}
    lifted = filter(matcher(frozen, any_status=frozen.statuses_were_defaulted), rows)
    assert sum(counted.values()) == len(list(lifted))


def _order(frozen: FrozenTarget) -> Callable[[InvocationRow], tuple[object, ...]]:
    return lambda row: (row.created_at, row.id) if frozen.oldest_first else (row.id,)


@_property(EXAMPLES["newest"])
@given(data=st.data())
def test_sql_and_predicate_on_the_newest_engine_agree(newest: Population, data: st.DataObject) -> None:
    rows = newest[1]
    _agree(newest, data.draw(targets(rows)), data.draw(moments(rows)), data.draw(STATUSES))


@_property(EXAMPLES["oldest"])
@given(data=st.data())
def test_sql_and_predicate_on_the_oldest_engine_agree(oldest: Population, data: st.DataObject) -> None:
    rows = oldest[1]
    _agree(oldest, data.draw(targets(rows)), data.draw(moments(rows)), data.draw(STATUSES))


@_property(EXAMPLES["scopes"])
@given(data=st.data())
def test_sql_and_predicate_over_scopes_agree(scoped: Population, data: st.DataObject) -> None:
    rows = scoped[1]
    _agree(scoped, data.draw(targets(rows, scopes=True)), data.draw(moments(rows)), data.draw(STATUSES))


def test_population_at_rest_has_every_status_and_oddity(newest: Population) -> None:
    """What the comparison rests on: it proves nothing about what is not there."""
    _, rows = newest
    assert {row.status for row in rows} == set(InvocationStatus)
    assert {row.outcome for row in rows} >= {None, "Succeeded", "Failed", "Cancelled", "Killed"}
    assert {row.source for row in rows} >= {"ingress", "service", "restart_as_new"}
    paused = [row for row in rows if row.status is InvocationStatus.PAUSED]
    assert {row.failure_code for row in paused} == {None, 500}
    assert any(row.retry_count for row in paused)
    assert any((row.retry_count or 0) > 1 for row in rows)
    assert {"it's", "a\x00b", "\U0010ffffz", "e\u0301"} <= {row.key for row in rows}


def test_failure_of_a_second_pause_is_that_of_the_latest_event(newest: Population) -> None:
    _, rows = newest
    (again,) = (row for row in rows if (row.service, row.handler) == ("LabObj_LabSvc", "hold"))
    assert again.status is InvocationStatus.PAUSED
    assert again.failure_code == 500
    assert "error when calling" in (again.failure_message or "")


def test_select_ids_of_the_planned_returns_the_same_rows(newest: Population) -> None:
    engine, rows = newest
    some = rows[::3]
    asked = engine.sql(select_ids([row.id for row in some], ALL_COLUMNS, scopes_supported=True))
    assert sorted(map(row_from_json, asked), key=lambda row: row.id) == some


@pytest.mark.parametrize("version", ["newest", "oldest"])
def test_query_that_can_be_simplified_does_not_make_the_engine_panic(
    version: str, request: pytest.FixtureRequest
) -> None:
    """Found by the comparison: the connection was dropped (see `target.sql`)."""
    population: Population = request.getfixturevalue(version)
    form = {"all": True, "outcomes": ["Succeeded"], "anyOf": [{"outcomes": ["Succeeded", "Failed"]}]}
    _agree(population, Target.model_validate(form), population[1][0].created_at, frozenset(InvocationStatus))
