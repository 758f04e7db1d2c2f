"""Whether an engine has read its log: what is asked for that."""

from typing import Any

import pytest

from invocation_operator.engine import errors, replay
from invocation_operator.values.ids import is_invocation_id, sibling, spread


class Engine:
    """Knows nobody, once it has caught up."""

    def __init__(self, error: errors.EngineError, *, late: bool = False) -> None:
        self.error = error
        self.late = late
        """Whether the last of a batch meets a partition that still reads its log."""
        self.asked: list[str] = []

    async def operate(self, _op: Any, id_: str) -> None:
        self.asked.append(id_)
        raise self.error

    async def post_internal(self, *_path: str, body: dict[str, Any]) -> dict[str, Any]:
        """The engine's words in batches, where no item has a code."""
        ids = body["invocation_ids"]
        self.asked += ids
        texts = [self.error.message] * len(ids)
        if isinstance(self.error, errors.NotFound):
            texts = [f"Invocation '{id_}' not found" for id_ in ids]
            if self.late:
                texts[-1] = "rpc for partition 0 at node N1:3 failed: not leader"
        return {
            "succeeded": [],
            "failed": [{"invocation_id": id_, "error": text} for id_, text in zip(ids, texts, strict=True)],
        }


def unknown() -> Engine:
    return Engine(errors.NotFound("no such invocation", status=404))


async def test_few_invocations_are_asked_for_in_their_own_partitions() -> None:
    engine, ids = unknown(), spread(5)
    await replay.require_caught_up(engine, ids)  # type: ignore[arg-type]
    assert sorted(engine.asked) == sorted(map(sibling, ids))


async def test_many_invocations_are_asked_for_by_a_bounded_number_of_calls() -> None:
    engine = unknown()
    await replay.require_caught_up(engine, spread(5000))  # type: ignore[arg-type]
    assert len(set(engine.asked)) == len(engine.asked) == replay.LIMIT
    assert all(map(is_invocation_id, engine.asked))


async def test_partition_that_reads_its_log_is_not_passed_over() -> None:
    engine = Engine(errors.ServerFault("not the leader", status=503))
    with pytest.raises(errors.ServerFault):
        await replay.require_caught_up(engine, spread(3))  # type: ignore[arg-type]


async def test_partitions_of_an_engine_that_is_away_are_not_all_asked() -> None:
    engine = Engine(errors.Unreachable("connection refused", sent=False))
    with pytest.raises(errors.Unreachable):
        await replay.require_caught_up(engine, spread(5000))  # type: ignore[arg-type]
    assert len(engine.asked) <= replay.AT_ONCE


async def test_many_invocations_are_asked_for_in_one_request_where_there_are_batches() -> None:
    engine = unknown()
    await replay.require_caught_up(engine, spread(5000), batches=True)  # type: ignore[arg-type]
    assert len(set(engine.asked)) == len(engine.asked) == replay.LIMIT


@pytest.mark.parametrize(
    "engine",
    [
        pytest.param(Engine(errors.ServerFault("cannot find node for partition 0", status=503)), id="none"),
        pytest.param(Engine(errors.NotFound("no such invocation", status=404), late=True), id="all but one"),
    ],
)
async def test_partition_that_reads_its_log_is_not_passed_over_in_a_batch(engine: Engine) -> None:
    with pytest.raises(errors.ServerFault):
        await replay.require_caught_up(engine, spread(3), batches=True)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(errors.NotFound("no such endpoint", status=404), id="the endpoint is gone"),
        pytest.param(errors.Unauthorized("not for you", status=403), id="a front keeps it for itself"),
        pytest.param(errors.BadReply("HTML"), id="something else answers"),
    ],
)
async def test_partitions_are_asked_one_by_one_when_the_batch_endpoint_does_not_do_it(
    error: errors.EngineError,
) -> None:
    class Without(Engine):
        async def post_internal(self, *_: str, body: Any) -> Any:
            raise error

    engine, ids = Without(errors.NotFound("no such invocation", status=404)), spread(3)
    await replay.require_caught_up(engine, ids, batches=True)  # type: ignore[arg-type]
    assert sorted(engine.asked) == sorted(map(sibling, ids))
