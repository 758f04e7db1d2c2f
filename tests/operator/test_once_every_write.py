"""Once, through a crash at every write: the operator dies before or after it, and the engine shows each effect once.

Restart and cancel, which the engine does not make idempotent, are struck at every write that a run makes, on either
side; the other actions where a crash differs most. `make chaos` strikes all of them everywhere.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack

import pytest

from e2e.rig import ControlPlane, ServicesProcess
from e2e.rig.killproxy import Cut
from e2e.scenarios import cases
from e2e.scenarios.cases import World
from e2e.scenarios.lane import BATCHED, Lane
from e2e.scenarios.rounds import Strike, at_every_write, failures, kinds, play, play_all

LANES = 4
OWN_KINDS = {"POST invocationrecords", "PATCH invocationactions/status", "PUT invocationrecords/status"}


@pytest.fixture(scope="module")
def lanes(
    quiet_control_plane: ControlPlane, world: World, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Sequence[Lane]]:
    with ExitStack() as stack:
        scratch = tmp_path_factory.mktemp("every-write")
        yield [stack.enter_context(Lane(quiet_control_plane, world.engine, scratch)) for _ in range(LANES)]


@pytest.fixture(scope="module")
def batched_lanes(
    quiet_control_plane: ControlPlane, world: World, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Sequence[Lane]]:
    with ExitStack() as stack:
        scratch = tmp_path_factory.mktemp("every-batch")
        yield [stack.enter_context(Lane(quiet_control_plane, world.engine, scratch, *BATCHED)) for _ in range(LANES)]


def test_once_restart_struck_at_every_write_makes_one_child_each(lanes: Sequence[Lane], world: World) -> None:
    case = cases.RestartAsNew(world)
    undisturbed = play(lanes[0], case, "restart-undisturbed", None)
    assert not undisturbed.problems, str(undisturbed)
    rounds = play_all(lanes, at_every_write(case, len(undisturbed.writes), Cut.KILL_BEFORE, Cut.KILL_AFTER))
    assert not failures(rounds), failures(rounds)
    assert kinds(rounds).keys() >= OWN_KINDS | {"PATCH restart-as-new"}


def test_once_cancel_struck_at_every_write_compensates_once_each(lanes: Sequence[Lane], world: World) -> None:
    case = cases.Cancel(world)
    undisturbed = play(lanes[0], case, "cancel-undisturbed", None)
    assert not undisturbed.problems, str(undisturbed)
    rounds = play_all(lanes, at_every_write(case, len(undisturbed.writes), Cut.KILL_BEFORE, Cut.KILL_AFTER))
    assert not failures(rounds), failures(rounds)
    assert kinds(rounds).keys() >= OWN_KINDS | {"PATCH cancel"}


def test_once_batches_struck_at_every_write_make_one_child_each(batched_lanes: Sequence[Lane], world: World) -> None:
    case = cases.RestartAsNew(world)
    undisturbed = play(batched_lanes[0], case, "batch-undisturbed", None)
    assert not undisturbed.problems, str(undisturbed)
    rounds = play_all(batched_lanes, at_every_write(case, len(undisturbed.writes), Cut.KILL_AFTER, Cut.LOSE_ANSWER))
    assert not failures(rounds), failures(rounds)
    assert kinds(rounds).keys() >= OWN_KINDS | {"POST batch-restart-as-new"}


def test_once_other_actions_struck_amid_their_writes_take_effect(lanes: Sequence[Lane], world: World) -> None:
    others = [cases.Kill, cases.Pause, cases.Resume, cases.Purge, cases.PurgeJournal]
    strikes = [Strike(1, Cut.KILL_AFTER), Strike(4, Cut.KILL_AFTER)]
    rounds = play_all(lanes, [(kind(world), strike) for kind in others for strike in strikes])
    assert not failures(rounds), failures(rounds)


def test_once_resume_onto_latest_struck_between_pause_and_resume_leaves_none_paused(
    lanes: Sequence[Lane], world: World
) -> None:
    with ServicesProcess("lab", prefix="Moved") as own:
        case = cases.ResumeOntoLatest(World(world.engine, own), "Moved")
        rounds = play_all(lanes[:1], [(case, Strike(4, Cut.KILL_AFTER)), (case, Strike(7, Cut.KILL_BEFORE))])
    assert not failures(rounds), failures(rounds)


def test_once_answers_lost_and_deliveries_late_take_effect_once(lanes: Sequence[Lane], world: World) -> None:
    cuts = (Cut.LOSE_ANSWER, Cut.DELIVER_LATE, Cut.KILL_LATE)
    planned = [(cases.RestartAsNew(world), Strike(nth, cut)) for nth in (1, 4) for cut in cuts]
    planned += [(cases.Cancel(world), Strike(4, cut)) for cut in cuts]
    rounds = play_all(lanes, planned)
    assert not failures(rounds), failures(rounds)
