"""A frozen target as statements for the engine's ``POST /query``.

Called by the reconcilers, which send them and read the answers with ``row.row_from_json``. Every value goes through
``filters.literal``, ids through ``is_invocation_id``: one malformed id would fail the whole query.

Every column that a condition looks at is asked for as well. The engine (1.6.1 and 1.7.12) panics and drops the
connection when its optimiser finds a column unneeded that a condition handed to the scan still names, as in
``a = 1 and (a = 1 or b = 2)``.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from invocation_operator.api.v1alpha1.target import InvocationStatus
from invocation_operator.target.filters import Filter, filters_of, id_filter, literal, status_filter
from invocation_operator.target.freeze import FrozenLeaf, FrozenTarget
from invocation_operator.target.vocabulary import UnsupportedFilter
from invocation_operator.values.ids import is_invocation_id

__all__ = [
    "ALL_COLUMNS",
    "HOLD_COLUMNS",
    "LOOK_COLUMNS",
    "PLAN_COLUMNS",
    "SET_COLUMNS",
    "Also",
    "UnsupportedFilter",
    "count_also",
    "count_by_service",
    "count_by_status",
    "count_held",
    "held_rows",
    "journal_bytes",
    "literal",
    "select",
    "select_also",
    "select_ids",
]

PLAN_COLUMNS: tuple[str, ...] = (
    "id",
    "created_at",
    "status",
    "target_service_name",
    "target_handler_name",
    "target_service_key",
    "target_service_ty",
    "invoked_by",
    "restarted_from",
    "pinned_deployment_id",
    "modified_at",
    "completed_at",
    "journal_size",
    "retry_count",
    "completion_result",
    "completion_failure",
)
"""What planning and judging need, without what can be long (``last_failure`` carries stack traces)."""

HOLD_COLUMNS: tuple[str, ...] = (*PLAN_COLUMNS, "invoked_by_service_name", "invoked_by_id", "idempotency_key", "scope")
"""What a hold can look at in a completed invocation."""

SET_COLUMNS: tuple[str, ...] = (
    "id",
    "created_at",
    "status",
    "target_service_name",
    "target_handler_name",
    "target_service_key",
)
"""What is kept of an invocation in a plan; of hundreds of thousands no more is asked for."""

LOOK_COLUMNS: tuple[str, ...] = (
    "id",
    "created_at",
    "status",
    "target_service_name",
    "target_service_ty",
    "pinned_deployment_id",
    "modified_at",
    "journal_size",
    "retry_count",
    "completion_result",
    "completion_failure",
)
"""What operations judge by."""

ALL_COLUMNS: tuple[str, ...] = (
    *PLAN_COLUMNS,
    "invoked_by_service_name",
    "invoked_by_id",
    "idempotency_key",
    "scope",
    "last_failure",
    "paused_code",
    "paused_message",
)
"""Everything that an ``InvocationRow`` holds and a filter can look at."""

_EXPIRY = (
    "id",
    "target_service_name",
    "target_handler_name",
    "target_service_key",
    "completed_at",
    "completion_retention",
    "journal_retention",
)
_PLACE = (
    "row_number() over (partition by i.target_service_name, i.target_handler_name order by i.completed_at desc, i.id) "
    "as place"
)
_EXPRESSIONS = {"paused_code": "p.code as paused_code", "paused_message": "p.message as paused_message"}
_NEEDS_SCOPES = frozenset({"scope"})
_NEEDS_EVENTS = frozenset(_EXPRESSIONS)

# Several pauses leave several events; the last one is why it is paused now. A pause by hand has no failure.
_PAUSED_EVENTS = (
    "left join (select id, json_get_int(event_json, 'last_failure', 'error_code') as code, "
    "json_get_str(event_json, 'last_failure', 'error_message') as message from (select id, event_json, row_number() "
    "over (partition by id order by appended_at desc, after_journal_entry_index desc) as n from sys_journal_events "
    "where event_type = 'Paused'{ids}) where n = 1) p on p.id = i.id"
)


@dataclass(frozen=True, slots=True)
class _Condition:
    sql: str
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Also:
    """A condition that the target language has no words for, with the columns of ``i`` that it looks at."""

    sql: str
    columns: tuple[str, ...]


def select(
    frozen: FrozenTarget,
    columns: Sequence[str] = PLAN_COLUMNS,
    *,
    scopes_supported: bool,
    any_status: bool = False,
    limit: int | None = None,
    keep_last: int | None = None,
    held: Sequence[FrozenTarget] = (),
    also: Also | None = None,
) -> str:
    """Return the statement for the rows that ``frozen`` means and for which ``also`` holds; but for what any of
    ``held`` means too, and for the ``keep_last`` of each service and handler that completed last.

    Order: by creation with ``oldestFirst``, else by id. The target's own ``limit`` and ``limit`` (such as one more than
    ``maxTargets``) take the first of that order, after everything else. ``any_status`` lifts the statuses that hold for
    the whole target; malformed ids are left out. Raises ``UnsupportedFilter`` on an engine without scopes (before 1.7).
    """
    for target in (frozen, *held):
        _check_scopes(target, scopes_supported=scopes_supported)
    wanted = _available(columns, scopes_supported=scopes_supported)
    order = ("created_at", "id") if frozen.oldest_first else ("id",)
    limits = [n for n in (frozen.limit, limit) if n is not None]
    kept_off = [_condition(target, any_status=True) for target in held]
    # Unknown, from a null column, is not held: the same as in the predicate.
    off = [_Condition(f"({each.sql}) is not true", each.columns) for each in kept_off]
    more = [_Condition(also.sql, also.columns)] if also is not None else []
    condition = _joined(" and ", [_condition(frozen, any_status=any_status), *more, *off])
    touched = [f"i.{column} is null as no_{column}" for column in condition.columns if column not in wanted]
    listed = [_listed(wanted), *touched]
    source = f"{_source(frozen, wanted, any_status=any_status)} where {condition.sql}"
    if keep_last is None:
        statement = [f"select {', '.join(listed)} {source}", f"order by {', '.join(f'i.{c}' for c in order)}"]
    else:
        ranked = f"select {', '.join([*listed, _PLACE])} {source}"
        statement = [f"select * from ({ranked}) where place > {keep_last}", f"order by {', '.join(order)}"]
    return " ".join(
        [
            *statement,
            *([f"limit {min(limits)}"] if limits else []),
        ]
    )


def count_by_status(frozen: FrozenTarget, *, scopes_supported: bool) -> str:
    """Return the statement for rows with ``status`` and ``count``: what ``frozen`` means, without its limit and without
    statuses that are a default (which tells what the default left out).
    """
    _check_scopes(frozen, scopes_supported=scopes_supported)
    any_status = frozen.statuses_were_defaulted
    condition = _condition(frozen, any_status=any_status)
    touched = "".join(f", count(i.{column}) as with_{column}" for column in condition.columns if column != "status")
    return (
        f"select i.status as status, count(*) as count{touched} {_source(frozen, (), any_status=any_status)} "
        f"where {condition.sql} group by i.status order by i.status"
    )


def count_held(frozen: FrozenTarget, held: FrozenTarget, *, scopes_supported: bool) -> str:
    """Return the statement for ``count``: what both mean."""
    for target in (frozen, held):
        _check_scopes(target, scopes_supported=scopes_supported)
    both = _joined(" and ", [_condition(frozen, any_status=False), _condition(held, any_status=True)])
    touched = "".join(f", count(i.{column}) as with_{column}" for column in both.columns)
    return f"select count(*) as count{touched} {_from(None, events=False)} where {both.sql}"


def held_rows(held: FrozenTarget, *, scopes_supported: bool, limit: int) -> str:
    """Return the statement for completed invocations that are held, those that the engine expires first, with how long
    they and their journals are kept.
    """
    _check_scopes(held, scopes_supported=scopes_supported)
    condition = _condition(held, any_status=False)
    columns = dict.fromkeys((*_EXPIRY, *condition.columns))
    return (
        f"select {_listed(columns)} {_from(None, events=False)} where {condition.sql} "
        f"order by i.completed_at + i.completion_retention, i.id limit {limit}"
    )


def count_also(also: Also, held: Sequence[FrozenTarget], *, scopes_supported: bool) -> str:
    """Return the statement for ``count``: completed invocations for which ``also`` holds and which are not held."""
    condition = _completed(also, held, scopes_supported=scopes_supported)
    touched = "".join(f", count(i.{column}) as with_{column}" for column in condition.columns)
    return f"select count(*) as count{touched} {_from(None, events=False)} where {condition.sql}"


def select_also(also: Also, held: Sequence[FrozenTarget], *, scopes_supported: bool) -> str:
    """Return the statement for the ids of the same."""
    condition = _completed(also, held, scopes_supported=scopes_supported)
    return (
        f"select {_listed(dict.fromkeys(('id', *condition.columns)))} {_from(None, events=False)} where {condition.sql}"
    )


def _completed(also: Also, held: Sequence[FrozenTarget], *, scopes_supported: bool) -> _Condition:
    for target in held:
        _check_scopes(target, scopes_supported=scopes_supported)
    off = [_condition(target, any_status=True) for target in held]
    return _joined(
        " and ",
        [
            _plain(status_filter([InvocationStatus.COMPLETED])),
            _Condition(also.sql, also.columns),
            *(_Condition(f"({each.sql}) is not true", each.columns) for each in off),
        ],
    )


def journal_bytes(statement: str) -> str:
    """Return the statement for ``bytes``: what the journals of the rows of ``statement`` hold."""
    return f"select sum(j.raw_length) as bytes from sys_journal j join ({statement}) t on t.id = j.id"


def count_by_service(services: Iterable[str], statuses: Iterable[InvocationStatus]) -> str:
    """Return the statement for rows with ``service`` and ``count``: the invocations of ``services`` in ``statuses``."""
    names = ", ".join(literal(name) for name in sorted(set(services)))
    return (
        f"select i.target_service_name as service, count(*) as count {_from(None, events=False)} "
        f"where i.target_service_name in ({names}) and {status_filter(statuses).sql} group by i.target_service_name"
    )


def select_ids(ids: Iterable[str], columns: Sequence[str] = PLAN_COLUMNS, *, scopes_supported: bool) -> str:
    """Return the statement for the rows of ``ids``, in no order. Raises ValueError when one is malformed."""
    checked = sorted(set(ids))
    for text in checked:
        if not is_invocation_id(text):
            raise ValueError(f"{text[:64]!r} is no invocation id; it would fail the whole query")
    wanted = _available(columns, scopes_supported=scopes_supported)
    source = _from(checked, events=bool(_NEEDS_EVENTS.intersection(wanted)))
    return f"select {_listed(wanted)} {source} where {id_filter(checked).sql}"


def _available(columns: Sequence[str], *, scopes_supported: bool) -> tuple[str, ...]:
    unknown = set(columns) - set(ALL_COLUMNS)
    if unknown:
        raise ValueError(f"no such columns: {', '.join(sorted(unknown))}")
    needed = dict.fromkeys(("id", "created_at", "status", *columns))
    return tuple(c for c in needed if scopes_supported or c not in _NEEDS_SCOPES)


def _listed(columns: Iterable[str]) -> str:
    return ", ".join(_EXPRESSIONS.get(column, f"i.{column} as {column}") for column in columns)


def _check_scopes(frozen: FrozenTarget, *, scopes_supported: bool) -> None:
    if not scopes_supported and any(leaf.scopes is not None for leaf in frozen.leaves()):
        raise UnsupportedFilter(
            "scopes: this engine keeps no scopes (they came with 1.7); remove the filter or upgrade the engine"
        )


def _looks_into_events(frozen: FrozenTarget, *, any_status: bool) -> bool:
    """The events are joined only when a paused row can be meant for its failure: on a large engine they are many."""
    return (any_status or InvocationStatus.PAUSED in frozen.statuses) and any(
        leaf.failure_codes is not None or leaf.failure_message is not None for leaf in frozen.leaves()
    )


def _source(frozen: FrozenTarget, columns: Iterable[str], *, any_status: bool) -> str:
    events = _looks_into_events(frozen, any_status=any_status) or bool(_NEEDS_EVENTS.intersection(columns))
    return _from(None if frozen.ids is None else _well_formed(frozen.ids), events=events)


def _from(ids: Sequence[str] | None, *, events: bool) -> str:
    if not events:
        return "from sys_invocation i"
    among = f" and id in ({', '.join(literal(text) for text in ids)})" if ids else ""
    return "from sys_invocation i " + _PAUSED_EVENTS.format(ids=among)


def _well_formed(ids: Iterable[str]) -> list[str]:
    return [text for text in ids if is_invocation_id(text)]


def _condition(frozen: FrozenTarget, *, any_status: bool) -> _Condition:
    paused = _looks_into_events(frozen, any_status=any_status)
    parts = [] if frozen.ids is None else [_plain(id_filter(_well_formed(frozen.ids)))]
    if not any_status:
        parts.append(_plain(status_filter(frozen.statuses)))
    parts += [_plain(each) for each in filters_of(frozen.leaf, paused=paused)]
    if frozen.any_of:
        parts.append(_some(frozen.any_of, paused=paused))
    if frozen.excluded is not None:
        excluded = [_leaf(frozen.excluded, paused=paused)]
        if frozen.excluded_any_of:
            excluded.append(_some(frozen.excluded_any_of, paused=paused))
        both = _joined(" and ", excluded)
        # Unknown, from a null column, must not drop the row: whatever is not surely excluded stays.
        parts.append(_Condition(f"({both.sql}) is not true", both.columns))
    return _joined(" and ", parts)


def _leaf(leaf: FrozenLeaf, *, paused: bool) -> _Condition:
    parts = [_plain(each) for each in filters_of(leaf, paused=paused)]
    if leaf.statuses is not None:
        parts.append(_plain(status_filter(leaf.statuses)))
    return _joined(" and ", parts)


def _some(leaves: Iterable[FrozenLeaf], *, paused: bool) -> _Condition:
    branches = _joined(") or (", [_leaf(leaf, paused=paused) for leaf in leaves])
    return _Condition(f"(({branches.sql}))", branches.columns)


def _plain(each: Filter) -> _Condition:
    return _Condition(each.sql, each.columns)


def _joined(word: str, parts: Sequence[_Condition]) -> _Condition:
    columns = sorted({column for part in parts for column in part.columns})
    return _Condition(word.join(part.sql for part in parts) or "true", tuple(columns))
