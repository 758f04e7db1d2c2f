"""A deletion that restores is let go after a minute, whatever the engine does, and no sooner while it may go well."""

import secrets
import time
from typing import Any

import pytest

from e2e.rig import ControlPlane, ServicesProcess
from e2e.rig.faults import Fault
from e2e.scenarios.cases import World
from e2e.scenarios.lane import Lane, until

PATIENCE_SECONDS = 60


def _switched_off(lane: Lane) -> None:
    """The kill switch: nothing may be changed until a person says so."""
    path = lane.path("restateengines", "production")
    lane.control_plane.request("PATCH", path, {"spec": {"suspend": True}}).expect(200)


def _takes_no_change(lane: Lane) -> None:
    """It answers everything but changes of services."""
    lane.admin.faults.strike(Fault.UNAVAILABLE, "PATCH service")


def _hangs_at_changes(lane: Lane) -> None:
    """It takes changes and says nothing."""
    lane.admin.faults.strike(Fault.STALL, "PATCH service")


@pytest.mark.parametrize("trouble", [_switched_off, _takes_no_change, _hangs_at_changes])
def test_deletion_that_restores_waits_a_minute_and_is_let_go(
    quiet_control_plane: ControlPlane, world: World, tmp_path_factory: pytest.TempPathFactory, trouble: Any
) -> None:
    prefix = f"Gone{secrets.token_hex(3)}"
    name = f"{prefix}LabSvc"
    with (
        ServicesProcess("lab", prefix=prefix) as services,
        Lane(quiet_control_plane, world.engine, tmp_path_factory.mktemp("restore")) as lane,
    ):
        deployment = world.engine.register(services.uri)
        lane.start_operator()
        path = lane.create_policy("kept", [name], retention={"journal": "2h"}, onDelete="Restore", interval="1s")

        def policy() -> dict[str, Any]:
            reply = lane.control_plane.request("GET", path)
            return dict(reply.json()) if reply.status == 200 else {}

        until(lambda: policy().get("status", {}).get("summary") == "1/1", lane.logs)
        trouble(lane)
        lane.control_plane.request("DELETE", path).expect(200)
        begun = time.monotonic()
        until(lambda: not policy(), lane.logs, timeout=3 * PATIENCE_SECONDS)
        # The deletion's own time has seconds.
        assert time.monotonic() - begun >= PATIENCE_SECONDS - 2
        events = lane.control_plane.request("GET", f"/api/v1/namespaces/{lane.namespace}/events").expect(200).json()
        assert "RestoreGivenUp" in {event["reason"] for event in events["items"]}
        shown = world.engine.admin("GET", f"/services/{name}").expect().json()
        assert shown["journal_retention"] == "2h"
        world.engine.admin("DELETE", f"/deployments/{deployment}?force=true").expect(202)
