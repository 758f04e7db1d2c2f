"""Leader election: never two who are certain, whatever happens to requests; one that is given back is taken at once."""

import asyncio
import copy
import itertools
from collections.abc import Iterable
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from e2e.simulation import loop as virtual_time
from invocation_operator.cluster.client import KubeClient, Object, Resource
from invocation_operator.cluster.election import LOOK_SECONDS, Elector
from invocation_operator.cluster.errors import (
    ClusterUnavailable,
    Forbidden,
    ObjectExists,
    ObjectNotFound,
    WriteConflict,
)
from invocation_operator.cluster.records import Lease

LEASE = Lease(10.0)
TAKEN = LEASE.seconds + 2 * LOOK_SECONDS
"""So long after its last renewal the lead of one that is gone is taken at the latest."""


class Keeper:
    """The API server: one Lease, with versions as the API server gives them."""

    def __init__(self) -> None:
        self.obj: Object | None = None
        self.version = 0

    def serve(self, body: Object | None, *, creating: bool) -> Object:
        if body is None:
            if self.obj is None:
                raise ObjectNotFound("404")
            return copy.deepcopy(self.obj)
        if creating and self.obj is not None:
            raise ObjectExists("409")
        if not creating:
            if self.obj is None:
                raise ObjectNotFound("404")
            if body["metadata"]["resourceVersion"] != self.obj["metadata"]["resourceVersion"]:
                raise WriteConflict("409")
        self.version += 1
        metadata = {**body["metadata"], "uid": "u", "resourceVersion": str(self.version)}
        self.obj = {**copy.deepcopy(body), "metadata": metadata}
        return copy.deepcopy(self.obj)

    @property
    def holder(self) -> str:
        return str(self.obj["spec"]["holderIdentity"]) if self.obj else ""


Fault = tuple[float, float, bool]
"""Seconds on the way there, seconds on the way back, and whether the answer comes at all."""


class Line:
    """One process's way to the API server."""

    def __init__(self, keeper: Keeper, faults: Iterable[Fault] = ()) -> None:
        self.keeper = keeper
        self.faults = iter(faults)
        self.cut = False
        self.forbidden = False
        self.late: set[asyncio.Task[Object]] = set()

    async def get(self, resource: Resource, namespace: str, name: str) -> Object:
        return await self._ask(None)

    async def create(self, resource: Resource, namespace: str, body: Object) -> Object:
        return await self._ask(body, creating=True)

    async def replace(self, resource: Resource, namespace: str, name: str, body: Object) -> Object:
        return await self._ask(body)

    async def _ask(self, body: Object | None, *, creating: bool = False) -> Object:
        if self.forbidden:
            raise Forbidden("403")
        if self.cut:
            await asyncio.Event().wait()
        there, back, answered = next(self.faults, (0.001, 0.001, True))

        async def arrive() -> Object:
            await asyncio.sleep(there)
            return self.keeper.serve(body, creating=creating)

        # What was sent arrives, also when the client does not wait for it any more.
        task = asyncio.create_task(arrive())
        self.late.add(task)
        task.add_done_callback(lambda done: (self.late.discard(done), done.cancelled() or done.exception()))
        answer = await asyncio.shield(task)
        await asyncio.sleep(back)
        if not answered:
            raise ClusterUnavailable("the answer was lost")
        return answer


def elector(line: Line, identity: str, lease: Lease = LEASE) -> Elector:
    return Elector(cast("KubeClient", line), "ops", "op", identity, lease, asyncio.get_running_loop().time)


def play(story: Any) -> None:
    async def staged() -> None:
        tasks: list[asyncio.Task[None]] = []

        def run(one: Elector) -> asyncio.Task[None]:
            tasks.append(asyncio.create_task(one.run()))
            return tasks[-1]

        try:
            await story(run)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    virtual_time.run(staged())


async def until(condition: Any, limit: float = 1000.0) -> float:
    """The seconds until it was true."""
    began = asyncio.get_running_loop().time()
    while not condition():
        assert asyncio.get_running_loop().time() - began < limit, "it never came"
        await asyncio.sleep(0.05)
    return asyncio.get_running_loop().time() - began


FAULTS = st.lists(
    st.tuples(
        st.sampled_from([0.001, 0.3, 2.4, 6.0, 12.0, 30.0]), st.sampled_from([0.001, 0.3, 2.4, 9.0]), st.booleans()
    ),
    max_size=40,
)


@settings(max_examples=60, deadline=None)
@given(mine=FAULTS, theirs=FAULTS, third=FAULTS)
def test_election_never_has_two_who_are_certain_and_always_one_in_the_end(
    mine: list[Fault], theirs: list[Fault], third: list[Fault]
) -> None:
    async def story(run: Any) -> None:
        keeper = Keeper()
        everyone = [elector(Line(keeper, f), name) for name, f in zip("abc", (mine, theirs, third), strict=True)]
        for one in everyone:
            run(one)
        for _ in range(600):
            await asyncio.sleep(0.25)
            assert sum(one.certain for one in everyone) <= 1
        await until(lambda: sum(one.certain for one in everyone) == 1)

    play(story)


def test_election_first_one_leads_at_once_and_the_second_stands_by() -> None:
    async def story(run: Any) -> None:
        keeper = Keeper()
        first, second = elector(Line(keeper), "a"), elector(Line(keeper), "b")
        run(first)
        assert await until(lambda: first.certain) < 0.2
        run(second)
        for _ in range(600):
            await asyncio.sleep(0.1)
            assert first.certain
            assert not second.leading
            assert second.in_touch
        spec = cast("Object", keeper.obj)["spec"]
        assert (spec["holderIdentity"], spec["leaseDurationSeconds"], spec["leaseTransitions"]) == ("a", 10, 0)
        assert not second.outlived("a"), "it leads"

    play(story)


def test_election_leader_on_a_slow_api_server_is_certain_all_the_time_and_asks_no_more_often() -> None:
    """Renewed a quarter of the lease after the *answer*, it was uncertain for a while with each renewal."""

    async def story(run: Any) -> None:
        keeper = Keeper()
        becomes_slow = itertools.chain([(0.001, 0.001, True)] * 2, itertools.repeat((1.2, 1.2, True)))
        only = elector(Line(keeper, becomes_slow), "a")
        run(only)
        await until(lambda: only.certain)
        written = keeper.version
        for _ in range(600):
            await asyncio.sleep(0.1)
            assert only.certain
        assert keeper.version - written <= 60 / LEASE.renew_seconds

    play(story)


def test_election_lead_of_one_that_is_gone_is_taken_after_the_lease() -> None:
    async def story(run: Any) -> None:
        keeper = Keeper()
        first, second = elector(Line(keeper), "a"), elector(Line(keeper), "b")
        task = run(first)
        await until(lambda: first.certain)
        run(second)
        await asyncio.sleep(20)
        task.cancel()
        renewed = keeper.version
        taken = await until(lambda: second.certain)
        assert LEASE.seconds - LEASE.renew_seconds - LOOK_SECONDS < taken <= TAKEN
        assert keeper.version == renewed + 1
        assert not first.certain
        assert second.outlived("a")
        assert cast("Object", keeper.obj)["spec"]["leaseTransitions"] == 1

    play(story)


def test_election_lead_that_is_given_back_is_taken_at_the_next_look() -> None:
    async def story(run: Any) -> None:
        keeper = Keeper()
        first, second = elector(Line(keeper), "a", Lease(300.0)), elector(Line(keeper), "b", Lease(300.0))
        task = run(first)
        await until(lambda: first.certain)
        run(second)
        await asyncio.sleep(20)
        task.cancel()
        await first.release()
        assert not first.leading
        assert await until(lambda: second.certain) <= LOOK_SECONDS + 0.1
        assert second.outlived("a")

    play(story)


def test_election_leader_that_cannot_renew_is_not_certain_well_before_another_leads() -> None:
    async def story(run: Any) -> None:
        keeper = Keeper()
        line = Line(keeper)
        first, second = elector(line, "a"), elector(Line(keeper), "b")
        run(first)
        await until(lambda: first.certain)
        run(second)
        await asyncio.sleep(20)
        line.cut = True
        ceased = await until(lambda: not first.certain)
        assert not second.leading
        taken = ceased + await until(lambda: second.certain)
        assert taken - ceased >= (LEASE.seconds - LEASE.hold_seconds) / 2
        assert first.leading, "it does not know yet"
        assert await until(lambda: not first.in_touch) < LEASE.seconds
        line.cut = False
        await until(lambda: not first.leading)
        assert second.certain

    play(story)


def test_election_leader_that_can_renew_again_before_anybody_took_over_leads_on() -> None:
    async def story(run: Any) -> None:
        keeper = Keeper()
        line = Line(keeper)
        only = elector(line, "a")
        run(only)
        await until(lambda: only.certain)
        line.cut = True
        await until(lambda: not only.certain)
        await asyncio.sleep(60)
        only.turned.clear()
        line.cut = False
        assert await until(lambda: only.certain) < LEASE.renew_seconds + 2 * LOOK_SECONDS
        assert only.turned.is_set(), "whoever waits for it is told"

    play(story)


def test_election_waits_as_long_as_the_holder_was_promised() -> None:
    async def story(run: Any) -> None:
        keeper = Keeper()
        patient, hasty = elector(Line(keeper), "a", Lease(60.0)), elector(Line(keeper), "b", Lease(2.0))
        task = run(patient)
        await until(lambda: patient.certain)
        run(hasty)
        await asyncio.sleep(5)
        task.cancel()
        assert await until(lambda: hasty.certain) > 60.0 - LEASE.renew_seconds - 15.0

    play(story)


def test_election_lease_that_is_deleted_under_its_holder_is_not_taken_by_one_who_saw_it() -> None:
    async def story(run: Any) -> None:
        keeper = Keeper()
        line = Line(keeper)
        first, second = elector(line, "a"), elector(Line(keeper), "b")
        run(first)
        await until(lambda: first.certain)
        run(second)
        await asyncio.sleep(5)
        line.cut = True
        keeper.obj = None
        while first.certain:
            assert not second.leading
            await asyncio.sleep(0.1)
        await until(lambda: second.certain)
        line.cut = False
        await until(lambda: not first.leading)

    play(story)


def test_election_leader_makes_a_deleted_lease_anew() -> None:
    async def story(run: Any) -> None:
        keeper = Keeper()
        only = elector(Line(keeper), "a")
        run(only)
        await until(lambda: only.certain)
        keeper.obj = None
        await until(lambda: keeper.obj is not None)
        assert only.certain
        assert keeper.holder == "a"

    play(story)


@pytest.mark.parametrize("wrong", [{}, {"holderIdentity": None}, {"holderIdentity": "x", "leaseDurationSeconds": None}])
def test_election_lease_that_somebody_else_made_up_is_taken(wrong: Object) -> None:
    async def story(run: Any) -> None:
        keeper = Keeper()
        keeper.obj = {"metadata": {"name": "op", "uid": "u", "resourceVersion": "7"}, "spec": wrong}
        only = elector(Line(keeper), "a")
        run(only)
        assert await until(lambda: only.certain) <= TAKEN

    play(story)


def test_election_without_the_right_never_leads_and_goes_on_asking() -> None:
    async def story(run: Any) -> None:
        line = Line(Keeper())
        line.forbidden = True
        only = elector(line, "a")
        run(only)
        await asyncio.sleep(60)
        assert not only.leading
        assert not only.in_touch
        line.forbidden = False
        await until(lambda: only.certain)

    play(story)
