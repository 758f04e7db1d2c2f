"""What the engine's journal tells about operations, on the oldest supported engine and the newest."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from datetime import timedelta

import pytest

from e2e.rig import Engine
from invocation_operator.engine.client import Connection, EngineClient
from invocation_operator.engine.evidence import CancelSignals, cancel_signals, last_pauses
from invocation_operator.values.times import parse_time

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


def eventually(condition: Callable[[], bool], timeout: float = 10) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "did not come true"
        time.sleep(0.05)


async def test_evidence_counts_every_cancel_and_tells_when(client: EngineClient, running: Engine) -> None:
    untouched = running.send("LabSvc", "sleep_long", 3600.0)
    waiting = running.send("LabSvc", "run_fails_slow", "x")
    running.wait_status(untouched, "suspended")
    running.wait_status(waiting, "backing-off")
    before = await client.now()
    for expected in (1, 2):
        running.operate(waiting, "cancel")
        eventually(lambda expected=expected: running.invocation(waiting)["journal_size"] == 2 + expected)  # type: ignore[index,misc]
        found = await cancel_signals(client, [waiting, untouched])
        seen = found[waiting]
        assert seen.count == expected
        assert seen.last_index == seen.journal_last_index == 1 + expected
        assert seen.last_at is not None
        assert before - timedelta(milliseconds=50) <= seen.last_at <= await client.now()
        assert found[untouched] == CancelSignals(count=0, journal_last_index=1)
    for id_ in (untouched, waiting):
        running.operate(id_, "kill")


async def test_evidence_of_a_cancel_stays_after_completion_until_the_journal_is_purged(
    client: EngineClient, running: Engine
) -> None:
    id_ = running.send("LabSvc", "sleep_long", 3600.0)
    running.wait_status(id_, "suspended")
    running.operate(id_, "cancel")
    running.wait_status(id_, "completed")
    found = (await cancel_signals(client, [id_]))[id_]
    assert (found.count, found.last_index, found.journal_last_index) == (1, 2, 3)
    running.operate(id_, "purge-journal")
    assert (await cancel_signals(client, [id_]))[id_] == CancelSignals(count=None)


async def test_evidence_of_a_cancel_before_the_first_command_is_there_or_unknown(
    client: EngineClient, running: Engine
) -> None:
    id_ = running.send("LabSvc", "fail_slow_retry", "x")
    running.wait_status(id_, "backing-off")
    before = (await cancel_signals(client, [id_]))[id_]
    assert running.operate(id_, "cancel").status == 202
    await asyncio.sleep(0.3)
    after = (await cancel_signals(client, [id_]))[id_]
    if running.version.startswith("1.6."):
        assert (before.count, after.count) == (None, None)  # the journal cannot tell, and the cancel never takes effect
    else:
        assert (before.count, after.count) == (0, 1)
    running.operate(id_, "kill")


async def test_evidence_of_what_is_not_there_is_unknown(client: EngineClient, running: Engine) -> None:
    gone = running.send("LabSvc", "echo", "x", delay="1h")
    running.operate(gone, "kill")
    running.wait_status(gone, "absent")
    assert await cancel_signals(client, [gone]) == {gone: CancelSignals(count=None)}
    assert await cancel_signals(client, []) == {}


@pytest.mark.parametrize("handler", ["fail_then_pause", "fail_slow_retry", "hold"])
async def test_evidence_dates_a_pause_no_later_than_its_row(
    client: EngineClient, running: Engine, handler: str
) -> None:
    """By its policy, by hand while it backs off, and by hand while it runs: what is younger than the row is another."""
    id_ = running.send("LabSvc", handler, 60 if handler == "hold" else "x")
    if handler != "fail_then_pause":
        running.wait_status(id_, "running" if handler == "hold" else "backing-off")
        running.operate(id_, "pause")
    row = running.wait_status(id_, "paused")
    assert row is not None
    assert (await last_pauses(client, [id_]))[id_] <= parse_time(row["modified_at"])
    running.operate(id_, "kill")


async def test_evidence_tells_paused_again_from_never_resumed(client: EngineClient, running: Engine) -> None:
    id_ = running.send("LabSvc", "fail_then_pause", "x")
    row = running.wait_status(id_, "paused")
    assert row is not None
    changed = parse_time(row["modified_at"])
    intended = await client.now()
    assert (await last_pauses(client, [id_]))[id_] <= min(changed, intended)
    running.operate(id_, "resume")
    eventually(
        lambda: len(running.sql(f"select 1 from sys_journal_events where id = '{id_}' and event_type = 'Paused'")) == 2
    )
    assert (await last_pauses(client, [id_]))[id_] > max(changed, intended)
    running.operate(id_, "kill")


async def test_evidence_of_a_pause_does_not_change_when_a_timer_fires(client: EngineClient, running: Engine) -> None:
    id_ = running.send("LabSvc", "hold", 1.5)
    running.wait_status(id_, "running")
    running.operate(id_, "pause")
    row = running.wait_status(id_, "paused")
    assert row is not None
    before = await last_pauses(client, [id_])
    assert [*before] == [id_]
    eventually(lambda: running.invocation(id_)["modified_at"] != row["modified_at"])  # type: ignore[index]
    assert running.operate(id_, "pause").status == 200
    assert await last_pauses(client, [id_]) == before
    assert await last_pauses(client, [running.send("LabSvc", "echo", "x")]) == {}
    running.operate(id_, "kill")
