"""Helm for the chart's tests, and a cluster to install into."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest

from e2e.rig import ControlPlane, toolchain
from e2e.rig.helm import Helm


def shown(config: pytest.Config) -> AbstractContextManager[None]:
    """Lets a build of minutes show its progress although pytest captures output."""
    capture = config.pluginmanager.getplugin("capturemanager")
    return capture.global_and_fixture_disabled() if capture else nullcontext()


@pytest.fixture(scope="session")
def helm_binary(pytestconfig: pytest.Config) -> Path:
    """The pinned Helm."""
    with shown(pytestconfig):
        return toolchain.helm()


@pytest.fixture(scope="session")
def helm(helm_binary: Path, tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """Helm without a cluster: lint and template."""
    return Helm(tmp_path_factory.mktemp("helm"))


@pytest.fixture(scope="module")
def bare_cluster(pytestconfig: pytest.Config) -> Iterator[ControlPlane]:
    """A cluster of its own that has never seen our CRDs: they would belong to nobody's release."""
    with shown(pytestconfig):
        toolchain.control_plane()
    with ControlPlane() as running:
        yield running


@pytest.fixture(scope="module")
def installer(helm_binary: Path, bare_cluster: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """Helm as the administrator of `bare_cluster`."""
    return Helm(tmp_path_factory.mktemp("helm"), bare_cluster.kubeconfig)
