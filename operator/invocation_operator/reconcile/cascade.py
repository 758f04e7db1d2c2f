"""Living descendants of planned invocations: what an operation reaches besides what it names.

A kill takes every living descendant with it, one-way calls included; a cancel is handed on to awaited calls only. The
rows show both kinds of call alike; the parent's journal tells them apart.
"""

import asyncio
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial

from invocation_operator.engine.client import EngineClient
from invocation_operator.engine.errors import reading
from invocation_operator.plan.targets import PlannedSet
from invocation_operator.target.sql import literal

READ_AT_ONCE = 500
"""Rows that are looked at without giving way to anything else."""
CALLS = 1_000_000
"""Most living calls that are looked at; above that the count is said to be cut short."""
REACHED = 200_000
"""Most descendants that are kept in memory; above that the count is said to be cut short."""
PARENTS = 500
"""Parents in one query for their calls."""

Calls = Mapping[str, Sequence[tuple[str, str]]]
"""Parent to its living children, each with its service."""


@dataclass(slots=True)
class Descendants:
    """Descendants by service; ``truncated``: there are more, and no more than ``at_most``."""

    by_service: Counter[str] = field(default_factory=Counter)
    truncated: bool = False
    at_most: Counter[str] = field(default_factory=Counter)


async def descendants(client: EngineClient, roots: PlannedSet, *, awaited_only: bool) -> Descendants:
    """Return the living descendants of ``roots`` that are not themselves among them.

    ``awaited_only`` follows awaited calls alone. One query for each generation: only what descends is kept, however
    many calls there are. Raises the engine client's errors.
    """
    reach = Descendants()
    seen: set[str] = set()
    is_parent: Callable[[str], bool] = partial(_is_among, roots)
    few = [root.id for root in roots] if len(roots) <= PARENTS else None
    while True:
        calls, cut = await _calls(client, is_parent, few, REACHED - len(seen))
        reach.truncated |= cut
        sent = await _sent_one_way(client, list(calls)) if awaited_only and calls else set()
        born: set[str] = set()
        for child, service in (call for of_one in calls.values() for call in of_one):
            if child not in sent and child not in seen and roots.find(child) is None:
                seen.add(child)
                born.add(child)
                reach.by_service[service] += 1
        if not born or cut:
            reach.at_most = await _every_child(client) if reach.truncated else reach.by_service
            return reach
        is_parent, few = born.__contains__, list(born) if len(born) <= PARENTS else None


def _is_among(roots: PlannedSet, invocation_id: str) -> bool:
    return roots.find(invocation_id) is not None


async def _calls(
    client: EngineClient, is_parent: Callable[[str], bool], few: Sequence[str] | None, most: int
) -> tuple[Calls, bool]:
    """Return the living children of parents, and whether there are more than is looked at."""
    children: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
    looked = found = 0
    among = f" and invoked_by_id in ({', '.join(map(literal, few))})" if few is not None else ""
    statement = (
        "select id, invoked_by_id, target_service_name from sys_invocation "
        f"where invoked_by_id is not null and status <> 'completed'{among} limit {CALLS + 1}"
    )
    async with aclosing(client.query(statement)) as rows:
        async for row in rows:
            looked += 1
            if looked % READ_AT_ONCE == 0:
                await asyncio.sleep(0)
            with reading("descendants"):
                if not is_parent(row["invoked_by_id"]):
                    continue
                found += 1
                if found > most:
                    return children, True
                service = sys.intern(row.get("target_service_name", ""))
                children[row["invoked_by_id"]].append((row["id"], service))
    return children, looked > CALLS


async def _every_child(client: EngineClient) -> Counter[str]:
    """Every living call of the engine by service: no set has more descendants than that."""
    rows = await client.rows(
        "select target_service_name as service, count(*) as n from sys_invocation "
        "where invoked_by_id is not null and status <> 'completed' group by target_service_name"
    )
    with reading("descendants"):
        return Counter({str(row.get("service") or ""): int(row["n"]) for row in rows})


async def _sent_one_way(client: EngineClient, parents: Sequence[str]) -> set[str]:
    sent: set[str] = set()
    for start in range(0, len(parents), PARENTS):
        listed = ", ".join(literal(id_) for id_ in parents[start : start + PARENTS])
        statement = (
            "select entry_lite_json as entry from sys_journal "
            f"where entry_type = 'Command: OneWayCall' and id in ({listed})"
        )
        rows = await client.rows(statement)
        with reading("one-way calls"):
            for row in rows:
                sent |= set(_invocation_ids(json.loads(row["entry"])))
    return sent


def _invocation_ids(entry: object) -> Iterable[str]:
    """The child's id stands somewhere below the entry's command, by the same name in each engine version."""
    if isinstance(entry, dict):
        for name, value in entry.items():
            if name == "invocation_id" and isinstance(value, str):
                yield value
            else:
                yield from _invocation_ids(value)
