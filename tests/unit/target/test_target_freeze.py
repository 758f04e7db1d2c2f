"""Freezing: relative becomes absolute, once."""

from datetime import UTC, datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from invocation_operator.api.v1alpha1.target import InvocationStatus, Target
from invocation_operator.target.freeze import freeze
from invocation_operator.values.duration import format_duration

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
DEFAULT = frozenset({InvocationStatus.PAUSED})


def test_relative_times_become_absolute_on_the_given_clock() -> None:
    target = Target.model_validate({"services": ["a"], "olderThan": "1h", "unmodifiedFor": "2h", "completedFor": "3h"})
    leaf = freeze(target, NOW, DEFAULT).leaf
    assert (leaf.created_before, leaf.modified_before, leaf.completed_before) == tuple(
        NOW - timedelta(hours=n) for n in (1, 2, 3)
    )


def test_the_earlier_of_two_bounds_holds() -> None:
    form = {"services": ["a"], "olderThan": "1h", "createdBefore": "2026-01-01T10:00:00Z"}
    assert freeze(Target.model_validate(form), NOW, DEFAULT).leaf.created_before == NOW - timedelta(hours=2)


def test_relative_times_in_branches_and_exclusions_are_frozen_too() -> None:
    form = {"all": True, "anyOf": [{"olderThan": "1h"}], "not": {"olderThan": "2h", "anyOf": [{"olderThan": "3h"}]}}
    frozen = freeze(Target.model_validate(form), NOW, DEFAULT)
    assert [leaf.created_before for leaf in frozen.leaves()] == [None, *(NOW - timedelta(hours=n) for n in (1, 2, 3))]


def test_default_statuses_are_remembered_as_such() -> None:
    without = freeze(Target.model_validate({"services": ["a"]}), NOW, DEFAULT)
    assert without.statuses == DEFAULT
    assert without.statuses_were_defaulted
    own = freeze(Target.model_validate({"services": ["a"], "statuses": ["Paused"]}), NOW, DEFAULT)
    assert own.statuses == DEFAULT
    assert not own.statuses_were_defaulted


def test_order_of_sets_and_zone_of_the_clock_do_not_matter() -> None:
    one = Target.model_validate({"services": ["b", "a", "b"], "olderThan": "60m"})
    other = Target.model_validate({"services": ["a", "b"], "olderThan": "PT1H"})
    assert freeze(one, NOW, DEFAULT) == freeze(other, NOW.astimezone(timezone(timedelta(hours=9))), DEFAULT)


@given(st.datetimes(timezones=st.just(UTC)), st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=7_304_484)))
def test_frozen_bounds_are_whole_milliseconds_and_freezing_again_changes_nothing(now: datetime, age: timedelta) -> None:
    frozen = freeze(Target.model_validate({"services": ["a"], "olderThan": format_duration(age)}), now, DEFAULT)
    bound = frozen.leaf.created_before
    assert bound is not None
    assert bound.microsecond % 1000 == 0
    absolute = Target.model_validate({"services": ["a"], "createdBefore": bound})
    assert freeze(absolute, now + timedelta(0), DEFAULT) == frozen
