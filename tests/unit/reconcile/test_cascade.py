"""Descendants, from rows and journal entries in any state."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import cast

import pytest

from invocation_operator.api.v1alpha1.target import InvocationStatus
from invocation_operator.engine.client import EngineClient
from invocation_operator.engine.errors import BadReply
from invocation_operator.engine.rows import Row
from invocation_operator.plan.targets import Planned, PlannedSet
from invocation_operator.reconcile import cascade
from invocation_operator.reconcile.cascade import descendants


class MemoryEngine:
    def __init__(self, edges: list[Row], entries: list[Row]) -> None:
        self._edges, self._entries = edges, entries

    async def query(self, _: str) -> AsyncIterator[Row]:
        for edge in self._edges:
            yield edge

    async def rows(self, sql: str) -> list[Row]:
        if "count(*)" in sql:
            return [{"service": "mail", "n": len(self._edges)}]
        return self._entries


def edge(parent: str, child: str, service: str | None = "mail") -> Row:
    named = {} if service is None else {"target_service_name": service}
    return {"id": child, "invoked_by_id": parent, **named}


def roots(*ids: str) -> PlannedSet:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    return PlannedSet(Planned(id_, at, InvocationStatus.SUSPENDED, "shop/pay") for id_ in ids)


async def reached(edges: list[Row], entries: list[Row] | None = None, *, awaited_only: bool = False) -> dict[str, int]:
    engine = cast("EngineClient", MemoryEngine(edges, entries or []))
    found = await descendants(engine, roots("a", "b"), awaited_only=awaited_only)
    return dict(found.by_service)


async def test_descendants_are_counted_once_each_and_not_the_roots() -> None:
    edges = [edge("a", "b"), edge("a", "c"), edge("c", "d"), edge("b", "d"), edge("x", "y"), edge("d", "a")]
    assert await reached(edges) == {"mail": 2}
    assert await reached([]) == {}


async def test_descendants_of_awaited_calls_leave_out_one_way_ones() -> None:
    sent = [{"entry": '{"Command":{"OneWayCall":{"invocation_id":"c"}}}'}]
    edges = [edge("a", "c"), edge("c", "d"), edge("b", "e")]
    assert await reached(edges, sent, awaited_only=True) == {"mail": 1}


async def test_descendants_without_a_service_are_counted_too() -> None:
    assert await reached([edge("a", "c", None)]) == {"": 1}


@pytest.mark.parametrize(
    ("edges", "entries"),
    [
        ([{"id": "c"}], []),
        ([{"invoked_by_id": "a"}], []),
        ([edge("a", "c")], [{}]),
        ([edge("a", "c")], [{"entry": "{"}]),
        ([edge("a", "c")], [{"entry": None}]),
    ],
)
async def test_descendants_that_cannot_be_read_are_a_bad_reply(edges: list[Row], entries: list[Row]) -> None:
    with pytest.raises(BadReply):
        await reached(edges, entries, awaited_only=True)


@pytest.mark.parametrize(("limit", "most"), [("REACHED", 2), ("CALLS", 3)])
async def test_descendants_that_cannot_all_be_counted_are_at_most_all_calls(
    monkeypatch: pytest.MonkeyPatch, limit: str, most: int
) -> None:
    monkeypatch.setattr(cascade, limit, most)
    edges = [edge("a", f"c{n}") for n in range(9)] + [edge("x", "y")]
    found = await descendants(cast("EngineClient", MemoryEngine(edges, [])), roots("a", "b"), awaited_only=False)
    assert found.truncated
    assert found.at_most == {"mail": 10}


async def test_descendants_that_are_all_counted_are_no_more_than_that() -> None:
    engine = cast("EngineClient", MemoryEngine([edge("a", "c"), edge("x", "y")], []))
    found = await descendants(engine, roots("a", "b"), awaited_only=False)
    assert (found.truncated, found.at_most) == (False, {"mail": 1})
