"""Every filter twice, side by side: as a condition of the engine's SQL and as a test of a row.

Both readings of a filter stand in one function, because they must select the same invocations, whatever characters
names hold; a property test compares them on a real engine. Called by ``sql`` and ``predicate``.

A null column fails a condition in both readings, here as unknown and there as false; ``sql`` closes exclusions with
``is not true``, so that the difference never reaches a row. There is no ``LIKE``, nor a function that the engine
rewrites into one (``starts_with``): with an underscore in the text it takes 20 times as long. Prefixes are ranges.
``i`` is the row of ``sys_invocation``, ``p`` its latest ``Paused`` event with ``code`` and ``message``.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from invocation_operator.api.v1alpha1.target import CompletionOutcome, InvocationStatus
from invocation_operator.target import vocabulary
from invocation_operator.target.freeze import FrozenLeaf
from invocation_operator.target.row import InvocationRow
from invocation_operator.values.times import milliseconds

Column = Callable[[InvocationRow], str | None]


@dataclass(frozen=True, slots=True)
class Filter:
    """One filter: an SQL condition with the columns it looks at, and the same of a row."""

    sql: str
    columns: tuple[str, ...]
    holds: Callable[[InvocationRow], bool]


def filters_of(leaf: FrozenLeaf, *, paused: bool) -> Iterator[Filter]:
    """Yield the filters of ``leaf``, statuses excepted; all must hold. Without ``paused`` (no paused row can be meant)
    the conditions do not look into the events.
    """
    yield from _names(leaf)
    yield from _times(leaf)
    if leaf.outcomes is not None:
        yield _outcomes(leaf.outcomes)
    if leaf.failure_codes is not None:
        yield _failure_codes(leaf.failure_codes, paused=paused)
    if leaf.failure_message is not None:
        yield _failure_message(leaf.failure_message, paused=paused)
    if leaf.min_retries is not None:
        yield _min_retries(leaf.min_retries)
    if leaf.roots_only:
        yield Filter("coalesce(i.invoked_by, '') <> 'service'", ("invoked_by",), lambda row: row.source != "service")


def status_filter(statuses: Iterable[InvocationStatus]) -> Filter:
    """Return the filter for one of ``statuses``."""
    wanted = frozenset(statuses)
    words = sorted(vocabulary.ENGINE_STATUS[status] for status in wanted)
    return Filter(_in("i.status", words), ("status",), lambda row: row.status in wanted)


def id_filter(ids: Iterable[str]) -> Filter:
    """Return the filter for one of ``ids``, which must be well-formed (one that is not fails the whole query)."""
    wanted = frozenset(ids)
    return Filter(_in("i.id", sorted(wanted)), ("id",), lambda row: row.id in wanted)


def literal(text: str) -> str:
    """Return ``text`` as an SQL string: a quote is doubled, every other character stands for itself."""
    return "'" + text.replace("'", "''") + "'"


def successor(prefix: str) -> str | None:
    """Return the least text above every text that begins with ``prefix``; None if there is none.

    The engine orders text by UTF-8 bytes, Python by code points: the same order.
    """
    kept = prefix.rstrip("\U0010ffff")
    if not kept:
        return None
    above = ord(kept[-1]) + 1
    return kept[:-1] + chr(0xE000 if above == 0xD800 else above)


def _names(leaf: FrozenLeaf) -> Iterator[Filter]:
    patterns: tuple[tuple[tuple[str, ...] | None, str, Column], ...] = (
        (leaf.services, "target_service_name", lambda row: row.service),
        (leaf.handlers, "target_handler_name", lambda row: row.handler),
        (leaf.invoked_by, "invoked_by_service_name", lambda row: row.invoked_by),
    )
    for values, column, of in patterns:
        if values is not None:
            exact = [value for value in values if not value.endswith("*")]
            yield _text(column, of, exact, [value[:-1] for value in values if value.endswith("*")])
    exact_only: tuple[tuple[tuple[str, ...] | None, str, Column], ...] = (
        (leaf.keys, "target_service_key", lambda row: row.key),
        (leaf.deployments, "pinned_deployment_id", lambda row: row.pinned_deployment_id),
        (leaf.idempotency_keys, "idempotency_key", lambda row: row.idempotency_key),
        (leaf.scopes, "scope", lambda row: row.scope),
        (leaf.restarted_from, "restarted_from", lambda row: row.restarted_from),
    )
    for values, column, of in exact_only:
        if values is not None:
            yield _text(column, of, values, ())
    if leaf.key_prefixes is not None:
        yield _text("target_service_key", lambda row: row.key, (), leaf.key_prefixes)


def _text(column: str, of: Column, exact: Iterable[str], prefixes: Iterable[str]) -> Filter:
    equal, begins = frozenset(exact), tuple(prefixes)
    conditions = [_in(f"i.{column}", sorted(equal))] if equal else []
    conditions += [_begins(f"i.{column}", prefix) for prefix in begins]

    def holds(row: InvocationRow) -> bool:
        value = of(row)
        return value is not None and (value in equal or value.startswith(begins))

    return Filter(_or(conditions), (column,), holds)


def _begins(column: str, prefix: str) -> str:
    above = successor(prefix)
    condition = f"{column} >= {literal(prefix)}"
    return condition if above is None else f"({condition} and {column} < {literal(above)})"


def _times(leaf: FrozenLeaf) -> Iterator[Filter]:
    bounds: tuple[tuple[datetime | None, str, Callable[[InvocationRow], datetime | None]], ...] = (
        (leaf.created_before, "created_at", lambda row: row.created_at),
        (leaf.modified_before, "modified_at", lambda row: row.modified_at),
        (leaf.completed_before, "completed_at", lambda row: row.completed_at),
    )
    for bound, column, of in bounds:
        if bound is not None:
            yield _before(bound, column, of)
    after = leaf.created_after
    if after is not None:
        yield Filter(f"i.created_at >= {_instant(after)}", ("created_at",), lambda row: row.created_at >= after)


def _before(bound: datetime, column: str, of: Callable[[InvocationRow], datetime | None]) -> Filter:
    def holds(row: InvocationRow) -> bool:
        value = of(row)
        return value is not None and value < bound

    return Filter(f"i.{column} < {_instant(bound)}", (column,), holds)


def _instant(moment: datetime) -> str:
    # A timestamp literal would be read as nanoseconds, which end in the year 2262 (and then the query fails).
    return f"to_timestamp_millis({milliseconds(moment)})"


def _outcomes(outcomes: Iterable[CompletionOutcome]) -> Filter:
    wanted = frozenset(outcomes)
    conditions = {
        CompletionOutcome.SUCCEEDED: "i.completion_result = 'success'",
        CompletionOutcome.FAILED: "(i.completion_result = 'failure' and coalesce(i.completion_failure, '') not in "
        f"({_list(vocabulary.CANCELLED + vocabulary.KILLED)}))",
        CompletionOutcome.CANCELLED: _in("i.completion_failure", vocabulary.CANCELLED),
        CompletionOutcome.KILLED: _in("i.completion_failure", vocabulary.KILLED),
    }
    return Filter(
        _or([conditions[outcome] for outcome in sorted(wanted)]),
        ("completion_result", "completion_failure"),
        lambda row: row.outcome in wanted,
    )


def _failure_codes(codes: Iterable[int], *, paused: bool) -> Filter:
    """``[418] boom`` and ``[500 Internal] boom`` begin with ``[418`` and ``[500`` before the first bracket or space."""
    wanted = frozenset(codes)

    def begins(column: str) -> str:
        opening = f"split_part(split_part({column}, ']', 1), ' ', 1)"
        return _in(opening, [f"[{code}" for code in sorted(wanted)])

    event = f"p.code in ({', '.join(str(code) for code in sorted(wanted))})"
    return Filter(_by_place(begins, event if paused else None), _FAILURES, lambda row: row.failure_code in wanted)


def _failure_message(part: str, *, paused: bool) -> Filter:
    def contains(column: str) -> str:
        return f"strpos(substr({column}, strpos({column}, '] ') + 2), {literal(part)}) > 0"

    def holds(row: InvocationRow) -> bool:
        return row.failure_message is not None and part in row.failure_message

    event = f"strpos(p.message, {literal(part)}) > 0"
    return Filter(_by_place(contains, event if paused else None), _FAILURES, holds)


_FAILURES = ("status", "completion_failure", "last_failure")


def _by_place(condition: Callable[[str], str], event: str | None) -> str:
    """Look where the engine keeps the cause, which depends on the status (a paused row has nulls)."""
    places = [
        f"(i.status = 'completed' and {condition('i.completion_failure')})",
        f"(i.status = 'backing-off' and {condition('i.last_failure')})",
    ]
    return _or([*places, f"(i.status = 'paused' and {event})"] if event else places)


def _min_retries(least: int) -> Filter:
    """The engine counts attempts when they begin: one that backs off has failed as often as it was begun, any other
    once less (a first attempt that runs shows 1). A paused one has a count only by accident, and never matches.
    """

    def holds(row: InvocationRow) -> bool:
        if row.retry_count is None or row.status is InvocationStatus.PAUSED:
            return False
        return row.retry_count - (row.status is not InvocationStatus.BACKING_OFF) >= least

    return Filter(
        f"((i.status = 'backing-off' and i.retry_count >= {least}) or "
        f"(i.status not in ('backing-off', 'paused') and i.retry_count > {least}))",
        ("status", "retry_count"),
        holds,
    )


def _in(column: str, values: Iterable[str]) -> str:
    listed = _list(values)
    return f"{column} in ({listed})" if listed else "false"


def _list(values: Iterable[str]) -> str:
    return ", ".join(literal(value) for value in values)


def _or(conditions: list[str]) -> str:
    if len(conditions) == 1:
        return conditions[0]
    return "(" + " or ".join(conditions) + ")" if conditions else "false"
