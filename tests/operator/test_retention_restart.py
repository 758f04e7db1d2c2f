"""What a policy restores is not lost when the operator dies, and status is not all that knows of it."""

import secrets
from typing import Any

import pytest

from e2e.rig import ControlPlane, ServicesProcess
from e2e.rig.killproxy import Cut
from e2e.scenarios.cases import World
from e2e.scenarios.lane import Lane, until


def test_policy_whose_operator_dies_after_a_change_restores_what_held_before(
    quiet_control_plane: ControlPlane, world: World, tmp_path_factory: pytest.TempPathFactory
) -> None:
    prefix = f"Crash{secrets.token_hex(3)}"
    name = f"{prefix}LabSvc"
    with (
        ServicesProcess("lab", prefix=prefix) as services,
        Lane(quiet_control_plane, world.engine, tmp_path_factory.mktemp("restore")) as lane,
    ):
        deployment = world.engine.register(services.uri)
        path = lane.path("retentionpolicies", "kept")

        def status() -> dict[str, Any]:
            return dict(lane.control_plane.request("GET", path).expect(200).json().get("status", {}))

        def journal() -> str:
            return str(world.engine.admin("GET", f"/services/{name}").expect().json()["journal_retention"])

        first = lane.start_operator()
        # Written down, then changed; and dead before status says so.
        lane.script.arm(2, Cut.KILL_AFTER, first)
        lane.create_policy("kept", [name], retention={"journal": "2h"}, onDelete="Restore", interval="1s")
        until(lambda: not first.running, lane.logs)
        assert [write.what for write in lane.script.writes] == ["POST configmaps", f"PATCH service {name}"]
        assert journal() == "2h"
        assert "services" not in status()
        second = lane.start_operator()
        entry = until(lambda: status().get("services"), lane.logs)[0]
        assert (entry["state"], entry["previous"]) == ("InForce", {"journal": "1d"})
        # As if it were one of more than status takes.
        second.kill()
        lane.control_plane.request("PATCH", f"{path}/status", {"status": {"services": None}}).expect(200)
        lane.start_operator()
        entry = until(lambda: status().get("services"), lane.logs)[0]
        assert entry["previous"] == {"journal": "1d"}
        lane.control_plane.request("DELETE", path).expect(200)
        until(lambda: lane.control_plane.request("GET", path).status == 404, lane.logs)
        assert journal() == "1d"
        world.engine.admin("DELETE", f"/deployments/{deployment}?force=true").expect(202)
