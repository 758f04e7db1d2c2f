"""The simulation bites, continued: waves, approvals, sets in chunks and elections, each broken on purpose."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from e2e.simulation import search
from e2e.simulation.scenarios import (
    SOMETHING_ELSE,
    Event,
    Scenario,
    in_chunks,
    in_waves,
    smallest,
    with_approval,
    with_election,
)
from e2e.simulation.wires import CRASH_AFTER, SLEEP, Fault
from invocation_operator.cluster.election import Elector
from invocation_operator.cluster.records import Record
from invocation_operator.plan import approval as plan_approval
from invocation_operator.plan import rollout
from invocation_operator.plan.approval import Step
from invocation_operator.plan.rollout import Waves
from invocation_operator.plan.targets import PlannedSet
from invocation_operator.reconcile import approval, lock
from invocation_operator.reconcile.action import ActionReconciler
from invocation_operator.reconcile.board import Board
from invocation_operator.reconcile.duty import Duty
from invocation_operator.reconcile.run import Run
from invocation_operator.reconcile.soak import Soak
from tests.simulation.test_simulation_bites import Break, Plays, first_to_miss

# Waves.


def no_waves(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Run, "reach", property(lambda self: len(self.targets)))


def no_soak(patch: pytest.MonkeyPatch) -> None:
    async def at_once(_: Soak) -> None:
        return

    patch.setattr(Soak, "_until_due", at_once)


def unhealthy_is_well(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(rollout, "exceeds", lambda *_: False)


def waves_are_forgotten(patch: pytest.MonkeyPatch) -> None:
    """Whoever takes the run over begins with the first wave."""
    patch.setattr(Waves, "restore", lambda *_: None)


def everybody_is_unhealthy(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("invocation_operator.reconcile.health.ailment", lambda row: "Ill")


# Approvals.


def any_hash_approves(patch: pytest.MonkeyPatch) -> None:
    real = approval.next_step

    def step(spec: Any, status: Any, *rest: Any) -> Step:
        found = real(spec, status, *rest)
        return Step.CARRY_OUT if found is Step.WAIT and spec.approved_plan else found

    patch.setattr(approval, "next_step", step)


def approved_is_planned_anew(patch: pytest.MonkeyPatch) -> None:
    """What matches by now is taken for what was approved."""
    patch.setattr(PlannedSet, "holds", lambda *_: True)


def withdrawn_is_not_seen(patch: pytest.MonkeyPatch) -> None:
    async def write(self: Board, status: Any, _: Any) -> None:
        await self.write(status)

    patch.setattr(Board, "decide", write)


def exact_is_not_exact(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(approval, "bearable", lambda *_: True)


def plans_do_not_age(patch: pytest.MonkeyPatch) -> None:
    real = plan_approval.expires

    def never(spec: Any, plan: Any) -> Any:
        return real(spec, plan).replace(year=2100)

    patch.setattr(plan_approval, "expires", never)
    patch.setattr(approval, "expires", never)


def anothers_end_is_written_over(patch: pytest.MonkeyPatch) -> None:
    """As it was: what was found out about an object is written whatever became of it meanwhile."""

    async def never(*_: Any) -> bool:
        return False

    withdrawn_is_not_seen(patch)
    patch.setattr(ActionReconciler, "_begun_by_now", never)


# Sets in chunks.


def chunks_bear_the_name_only(patch: pytest.MonkeyPatch) -> None:
    """The chunks of a try that died stand in the way of the next one's."""
    patch.setattr(Record, "chunk_prefix", property(lambda self: self.name))


def chunks_are_not_written(patch: pytest.MonkeyPatch) -> None:
    async def write(*_: Any) -> None:
        return

    patch.setattr(lock, "write_chunks", write)


# Elections.


def the_lead_is_taken_at_once(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Elector, "_known_free", lambda _: True)


def the_lead_never_ends(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Elector, "certain", property(lambda self: self._leading))


def standing_by_is_working(patch: pytest.MonkeyPatch) -> None:
    async def run(self: Duty) -> None:
        await self.opened.wait()
        self._begin()

    patch.setattr(Duty, "run", run)
    patch.setattr(Elector, "certain", property(lambda _: True))


APPROVED = Event(0.5, "approve", 0.0)
Vary = Callable[[Scenario], Scenario]


def one(action: str, size: int, *varied: Vary, events: tuple[Event, ...] = (), **changes: Any) -> Callable[[], Plays]:
    """One scenario, in some orders."""
    made = smallest(action, size)
    scenario = made.but(epilogue=False, **{**changes, "spec": {**made.spec, **changes.get("spec", {})}})
    for vary in varied:
        scenario = vary(scenario)
    # Those of the variants come after what is asked for here.
    scenario = scenario.but(events=events or scenario.events)
    return lambda: [lambda seed=seed: search.play(seed, scenario, None, disorder=True) for seed in range(40)]


def at_every_boundary(fault: Fault, action: str, size: int, *varied: Vary, **changes: Any) -> Callable[[], Plays]:
    """One fault at each boundary of one scenario."""
    scenario = smallest(action, size).but(epilogue=False, **changes)
    for vary in varied:
        scenario = vary(scenario)

    def plays() -> Plays:
        count = search.play(0, scenario, {}).boundaries
        return [lambda n=n: search.play(0, scenario, {n: fault}) for n in range(30, count)]

    return plays


def withdrawn_soon_after() -> Plays:
    """An approval that is withdrawn a moment later, at one moment after the other."""
    scenario = with_approval(smallest("Cancel", 2)).but(epilogue=False)
    plays: Plays = []
    for number in range(1, 60):
        events = (APPROVED, Event(0.5 + number / 400, "revoke"))
        plays.append(lambda events=events: search.play(0, scenario.but(events=events), {}))
    return plays


ILL = (("fail_terminal", "completed"),) * 2
WAVES: Mapping[str, Any] = {"rollout": {"waves": [1], "soak": "3s", "maxUnhealthy": 0}}
BROKEN: list[tuple[Break, str, Callable[[], Plays]]] = [
    (no_waves, "waves", one("RestartAsNew", 3, in_waves)),
    (no_soak, "waves", one("RestartAsNew", 3, in_waves)),
    (unhealthy_is_well, "waves", one("RestartAsNew", 2, handlers=ILL, spec=WAVES)),
    (waves_are_forgotten, "waves", one("RestartAsNew", 3, in_waves, events=(Event(4.5, "kill", 0),))),
    (everybody_is_unhealthy, "waves", one("RestartAsNew", 3, in_waves)),
    (any_hash_approves, "approval", one("Cancel", 2, with_approval, events=(Event(0.5, "revoke", SOMETHING_ELSE),))),
    (approved_is_planned_anew, "approval", one("Cancel", 2, with_approval, events=(Event(0.3, "more", 2), APPROVED))),
    (withdrawn_is_not_seen, "approval", withdrawn_soon_after),
    (
        exact_is_not_exact,
        "approval",
        one(
            "Cancel",
            2,
            with_approval,
            spec={"approval": {"drift": "Exact"}},
            events=(Event(0.4, "finish", 0), APPROVED),
        ),
    ),
    (
        plans_do_not_age,
        "approval",
        one(
            "Cancel", 2, with_approval, spec={"approval": {"planMaxAge": "1m"}}, events=(Event(120.0, "approve", 0.0),)
        ),
    ),
    (
        anothers_end_is_written_over,
        "status",
        one("RestartAsNew", 2, with_approval, events=(Event(0.0, "second"), Event(0.5, "approve-from-now-on"))),
    ),
    (
        chunks_bear_the_name_only,
        "set",
        at_every_boundary(Fault(CRASH_AFTER), "Cancel", 2, in_chunks, events=(Event(0.25, "more", 4),)),
    ),
    (chunks_are_not_written, "set", one("Cancel", 2, in_chunks)),
    (the_lead_is_taken_at_once, "leader", one("Cancel", 3, with_election)),
    (the_lead_never_ends, "leader", at_every_boundary(Fault(SLEEP, 12.0), "Cancel", 2, with_election)),
    (standing_by_is_working, "leader", one("Cancel", 3, with_election)),
]


@pytest.mark.parametrize(("broken", "guarantee", "histories"), BROKEN, ids=[b.__name__ for b, _, _ in BROKEN])
def test_broken_guarantee_is_missed(
    broken: Break, guarantee: str, histories: Callable[[], Plays], monkeypatch: pytest.MonkeyPatch
) -> None:
    first_to_miss(broken, guarantee, histories, monkeypatch)
