"""Status writes against the model of the API server (held to the real one in tests/conformance)."""

import pytest

from e2e.simulation.apiserver import ApiServer
from e2e.simulation.direct import DirectKube
from invocation_operator.api.v1alpha1.action import ActionStatus, Phase
from invocation_operator.api.v1alpha1.retention import RetentionStatus
from invocation_operator.api.v1alpha1.sweep import SweepStatus
from invocation_operator.cluster import status
from invocation_operator.cluster.client import Object
from invocation_operator.cluster.errors import ObjectNotFound, WriteConflict
from invocation_operator.cluster.resources import ACTIONS, RETENTION_POLICIES

RUNNING = ActionStatus(observed_generation=1, phase=Phase.RUNNING)


@pytest.fixture
def server() -> ApiServer:
    return ApiServer(lambda: 0.0)


def made(server: ApiServer) -> Object:
    spec = {"action": "Cancel", "target": {"services": ["Svc"]}}
    return server.create("invocationactions", "shop", {"metadata": {"name": "a"}, "spec": spec})


async def test_status_of_an_object_that_was_created_again_is_left_alone(server: ApiServer) -> None:
    """A uid in the patch does not help: the API server passes it over."""
    first = made(server)
    server.delete("invocationactions", "shop", "a")
    second = made(server)
    with pytest.raises(WriteConflict):
        await status.write(DirectKube(server), ACTIONS, first, RUNNING)
    assert server.get("invocationactions", "shop", "a") == second


async def test_status_of_an_object_that_is_gone_is_not_written(server: ApiServer) -> None:
    first = made(server)
    server.delete("invocationactions", "shop", "a")
    with pytest.raises(ObjectNotFound):
        await status.write(DirectKube(server), ACTIONS, first, RUNNING)


async def test_status_is_written_although_somebody_changed_the_specification_meanwhile(server: ApiServer) -> None:
    first = made(server)
    server.patch("invocationactions", "shop", "a", {"spec": {"suspend": True}})
    kube = DirectKube(server)
    written = await status.write(kube, ACTIONS, first, RUNNING)
    assert (written["status"]["phase"], written["spec"]["suspend"]) == ("Running", True)
    assert [line.split()[0] for line in kube.asked] == ["PATCH", "GET", "PATCH"]


async def test_status_that_is_there_already_is_not_written_again(server: ApiServer) -> None:
    kube = DirectKube(server)
    written = await status.write(kube, ACTIONS, made(server), RUNNING)
    assert await status.write(kube, ACTIONS, written, RUNNING) == written
    assert len(kube.asked) == 1


async def test_shared_status_keeps_what_others_wrote_meanwhile(server: ApiServer) -> None:
    """The values and the sweeps of a policy are told by two reconcilers: one had undone what the other one said."""
    spec = {"services": ["checkout"]}
    first = server.create("retentionpolicies", "shop", {"metadata": {"name": "p"}, "spec": spec})
    sweeps = RetentionStatus(observed_generation=-1, sweeps=[SweepStatus(name="nightly")])
    await status.write(DirectKube(server), RETENTION_POLICIES, first, sweeps, shared=True)
    values = RetentionStatus(observed_generation=1, warnings=["short"])
    written = await status.write(DirectKube(server), RETENTION_POLICIES, first, values, shared=True)
    told = [written["status"].get(name) for name in ("observedGeneration", "warnings", "sweeps")]
    assert told == [1, ["short"], [{"name": "nightly"}]]
    alone = await status.write(DirectKube(server), RETENTION_POLICIES, first, values)
    assert "sweeps" not in alone["status"], "without it, what is written is all there is"
