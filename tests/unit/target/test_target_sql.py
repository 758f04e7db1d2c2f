"""The statements: nothing escapes a string, nothing is asked that the engine cannot or should not answer."""

import re
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from invocation_operator.api.v1alpha1.target import InvocationStatus, Target
from invocation_operator.target.filters import literal, successor
from invocation_operator.target.freeze import FrozenTarget, freeze
from invocation_operator.target.sql import ALL_COLUMNS, UnsupportedFilter, count_by_status, select, select_ids

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
EVERY = frozenset(InvocationStatus)
ID = "inv_1" + "0" * 33
STRING = re.compile(r"'(?:[^']|'')*'")
SHAPE = re.compile(r"[a-z0-9_., ()<>=*+-]*", re.ASCII)


def frozen(form: dict[str, Any], defaults: frozenset[InvocationStatus] = EVERY) -> FrozenTarget:
    return freeze(Target.model_validate(form), NOW, defaults)


def code(statement: str) -> str:
    """What is left of a statement without its strings."""
    return STRING.sub("''", statement).replace("''", "")


TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
NAME = TEXT.map(lambda text: text.replace("*", "")).filter(bool)
LEAVES = st.fixed_dictionaries(
    {},
    optional={
        "services": st.lists(st.one_of(NAME, NAME.map(lambda name: name + "*")), min_size=1, max_size=3),
        "handlers": st.lists(NAME, min_size=1, max_size=3),
        "keys": st.lists(TEXT, min_size=1, max_size=3),
        "keyPrefixes": st.lists(TEXT, min_size=1, max_size=3),
        "failureMessage": TEXT,
        "failureCodes": st.lists(st.integers(0, 65535), min_size=1, max_size=3),
        "invokedBy": st.lists(NAME, min_size=1, max_size=3),
        "idempotencyKeys": st.lists(TEXT, min_size=1, max_size=3),
        "scopes": st.lists(TEXT, min_size=1, max_size=3),
        "restartedFrom": st.lists(TEXT, min_size=1, max_size=3),
        "statuses": st.lists(st.sampled_from(list(InvocationStatus)), min_size=1, max_size=3),
        "createdBefore": st.datetimes(timezones=st.just(UTC)),
    },
)


@given(LEAVES, st.lists(LEAVES, min_size=1, max_size=3), LEAVES, st.lists(TEXT, min_size=1, max_size=3))
def test_no_value_escapes_its_string(
    leaf: dict[str, Any], branches: list[dict[str, Any]], excluded: dict[str, Any], ids: list[str]
) -> None:
    target = frozen({**leaf, "anyOf": branches, "not": {**excluded, "anyOf": branches}, "ids": ids})
    for statement in (
        select(target, ALL_COLUMNS, scopes_supported=True, limit=5),
        count_by_status(target, scopes_supported=True),
    ):
        assert statement.count("'") % 2 == 0
        assert SHAPE.fullmatch(code(statement))
        assert not re.search(r"\b(i?like|similar|regexp\w*|starts_with|ends_with)\b", code(statement))
        assert "--" not in code(statement)


@given(TEXT)
def test_literal_is_one_string_that_says_the_text(text: str) -> None:
    written = literal(text)
    assert STRING.fullmatch(written)
    assert written[1:-1].replace("''", "'") == text


@given(TEXT, TEXT)
def test_texts_from_a_prefix_up_to_its_successor_are_those_that_begin_with_it(prefix: str, text: str) -> None:
    for candidate in (text, prefix + text, prefix[:-1] + text, prefix):
        above = successor(prefix)
        within = candidate >= prefix and (above is None or candidate < above)
        assert within == candidate.startswith(prefix)
        if above is not None:
            # The engine compares UTF-8.
            assert within == (prefix.encode() <= candidate.encode() < above.encode())


@pytest.mark.parametrize(
    ("prefix", "above", "reason"),
    [
        ("a", "b", "the next character"),
        ("ab\U0010ffff", "ac", "the last character carries over"),
        ("\U0010ffff", None, "nothing is above"),
        ("\ud7ff", "\ue000", "surrogates are no characters"),
    ],
)
def test_successor_of_a_prefix(prefix: str, above: str | None, reason: str) -> None:
    assert successor(prefix) == above, reason


def test_oldest_first_orders_by_creation_and_the_smaller_limit_comes_last() -> None:
    statement = select(frozen({"services": ["a"], "oldestFirst": True, "limit": 7}), scopes_supported=True, limit=5)
    assert statement.endswith(" order by i.created_at, i.id limit 5")
    statement = select(frozen({"services": ["a"], "limit": 3}), scopes_supported=True, limit=5)
    assert statement.endswith(" order by i.id limit 3")
    assert select(frozen({"services": ["a"]}), scopes_supported=True).endswith(" order by i.id")


def test_exclusion_keeps_rows_of_which_nothing_is_known() -> None:
    statement = select(frozen({"services": ["a"], "not": {"keys": ["k"]}}), scopes_supported=True)
    assert "(i.target_service_key in ('k')) is not true" in statement


def test_malformed_ids_are_left_out_of_the_query() -> None:
    statement = select(frozen({"ids": [ID, "inv_bogus", "' or 1=1 --"]}), scopes_supported=True)
    assert f"i.id in ('{ID}') and" in statement
    assert "bogus" not in statement
    assert "where false and" in select(frozen({"ids": ["inv_bogus"]}), scopes_supported=True)


def test_select_ids_refuses_a_malformed_one() -> None:
    with pytest.raises(ValueError, match="no invocation id"):
        select_ids([ID, "inv_bogus"], scopes_supported=True)
    assert select_ids([ID, ID], ["id"], scopes_supported=True).endswith(f"from sys_invocation i where i.id in ('{ID}')")


def test_unknown_column_is_refused() -> None:
    with pytest.raises(ValueError, match="no such columns: nonsense"):
        select(frozen({"services": ["a"]}, EVERY), ["nonsense"], scopes_supported=True)


@pytest.mark.parametrize(
    "form", [{"scopes": ["s"]}, {"all": True, "anyOf": [{"scopes": ["s"]}]}, {"all": True, "not": {"scopes": ["s"]}}]
)
def test_scopes_on_an_engine_without_them_are_refused(form: dict[str, Any]) -> None:
    for ask in (select, count_by_status):
        with pytest.raises(UnsupportedFilter, match="upgrade"):
            ask(frozen(form), scopes_supported=False)


def test_scope_is_no_column_on_an_engine_without_them() -> None:
    assert "scope" not in select(frozen({"services": ["a"]}), ALL_COLUMNS, scopes_supported=False)


@pytest.mark.parametrize(
    ("form", "defaults", "joined", "reason"),
    [
        ({"services": ["a"], "failureCodes": [500]}, EVERY, True, "a paused one may be meant"),
        ({"all": True, "not": {"failureMessage": "x"}}, EVERY, True, "or left out"),
        ({"services": ["a"], "failureCodes": [500]}, frozenset({InvocationStatus.COMPLETED}), False, "no paused one"),
        ({"services": ["a"], "statuses": ["BackingOff"], "failureCodes": [500]}, EVERY, False, "no paused one"),
        ({"services": ["a"]}, EVERY, False, "no failure is asked for"),
    ],
)
def test_events_are_joined_only_for_failures_of_paused_ones(
    form: dict[str, Any], defaults: frozenset[InvocationStatus], joined: bool, reason: str
) -> None:
    statement = select(frozen(form, defaults), scopes_supported=True)
    assert ("sys_journal_events" in statement) is joined, reason
    assert (" p." in statement) is joined


def test_count_lifts_statuses_only_if_they_were_a_default() -> None:
    running = frozenset({InvocationStatus.RUNNING})
    lifted = count_by_status(frozen({"services": ["a"], "limit": 3}, running), scopes_supported=True)
    assert "'running'" not in lifted
    assert "limit" not in lifted
    assert "'running'" in count_by_status(frozen({"services": ["a"], "statuses": ["Running"]}), scopes_supported=True)


def test_every_column_that_a_condition_looks_at_is_asked_for() -> None:
    """Else the engine panics when its optimiser prunes one that a condition handed to the scan still names."""
    form = {"all": True, "outcomes": ["Succeeded"], "anyOf": [{"outcomes": ["Succeeded", "Failed"]}, {"minRetries": 1}]}
    columns = {"status", "completion_result", "completion_failure", "retry_count"}
    asked = select(frozen(form), ["id"], scopes_supported=True).split(" from ")[0]
    counted = count_by_status(frozen(form), scopes_supported=True).split(" from ")[0]
    assert columns <= set(re.findall(r"i\.(\w+)", asked))
    assert columns <= set(re.findall(r"i\.(\w+)", counted))


@given(LEAVES)
def test_columns_that_any_condition_looks_at_are_asked_for(leaf: dict[str, Any]) -> None:
    statement = code(select(frozen({"not": leaf}), ["id"], scopes_supported=True))
    asked, condition = statement.split(" from sys_invocation ")[0], statement.split(" where ")[-1]
    assert set(re.findall(r"i\.\w+", condition)) <= set(re.findall(r"i\.\w+", asked))
