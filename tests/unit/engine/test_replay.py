"""Whether an engine has read its log: what is asked for that."""

from typing import Any

import pytest

from invocation_operator.engine import errors, replay
from invocation_operator.values.ids import is_invocation_id, sibling, spread


class Engine:
    """Knows nobody, once it has caught up."""

    def __init__(self, error: errors.EngineError) -> None:
        self.error = error
        self.asked: list[str] = []

    async def operate(self, _op: Any, id_: str) -> None:
        self.asked.append(id_)
        raise self.error


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
