"""Living descendants of planned invocations: what an operation reaches besides what it names.

Both a kill and a cancel are handed on from parent to child. A kill takes every living descendant with it, one-way calls
included; a cancel is handed on to awaited calls, and which calls a handler awaits is not recorded by the engine, so for
a cancel the count is the most that it can reach.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable
from contextlib import aclosing
from dataclasses import dataclass, field

from invocation_operator.engine.client import EngineClient

EDGES = 200_000
"""Most parent-child pairs that are looked at; above that the count is said to be cut short."""


@dataclass(slots=True)
class Reach:
    """Descendants by service."""

    by_service: Counter[str] = field(default_factory=Counter)
    truncated: bool = False


async def descendants(client: EngineClient, roots: Iterable[str]) -> Reach:
    """Return the living descendants of ``roots`` that are not themselves among them. Raises the client's errors."""
    children: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
    reach = Reach()
    statement = (
        "select id, invoked_by_id, target_service_name from sys_invocation "
        f"where invoked_by_id is not null and status <> 'completed' limit {EDGES + 1}"
    )
    edges = 0
    async with aclosing(client.query(statement)) as rows:
        async for row in rows:
            edges += 1
            children[row["invoked_by_id"]].append((row["id"], row["target_service_name"]))
    reach.truncated = edges > EDGES
    seen = set(roots)
    waiting = list(seen)
    while waiting:
        for child, service in children.get(waiting.pop(), ()):
            if child not in seen:
                seen.add(child)
                waiting.append(child)
                reach.by_service[service] += 1
    return reach
