"""How the operator starts and stops: CRDs that come later or go, rights, signals at bad moments."""

import json
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from e2e.rig import ControlPlane, operator_process, toolchain
from e2e.rig.process import Child, free_ports

PATIENCE = 240
"""Seconds; kopf tries a request that fails for a minute and a half before it gives up."""
ROOT = "/apis/ops.restate.dev/v1alpha1"
ENGINES = "restateengines.ops.restate.dev"


@pytest.fixture
def without_crds() -> Iterator[ControlPlane]:
    """A control plane without our CRDs, for one test: a new one is there sooner than CRDs are gone."""
    with ControlPlane(controllers=False) as control_plane:
        yield control_plane


@pytest.fixture(scope="module")
def lasting() -> Iterator[ControlPlane]:
    """A control plane on which operators come and go."""
    with ControlPlane(controllers=False) as control_plane:
        yield control_plane


@pytest.fixture
def with_crds(lasting: ControlPlane) -> ControlPlane:
    """The same for all tests that need our CRDs, whichever the last one removed."""
    lasting.apply_crds(toolchain.ROOT / "crds")
    return lasting


def remove_crds(control_plane: ControlPlane) -> None:
    # All at once: what the API server does behind a deletion may take it a minute, for each.
    control_plane.kubectl("delete", "--ignore-not-found", "--wait=false", "-f", toolchain.ROOT / "crds")
    deadline = time.monotonic() + PATIENCE
    while control_plane.request("GET", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions").json()["items"]:
        assert time.monotonic() < deadline, "the CRDs are still there"
        time.sleep(0.1)


@contextmanager
def started(control_plane: ControlPlane, log: Path, *args: str, kubeconfig: Path | None = None) -> Iterator[Child]:
    """The operator's process, as far as it comes."""
    options = ["--bind-address", "127.0.0.1", "--metrics-port", "0", "--log-format", "json"]
    options += [] if "--health-port" in args else ["--health-port", "0"]
    child = operator_process.start(kubeconfig or control_plane.kubeconfig, log=log, args=("run", *options, *args))
    try:
        yield child
    finally:
        child.stop()


def lines(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text().splitlines() if line.endswith("}")]


def heard(child: Child, log: Path, event: str) -> dict[str, Any]:
    """Wait for a line of the log."""
    child.wait_until(lambda: any(line["event"] == event for line in lines(log)), PATIENCE)
    return next(line for line in lines(log) if line["event"] == event)


def complaints(log: Path) -> list[dict[str, Any]]:
    """Errors, but for kopf's of requests that were cut off by the end of the process."""
    bad = [line for line in lines(log) if line["level"] in ("error", "critical")]
    return [line for line in bad if not line["event"].startswith("Request attempt")]


def ended(child: Child) -> int:
    """Wait for the process to end by itself; its exit code."""
    child._popen.wait(PATIENCE)
    return int(child._popen.returncode)


def status(port: int, path: str) -> int:
    try:
        with urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as reply:
            return int(reply.status)
    except HTTPError as error:
        with error:
            return error.code
    except OSError:
        return 0


@pytest.mark.parametrize("scope", [[], ["--namespace", "default"]], ids=["all namespaces", "one namespace"])
def test_start_without_crds_waits_ends_at_once_when_asked_and_goes_on_when_they_come(
    scope: list[str], without_crds: ControlPlane, tmp_path: Path
) -> None:
    asked = tmp_path / "asked.log"
    with started(without_crds, asked, *scope) as child:
        heard(child, asked, "waiting for the CRDs")
        child.signal(signal.SIGTERM)
        assert ended(child) == 0
    assert lines(asked)[-1]["event"] == "stopped"

    log, (port,) = tmp_path / "operator.log", free_ports(1)
    with started(without_crds, log, "--health-port", str(port), *scope) as child:
        line = heard(child, log, "waiting for the CRDs")
        assert line["level"] == "warning"
        assert ENGINES in line["missing"]
        assert "kubectl apply" in line["next_step"]
        assert "helm" in line["next_step"]
        assert (status(port, "/healthz"), status(port, "/readyz")) == (200, 503)
        without_crds.apply_crds(toolchain.ROOT / "crds")
        heard(child, log, "ready")
        child.wait_until(lambda: status(port, "/readyz") == 200, PATIENCE)
        engine = {
            "apiVersion": "ops.restate.dev/v1alpha1",
            "kind": "RestateEngine",
            "metadata": {"name": "nowhere", "namespace": "default"},
            "spec": {"url": "http://127.0.0.1:1"},
        }
        without_crds.apply(engine)
        found = heard(child, log, "engine cannot be used")
        assert found["object"] == "default/nowhere"
    assert not [line for line in lines(log) if "exception" in line]


def test_start_with_one_crd_missing_names_it(with_crds: ControlPlane, tmp_path: Path) -> None:
    with_crds.kubectl("delete", "--wait", "--timeout=60s", "crd", "invocationrecords.ops.restate.dev")
    log = tmp_path / "operator.log"
    with started(with_crds, log) as child:
        assert heard(child, log, "waiting for the CRDs")["missing"] == ["invocationrecords.ops.restate.dev"]


def test_running_operator_whose_crds_are_removed_ends_and_says_so(without_crds: ControlPlane, tmp_path: Path) -> None:
    without_crds.apply_crds(toolchain.ROOT / "crds")
    log = tmp_path / "operator.log"
    with started(without_crds, log, "--namespace", "default") as child:
        heard(child, log, "ready")
        remove_crds(without_crds)
        without_crds.restart_apiserver()
        assert ended(child) == 1
    (said,) = (line for line in lines(log) if line["level"] == "critical")
    assert said["event"] == "ended by an error"
    assert "the watches ended" in said["error"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("times", [1, 2, 5])
def test_stop_of_a_ready_operator_is_quiet_however_often_it_is_asked(
    number: signal.Signals, times: int, with_crds: ControlPlane, tmp_path: Path
) -> None:
    log = tmp_path / "operator.log"
    with started(with_crds, log) as child:
        heard(child, log, "ready")
        for _ in range(times):
            child.signal(number)
        assert ended(child) == 0
    assert lines(log)[-1]["event"] == "stopped"
    assert complaints(log) == []


def test_stop_right_after_the_start_is_quiet(with_crds: ControlPlane, tmp_path: Path) -> None:
    """The signal comes between the first line and the moment when the watches run."""
    log = tmp_path / "operator.log"
    with started(with_crds, log) as child:
        heard(child, log, "starting")
        child.signal(signal.SIGTERM)
        assert ended(child) == 0
    assert lines(log)[-1]["event"] == "stopped"
    assert complaints(log) == []
