"""Targets that the operator refuses by itself, because CRDs can be older than their rules."""

from typing import Any

import pytest

from invocation_operator.api.v1alpha1.action import ActionSpec
from invocation_operator.reconcile.planning import check_target

BAD = [
    ("Cancel", {"statuses": ["Suspended"]}, "it must narrow by", "it only describes"),
    ("Cancel", {"olderThan": "1h", "rootsOnly": True}, "it must narrow by", "so do these"),
    ("Cancel", {"all": True, "ids": ["inv_1"]}, "all: true stands alone", "it says both"),
    ("Cancel", {"services": ["a"], "statuses": ["Completed"]}, "Cancel cannot apply to Completed", "it has ended"),
    ("Kill", {"services": ["a"], "statuses": ["Completed"]}, "Kill cannot apply to Completed", "it has ended"),
    ("Pause", {"services": ["a"], "statuses": ["Scheduled"]}, "Pause cannot apply to Scheduled", "it never started"),
    ("Resume", {"services": ["a"], "statuses": ["Running"]}, "Resume cannot apply to Running", "it runs"),
    ("Purge", {"services": ["a"], "statuses": ["Paused"]}, "Purge cannot apply to Paused", "it has not ended"),
    ("PurgeJournal", {"services": ["a"], "statuses": ["Ready"]}, "PurgeJournal cannot apply to Ready", "neither"),
    ("RestartAsNew", {"services": ["a"], "statuses": ["Pending"]}, "RestartAsNew cannot apply to Pending", "neither"),
    (
        "Purge",
        {"services": ["a"], "anyOf": [{"statuses": ["Completed"]}, {"statuses": ["Running"]}]},
        "Purge cannot apply to Running",
        "in one of two branches",
    ),
    (
        "Resume",
        {"services": ["a"], "minRetries": 2},
        "applies to Paused by default",
        "no count of retries is kept there",
    ),
    (
        "Resume",
        {"services": ["a"], "anyOf": [{"minRetries": 2}]},
        "target.anyOf[0].minRetries: this action applies to Paused by default",
        "nor in a branch",
    ),
    ("Cancel", {"services": ["a"], "minRetries": 2, "statuses": ["Paused"]}, "keeps no count", "it is asked for"),
]

GOOD = [
    ("Cancel", {"services": ["a"]}, "it narrows"),
    ("Cancel", {"all": True}, "it says that it means all"),
    ("Cancel", {"all": True, "statuses": ["Suspended"]}, "it describes all"),
    ("Cancel", {"anyOf": [{"services": ["a"]}, {"keys": ["b"]}]}, "each branch narrows"),
    ("Cancel", {"services": ["a"], "minRetries": 2}, "living statuses count retries, paused ones just never match"),
    ("Resume", {"services": ["a"], "minRetries": 2, "statuses": ["BackingOff"]}, "retries are counted there"),
    ("Resume", {"services": ["a"], "anyOf": [{"minRetries": 2, "statuses": ["BackingOff"]}]}, "and in a branch"),
    ("Pause", {"services": ["a"], "statuses": ["Suspended"]}, "asked again when it wakes up"),
]


def spec(action: str, target: dict[str, Any]) -> ActionSpec:
    return ActionSpec.model_validate({"action": action, "target": target})


@pytest.mark.parametrize(("action", "target", "told", "why"), BAD)
def test_target_that_cannot_be_meant_is_refused(action: str, target: dict[str, Any], told: str, why: str) -> None:
    refusal = check_target(spec(action, target))
    assert refusal is not None, why
    assert refusal.reason == "InvalidSpec"
    assert told in refusal.message


@pytest.mark.parametrize(("action", "target", "why"), GOOD)
def test_target_that_is_sound_passes(action: str, target: dict[str, Any], why: str) -> None:
    assert check_target(spec(action, target)) is None, why


@pytest.mark.parametrize("action", ["Cancel", "Kill", "Pause", "Purge", "PurgeJournal"])
def test_rollout_of_an_action_after_which_nothing_is_to_be_seen_is_refused(action: str) -> None:
    target = {"services": ["a"]}
    refusal = check_target(
        ActionSpec.model_validate({"action": action, "target": target, "rollout": {"waves": [1, "100%"]}})
    )
    assert refusal is not None
    assert refusal.reason == "InvalidSpec"
    assert "rollout is for Resume and RestartAsNew" in refusal.message
