"""Every action, struck at every write that an undisturbed run makes, in every way there is."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack

import pytest

from e2e.rig import ControlPlane, ServicesProcess
from e2e.rig.killproxy import Cut
from e2e.scenarios import cases
from e2e.scenarios.cases import Case, World
from e2e.scenarios.lane import Lane
from e2e.scenarios.rounds import at_every_write, failures, kinds, play, play_all

LANES = 4
WAVES: tuple[Callable[[World], Case], ...] = (cases.RestartInWaves, cases.ResumeInWaves)


@pytest.fixture(scope="module")
def lanes(
    quiet_control_plane: ControlPlane, world: World, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Sequence[Lane]]:
    with ExitStack() as stack:
        scratch = tmp_path_factory.mktemp("every-write")
        yield [stack.enter_context(Lane(quiet_control_plane, world.engine, scratch)) for _ in range(LANES)]


@pytest.mark.parametrize("cut", Cut)
@pytest.mark.parametrize("make", [*cases.SIMPLE, *WAVES])
def test_chaos_action_struck_at_every_write_takes_effect_once(
    lanes: Sequence[Lane], world: World, make: Callable[[World], Case], cut: Cut
) -> None:
    _strike_everywhere(lanes, make(world), cut)


@pytest.mark.parametrize("cut", Cut)
def test_chaos_resume_onto_latest_struck_at_every_write_leaves_none_paused(
    lanes: Sequence[Lane], world: World, cut: Cut
) -> None:
    prefix = f"Moved{cut.name.title().replace('_', '')}"
    with ServicesProcess("lab", prefix=prefix) as own:
        # One lane: its latest deployment changes with every round.
        _strike_everywhere(lanes[:1], cases.ResumeOntoLatest(World(world.engine, own), prefix), cut)


def _strike_everywhere(lanes: Sequence[Lane], case: Case, cut: Cut) -> None:
    kind = type(case).__name__
    undisturbed = play(lanes[0], case, f"{kind}-{cut.name}-undisturbed".lower().replace("_", "-"), None)
    assert not undisturbed.problems, str(undisturbed)
    rounds = play_all(lanes, at_every_write(case, len(undisturbed.writes), cut))
    print(f"{kind}: {len(rounds)} rounds, {cut.value}: {dict(kinds(rounds))}")
    assert not failures(rounds), failures(rounds)
