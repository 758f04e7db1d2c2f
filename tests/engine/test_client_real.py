"""The client against real engines, the oldest supported and the newest."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from e2e.rig import Engine
from invocation_operator.engine import errors
from invocation_operator.engine.client import Connection, EngineClient, Op
from invocation_operator.engine.version import Support, supported

pytestmark = pytest.mark.parametrize("which", ["engine", "engine_old"])


@pytest.fixture
def running(which: str, request: pytest.FixtureRequest) -> Engine:
    found: Engine = request.getfixturevalue(which)
    return found


@pytest.fixture
async def client(running: Engine) -> AsyncIterator[EngineClient]:
    made = EngineClient(Connection(running.admin_url))
    yield made
    await made.close()


async def test_client_tells_version_and_capabilities(client: EngineClient, running: Engine) -> None:
    version = await client.version()
    assert str(version) == running.version
    assert supported(version) is Support.SUPPORTED
    found = await client.capabilities()
    newest = running.version.startswith("1.7.")
    assert (found.pause, found.batch, found.restarted_from) == (True, True, True)
    assert found.scopes is newest
    assert found.automatic_idempotency_keys is newest
    assert {"id", "status", "created_at", "completion_failure", "pinned_deployment_id"} <= found.columns


async def test_client_tells_which_cluster_answers(
    client: EngineClient, running: Engine, engine: Engine, engine_old: Engine
) -> None:
    seen = await client.identity()
    assert seen.cluster_name == running.cluster_name
    assert seen.same_as(await client.identity()) is True
    other = EngineClient(Connection((engine_old if running is engine else engine).admin_url))
    assert not seen.deployments & (await other.identity()).deployments  # of the same endpoint
    await other.close()


async def test_client_reads_the_engines_clock(client: EngineClient) -> None:
    assert abs(await client.now() - datetime.now(UTC)) < timedelta(seconds=5)


async def test_client_reads_services_and_deployments(client: EngineClient, running: Engine) -> None:
    services = {service.name: service for service in await client.services()}
    assert {name: services[name].ty for name in ("LabSvc", "LabObj", "LabWf")} == {
        "LabSvc": "Service",
        "LabObj": "VirtualObject",
        "LabWf": "Workflow",
    }
    workflow = await client.service("LabWf")
    assert workflow.workflow_completion_retention is not None
    assert {handler.name: handler.ty for handler in workflow.handlers} == {"run": "Workflow", "wf_query": "Shared"}
    assert services["LabSvc"].workflow_completion_retention is None
    assert await client.deployments_of_services() == {name: one.deployment_id for name, one in services.items()}
    deployments = {deployment.id: deployment for deployment in await client.deployments()}
    assert ("LabSvc", services["LabSvc"].revision) in deployments[services["LabSvc"].deployment_id].services
    with pytest.raises(errors.NotFound, match="nosuch"):
        await client.service("nosuch/../LabSvc")


async def test_client_reads_rows_with_any_character(client: EngineClient, running: Engine) -> None:
    key = '},{"a":"é😀\\ \n\u2028'
    id_ = running.send("LabObj", "obj_sleep", 3600.0, key=key)
    (row,) = await client.rows(
        f"select id, target_service_key, completion_failure from sys_invocation where id = '{id_}'"
    )
    assert row == {"id": id_, "target_service_key": key}
    running.operate(id_, "kill")


async def test_client_streams_more_rows_than_one_piece(client: EngineClient) -> None:
    sql = "select value as n, 18446744073709551615 as big, repeat('x', 50) as pad from generate_series(1, 20000)"
    try:
        rows = [row async for row in client.query(sql)]
    except errors.ServerFault:
        pytest.skip("this engine has no table function to make rows with")
    assert [row["n"] for row in rows] == list(range(1, 20001))
    assert rows[0]["big"] == 18446744073709551615


@pytest.mark.parametrize(
    ("sql", "kinds"),
    [
        ("selec", (errors.Rejected, errors.ServerFault)),
        ("", (errors.Rejected, errors.ServerFault)),
        ("delete from sys_invocation", (errors.Rejected, errors.ServerFault)),
        ("select nothing from sys_invocation", (errors.ServerFault,)),
        ("select 1; select 2", (errors.ServerFault,)),
        ("select id from sys_invocation where id = 'inv_bogus'", (errors.ServerFault,)),
    ],
)
async def test_client_query_that_the_engine_refuses_raises(
    client: EngineClient, sql: str, kinds: tuple[type[Exception], ...]
) -> None:
    with pytest.raises(errors.EngineError) as caught:
        await client.rows(sql)
    assert isinstance(caught.value, kinds)
    assert caught.value.message.startswith("Datafusion error")


async def test_client_operations_answer_by_status(client: EngineClient, running: Engine) -> None:
    scheduled = running.send("LabSvc", "echo", "x", delay="1h")
    with pytest.raises(errors.NotReady):
        await client.operate(Op.RESUME, scheduled)
    with pytest.raises(errors.Conflict):
        await client.operate(Op.PURGE, scheduled)
    assert (await client.operate(Op.CANCEL, scheduled)).status == 200
    running.wait_status(scheduled, "absent")
    with pytest.raises(errors.NotFound):
        await client.operate(Op.CANCEL, scheduled)

    suspended = running.send("LabSvc", "sleep_long", 3600.0)
    running.wait_status(suspended, "suspended")
    assert (await client.operate(Op.CANCEL, suspended)).accepted
    running.wait_status(suspended, "completed")
    with pytest.raises(errors.Conflict):
        await client.operate(Op.CANCEL, suspended)

    failing = running.send("LabSvc", "fail_slow_retry", "x")
    running.wait_status(failing, "backing-off")
    assert (await client.operate(Op.PAUSE, failing)).accepted
    running.wait_status(failing, "paused")
    with pytest.raises(errors.Rejected):
        await client.operate(Op.RESUME, failing, deployment="dp_11nGQpCRmau6ypL82KH2TnP")
    assert (await client.operate(Op.RESUME, failing, deployment="latest")).status == 200
    assert (await client.operate(Op.KILL, failing)).status == 200


async def test_client_restart_tells_the_new_id_once(client: EngineClient, running: Engine) -> None:
    old = running.send("LabSvc", "steps", "x")
    running.wait_status(old, "completed")
    answer = await client.operate(Op.RESTART_AS_NEW, old, deployment="keep", from_entry=0)
    assert answer.new_id is not None
    restarts = await client.rows(f"select id from sys_invocation where restarted_from = '{old}'")
    assert restarts == [{"id": answer.new_id}]
    assert (await client.operate(Op.PURGE_JOURNAL, old)).status == 200
    with pytest.raises(errors.Gone):
        await client.operate(Op.RESTART_AS_NEW, old)
    assert (await client.operate(Op.PURGE, old)).status == 200
    flow = running.send("LabWf", "run", 0.0, key=old)
    running.wait_status(flow, "completed")
    with pytest.raises(errors.Unprocessable):
        await client.operate(Op.RESTART_AS_NEW, flow)


@pytest.mark.parametrize("id_", ["inv_bogus", "..", "../../services/LabSvc", "inv_1?x=1#y", "é", "\ud800", "x" * 2000])
async def test_client_malformed_id_is_rejected_and_nothing_else_reached(client: EngineClient, id_: str) -> None:
    with pytest.raises(errors.Rejected) as caught:
        await client.operate(Op.CANCEL, id_)
    assert caught.value.status == 400


async def test_client_many_operations_at_once_all_answer(client: EngineClient, running: Engine) -> None:
    ids = await asyncio.to_thread(lambda: [running.send("LabSvc", "echo", "x", delay="1h") for _ in range(150)])
    answers = await asyncio.gather(*(client.operate(Op.CANCEL, id_) for id_ in ids))
    assert {answer.status for answer in answers} == {200}
