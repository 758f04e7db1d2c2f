"""Fixtures that start real servers, each once per session and only when a test asks for it.

Unit tests ask for none of them. Sharing is by namespace (Kubernetes) and by
invocation id (engine): a test looks only at what it made itself.
"""

import secrets
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext

import pytest
from hypothesis import settings

from e2e.rig import NEWEST, OLDEST, ControlPlane, Engine, ServicesProcess, toolchain
from e2e.scenarios.fixtures import quiet_control_plane as quiet_control_plane
from e2e.scenarios.fixtures import world as world

# How long one example takes says more about what else the machine does than about what is tested.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


def _shown(config: pytest.Config) -> AbstractContextManager[None]:
    """Lets a build of ten minutes show its progress although pytest captures output."""
    capture = config.pluginmanager.getplugin("capturemanager")
    return capture.global_and_fixture_disabled() if capture else nullcontext()


@pytest.fixture(scope="session")
def control_plane(pytestconfig: pytest.Config) -> Iterator[ControlPlane]:
    """A Kubernetes API server with controllers and, if there are any, our CRDs."""
    with _shown(pytestconfig):
        toolchain.control_plane()
    with ControlPlane() as running:
        running.apply_crds(toolchain.ROOT / "crds")
        yield running


@pytest.fixture
def namespace(control_plane: ControlPlane) -> Iterator[str]:
    """A namespace of the test's own, rid of what an operator acts upon afterwards.

    It stays itself: to end a namespace the controllers ask for every kind of thing that may be in it.
    """
    name = f"test-{secrets.token_hex(4)}"
    control_plane.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}}).expect()
    yield name
    for plural in ("invocationactions", "retentionpolicies", "restateengines"):
        path = f"/apis/ops.restate.dev/v1alpha1/namespaces/{name}/{plural}"
        control_plane.request("DELETE", path).expect(200)


@pytest.fixture(scope="session")
def lab() -> Iterator[ServicesProcess]:
    """The lab's services, which reach every status."""
    with ServicesProcess("lab") as running:
        yield running


@pytest.fixture(scope="session")
def engine(lab: ServicesProcess, pytestconfig: pytest.Config) -> Iterator[Engine]:
    """The newest supported engine, with the lab's services registered; its cleaner runs every second."""
    with _shown(pytestconfig):
        toolchain.engine(NEWEST)
    with Engine(cleanup_interval="1s") as running:
        running.register(lab.uri)
        yield running


@pytest.fixture(scope="session")
def engine_old(lab: ServicesProcess, pytestconfig: pytest.Config) -> Iterator[Engine]:
    """The oldest supported engine, otherwise like `engine`."""
    with _shown(pytestconfig):
        toolchain.engine(OLDEST)
    with Engine(OLDEST, cleanup_interval="1s") as running:
        running.register(lab.uri)
        yield running
