"""The client against a real engine behind a front that demands certificates and tokens, and misbehaves."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from e2e.rig import Engine, Front, Misbehaviour
from invocation_operator.engine import errors
from invocation_operator.engine.client import Connection, EngineClient, Op

TOKEN = "s3cret-token"


@pytest.fixture(scope="module")
def one_front(engine: Engine) -> Iterator[Front]:
    with Front(engine.admin_url, client_certs=True, token=TOKEN) as running:
        yield running


@pytest.fixture
def front(one_front: Front) -> Iterator[Front]:
    one_front.asked.clear()
    yield one_front
    one_front.behave()
    one_front.serve_good_certificate()
    one_front.rotate_token(TOKEN)


@asynccontextmanager
async def connected(front: Front, *, days: int = 365, within: float = 5, **changed: Any) -> AsyncIterator[EngineClient]:
    pair = front.issue_client_cert(days=days)
    made: dict[str, Any] = {
        "url": front.url,
        "token": TOKEN,
        "ca_pem": front.ca_pem,
        "client_cert_pem": pair.cert.encode(),
        "client_key_pem": pair.key.encode(),
    }
    client = EngineClient(Connection(**(made | changed)), call_timeout=within, query_timeout=within)
    try:
        yield client
    finally:
        await client.close()


async def test_client_passes_a_front_with_everything_right(front: Front, engine: Engine) -> None:
    async with connected(front) as client:
        assert await client.cluster_name() == engine.cluster_name
        assert len(await client.rows("select 1 as a")) == 1
    assert all(asked.authorized and asked.client == "operator" for asked in front.asked)


@pytest.mark.parametrize("token", [None, "wrong"])
async def test_client_without_the_right_token_is_unauthorized(front: Front, token: str | None) -> None:
    async with connected(front, token=token) as client:
        with pytest.raises(errors.Unauthorized):
            await client.cluster_name()


async def test_client_after_a_rotation_needs_the_new_token(front: Front) -> None:
    async with connected(front) as client:
        await client.cluster_name()
        front.rotate_token("new")
        with pytest.raises(errors.Unauthorized):
            await client.cluster_name()
    async with connected(front, token="new") as client:
        await client.cluster_name()


async def test_client_without_certificate_sends_nothing(front: Front) -> None:
    async with connected(front, client_cert_pem=None, client_key_pem=None) as client:
        with pytest.raises(errors.Unreachable):
            await client.operate(Op.CANCEL, "inv_x")
    assert front.asked == []


@pytest.mark.parametrize("bad", ["host", "ca", "expired"])
async def test_client_sends_no_token_to_a_front_with_a_bad_certificate(front: Front, bad: str) -> None:
    if bad == "host":
        front.serve_certificate_of_another_host()
    elif bad == "ca":
        front.serve_certificate_of_another_ca()
    else:
        front.serve_expired_certificate()
    async with connected(front) as client:
        with pytest.raises(errors.CertificateInvalid):
            await client.operate(Op.CANCEL, "inv_x")
    assert front.asked == []


async def test_client_takes_the_name_that_the_certificate_holds(front: Front) -> None:
    front.serve_certificate_of_another_host("engine.example")
    async with connected(front, server_name="engine.example") as client:
        await client.cluster_name()


@pytest.mark.parametrize(
    ("how", "kind"),
    [
        (Misbehaviour.HTML, errors.BadReply),
        (Misbehaviour.CUT_JSON, errors.BadReply),
        (Misbehaviour.CUT_STREAM, errors.BadReply),
        (Misbehaviour.REDIRECT, errors.BadReply),
        (Misbehaviour.UNAUTHORIZED, errors.Unauthorized),
        (Misbehaviour.FORBIDDEN, errors.Unauthorized),
        (Misbehaviour.UNAVAILABLE, errors.ServerFault),
        (Misbehaviour.TOO_MANY, errors.Throttled),
        (Misbehaviour.HANG, errors.Unreachable),
        (Misbehaviour.CLOSE, errors.Unreachable),
        (Misbehaviour.LOST_ANSWER, errors.Unreachable),
    ],
)
async def test_client_names_every_misbehaviour_of_a_front(
    front: Front, how: Misbehaviour, kind: type[errors.EngineError]
) -> None:
    async with connected(front, within=1) as client:
        front.misbehave(how, "/query")
        with pytest.raises(kind):
            await client.rows("select id from sys_invocation limit 5")
        front.misbehave(how, "/cluster-health")
        with pytest.raises(kind):
            await client.cluster_name()
        front.behave()
        await client.cluster_name()


@pytest.mark.parametrize("how", [Misbehaviour.LOST_ANSWER, Misbehaviour.CLOSE, Misbehaviour.HANG])
async def test_client_restart_whose_answer_is_lost_is_sent_once(
    front: Front, engine: Engine, how: Misbehaviour
) -> None:
    old = engine.send("LabSvc", "steps", "x")
    engine.wait_status(old, "completed")
    async with connected(front, within=1) as client:
        await client.cluster_name()  # so that the connection is a kept one
        front.misbehave(how, "/invocations")
        with pytest.raises(errors.Unreachable) as caught:
            await client.operate(Op.RESTART_AS_NEW, old)
        assert caught.value.sent
    assert [asked.method for asked in front.asked].count("PATCH") == 1
    expected = 1 if how is Misbehaviour.LOST_ANSWER else 0
    assert len(engine.sql(f"select id from sys_invocation where restarted_from = '{old}'")) == expected


async def test_client_of_an_engine_that_restarts_goes_on_and_of_one_that_stopped_is_unreachable() -> None:
    with Engine() as own:
        client = EngineClient(Connection(own.admin_url))
        name = await client.cluster_name()
        own.restart()
        assert await client.cluster_name() == name  # first on the connection that the restart had closed
        await client.rows("select 1 as a")
        own.stop()
        with pytest.raises(errors.Unreachable):
            await client.rows("select 1 as a")
        await client.close()
