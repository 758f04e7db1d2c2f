"""A frozen target as a predicate on rows that were read already: ``sql`` in Python.

Called where rows come by id (named ids that do not apply, planned ids looked at again) and by tests. Invariant: for any
target and rows it selects what ``sql.select`` without ``limit`` selects.
"""

from collections.abc import Callable

from invocation_operator.target.filters import filters_of, id_filter, status_filter
from invocation_operator.target.freeze import FrozenLeaf, FrozenTarget
from invocation_operator.target.row import InvocationRow

Predicate = Callable[[InvocationRow], bool]


def matches(frozen: FrozenTarget, row: InvocationRow, *, any_status: bool = False) -> bool:
    """Whether ``row``, read with ``sql.ALL_COLUMNS``, is meant by ``frozen``; ``limit`` is not looked at."""
    return matcher(frozen, any_status=any_status)(row)


def matcher(frozen: FrozenTarget, *, any_status: bool = False) -> Predicate:
    """Return ``matches`` for many rows. ``any_status`` lifts the statuses that hold for the whole target."""
    conditions = [each.holds for each in filters_of(frozen.leaf, paused=True)]
    if frozen.ids is not None:
        conditions.append(id_filter(frozen.ids).holds)
    if not any_status:
        conditions.append(status_filter(frozen.statuses).holds)
    if frozen.any_of:
        conditions.append(_some([_leaf(branch) for branch in frozen.any_of]))
    included = _every(conditions)
    if frozen.excluded is None:
        return included
    excluded = _leaf(frozen.excluded)
    if frozen.excluded_any_of:
        excluded = _every([excluded, _some([_leaf(branch) for branch in frozen.excluded_any_of])])
    return lambda row: included(row) and not excluded(row)


def _leaf(leaf: FrozenLeaf) -> Predicate:
    conditions = [each.holds for each in filters_of(leaf, paused=True)]
    if leaf.statuses is not None:
        conditions.append(status_filter(leaf.statuses).holds)
    return _every(conditions)


def _every(conditions: list[Predicate]) -> Predicate:
    return lambda row: all(holds(row) for holds in conditions)


def _some(conditions: list[Predicate]) -> Predicate:
    return lambda row: any(holds(row) for holds in conditions)
