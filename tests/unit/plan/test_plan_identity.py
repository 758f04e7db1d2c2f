"""The name of a run: the same for every spelling of the same, another for everything else, and the same for ever."""

import random
from typing import Any

import pytest

from invocation_operator.api.v1alpha1.action import ActionSpec, Limits
from invocation_operator.api.v1alpha1.base import EngineIdentity
from invocation_operator.plan.identity import canonical_json, canonical_spec, plan_hash, plan_place, record_name

BASE: dict[str, Any] = {"action": "Cancel", "target": {"services": ["checkout", "cart"]}}
FULL: dict[str, Any] = {
    "engineRef": {"name": "production", "namespace": "restate"},
    "action": "Cancel",
    "reason": "INC-1234 payment provider down",
    "target": {
        "services": ["checkout", "report-*"],
        "statuses": ["Suspended", "BackingOff"],
        "olderThan": "90m",
        "createdAfter": "2026-01-01T00:00:00Z",
        "anyOf": [{"keys": ["b", "a"]}, {"failureCodes": [503, 500]}],
        "not": {"handlers": ["health"], "anyOf": [{"rootsOnly": True}]},
        "oldestFirst": True,
        "limit": 50,
    },
    "limits": {"maxTargets": 5000, "maxFailures": "5%"},
    "verification": {"timeout": "10m", "repeat": "WhenUnchanged", "repeatAfter": "45s"},
    "expedite": True,
    "escalation": {"killAfter": "5m"},
    "timeout": "1h",
    "notAfter": "2027-01-01T01:00:00+01:00",
}


def name(spec: dict[str, Any], **where: str) -> str:
    place = {"engine": "shop/production", "namespace": "shop", "name": "cancel-stuck", "uid": "u-1", **where}
    return record_name(ActionSpec.model_validate(spec), **place)


def merged(base: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    made = dict(base)
    for key, value in change.items():
        made[key] = merged(made.get(key, {}), value) if isinstance(value, dict) and key != "target" else value
    return made


GOLDEN = {
    "smallest": (BASE, "iact-8d1108c3e08f3d9c13f15e04ab605a5d20c17c5684dc804e"),
    "everything said": (FULL, "iact-2e5ef43a6618f7df25cc483bae77e1398bd704290a2a35fc"),
    "restart": (
        {"action": "RestartAsNew", "target": {"all": True}, "restart": {"fromEntry": 3, "allowRepeated": True}},
        "iact-4eaa977b7d295cf5634fc166de7045e6b7f25e59da55596e",
    ),
    "resume": (
        {"action": "Resume", "target": {"ids": ["inv_1"]}, "resume": {"deployment": "Latest"}},
        "iact-6bac113a5fc397ef4af2540e3be8d77e961170b73431e0ae",
    ),
    "waves": (
        {
            "action": "Resume",
            "target": {"ids": ["inv_1"]},
            "rollout": {"waves": [1, "5%", "100%"], "soak": "90s", "maxUnhealthy": "2%"},
        },
        "iact-36faf4677ec08555658fd1c541c2adc80f1683dd6b33f985",
    ),
    "run id": ({**BASE, "runId": "2026-11-01"}, "iact-88364860a0fcbcc26232b283228854ccd5f784e5b841e3ca"),
    "each object": ({**BASE, "runPolicy": "OncePerObject"}, "iact-9b9c93839fa83578b8789bdecb06c7f75b82a4baf5d662cd"),
}


@pytest.mark.parametrize("which", GOLDEN)
def test_name_never_changes_between_versions(which: str) -> None:
    """A name that changes runs again what was run: never correct these values, raise HASH_VERSION."""
    spec, expected = GOLDEN[which]
    assert name(spec) == expected


def test_name_does_not_change_with_a_field_that_a_later_version_gives_a_default() -> None:
    class LaterLimits(Limits):
        novelty: int = 7

    class Later(ActionSpec):
        limits: LaterLimits = LaterLimits()
        novelty: str = "none"

    later = Later.model_validate({**BASE, "limits": {"maxFailures": "5", "novelty": 7}, "novelty": "none"})
    before = ActionSpec.model_validate({**BASE, "limits": {"maxFailures": "5"}})
    place = {"engine": "shop/production", "namespace": "shop", "name": "a", "uid": "u"}
    assert record_name(later, **place) == record_name(before, **place)


def test_plan_hash_never_changes_between_versions() -> None:
    form = canonical_spec(ActionSpec.model_validate(BASE))
    found = plan_hash(
        "shop/production", form, [("inv_2", "2026-01-02T00:00:00+00:00"), ("inv_1", "2026-01-01T00:00:00+00:00")]
    )
    assert found == "sha256:187b9e34173b61a18bf24301dc66c2288f4768a425921baa"


SAME = [
    ({"target": {"services": ["cart", "checkout"]}}, "a set has no order"),
    ({"target": {"services": ["cart", "checkout"], "rootsOnly": False}}, "a default that is written out"),
    ({"mode": "Execute"}, "a default that is written out"),
    ({"mode": "DryRun"}, "the preview of a run is of that run"),
    ({"mode": "Approve"}, "an approval only delays"),
    ({"approvedPlan": "sha256:" + 48 * "0"}, "it is what is waited for"),
    ({"approval": {}}, "an empty block"),
    ({"approval": {"drift": "Subset", "planMaxAge": "60m"}}, "defaults that are written out"),
    ({"suspend": True}, "suspend only delays"),
    ({"suspend": False, "expedite": False}, "defaults that are written out"),
    ({"limits": {"maxTargets": 1000}}, "a default in a block"),
    ({"limits": {"maxInFlight": 5}}, "how fast is not what"),
    ({"limits": {"operationsPerSecond": 10, "maxTargets": 1000}}, "how fast is not what"),
    ({"ttlSecondsAfterFinished": 60, "ttlSecondsAfterFailed": 600}, "how long it stays is not what it does"),
    ({"limits": {}}, "an empty block"),
    ({"verification": {"timeout": "5m", "repeat": "Never", "repeatAfter": "30s"}}, "defaults that are written out"),
    ({"verification": {"timeout": "PT5M"}}, "another spelling of a default"),
    ({"verification": {"timeout": "300s"}}, "another spelling of a default"),
    ({"runPolicy": "OncePerSpec"}, "a default that is written out"),
    ({"engineRef": {"name": "production"}}, "the engine is in the name by where it led"),
]

DIFFERENT = [
    ({"action": "Kill"}, "another action"),
    ({"target": {"services": ["checkout"]}}, "a narrower target"),
    ({"target": {"services": ["checkout", "cart", "x"]}}, "a wider target"),
    ({"target": {"services": ["checkout", "Cart"]}}, "case counts"),
    ({"target": {"services": ["checkout", "cart"], "olderThan": "1h"}}, "another filter"),
    ({"target": {"services": ["checkout", "cart"], "limit": 5}}, "a limit"),
    ({"reason": "another"}, "another reason is another decision"),
    ({"limits": {"maxTargets": 1001}}, "another ceiling"),
    ({"limits": {"maxFailures": "3"}}, "another ceiling"),
    ({"limits": {"maxPercentOfService": 50}}, "another ceiling"),
    ({"verification": {"timeout": "6m"}}, "another verification"),
    ({"verification": {"repeat": "WhenUnchanged"}}, "it may cancel twice"),
    ({"expedite": True}, "it resumes as well"),
    ({"escalation": {"killAfter": "1m"}}, "it kills as well"),
    ({"timeout": "1h"}, "it ends earlier"),
    ({"notAfter": "2027-01-01T00:00:00Z"}, "it may not start later"),
    ({"approval": {"drift": "Exact"}}, "it may do less"),
    ({"report": "ConfigMap"}, "somebody wants to know more of it"),
    ({"approval": {"planMaxAge": "2h"}}, "another plan may be approved"),
    ({"runId": "again"}, "a person said: again"),
    ({"runPolicy": "OncePerObject"}, "a new object is a new run"),
]


@pytest.mark.parametrize(("change", "why"), SAME)
def test_name_of_the_same_run_spelled_otherwise_is_the_same(change: dict[str, Any], why: str) -> None:
    assert name(merged(BASE, change)) == name(BASE), why


@pytest.mark.parametrize(
    ("action", "block", "default"),
    [
        ("Resume", "resume", {"deployment": "Keep"}),
        ("RestartAsNew", "restart", {"deployment": "Latest", "fromEntry": 0}),
    ],
)
def test_name_of_a_block_of_nothing_but_defaults_is_that_of_no_block(
    action: str, block: str, default: dict[str, Any]
) -> None:
    base = {"action": action, "target": {"services": ["checkout"]}}
    assert name({**base, block: default}) == name({**base, block: {}}) == name(base)


RESUME: dict[str, Any] = {"action": "Resume", "target": {"ids": ["inv_1"]}}


@pytest.mark.parametrize("rollout", [{"soak": "1m"}, {"soak": "PT60S"}, {"maxUnhealthy": 0}, {"soak": "60s"}], ids=str)
def test_name_of_a_rollout_with_its_defaults_said_aloud_is_the_same(rollout: dict[str, Any]) -> None:
    assert name({**RESUME, "rollout": {"waves": [1, "5%"], **rollout}}) == name(
        {**RESUME, "rollout": {"waves": [1, "5%"]}}
    )


@pytest.mark.parametrize(
    "rollout",
    [{"waves": [1]}, {"waves": ["5%", 1]}, {"waves": [1, 5]}, {"waves": [1, "5%"], "soak": "0s"}],
    ids=str,
)
def test_name_of_another_rollout_is_another(rollout: dict[str, Any]) -> None:
    """The order of waves is not that of a set."""
    base = {**RESUME, "rollout": {"waves": [1, "5%"]}}
    assert len({name(RESUME), name(base), name({**RESUME, "rollout": rollout})}) == 3


@pytest.mark.parametrize(("change", "why"), DIFFERENT)
def test_name_of_another_run_is_another(change: dict[str, Any], why: str) -> None:
    assert name(merged(BASE, change)) != name(BASE), why


@pytest.mark.parametrize("place", ["engine", "namespace", "name"])
def test_name_of_the_same_run_elsewhere_is_another(place: str) -> None:
    assert name(BASE, **{place: "other"}) != name(BASE)


def test_name_of_an_object_that_was_created_again_is_the_same_unless_each_object_counts() -> None:
    assert name(BASE, uid="u-2") == name(BASE)
    each = {**BASE, "runPolicy": "OncePerObject"}
    assert name(each, uid="u-2") != name(each)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"timeout": "90m"}, {"timeout": "1h30m"}),
        ({"timeout": "1d"}, {"timeout": "24 hours"}),
        ({"escalation": {"killAfter": "PT2M"}}, {"escalation": {"killAfter": "120s"}}),
        ({"notAfter": "2027-01-01T00:00:00Z"}, {"notAfter": "2027-01-01T01:00:00+01:00"}),
        ({"notAfter": "2027-01-01T00:00:00Z"}, {"notAfter": "2027-01-01T00:00:00.000Z"}),
    ],
)
def test_name_of_two_spellings_of_a_time_is_the_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert name(merged(BASE, one)) == name(merged(BASE, other))


@pytest.mark.parametrize("never", ["9999-12-31T23:59:59-05:00", "0001-01-01T00:00:00+05:00"])
def test_name_of_a_run_whose_time_lies_beyond_all_times_in_utc_can_be_told(never: str) -> None:
    assert name(merged(BASE, {"notAfter": never})) == name(merged(BASE, {"notAfter": never}))


def shuffled(value: Any, dice: random.Random) -> Any:
    """The same manifest with its mappings and sets in another order."""
    if isinstance(value, dict):
        items = [(key, shuffled(entry, dice)) for key, entry in value.items()]
        dice.shuffle(items)
        return dict(items)
    if isinstance(value, list):
        entries = [shuffled(entry, dice) for entry in value]
        dice.shuffle(entries)
        return entries
    return value


@pytest.mark.parametrize("seed", range(20))
def test_name_of_a_reordered_manifest_is_the_same(seed: int) -> None:
    assert name(shuffled(FULL, random.Random(seed))) == name(FULL)


def test_canonical_form_knows_no_default_so_that_a_new_field_changes_nothing() -> None:
    """What is not said is not in the form: a field that a later version adds with a default is not said either."""
    form = canonical_spec(ActionSpec.model_validate(BASE))
    assert canonical_json(form) == '{"action":"Cancel","target":{"services":["cart","checkout"]}}'


def test_plan_hash_binds_engine_specification_and_identities() -> None:
    form = canonical_spec(ActionSpec.model_validate(BASE))
    other = canonical_spec(ActionSpec.model_validate({**BASE, "action": "Kill"}))
    ids = [("inv_1", "2026-01-01T00:00:00+00:00"), ("inv_2", "2026-01-01T00:00:00+00:00")]
    found = plan_hash("a/b", form, ids)
    assert found == plan_hash("a/b", form, ids[::-1])  # the order of the work is not the set
    assert len({found, plan_hash("a/c", form, ids), plan_hash("a/b", other, ids), plan_hash("a/b", form, ids[:1])}) == 4
    assert found != plan_hash("a/b", form, [ids[0], ("inv_2", "2026-01-01T00:00:01+00:00")])  # born again


def test_plan_place_binds_engine_cluster_and_run_and_not_the_uid() -> None:
    engine = EngineIdentity(namespace="shop", name="production", uid="u-1", cluster_name="east")
    places = [
        plan_place(engine, None),
        plan_place(engine, "2"),
        plan_place(engine.model_copy(update={"cluster_name": "west"}), None),
        plan_place(engine.model_copy(update={"name": "staging"}), None),
        plan_place(engine.model_copy(update={"namespace": "other"}), None),
    ]
    assert len(set(places)) == len(places)
    assert plan_place(engine.model_copy(update={"uid": "u-2"}), None) == places[0]  # made anew by a GitOps tool


def test_plan_hash_is_the_same_in_every_mode() -> None:
    forms = [canonical_spec(ActionSpec.model_validate({**BASE, "mode": m})) for m in ("Execute", "DryRun", "Approve")]
    assert len({plan_hash("a/b", form, [("inv_1", "2026-01-01T00:00:00+00:00")]) for form in forms}) == 1
