"""The canonical form: one target, one text."""

import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from invocation_operator.api.v1alpha1.target import Target
from invocation_operator.target.canonical import canonical

SAME = [
    ({"services": ["b", "a"]}, {"services": ["a", "b"]}, "a set has no order"),
    ({"services": ["a", "a"]}, {"services": ["a"]}, "nor a count"),
    ({"services": ["a"], "all": False}, {"services": ["a"]}, "false is the default"),
    ({"services": ["a"], "rootsOnly": False, "oldestFirst": False}, {"services": ["a"]}, "false is the default"),
    ({"services": ["a"], "olderThan": "60m"}, {"services": ["a"], "olderThan": "PT1H"}, "two spellings of a duration"),
    ({"services": ["a"], "olderThan": "1 week"}, {"services": ["a"], "olderThan": "7d"}, "two spellings of a duration"),
    (
        {"services": ["a"], "createdBefore": "2026-01-01T02:00:00+02:00"},
        {"services": ["a"], "createdBefore": "2026-01-01T00:00:00.000Z"},
        "two spellings of a time",
    ),
    (
        {"all": True, "anyOf": [{"handlers": ["b"]}, {"handlers": ["a"]}]},
        {"all": True, "anyOf": [{"handlers": ["a"]}, {"handlers": ["b"]}, {"handlers": ["a"]}]},
        "branches have no order",
    ),
    (
        {"all": True, "not": {"anyOf": [{"handlers": ["a", "b"]}]}},
        {"all": True, "not": {"anyOf": [{"handlers": ["b", "a"]}]}},
        "nor what they hold",
    ),
    (
        {"services": ["a"], "statuses": ["Running", "Paused"]},
        {"services": ["a"], "statuses": ["Paused", "Running"]},
        "set",
    ),
    (
        {"services": ["a"], "failureCodes": [500, 409, 1000]},
        {"services": ["a"], "failureCodes": [1000, 500, 409]},
        "set",
    ),
]

DIFFERENT = [
    ({"services": ["a"]}, {"services": ["A"]}, "case counts"),
    ({"services": ["a"]}, {"handlers": ["a"]}, "another filter"),
    ({"keys": ["e\u0301"]}, {"keys": ["\u00e9"]}, "characters count, not looks"),
    ({"services": ["a"]}, {"services": ["a"], "limit": 1}, "a limit"),
    ({"services": ["a"]}, {"services": ["a"], "oldestFirst": True}, "an order, which a limit would follow"),
    ({"services": ["a"], "olderThan": "0s"}, {"services": ["a"]}, "spellings are joined, not meanings"),
    (
        {"all": True, "anyOf": [{"handlers": ["a"]}]},
        {"all": True, "not": {"anyOf": [{"handlers": ["a"]}], "keys": ["k"]}},
        "another place",
    ),
]


@pytest.mark.parametrize(("one", "other", "reason"), SAME, ids=[f"{row[-1]}-{n}" for n, row in enumerate(SAME)])
def test_spellings_of_one_target_are_one_form(one: dict[str, Any], other: dict[str, Any], reason: str) -> None:
    assert canonical(Target.model_validate(one)) == canonical(Target.model_validate(other)), reason


@pytest.mark.parametrize(("one", "other", "reason"), DIFFERENT, ids=[row[-1] for row in DIFFERENT])
def test_different_targets_are_different_forms(one: dict[str, Any], other: dict[str, Any], reason: str) -> None:
    assert canonical(Target.model_validate(one)) != canonical(Target.model_validate(other)), reason


def test_form_of_everything_never_changes() -> None:
    """The record that locks a run is named by this text: a change here would run old manifests again."""
    target = Target.model_validate(
        {
            "ids": ["inv_b", "inv_a"],
            "services": ["a*"],
            "statuses": ["Running", "BackingOff"],
            "olderThan": "1.5h",
            "createdBefore": "2026-01-01T00:00:00.5Z",
            "failureCodes": [503, 500],
            "oldestFirst": True,
            "limit": 3,
            "anyOf": [{"keys": ["k'"]}, {"minRetries": 2, "rootsOnly": True}],
            "not": {"failureMessage": "é", "anyOf": [{"outcomes": ["Killed"]}]},
        }
    )
    assert json.dumps(canonical(target), sort_keys=True, ensure_ascii=False) == (
        '{"anyOf": [{"keys": ["k\'"]}, {"minRetries": 2, "rootsOnly": true}], "createdBefore": '
        '"2026-01-01T00:00:00.500000Z", "failureCodes": [500, 503], "ids": ["inv_a", "inv_b"], "limit": 3, "not": '
        '{"anyOf": [{"outcomes": ["Killed"]}], "failureMessage": "é"}, "olderThan": "1h30m", "oldestFirst": true, '
        '"services": ["a*"], "statuses": ["BackingOff", "Running"]}'
    )


WORDS = st.lists(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="*/"), min_size=1, max_size=5),
    min_size=1,
    max_size=4,
)
LEAVES = st.fixed_dictionaries(
    {},
    optional={
        "services": WORDS,
        "keys": WORDS,
        "statuses": st.lists(st.sampled_from(["Running", "Paused", "Ready"]), min_size=1, max_size=4),
        "failureCodes": st.lists(st.integers(0, 999), min_size=1, max_size=5),
        "olderThan": st.sampled_from(["1h", "60m", "PT1H", "1d", "24:00:00"]),
        "completedBefore": st.datetimes().map(lambda t: t.isoformat() + "Z"),
        "rootsOnly": st.booleans(),
        "minRetries": st.integers(1, 9),
    },
)
TARGETS = st.builds(
    lambda leaf, more: leaf | more,
    LEAVES,
    st.fixed_dictionaries(
        {},
        optional={
            "anyOf": st.lists(LEAVES, min_size=1, max_size=4),
            "not": st.builds(
                lambda leaf, branches: leaf | {"anyOf": branches}, LEAVES, st.lists(LEAVES, min_size=1, max_size=3)
            ),
            "oldestFirst": st.booleans(),
            "limit": st.integers(1, 9),
        },
    ),
)


def shuffled(form: Any, by: random.Random) -> Any:
    if isinstance(form, dict):
        names = list(form)
        by.shuffle(names)
        return {name: shuffled(form[name], by) for name in names}
    if isinstance(form, list):
        entries = [shuffled(entry, by) for entry in form + form[:1]]
        by.shuffle(entries)
        return entries
    return form


@given(TARGETS, st.randoms())
def test_form_is_stable_under_reordering_repetition_and_reparsing(form: dict[str, Any], by: random.Random) -> None:
    once = canonical(Target.model_validate(form))
    if "anyOf" not in form or len(form["anyOf"]) < 8:
        assert canonical(Target.model_validate(shuffled(form, by))) == once
    assert canonical(Target.model_validate(once)) == once
    assert json.loads(json.dumps(once)) == once
