"""What is written to an object: it fits into it, and is based on what was said before."""

import asyncio
import json
from functools import partial
from typing import Any, cast

import pytest
import stamina

from e2e.simulation.apiserver import ApiServer
from e2e.simulation.direct import DirectKube
from invocation_operator.api.v1alpha1.action import ActionStatus, Outcome, Phase, Result
from invocation_operator.cluster.client import KubeClient, Object
from invocation_operator.cluster.errors import ClusterUnavailable, WriteConflict
from invocation_operator.reconcile.board import Board
from invocation_operator.reconcile.cell import Cell

OBJ: Object = {"metadata": {"namespace": "shop", "name": "a", "uid": "u", "resourceVersion": "1", "generation": 1}}


class Keeper:
    def __init__(self) -> None:
        self.written: list[dict[str, Any]] = []

    async def patch_status(self, _resource: Any, _namespace: str, _name: str, patch: Object) -> Object:
        self.written.append(patch["status"])
        return OBJ | {"status": patch["status"]}


async def test_status_that_is_too_large_is_written_with_fewer_results() -> None:
    keeper = Keeper()
    board = Board(cast("KubeClient", keeper), Cell(("shop", "a"), OBJ), OBJ, ActionStatus())
    worst = Result(id="inv_1", target="😀" * 256, outcome=Outcome.FAILED, error="😀" * 256)
    await board.write(ActionStatus(results=[worst] * 50))
    (written,) = keeper.written
    assert len(json.dumps(written)) <= 60_000
    assert 5 < len(written["results"]) < 50
    assert len(board.status.results or ()) == len(written["results"])


async def test_what_was_said_is_the_base_of_what_is_said_next_also_before_it_is_answered() -> None:
    answers = asyncio.Event()

    class Slow(Keeper):
        async def patch_status(self, *args: Any) -> Object:
            await answers.wait()
            return await super().patch_status(*args)

    keeper = Slow()
    board = Board(cast("KubeClient", keeper), Cell(("shop", "a"), OBJ), OBJ, ActionStatus())
    first = asyncio.create_task(board.write(ActionStatus(record="iact-1")))
    await asyncio.sleep(0.01)
    then = board.status.model_copy(update={"observed_generation": 3})
    second = asyncio.create_task(board.write(then))
    answers.set()
    await asyncio.gather(first, second)
    assert keeper.written[-1] == {"observedGeneration": 3, "record": "iact-1"}
    assert board.status.record == "iact-1"


@pytest.mark.parametrize("meanwhile", ["nothing", "another status", "another object"])
async def test_decision_that_was_not_answered_is_known_again_unless_it_is_another_ones(
    monkeypatch: pytest.MonkeyPatch, meanwhile: str
) -> None:
    server = ApiServer(lambda: 0.0)
    spec = {"action": "Cancel", "target": {"services": ["Svc"]}}
    read = server.create("invocationactions", "shop", {"metadata": {"name": "a"}, "spec": spec})

    class Unanswered(DirectKube):
        async def patch_status(self, *args: Any) -> Object:
            told = await super().patch_status(*args)
            if len(self.asked) == 1:
                if meanwhile == "another object":
                    server.delete("invocationactions", "shop", "a")
                    server.create("invocationactions", "shop", {"metadata": {"name": "a"}, "spec": spec})
                elif meanwhile == "another status":
                    await super().patch_status(args[0], args[1], args[2], {"status": {"record": "iact-other"}})
                raise ClusterUnavailable("no answer")
            return told

    monkeypatch.setattr(stamina, "retry_context", partial(stamina.retry_context, wait_initial=0.0, wait_jitter=0.0))
    cell, meant = Cell(("shop", "a"), read), ActionStatus(phase=Phase.REFUSED)
    board = Board(Unanswered(server), cell, read, ActionStatus())
    if meanwhile == "nothing":
        await board.decide(meant, read)
        assert board.status == meant
        assert cell.obj == server.get("invocationactions", "shop", "a")
    else:
        with pytest.raises(WriteConflict):
            await board.decide(meant, read)


def test_status_of_a_run_is_not_that_of_a_specification_that_asks_for_the_next_one() -> None:
    def version(number: int, generation: int, run_id: str) -> Object:
        metadata = {**OBJ["metadata"], "resourceVersion": str(number), "generation": generation}
        return {"metadata": metadata, "spec": {"runId": run_id}}

    first = version(1, 1, "one")
    cell = Cell(("shop", "a"), first)
    board = Board(cast("KubeClient", Keeper()), cell, first, ActionStatus())
    cell.put(version(2, 2, "one"))
    assert board.generation == 2
    cell.put(version(3, 3, "two"))
    board._keep(version(4, 3, "two"))
    assert board.generation == 2
