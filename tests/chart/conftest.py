"""Helm for the chart's tests. Nothing here asks for a cluster but `installer`."""

from pathlib import Path

import pytest

from e2e.rig import ControlPlane, toolchain
from e2e.rig.helm import Helm


@pytest.fixture(scope="session")
def helm_binary(pytestconfig: pytest.Config) -> Path:
    """The pinned Helm; building it shows its progress although pytest captures output."""
    capture = pytestconfig.pluginmanager.getplugin("capturemanager")
    if capture is None:
        return toolchain.helm()
    with capture.global_and_fixture_disabled():
        return toolchain.helm()


@pytest.fixture(scope="session")
def helm(helm_binary: Path, tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """Helm without a cluster: lint and template."""
    return Helm(tmp_path_factory.mktemp("helm"))


@pytest.fixture(scope="session")
def installer(helm_binary: Path, control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """Helm as the cluster's administrator."""
    return Helm(tmp_path_factory.mktemp("helm"), control_plane.kubeconfig)
