"""What an earlier version has written is read by this one: executed is executed, and nothing runs again.

`frozen/` holds what the real operator of that version wrote, as it was in the API server. Never correct it: add a
file for each version that writes otherwise.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from e2e.rig import ControlPlane, Engine
from tests.operator.conftest import OPERATOR_NAMESPACE, ROOT, Stage, without_status

HERE = Path(__file__).parent / "frozen"
FROZEN = sorted(HERE.glob("frozen-*.yaml"))


@pytest.fixture
def past(
    control_plane: ControlPlane, engine: Engine, operator: Path, request: pytest.FixtureRequest
) -> Iterator[Stage]:
    """The namespace that the frozen objects were in, whose name is part of the record's."""
    name = request.param.stem
    control_plane.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}}).expect(201)
    made = Stage(control_plane, engine, name, operator)
    made.define_engine()
    yield made
    for id_ in made.ids:
        engine.operate(id_, "kill")
    control_plane.request("DELETE", f"/api/v1/namespaces/{name}").expect()


@pytest.mark.parametrize("past", FROZEN, indirect=True, ids=lambda path: path.stem)
def test_once_objects_of_an_earlier_version_are_read_and_nothing_runs_again(past: Stage) -> None:
    record, action = yaml.safe_load_all((HERE / f"{past.namespace}.yaml").read_text())
    alive = past.send("obj_shared_sleep", 3600.0, service="LabObj", key="frozen", status="suspended")
    records = f"{ROOT}/namespaces/{OPERATOR_NAMESPACE}/invocationrecords"
    name, patched = action["metadata"]["name"], {"status": record["status"]}
    past.control_plane.request("POST", records, without_status(record)).expect(201)
    past.control_plane.request("PATCH", f"{records}/{record['metadata']['name']}/status", patched).expect(200)

    # Created anew, by a GitOps tool or from a backup.
    past.create(without_status(action))
    again = past.ended(name)
    assert again["status"]["phase"] == "AlreadyExecuted"
    told = f"ended as {record['status']['phase']}: {record['status']['message']}"
    assert told in again["status"]["conditions"][0]["message"]

    # As it stood in the cluster when the operator was upgraded; it is looked at again.
    actions = f"{ROOT}/namespaces/{past.namespace}/invocationactions"
    past.control_plane.request("PATCH", f"{actions}/{name}/status", {"status": action["status"]}).expect(200)
    past.patch(name, {"ttlSecondsAfterFinished": 86400})
    assert past.ended(name)["status"]["phase"] == action["status"]["phase"] == "Succeeded"
    assert past.status_of(alive) == "suspended"
    assert [one["spec"] for one in past.records(name)] == [record["spec"]]
