"""Living descendants of planned invocations: what an operation reaches besides what it names.

A kill takes every living descendant with it, one-way calls included; a cancel is handed on to awaited calls only. The
rows show both kinds of call alike; the parent's journal tells them apart.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from invocation_operator.engine.client import EngineClient
from invocation_operator.engine.errors import reading
from invocation_operator.target.sql import literal

EDGES = 200_000
"""Most parent-child pairs that are looked at; above that the count is said to be cut short."""
PARENTS = 500
"""Parents in one query for their one-way calls."""

Edges = Mapping[str, Sequence[tuple[str, str]]]
"""Parent to its living children, each with its service."""


@dataclass(slots=True)
class Reach:
    """Descendants by service."""

    by_service: Counter[str] = field(default_factory=Counter)
    truncated: bool = False


async def descendants(client: EngineClient, roots: Iterable[str], *, awaited_only: bool) -> Reach:
    """Return the living descendants of ``roots`` that are not themselves among them.

    ``awaited_only`` follows awaited calls alone. Raises the engine client's errors.
    """
    edges, truncated = await _edges(client)
    if not edges:
        return Reach(truncated=truncated)
    first = set(roots)
    reached, parents = _walk(edges, first, frozenset())
    if awaited_only and parents:
        reached, _ = _walk(edges, first, await _sent_one_way(client, parents))
    return Reach(reached, truncated)


async def _edges(client: EngineClient) -> tuple[Edges, bool]:
    """One query for all of them: a recursive one would scan the table again for each level."""
    children: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
    found = 0
    statement = (
        "select id, invoked_by_id, target_service_name from sys_invocation "
        f"where invoked_by_id is not null and status <> 'completed' limit {EDGES + 1}"
    )
    async with aclosing(client.query(statement)) as rows:
        async for row in rows:
            found += 1
            with reading("descendants"):
                children[row["invoked_by_id"]].append((row["id"], row.get("target_service_name", "")))
    return children, found > EDGES


def _walk(edges: Edges, roots: Collection[str], but: Collection[str]) -> tuple[Counter[str], list[str]]:
    """Return the descendants by service, and the parents among roots and descendants."""
    by_service: Counter[str] = Counter()
    parents: list[str] = []
    seen, waiting = set(roots), [root for root in roots if root in edges]
    while waiting:
        parent = waiting.pop()
        if parent in edges:
            parents.append(parent)
        for child, service in edges.get(parent, ()):
            if child not in seen and child not in but:
                seen.add(child)
                waiting.append(child)
                by_service[service] += 1
    return by_service, parents


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
