"""Which retention policies are admitted: they say something, in durations that the engine takes."""

from typing import Any

import pytest

from tests.apiserver.conftest import Admission
from tests.unit.values.test_duration import ACCEPTED as DURATIONS
from tests.unit.values.test_duration import REFUSED as NO_DURATIONS
from tests.unit.values.test_schedule import NEXT as SCHEDULES
from tests.unit.values.test_schedule import REFUSED as NO_SCHEDULES

Spec = dict[str, Any]

SWEEP: Spec = {"name": "nightly", "schedule": "0 3 * * *", "action": "Purge"}
BASE: Spec = {"services": ["checkout"], "retention": {"journal": "1d"}}

TAKEN: list[tuple[str, Spec]] = [
    ("the least", BASE),
    (
        "every value",
        BASE
        | {
            "retention": {"idempotency": "2d", "workflowCompletion": "1w", "journal": "0s"},
            "timeouts": {"inactivityTimeout": "1m", "abortTimeout": "10m"},
        },
    ),
    ("timeouts alone", {"services": ["checkout"], "timeouts": {"abortTimeout": "10m"}}),
    ("prefixes", BASE | {"services": ["report-*", "checkout"]}),
    ("every choice", BASE | {"drift": "Report", "onDelete": "Restore", "suspend": True, "interval": "1s"}),
    ("the longest interval", BASE | {"interval": "24h"}),
    *[(f"{text!r}: {why}", BASE | {"retention": {"journal": text}}) for text, _, why in DURATIONS[:12]],
    ("sweeps alone", {"services": ["checkout"], "sweeps": [{"name": "a", "schedule": "@daily", "action": "Purge"}]}),
    (
        "every field of a sweep",
        BASE
        | {
            "sweeps": [
                {
                    "name": "nightly",
                    "schedule": "0 3 * * MON-FRI",
                    "timeZone": "Europe/Berlin",
                    "action": "PurgeJournal",
                    "target": {
                        "services": ["checkout"],
                        "outcomes": ["Succeeded"],
                        "completedFor": "1d",
                        "anyOf": [{"handlers": ["pay"]}, {"keys": ["a"]}],
                        "not": {"failureCodes": [500]},
                        "oldestFirst": True,
                        "limit": 10,
                    },
                    "keepLast": 100,
                    "limits": {"maxTargets": 100000, "operationsPerSecond": 500, "maxFailures": "5%"},
                    "suspend": True,
                }
            ]
        },
    ),
    ("sixteen sweeps", BASE | {"sweeps": [SWEEP | {"name": f"s{n}"} for n in range(16)]}),
    *[(f"{text!r}", BASE | {"sweeps": [SWEEP | {"schedule": text}]}) for text, *_ in SCHEDULES[:18]],
]

REFUSED: list[tuple[str, Spec, str]] = [
    ("no service", {"retention": {"journal": "1d"}}, "services: Required"),
    ("an empty list of services", BASE | {"services": []}, "at least 1"),
    ("a bare star", BASE | {"services": ["*"]}, "services"),
    ("a path", BASE | {"services": ["checkout/pay"]}, "a path is no name"),
    ("nothing to say", {"services": ["checkout"]}, "the policy says nothing"),
    ("an empty retention", BASE | {"retention": {}}, "at least 1 propert"),
    ("empty timeouts", BASE | {"timeouts": {}}, "at least 1 propert"),
    ("only a misspelt value", BASE | {"retention": {"journals": "1d"}}, "give at least one of idempotency"),
    ("a null", BASE | {"retention": {"journal": "1d", "idempotency": None}}, "idempotency is null"),
    ("too often", BASE | {"interval": "999ms"}, "between 1s and 1d"),
    ("too seldom", BASE | {"interval": "25h"}, "between 1s and 1d"),
    ("another drift", BASE | {"drift": "Ignore"}, "Unsupported value"),
    ("no sweeps", BASE | {"sweeps": []}, "at least 1"),
    ("two of one name", BASE | {"sweeps": [SWEEP, SWEEP]}, "Duplicate value"),
    ("an action on what lives", BASE | {"sweeps": [SWEEP | {"action": "Kill"}]}, "Unsupported value"),
    ("what lives", BASE | {"sweeps": [SWEEP | {"target": {"statuses": ["Running"]}}]}, "leave statuses out"),
    ("a null filter", BASE | {"sweeps": [SWEEP | {"target": {"outcomes": None}}]}, "outcomes is null"),
    ("a name as a path", BASE | {"sweeps": [SWEEP | {"name": "Nightly Sweep"}]}, "name"),
    *[
        (f"{text!r}: {why}", BASE | {"sweeps": [SWEEP | {"schedule": text}]}, "not a schedule")
        for text, zone, _, why in NO_SCHEDULES
        if zone is None and text and ("L" in text or "#" in text or "=" in text or "@" in text or why == "seconds")
    ],
    *[
        (f"{text!r}: {why}", BASE | {"retention": {"journal": text}}, "not a duration")
        for text, _, why in NO_DURATIONS[2:16]
    ],
]


@pytest.mark.parametrize(("why", "spec"), TAKEN, ids=[row[0] for row in TAKEN])
def test_policy_that_means_something_is_admitted(admission: Admission, why: str, spec: Spec) -> None:
    assert admission.refusal("RetentionPolicy", spec) is None, why


@pytest.mark.parametrize(("why", "spec", "told"), REFUSED, ids=[row[0] for row in REFUSED])
def test_policy_that_cannot_be_meant_is_refused(admission: Admission, why: str, spec: Spec, told: str) -> None:
    refusal = admission.refusal("RetentionPolicy", spec)
    assert refusal is not None, why
    assert told in refusal
