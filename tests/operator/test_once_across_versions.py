"""Once, over upgrades and rollbacks: CRDs that got a field with a default, and records that a newer operator made."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from e2e.rig import ControlPlane
from e2e.scenarios import truth
from e2e.scenarios.cases import RestartAsNew, World
from e2e.scenarios.lane import ROOT, Lane, Object, until
from tests.operator.conftest import conditions

CRD = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/invocationactions.ops.restate.dev"
LABEL = "ops.restate.dev/hash-version"


@pytest.fixture
def lane(quiet_control_plane: ControlPlane, world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lane]:
    with Lane(quiet_control_plane, world.engine, tmp_path_factory.mktemp("versions")) as made:
        made.start_operator()
        yield made


@contextmanager
def later_crd(plane: ControlPlane) -> Iterator[None]:
    """The CRD of a later version: a new field, which the API server fills in wherever it is missing."""
    before = plane.request("GET", CRD).expect(200).json()["spec"]
    later = json.loads(json.dumps(before))
    spec = later["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    spec["novelty"] = {"type": "string", "default": "none"}
    plane.request("PATCH", CRD, {"spec": later}).expect(200)
    try:
        yield
    finally:
        plane.request("PATCH", CRD, {"spec": before}).expect(200)


def phase(obj: Object) -> str:
    return str(obj["status"]["phase"])


def test_once_field_that_a_later_crd_gives_a_default_runs_nothing_again(lane: Lane, world: World) -> None:
    """This operator does not know the field, and so executes nothing that has it; what was run before stays run."""
    kept, recreated = RestartAsNew(world).prepare(), RestartAsNew(world).prepare()
    stays = lane.manifest("stays", "RestartAsNew", {"ids": kept})
    comes_back = lane.manifest("comes-back", "RestartAsNew", {"ids": recreated})
    for manifest in (stays, comes_back):
        lane.create(manifest)
    for name in ("stays", "comes-back"):
        assert phase(lane.ended(name)) == "Succeeded"
    lane.delete("comes-back")

    trial = lane.manifest("trial", "RestartAsNew", {"ids": kept})

    def filled_in() -> bool:
        made = lane.control_plane.request("POST", f"{lane.path()}?dryRun=All", trial).expect(201).json()
        return bool(made["spec"].get("novelty") == "none")

    with later_crd(lane.control_plane):
        until(filled_in, "the API server does not fill in the new field")
        lane.create(comes_back)
        assert conditions(lane.ended("comes-back"))["Stalled"] == ("True", "UnknownField")
        lane.control_plane.apply(stays)
    until(lambda: not filled_in(), "the API server goes on filling in the new field")
    # Watches that are open go on filling it in for a moment. And a restarted operator looks at everything anew.
    lane.operator.kill()
    lane.revive()
    lane.delete("comes-back")
    lane.create(comes_back)
    assert phase(lane.ended("comes-back")) == "AlreadyExecuted"
    assert phase(lane.get("stays")) == "Succeeded"
    truth.none(truth.one_child_each(world.engine, kept + recreated))


@pytest.mark.parametrize("named", ["as this version names it", "as only a newer version would"])
def test_once_record_of_a_newer_form_executes_nothing_and_says_so(lane: Lane, world: World, named: str) -> None:
    """The operator was rolled back, and a GitOps tool creates anew what the newer one has run."""
    ids = RestartAsNew(world).prepare()
    manifest = lane.manifest("newer", "RestartAsNew", {"ids": ids})
    lane.create(manifest)
    assert phase(lane.ended("newer")) == "Succeeded"
    lane.delete("newer")
    lane.operator.kill()
    (record,) = lane.records("newer")
    assert record["metadata"]["labels"][LABEL] == "1"
    records = f"{ROOT}/namespaces/{lane.operator_namespace}/invocationrecords"
    lane.control_plane.request("DELETE", f"{records}/{record['metadata']['name']}").expect(200)
    name = record["metadata"]["name"] if named.startswith("as this") else f"iact-{'9' * 48}"
    metadata = {"name": name, "labels": {**record["metadata"]["labels"], LABEL: "2"}}
    later = {**record, "metadata": metadata, "spec": {**record["spec"], "hashVersion": 2}}
    lane.control_plane.request("POST", records, later).expect(201)

    lane.revive()
    lane.create(manifest)
    found = lane.reached("newer", "Pending")
    assert conditions(found)["Stalled"] == ("True", "RecordVersionUnknown")
    assert name in found["status"]["conditions"][0]["message"]
    truth.none(truth.one_child_each(world.engine, ids))
    assert [r["spec"]["hashVersion"] for r in lane.records("newer")] == [2]
