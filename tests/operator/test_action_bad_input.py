"""Bad input: each gets a clear reason and message, and touches nothing that it should not.

Much of it never gets past admission. What would come in under older CRDs is tried on a control plane whose CRDs have
lost their rules, so that the operator is alone in refusing it.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.rig import ControlPlane, Engine, toolchain
from tests.operator.conftest import ROOT, Object, Stage, conditions, operator_for, results, unique
from tests.operator.population import HOUR

CRD = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/invocationactions.ops.restate.dev"
REVISION = "ops.restate.dev/schema-revision"
RULES = ("x-kubernetes-validations", "pattern", "minLength", "minItems", "minProperties")


def without_rules(schema: Any) -> Any:
    """A schema that accepts nearly everything of the right type."""
    if isinstance(schema, dict):
        kept = {name: without_rules(value) for name, value in schema.items() if name not in RULES}
        return {name: value for name, value in kept.items() if not (name == "enum" and isinstance(value, list))}
    return [without_rules(entry) for entry in schema] if isinstance(schema, list) else schema


@pytest.fixture(scope="module")
def lenient(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A stage on a control plane of its own, whose CRDs have lost their rules."""
    crds = tmp_path_factory.mktemp("crds")
    for file in (toolchain.ROOT / "crds").glob("*.yaml"):
        (crds / file.name).write_text(yaml.safe_dump(without_rules(yaml.safe_load(file.read_text()))))
    log = tmp_path_factory.mktemp("operator") / "operator.log"
    with ControlPlane() as control_plane:
        control_plane.apply_crds(crds)
        with operator_for(control_plane, log):
            stage = Stage(control_plane, engine, "default", log)
            stage.define_engine()
            yield stage


@pytest.fixture
def bystander(engine: Engine) -> Iterator[str]:
    """An invocation that every target below would reach if it were taken for less than it says."""
    id_ = engine.send("LabSvc", "sleep_long", HOUR)
    engine.wait_status(id_, "suspended", timeout=60)
    yield id_
    engine.operate(id_, "kill")


def message(action: Object) -> str:
    return str(action["status"]["conditions"][0]["message"])


def refused(action: Object, reason: str, *told: str) -> None:
    """The action is refused for ``reason``, and says what is wrong."""
    assert action["status"]["phase"] == "Refused"
    assert conditions(action) == {"Ready": ("False", reason), "Stalled": ("True", reason)}
    for part in told:
        assert part in message(action)


REFUSED_BY_THE_OPERATOR = {
    "a target that only describes": (
        "Cancel",
        {"statuses": ["Suspended"]},
        "InvalidSpec",
        "it must narrow by ids, services",
    ),
    "an alternative that does not narrow": (
        "Cancel",
        {"anyOf": [{"services": ["LabSvc"]}, {"statuses": ["Suspended"]}]},
        "InvalidSpec",
        "in each branch of anyOf or beside it",
    ),
    "all beside a filter that narrows": (
        "Cancel",
        {"all": True, "services": ["LabSvc"]},
        "InvalidSpec",
        "all: true stands alone",
    ),
    "a bare star": ("Cancel", {"services": ["*"]}, "InvalidSpec", "spec.target.services"),
    "an empty list": ("Cancel", {"services": []}, "InvalidSpec", "spec.target.services"),
    "an empty string": ("Cancel", {"services": [""]}, "InvalidSpec", "spec.target.services"),
    "an empty alternative": ("Cancel", {"services": ["LabSvc"], "anyOf": [{}]}, "InvalidSpec", "anyOf"),
    "a path as a handler": (
        "Cancel",
        {"services": ["LabSvc"], "handlers": ["LabSvc/sleep_long"]},
        "InvalidSpec",
        "is a path and no name",
    ),
    "a null": ("Cancel", {"services": ["LabSvc"], "handlers": None}, "InvalidSpec", "handlers is null"),
    "a null in an alternative": (
        "Cancel",
        {"services": ["LabSvc"], "anyOf": [{"handlers": ["nothing"], "keys": None}]},
        "InvalidSpec",
        "keys is null",
    ),
    "a filter of a newer version": (
        "Cancel",
        {"services": ["LabSvc"], "regions": ["eu"]},
        "UnknownField",
        "does not know spec.target.regions",
    ),
    "such a filter in an exclusion": (
        "Cancel",
        {"services": ["LabSvc"], "not": {"anyOf": [{"regions": ["eu"]}]}},
        "UnknownField",
        "spec.target.not.anyOf.0.regions",
    ),
    "a status that a cancel cannot end": (
        "Cancel",
        {"services": ["LabSvc"], "statuses": ["Completed", "Suspended"]},
        "InvalidSpec",
        "Cancel cannot apply to Completed; possible statuses: BackingOff, Paused",
    ),
    "a status that a purge cannot free": (
        "Purge",
        {"services": ["LabSvc"], "statuses": ["Suspended"]},
        "InvalidSpec",
        "Purge cannot apply to Suspended; possible statuses: Completed",
    ),
    "a status that a pause cannot stop, in an alternative": (
        "Pause",
        {"services": ["LabSvc"], "anyOf": [{"statuses": ["Scheduled"]}]},
        "InvalidSpec",
        "Pause cannot apply to Scheduled",
    ),
    "a status that there is not": (
        "Cancel",
        {"services": ["LabSvc"], "statuses": ["Sleeping"]},
        "InvalidSpec",
        "spec.target.statuses.0",
    ),
    "a length of time that is none": (
        "Cancel",
        {"services": ["LabSvc"], "olderThan": "5 parsecs"},
        "InvalidSpec",
        "spec.target.olderThan",
    ),
    "retries of paused ones": (
        "Resume",
        {"services": ["LabSvc"], "minRetries": 3},
        "InvalidSpec",
        "the engine keeps no count",
    ),
}


def test_bad_target_that_got_past_admission_is_refused_and_touches_nothing(lenient: Stage, bystander: str) -> None:
    before = lenient.engine.invocation(bystander)
    for number, (action, target, _, _) in enumerate(REFUSED_BY_THE_OPERATOR.values()):
        lenient.create(lenient.manifest(f"bad-{number}", action, target, runId="first"))
    for number, (situation, (_, _, reason, told)) in enumerate(REFUSED_BY_THE_OPERATOR.items()):
        done = lenient.ended(f"bad-{number}", timeout=60)
        found = (done["status"]["phase"], conditions(done)["Ready"][1], done["status"].get("runId"))
        assert found == ("Refused", reason, "first"), (situation, message(done))
        assert told in message(done), situation
        assert "set a new spec.runId" in message(done)
        assert lenient.records(f"bad-{number}") == []
    assert lenient.engine.invocation(bystander) == before


def test_crds_older_than_the_operator_execute_nothing_until_they_are_upgraded(lenient: Stage, bystander: str) -> None:
    def annotate(revision: str) -> None:
        lenient.control_plane.request("PATCH", CRD, {"metadata": {"annotations": {REVISION: revision}}}).expect()

    revision = lenient.control_plane.request("GET", CRD).json()["metadata"]["annotations"][REVISION]
    before = lenient.engine.invocation(bystander)
    annotate("0")
    lenient.create(lenient.manifest("early", "Kill", {"ids": [bystander]}, notAfter="2099-01-01T00:00:00Z"))

    def waits() -> bool:
        status = lenient.get("early")["status"]
        return any(c["reason"] == "CRDsOutdated" for c in status.get("conditions", ()))

    lenient.until(waits, 60)
    held = lenient.get("early")
    assert held["status"]["phase"] == "Pending"
    assert conditions(held) == {"Ready": ("False", "CRDsOutdated"), "Reconciling": ("True", "CRDsOutdated")}
    assert f"has schema revision 0, this operator needs {revision}" in message(held)
    assert lenient.engine.invocation(bystander) == before
    assert lenient.records("early") == []
    annotate(revision)
    assert results(lenient.ended("early", timeout=60)) == {bystander: ("Effective", "Killed")}


def test_a_null_that_reaches_the_api_server_is_refused_at_admission(stage: Stage) -> None:
    target = {"services": ["LabSvc"], "handlers": ["sleep_long"], "keys": None}
    path = f"{ROOT}/namespaces/{stage.namespace}/invocationactions"
    reply = stage.control_plane.request("POST", path, stage.manifest("null", "Kill", target))
    assert reply.status == 422
    assert "keys is null: give it a value or leave it out" in reply.json()["message"]


@pytest.mark.parametrize(
    ("target", "spec", "told"),
    [
        pytest.param({"service": ["x"]}, {}, "spec.target.service", id="below-target"),
        pytest.param(
            {"anyOf": [{"handlers": ["x"], "key": "y"}]}, {}, "spec.target.anyOf.0.key", id="in-an-alternative"
        ),
        pytest.param({}, {"onlyAfter": "1h"}, "spec.onlyAfter", id="beside-target"),
        pytest.param({}, {"limits": {"maxTargets": 5, "maxService": 1}}, "spec.limits.maxService", id="in-the-limits"),
    ],
)
def test_a_field_that_the_operator_does_not_know_is_refused(
    stage: Stage, bystander: str, target: Object, spec: Object, told: str
) -> None:
    """A newer manifest with validation switched off: what the field meant to leave out must not be acted upon."""
    before = stage.engine.invocation(bystander)
    manifest = stage.manifest("newer", "Kill", {"ids": [bystander], **target}, **spec)
    path = f"{ROOT}/namespaces/{stage.namespace}/invocationactions?fieldValidation=Ignore"
    stage.control_plane.request("POST", path, manifest).expect(201)
    refused(stage.ended("newer", timeout=60), "UnknownField", f"does not know {told};", "or upgrade the operator")
    assert stage.engine.invocation(bystander) == before


def test_a_null_that_kubectl_dropped_is_refused(stage: Stage, bystander: str, tmp_path: Path) -> None:
    before = stage.engine.invocation(bystander)
    manifest = stage.manifest("templated", "Kill", {"ids": [bystander], "olderThan": None})
    file = tmp_path / "manifest.yaml"
    file.write_text(yaml.safe_dump(manifest))
    stage.control_plane.kubectl("apply", "-f", file)
    assert "olderThan" not in stage.get("templated")["spec"]["target"]
    refused(stage.ended("templated", timeout=60), "InvalidSpec", "spec.target.olderThan: null in the manifest")
    assert stage.engine.invocation(bystander) == before


def test_malformed_and_unknown_ids_fail_alone(stage: Stage, bystander: str) -> None:
    unknown = bystander[:-6] + "111111"
    ids = ["nonsense", "inv_bogus", "'; select 1 --", unknown, bystander]
    done = stage.run("kill", "Kill", {"ids": ids}, timeout=60)
    assert done["status"]["phase"] == "PartiallyFailed"
    assert results(done) == {
        "nonsense": ("Failed", "InvalidId"),
        "inv_bogus": ("Failed", "InvalidId"),
        "'; select 1 --": ("Failed", "InvalidId"),
        unknown: ("Failed", "NotFound"),
        bystander: ("Effective", "Killed"),
    }
    errors = {r["id"]: r["error"] for r in done["status"]["results"] if "error" in r}
    assert errors["nonsense"] == "this is no invocation id"
    assert "may have been purged" in errors[unknown]
    assert done["status"]["plan"]["total"] == 1


def test_unknown_names_are_warned_about_with_the_nearest_ones(stage: Stage, bystander: str) -> None:
    before = stage.engine.invocation(bystander)
    done = stage.run("kill", "Kill", {"services": ["labsvc"], "handlers": ["sleep_lng"]}, timeout=60)
    assert conditions(done) == {"Ready": ("True", "NothingMatched")}
    service, handler = (w for w in done["status"]["plan"]["warnings"] if w.startswith("the engine has no"))
    assert service.startswith("the engine has no service 'labsvc' (names match exactly, case included)")
    assert "'LabSvc'" in service
    assert handler.startswith("the engine has no handler 'sleep_lng'")
    assert "'sleep_long'" in handler
    assert stage.engine.invocation(bystander) == before


def test_a_prefix_that_matches_a_service_is_not_warned_about(stage: Stage) -> None:
    target = {"services": ["Lab*"], "keys": [unique("nobody")]}
    done = stage.run("purge", "Purge", target, timeout=60)
    assert conditions(done) == {"Ready": ("True", "NothingMatched")}
    assert "warnings" not in done["status"]["plan"]
