"""`make up` and `make down`: what is left running is found again, and nothing else is touched."""

from pathlib import Path

import pytest

from e2e.rig import ControlPlane
from e2e.rig.standing import Standing, up
from e2e.rig.wire import exchange


def test_up_twice_keeps_the_same_processes_and_down_ends_them(
    tmp_path: Path, control_plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a cluster that the user gives, which `down` leaves as it is."""
    monkeypatch.setenv("CLUSTER", "current")
    monkeypatch.setenv("KUBECONFIG", str(control_plane.kubeconfig))
    try:
        first = up(tmp_path)
        assert {"restate-server", "shop"} <= set(first.processes)
        assert "KUBECONFIG" not in first.addresses
        assert up(tmp_path).processes == first.processes
        admin = first.addresses["RESTATE_ADMIN_URL"]
        services = exchange("GET", f"{admin}/services").expect().json()["services"]
        assert {service["name"] for service in services} == {"checkout", "payment", "inventory", "report"}
    finally:
        stopped = Standing(tmp_path).stop()
    assert {"restate-server", "shop"} <= set(stopped)
    assert not any(process.alive() for process in first.processes.values())
    assert not Standing(tmp_path).processes
    assert control_plane.request("GET", "/readyz").status == 200
