"""When a request reaches the engine, how often, and how long it is waited for."""

import asyncio
import socket
import time

import pytest

from invocation_operator.engine import errors
from invocation_operator.engine.client import Connection, EngineClient, Op
from tests.unit.engine.fake_admin import Asked, Wire, fake_admin

ID = "inv_1b90ZiUqt0Gh1dqvmTTS5MC8kRzJVgEQr2"


async def _fine(asked: Asked, wire: Wire) -> None:
    if asked.path == "/query":
        await wire.json(200, {"rows": []})
    elif asked.method == "PATCH":
        await wire.reply(202, kind="")
    else:
        await wire.json(200, {"cluster_name": "c"})


async def _close(asked: Asked, wire: Wire) -> None:
    wire.close()


async def _reset(asked: Asked, wire: Wire) -> None:
    wire.reset()


async def _hang(asked: Asked, wire: Wire) -> None:
    await asyncio.sleep(60)


def _closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def test_transport_nobody_listening_is_unreachable_and_not_sent() -> None:
    client = EngineClient(Connection(f"http://127.0.0.1:{_closed_port()}"))
    with pytest.raises(errors.Unreachable, match="refused") as caught:
        await client.operate(Op.CANCEL, ID)
    assert not caught.value.sent
    await client.close()


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a" * 64 + ".invalid", "xn--a.invalid"])
async def test_transport_unknown_host_is_unreachable_and_not_sent(host: str) -> None:
    client = EngineClient(Connection(f"http://{host}:9070"), call_timeout=5)
    with pytest.raises(errors.Unreachable) as caught:
        await client.operate(Op.CANCEL, ID)
    assert not caught.value.sent
    await client.close()


async def test_transport_no_connection_in_time_is_not_sent() -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        waiting = [socket.socket() for _ in range(4)]
        for other in waiting:
            other.setblocking(False)
            other.connect_ex(("127.0.0.1", port))
        client = EngineClient(Connection(f"http://127.0.0.1:{port}"), connect_timeout=0.2, call_timeout=5)
        started = time.monotonic()
        with pytest.raises(errors.Unreachable) as caught:
            await client.operate(Op.CANCEL, ID)
        assert time.monotonic() - started < 3
        assert not caught.value.sent
        await client.close()
        for other in waiting:
            other.close()


@pytest.mark.parametrize("script", [_close, _reset])
async def test_transport_write_that_lost_its_answer_is_sent_and_asked_once(script: object) -> None:
    async with fake_admin(script) as admin, admin.client() as client:  # type: ignore[arg-type]
        with pytest.raises(errors.Unreachable) as caught:
            await client.operate(Op.RESTART_AS_NEW, ID)
        assert caught.value.sent
        assert len(admin.asked) == 1


@pytest.mark.parametrize("script", [_close, _reset])
async def test_transport_write_on_a_kept_connection_is_never_repeated(script: object) -> None:
    async def kept(asked: Asked, wire: Wire) -> None:
        if asked.method == "PATCH":
            await script(asked, wire)  # type: ignore[operator]
        else:
            await _fine(asked, wire)

    async with fake_admin(kept) as admin, admin.client() as client:
        await client.cluster_name()
        with pytest.raises(errors.Unreachable) as caught:
            await client.operate(Op.CANCEL, ID)
        assert caught.value.sent
        assert [asked.method for asked in admin.asked] == ["GET", "PATCH"]
        assert admin.asked[1].connection == 1  # the point of this test: it was the kept one


@pytest.mark.parametrize("read", ["rows", "cluster_name"])
async def test_transport_read_on_a_connection_found_closed_is_repeated_once(read: str) -> None:
    async def first_only(asked: Asked, wire: Wire) -> None:
        if asked.connection == 1 and len(admin.asked) > 1:
            wire.close()
        else:
            await _fine(asked, wire)

    async with fake_admin(first_only) as admin, admin.client() as client:
        await client.cluster_name()
        assert await (client.rows("select 1") if read == "rows" else client.cluster_name()) in ([], "c")
        assert [asked.connection for asked in admin.asked] == [1, 1, 2]


async def test_transport_query_on_a_new_connection_is_not_repeated() -> None:
    async with fake_admin(_close) as admin, admin.client() as client:
        with pytest.raises(errors.Unreachable):
            await client.rows("select 1")
        assert len(admin.asked) == 1


async def test_transport_call_without_answer_ends_after_its_timeout() -> None:
    async with fake_admin(_hang) as admin, admin.client(call_timeout=0.2) as client:
        started = time.monotonic()
        with pytest.raises(errors.Unreachable, match="timeout") as caught:
            await client.operate(Op.CANCEL, ID)
        assert caught.value.sent
        assert time.monotonic() - started < 2
        assert len(admin.asked) == 1


async def test_transport_call_waiting_for_a_free_connection_is_not_sent() -> None:
    async with fake_admin(_hang) as admin, admin.client(call_timeout=0.5, max_connections=1) as client:
        first = asyncio.create_task(client.operate(Op.CANCEL, ID))
        await asyncio.sleep(0.3)
        with pytest.raises(errors.Unreachable):
            await first
        blocker = asyncio.create_task(client.rows("select 1"))
        await asyncio.sleep(0.05)
        with pytest.raises(errors.Unreachable) as caught:
            await client.operate(Op.CANCEL, ID)
        assert not caught.value.sent
        assert [asked.method for asked in admin.asked] == ["PATCH", "POST"]
        blocker.cancel()
        await asyncio.gather(blocker, return_exceptions=True)


async def test_transport_query_may_think_longer_than_a_call() -> None:
    async def slow(asked: Asked, wire: Wire) -> None:
        await asyncio.sleep(0.4)
        await _fine(asked, wire)

    async with fake_admin(slow) as admin, admin.client(call_timeout=0.2, query_timeout=5) as client:
        assert await client.rows("select 1") == []


async def test_transport_query_that_stops_between_pieces_ends_after_the_idle_time() -> None:
    async def stuck(asked: Asked, wire: Wire) -> None:
        await wire.chunked(b'{"rows":[{"a":1}', end=False)
        await asyncio.sleep(60)

    async with fake_admin(stuck) as admin, admin.client(call_timeout=0.2, query_timeout=30) as client:
        started = time.monotonic()
        with pytest.raises(errors.Unreachable, match="timeout"):
            await client.rows("select 1")
        assert time.monotonic() - started < 3


async def test_transport_query_that_drips_ends_after_its_timeout() -> None:
    async def drip(asked: Asked, wire: Wire) -> None:
        await wire.chunked(b'{"rows":[{"a":1}', *[b',{"a":1}'] * 600, pause=0.05)

    async with fake_admin(drip) as admin, admin.client(call_timeout=5) as client:
        started = time.monotonic()
        with pytest.raises(errors.Unreachable, match="timeout"):
            await client.rows("select 1", timeout=0.5)
        assert time.monotonic() - started < 3


async def test_transport_query_left_early_does_not_disturb_the_next() -> None:
    async def long(asked: Asked, wire: Wire) -> None:
        if asked.sql == "long":
            await wire.chunked(b'{"rows":[{"a":1}', *[b',{"a":1}'] * 50, b"]}", pause=0.01)
        else:
            await wire.json(200, {"rows": [{"a": 2}]})

    async with fake_admin(long) as admin, admin.client() as client:
        query = client.query("long")
        assert await anext(query) == {"a": 1}
        await query.aclose()
        assert await client.rows("short") == [{"a": 2}]


async def test_transport_sends_what_the_engine_expects_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{_closed_port()}")
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{_closed_port()}")

    async def cookies(asked: Asked, wire: Wire) -> None:
        await wire.json(200, {"rows": []}, Set_Cookie="session=1; Path=/")

    async with fake_admin(cookies) as admin, admin.client(token=" t0ken\n") as client:
        for _ in range(2):
            await client.rows("select '\u00e9\ud800'")
    for asked in admin.asked:
        assert asked.headers["accept"] == "application/json"
        assert asked.headers["accept-encoding"] == "gzip;q=0.5, identity"
        assert asked.headers["content-type"] == "application/json"
        assert asked.headers["authorization"] == "Bearer t0ken"
        assert "cookie" not in asked.headers
        assert asked.sql == "select '\u00e9\ud800'"


@pytest.mark.parametrize(
    ("base", "id_", "expected"),
    [
        ("", "inv_1", "/invocations/inv_1/cancel"),
        ("/", "inv_1", "/invocations/inv_1/cancel"),
        ("/restate/admin", "inv_1", "/restate/admin/invocations/inv_1/cancel"),
        ("/restate/admin/", "inv_1", "/restate/admin/invocations/inv_1/cancel"),
        ("/a%2Fb", "inv_1", "/a%2Fb/invocations/inv_1/cancel"),
        ("", "inv_1/../../deployments", "/invocations/inv_1%2F..%2F..%2Fdeployments/cancel"),
        ("", "..", "/invocations/%2E%2E/cancel"),
        ("", ".", "/invocations/%2E/cancel"),
        ("", "a?b#c%2F", "/invocations/a%3Fb%23c%252F/cancel"),
        ("", "é \n", "/invocations/%C3%A9%20%0A/cancel"),
    ],
)
async def test_transport_ids_stay_in_their_place(base: str, id_: str, expected: str) -> None:
    async with fake_admin(_fine) as admin, admin.client(url=admin.url + base) as client:
        await client.operate(Op.CANCEL, id_)
    assert admin.asked[0].path == expected


async def test_transport_reaches_ipv6() -> None:
    try:
        async with fake_admin(_fine, host="::1") as admin, admin.client() as client:
            assert await client.cluster_name() == "c"
    except OSError:
        pytest.skip("this machine has no IPv6")


@pytest.mark.parametrize(
    "connection",
    [
        Connection("ftp://host"),
        Connection("http://"),
        Connection("host:9070"),
        Connection("http://user:s3cret@host"),
        Connection("http://s3cret@host"),
        Connection("http://host?a=s3cret"),
        Connection("http://host#s3cret"),
        Connection("http://host:99999"),
        Connection("http://[s3cret"),
        Connection("http://host", token="s3cret\r\nx: y"),
        Connection("http://host", token="s3crét"),
        Connection("http://host", token="  "),
        Connection("https://host", server_name="s3cret name"),
        Connection("https://host", server_name=""),
    ],
)
def test_transport_unusable_configuration_is_refused_without_being_quoted(connection: Connection) -> None:
    with pytest.raises(ValueError) as caught:
        EngineClient(connection)
    assert "s3c" not in str(caught.value)


def test_transport_connection_does_not_show_its_secrets() -> None:
    shown = repr(Connection("http://h", token="s3cret", client_key_pem=b"s3cret", ca_pem="s3cret"))
    assert "s3cret" not in shown


async def test_transport_used_after_close_is_unreachable() -> None:
    async with fake_admin(_fine) as admin:
        client = EngineClient(Connection(admin.url))
        await client.cluster_name()
        await client.close()
        await client.close()
        with pytest.raises(errors.Unreachable) as caught:
            await client.operate(Op.CANCEL, ID)
    assert not caught.value.sent
    assert len(admin.asked) == 1


async def test_transport_withholds_writes_from_one_who_may_not_and_answers_its_questions() -> None:
    async with fake_admin(_fine) as admin, admin.client(may_write=lambda: False) as client:
        with pytest.raises(errors.Withheld) as caught:
            await client.operate(Op.CANCEL, ID)
        assert not caught.value.may_have_acted
        with pytest.raises(errors.Withheld):
            await client.post_internal("invocations_batch_operations", "kill", body={"invocation_ids": [ID]})
        assert await client.rows("select 1") == []
        assert await client.cluster_name() == "c"
    assert [asked.method for asked in admin.asked] == ["POST", "GET"]


async def test_transport_asks_whether_a_write_may_be_sent_only_when_its_connection_is_there() -> None:
    """Connecting may take seconds, in which another operator may come to lead."""
    asked_after: list[int] = []
    async with fake_admin(_fine) as admin:

        def may_write() -> bool:
            asked_after.append(admin.connections)
            return True

        async with admin.client(may_write=may_write) as client:
            await client.operate(Op.CANCEL, ID)
            await client.operate(Op.CANCEL, ID)
    assert asked_after[-1] == 1, "on the connection that is kept, too"
    assert len(asked_after) == len(admin.asked) == 2
