"""Batches: every id is accounted for, refusals keep the code of the public call, anything else is no answer."""

import json
from typing import Any

import pytest
from aiohttp import web

from invocation_operator.engine import errors
from invocation_operator.engine.batch import Refusal, operate_many, status_of
from invocation_operator.engine.client import Connection, EngineClient
from invocation_operator.engine.models import Op
from invocation_operator.values.ids import spread

ONE, TWO = "inv_one", "inv_two"
NEW = dict(zip((ONE, TWO), spread(2), strict=True))


async def answered(body: Any, op: Op = Op.KILL, status: int = 200) -> Any:
    """What `operate_many` on two ids makes of one answer of a server."""

    async def handle(_: web.Request) -> web.Response:
        return web.Response(text=json.dumps(body), content_type="application/json", status=status)

    app = web.Application()
    app.router.add_post("/internal/invocations_batch_operations/{op}", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    client = EngineClient(Connection(f"http://127.0.0.1:{port}"))
    try:
        return await operate_many(client, op, [ONE, TWO])
    finally:
        await client.close()
        await runner.cleanup()


async def test_batch_tells_taken_from_refused() -> None:
    gone = {"invocation_id": TWO, "error": f"Invocation '{TWO}' not found"}
    answer = await answered({"succeeded": [ONE], "failed": [gone]})
    assert answer.taken == {ONE: None}
    assert answer.refused == {TWO: Refusal(f"Invocation '{TWO}' not found", 404)}


async def test_batch_of_restarts_gives_the_new_ids() -> None:
    made = [{"old_invocation_id": old, "new_invocation_id": new} for old, new in NEW.items()]
    answer = await answered({"succeeded": made, "failed": []}, Op.RESTART_AS_NEW)
    assert answer.taken == NEW


async def test_batch_of_restarts_with_something_that_is_no_invocation_id_is_a_bad_reply() -> None:
    made = [{"old_invocation_id": ONE, "new_invocation_id": NEW[ONE]}]
    made += [{"old_invocation_id": TWO, "new_invocation_id": "inv_broken"}]
    with pytest.raises(errors.BadReply) as caught:
        await answered({"succeeded": made, "failed": []}, Op.RESTART_AS_NEW)
    assert caught.value.may_have_acted


@pytest.mark.parametrize(
    "body",
    [
        {"succeeded": [ONE], "failed": []},  # one is missing
        {"succeeded": [ONE, TWO], "failed": [{"invocation_id": TWO, "error": "x"}]},  # one is in both
        {"succeeded": [ONE, "inv_other"], "failed": []},  # one was never asked
        {"succeeded": [ONE, TWO]},
        {"succeeded": [{"id": ONE}, TWO], "failed": []},
        {"succeeded": [ONE], "failed": [TWO]},
        {},
    ],
)
async def test_batch_that_does_not_account_for_every_id_is_a_bad_reply(body: Any) -> None:
    with pytest.raises(errors.BadReply) as caught:
        await answered(body)
    assert caught.value.may_have_acted


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("Invocation 'inv_1' not found", 404),
        ("Deployment not found when resuming invocation 'inv_1'", 400),
        ("The invocation 'inv_1' was already completed.", 409),
        ("The invocation 'inv_1' is not yet completed.", 409),
        ("Restarting invocation 'inv_1' is not supported", 422),
        ("something else", None),
    ],
)
def test_batch_refusals_have_the_code_of_the_public_call(message: str, expected: int | None) -> None:
    assert status_of(message) == expected
