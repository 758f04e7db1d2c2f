"""Fixtures of the tests in which operators die; a conftest imports them."""

from collections.abc import Iterator

import pytest

from e2e.rig import ControlPlane, Engine, ServicesProcess, toolchain
from e2e.scenarios.cases import World


@pytest.fixture(scope="session")
def quiet_control_plane() -> Iterator[ControlPlane]:
    """A control plane that nobody but a test's own operators watches."""
    with ControlPlane() as running:
        running.apply_crds(toolchain.ROOT / "crds")
        yield running


@pytest.fixture(scope="session")
def world(engine: Engine, lab: ServicesProcess) -> World:
    """The shared engine and its services."""
    return World(engine, lab)
