"""What an answer, or the lack of one, is called."""

import asyncio
import json

import pytest

from invocation_operator.engine import errors
from invocation_operator.engine.client import EngineClient, Op
from tests.unit.engine.fake_admin import Asked, Script, Wire, fake_admin

ID = "inv_1b90ZiUqt0Gh1dqvmTTS5MC8kRzJVgEQr2"
LOGIN = b"<html><body>Please log in, secret-page</body></html>"


def replying(status: int, body: bytes = b"", **headers: str) -> Script:
    async def script(asked: Asked, wire: Wire) -> None:
        await wire.reply(status, body, **headers)

    return script


def saying(status: int, message: str, **headers: str) -> Script:
    return replying(status, json.dumps({"message": message, "restate_code": None}).encode(), **headers)


async def cancel(client: EngineClient) -> object:
    return await client.operate(Op.CANCEL, ID)


async def ask(client: EngineClient) -> object:
    return await client.rows("select 1")


async def name(client: EngineClient) -> object:
    return await client.cluster_name()


CALLS = [cancel, ask, name]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, errors.Rejected),
        (401, errors.Unauthorized),
        (403, errors.Unauthorized),
        (404, errors.NotFound),
        (405, errors.Rejected),
        (409, errors.Conflict),
        (410, errors.Gone),
        (415, errors.Rejected),
        (422, errors.Unprocessable),
        (425, errors.NotReady),
        (429, errors.Throttled),
        (500, errors.ServerFault),
        (503, errors.ServerFault),
    ],
)
async def test_replies_with_the_engines_message_are_named_by_status(
    call: type, status: int, kind: type[errors.EngineError]
) -> None:
    async with fake_admin(saying(status, "the engine's words")) as admin, admin.client() as client:
        with pytest.raises(errors.EngineError) as caught:
            await call(client)
    assert type(caught.value) is kind
    assert "the engine's words" in caught.value.message
    assert getattr(caught.value, "status", status) == status


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, errors.Rejected),
        (401, errors.Unauthorized),
        (403, errors.Unauthorized),
        (404, errors.BadReply),
        (409, errors.BadReply),
        (410, errors.BadReply),
        (425, errors.BadReply),
        (422, errors.Unprocessable),
        (429, errors.Throttled),
        (502, errors.ServerFault),
        (503, errors.ServerFault),
    ],
)
async def test_replies_of_a_proxy_are_not_quoted_and_say_nothing_of_invocations(
    call: type, status: int, kind: type[errors.EngineError]
) -> None:
    async with fake_admin(replying(status, LOGIN, kind="text/html")) as admin, admin.client() as client:
        with pytest.raises(errors.EngineError) as caught:
            await call(client)
    assert type(caught.value) is kind
    assert "secret" not in caught.value.message
    assert "<" not in caught.value.message


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_replies_that_redirect_are_not_followed(call: type, status: int) -> None:
    async with fake_admin(saying(200, "elsewhere")) as other:
        async with fake_admin(replying(status, location=f"{other.url}/x")) as admin, admin.client() as client:
            with pytest.raises(errors.BadReply, match="redirect"):
                await call(client)
        assert len(admin.asked) == 1
        assert other.asked == []


@pytest.mark.parametrize("call", CALLS)
async def test_replies_of_html_with_200_are_bad(call: type) -> None:
    async with fake_admin(replying(200, LOGIN, kind="text/html; charset=utf-8")) as admin, admin.client() as client:
        with pytest.raises(errors.BadReply, match="text/html"):
            await call(client)


@pytest.mark.parametrize(
    ("script", "why"),
    [
        (replying(200, b"{}", kind=""), "no content type"),
        (replying(200, b"{", kind="application/json"), "cut-off JSON of the right length"),
        (replying(200, b"[]"), "no object"),
        (replying(200, b'"' + b"x" * (1024 * 1024) + b'"'), "too large"),
        (replying(200, b"[" * 100_000), "nested without end"),
        (replying(200, b"\xff"), "not UTF-8"),
        (replying(200), "empty"),
        (replying(200, b'{"cluster_name": 1}'), "the wrong type of value"),
        (replying(200, b"<x>", kind="<script>/x"), "a content type that must not be shown"),
    ],
)
async def test_replies_that_the_engine_does_not_give_are_bad(script: Script, why: str) -> None:
    async with fake_admin(script) as admin, admin.client() as client:
        with pytest.raises(errors.BadReply) as caught:
            await client.cluster_name()
    assert "<" not in caught.value.message


async def test_replies_echoing_the_token_do_not_show_it() -> None:
    async with (
        fake_admin(saying(400, "what is Bearer s3cr3t?")) as admin,
        admin.client(token="s3cr3t") as c,
    ):
        with pytest.raises(errors.Rejected) as caught:
            await c.operate(Op.CANCEL, ID)
    assert caught.value.message == "what is Bearer ***?"


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("7", 7.0),
        ("0", 0.0),
        ("999999999", 86400.0),
        ("soon", None),
        ("-1", None),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
async def test_replies_throttled_or_unavailable_tell_when_to_come_back(
    status: int, header: str, expected: float | None
) -> None:
    async with fake_admin(saying(status, "slow down", Retry_After=header)) as admin, admin.client() as client:
        with pytest.raises((errors.Throttled, errors.ServerFault)) as caught:
            await client.rows("select 1")
    assert caught.value.retry_after == expected


async def test_replies_cut_off_within_their_length_raise() -> None:
    async def script(asked: Asked, wire: Wire) -> None:
        await wire.send(
            b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 50\r\n\r\n{"cluster_name"'
        )
        wire.close()

    async with fake_admin(script) as admin, admin.client() as client:
        with pytest.raises(errors.CutOff):
            await client.cluster_name()


@pytest.mark.parametrize("end", ["close", "chunk"])
@pytest.mark.parametrize(
    "piece", [b'{"rows":[{"a":1},{"a":2}', b'{"rows":[{"a":1}', b'{"rows":[', b"", b'{"rows":[{"a":1}]']
)
async def test_replies_to_a_query_cut_off_anywhere_raise(end: str, piece: bytes) -> None:
    async def script(asked: Asked, wire: Wire) -> None:
        if piece:
            await wire.chunked(piece, end=end == "chunk")
        else:
            await wire.chunked(end=end == "chunk")
        wire.close()

    async with fake_admin(script) as admin, admin.client() as client:
        with pytest.raises(errors.CutOff):
            await client.rows("select 1")


async def test_replies_that_are_not_http_are_bad() -> None:
    async def script(asked: Asked, wire: Wire) -> None:
        await wire.send(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")
        wire.close()

    async with fake_admin(script) as admin, admin.client() as client:
        with pytest.raises(errors.BadReply):
            await client.cluster_name()


async def test_replies_of_a_restart_without_the_new_id_are_bad() -> None:
    async with fake_admin(replying(200)) as admin, admin.client() as client:
        with pytest.raises(errors.BadReply) as caught:
            await client.operate(Op.RESTART_AS_NEW, ID)
    assert caught.value.may_have_acted


async def test_replies_after_a_bad_one_are_not_mixed_up() -> None:
    async def script(asked: Asked, wire: Wire) -> None:
        if len(admin.asked) == 1:
            await wire.reply(200, b"x" * 3_000_000, kind="application/json")
        else:
            await wire.json(200, {"cluster_name": "right"})

    async with fake_admin(script) as admin, admin.client() as client:
        with pytest.raises(errors.BadReply):
            await client.cluster_name()
        assert await client.cluster_name() == "right"
        await asyncio.sleep(0)
