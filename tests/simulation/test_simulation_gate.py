"""A share of the deterministic simulation (e2e/simulation): the guarantees hold in every one of these histories.

What fails tells its seed and its faults; `python -m e2e.simulation --replay` plays it again, step by step.
"""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from e2e.simulation import farm, search
from e2e.simulation.__main__ import ALSO
from e2e.simulation.applied import Applied
from e2e.simulation.drawing import AGAIN_FROM, SEVERAL_FROM
from e2e.simulation.history import SLOW_FROM, Outcome, World
from e2e.simulation.scenarios import POPULATIONS, Event, smallest, with_approval
from e2e.simulation.wires import CRASH_AFTER, CRASH_BEFORE, LATE, LOST_ANSWER, REFUSED, SLOW_ANSWER, SLOW_REQUEST, Fault
from invocation_operator.observe import metrics

ROOT = Path(__file__).resolve().parents[2]
SEEDS = 120
SEVERAL = 60
PART = 30
BOUNDARIES = (CRASH_BEFORE, CRASH_AFTER, LOST_ANSWER, LATE)


def told(outcome: Outcome) -> str:
    faults = ",".join(f"{number}={fault}" for number, fault in outcome.faults.items())
    return f"seed {outcome.seed}, faults {faults or 'none'}: {outcome.problems[:3]}"


@pytest.mark.parametrize("action", POPULATIONS)
def test_history_without_faults_ends_well_and_does_not_happen_again(action: str) -> None:
    outcome = search.play(0, smallest(action, 3), {})
    assert outcome.problems == []
    assert outcome.calls == 3
    assert outcome.phase == "AlreadyExecuted", "the same manifest, applied after its end"


@pytest.mark.parametrize("text", ALSO)
def test_history_in_waves_with_approval_in_chunks_with_an_election_or_of_a_sweep_ends_well(text: str) -> None:
    outcome = search.play(0, farm.scenario_of(text), {})
    assert outcome.problems == []
    # Beside others: what two are meant for is asked once.
    assert outcome.calls == (4 if "several" in text else 2)
    # A tick that is of a time before its policy was created is nobody's.
    assert outcome.phase == (None if "tick" in text else "AlreadyExecuted")


def test_crash_at_every_boundary_of_a_run_with_everything_breaks_nothing() -> None:
    """In waves, with an approval, in chunks, with an election."""
    scenario, tally = (
        farm.scenario_of("RestartAsNew:2+waves+approval+chunks+election").but(epilogue=False),
        search.Tally(),
    )
    for faults in search.singles(scenario, kinds=(CRASH_AFTER,), begun=True):
        tally.add(search.play(0, scenario, faults))
    assert tally.histories >= 50
    assert [told(outcome) for outcome in tally.failed] == []


def test_crash_after_the_end_of_a_run_leaves_nothing_of_its_set_behind() -> None:
    """The object is told last: nobody looks again at one that tells its end."""
    scenario = farm.scenario_of("Cancel:2+chunks").but(epilogue=False)
    clean = search.play(0, scenario, {})
    ended = max(n for n, line in enumerate(clean.trace) if "PUT" in line and "/invocationrecords/" in line)
    first = int(clean.trace[ended].partition("#")[2].split()[0])
    assert clean.boundaries - first >= 4
    for boundary in range(first, clean.boundaries):
        world = World(0, scenario, {boundary: Fault(CRASH_AFTER)}, disorder=False)
        outcome = world.play()
        assert (outcome.problems, outcome.phase) == ([], "Succeeded")
        assert world.api.all("configmaps") == [], clean.sides[boundary]


@pytest.mark.parametrize(
    ("spec", "phase", "reason"),
    [
        ({"limits": {"maxTargets": 1}}, "Refused", "TooManyTargets"),
        ({"novelty": True}, "Refused", "UnknownField"),
        ({"mode": "DryRun"}, "Planned", "Planned"),
    ],
)
@pytest.mark.parametrize("answered", [True, False])
def test_end_before_anything_was_begun_is_told_and_counted_once(
    spec: dict[str, object], phase: str, reason: str, *, answered: bool
) -> None:
    """Of one whose write was not answered, and of a specification that cannot be read, nobody heard."""

    def counted() -> float:
        labels = {"action": "Cancel", "phase": phase}
        return metrics.REGISTRY.get_sample_value("invocation_operator_runs_total", labels) or 0.0

    scenario = smallest("Cancel", 2).but(spec=spec, events=(Event(40.0, "watches-break"),), epilogue=False)
    before, world = counted(), World(0, scenario, {}, disorder=False)
    outcome = world.play()
    if not answered:
        line = next(line for line in outcome.trace if "PATCH" in line and "/invocationactions/" in line)
        faults = {int(line.partition("#")[2].split()[0]): Fault(LOST_ANSWER)}
        before, world = counted(), World(0, scenario, faults, disorder=False)
        outcome = world.play()
    assert (outcome.problems, outcome.phase) == ([], phase)
    assert counted() - before == 1
    assert [event["reason"] for event in world.api.all("events")].count(reason) == 1


@pytest.mark.parametrize("action", ["Cancel", "RestartAsNew"])
def test_crash_lost_answer_and_late_call_at_every_boundary_break_nothing(action: str) -> None:
    scenario, tally = smallest(action, 2), search.Tally()
    for number, faults in enumerate(search.singles(scenario, kinds=BOUNDARIES, begun=True)):
        tally.add(search.play(0, scenario.but(epilogue=number % 8 == 0), faults))
    assert tally.histories >= 50
    assert [told(outcome) for outcome in tally.failed] == []


@pytest.mark.parametrize("first", [*range(SLOW_FROM, SLOW_FROM + SEEDS, PART), AGAIN_FROM])
def test_seeds_break_nothing(first: int) -> None:
    tally = search.Tally()
    for seed in range(first, first + PART):
        tally.add(search.play_seed(seed, most=15))
    assert [told(outcome) for outcome in tally.failed] == []


@pytest.mark.parametrize("first", range(SEVERAL_FROM, SEVERAL_FROM + SEVERAL, PART))
def test_seeds_of_several_runs_break_nothing(first: int) -> None:
    tally = search.Tally()
    for seed in range(first, first + PART):
        tally.add(search.play_seed(seed, most=15))
    assert [told(outcome) for outcome in tally.failed] == []


# Histories that have found something, as small as they became.


@pytest.mark.parametrize("milliseconds", range(10, 30, 4))
def test_intent_is_written_although_the_record_was_renewed_before_the_first_call(milliseconds: int) -> None:
    """The record names its first batch as perhaps asked. Each renewal writes the ledger in its place."""
    events = (Event(milliseconds / 1000, "kill-switch", True), Event(8.0, "kill-switch", False))
    outcome = search.play(0, smallest("RestartAsNew", 2).but(events=events), {})
    assert outcome.problems == [], told(outcome)


@pytest.mark.parametrize("at", [0.5, 1.0])
def test_calls_of_an_earlier_life_are_not_told_to_be_untouched_when_time_is_up(at: float) -> None:
    """Taken over after its `timeout`, a run stops before it has looked at what it had asked."""
    spec = {"verification": {"timeout": "40s"}, "timeout": "5s"}
    scenario = smallest("Pause", 2).but(spec=spec, slowness=100.0, events=(Event(at, "kill", 0),))
    outcome = search.play(0, scenario, None)
    assert outcome.problems == [], told(outcome)


def test_status_of_a_run_does_not_land_on_the_successor_of_its_object() -> None:
    events = (Event(0.1, "delete"), Event(0.101, "create"))
    for seed in range(8):
        outcome = search.play(seed, smallest("Cancel", 2).but(events=events), None, disorder=True)
        assert outcome.problems == [], told(outcome)


def test_run_goes_on_when_what_was_in_flight_was_dropped_in_an_outage() -> None:
    """Nothing was left to look at, and so nobody learned that the engine answered again."""
    events = (Event(0.06, "kill-switch", True), Event(2.0, "kill-switch", False))
    scenario = smallest("Kill", 2).but(events=events, epilogue=False)
    for faults in search.singles(scenario, kinds=(REFUSED,), begun=True):
        outcome = search.play(0, scenario, faults)
        assert outcome.problems == [], told(outcome)


def test_successor_of_a_deleted_object_is_not_forgotten() -> None:
    """The reconcile of its predecessor emptied the place in which the watch had put it."""
    events = (Event(0.02, "delete"), Event(0.021, "create"))
    for seed in range(8):
        outcome = search.play(seed, smallest("Cancel", 2).but(events=events), None, disorder=True)
        assert outcome.problems == [], told(outcome)


def test_end_of_a_run_is_not_written_over_by_another_operator_that_comes_too_late() -> None:
    """It had looked for a record before there was one, and for the approved set when it was gone: "Refused"."""
    events = (Event(0.0, "second"), Event(0.5, "approve-from-now-on"))
    scenario = with_approval(smallest("RestartAsNew", 2)).but(events=events, epilogue=False)
    for seed in (9, 22):
        outcome = search.play(seed, scenario, None, disorder=True)
        assert outcome.problems == [], told(outcome)
        assert outcome.phase == "Succeeded"


def test_approved_run_whose_record_was_taken_back_starts_over() -> None:
    """Its status named the record of a run that had asked nothing: it was taken for another operator's, for ever, in a
    loop without a pause."""
    scenario = farm.scenario_of("Cancel:2+chunks+approval").but(epilogue=False)
    faults = [*search.singles(scenario, kinds=(CRASH_BEFORE,), begun=True)][:10]
    for fault in faults:
        outcome = search.play(0, scenario, fault)
        assert outcome.problems == [], told(outcome)
        assert outcome.boundaries < 1000
        assert outcome.phase == "Succeeded"


def test_wait_of_one_operator_is_not_written_over_the_end_that_another_one_saw() -> None:
    """The run was the object's own, and was told to be that of an earlier one."""
    outcome = search.play_seed(84)
    assert outcome.problems == [], told(outcome)


@pytest.mark.parametrize("seed", [20017, 20062])
def test_look_of_the_plan_is_not_relied_on_after_chunks_were_written_for_seconds(seed: int) -> None:
    """The run's clock stood still meanwhile, and took the plan's query for one of a moment ago."""
    outcome = search.play(seed, search.drawn(seed), {}, disorder=True)
    assert outcome.problems == [], told(outcome)


@pytest.mark.parametrize("seed", [448, 752])
def test_values_and_sweeps_of_a_policy_do_not_write_over_each_other(seed: int) -> None:
    """One met a newer version of the status, and wrote all of it as it had known it before."""
    outcome = search.play_seed(seed)
    assert outcome.problems == [], told(outcome)


def test_late_answer_of_a_write_to_a_policy_does_not_take_the_place_of_its_successor() -> None:
    """Its sweep waited for ever: each write was one to the predecessor."""
    outcome = search.play_seed(6251, most=20)
    assert outcome.problems == [], told(outcome)


@pytest.mark.parametrize("seed", [10684])
def test_what_was_seen_does_not_grow_old_while_another_question_is_waited_for(seed: int) -> None:
    """What had been restarted was asked by another look, whose answer stalled; the rows had been read before."""
    outcome = search.play_seed(seed)
    assert outcome.problems == [], told(outcome)


@pytest.mark.parametrize("seed", [11963, 12540])
def test_named_invocation_that_is_born_again_between_two_answers_of_its_plan_is_left_alone(seed: int) -> None:
    outcome = search.play_seed(seed)
    assert outcome.problems == [], told(outcome)


@pytest.mark.parametrize("seed", [67437, 90702])
def test_what_was_seen_does_not_grow_old_behind_what_follows_other_calls(seed: int) -> None:
    """At two operations a second: resumes and kills that come of earlier cancels take their turns before it."""
    outcome = search.play_seed(seed)
    assert outcome.problems == [], told(outcome)


@pytest.mark.parametrize("seed", [439])
def test_plan_counts_as_a_look_by_the_latest_time_that_it_can_be(seed: int) -> None:
    """The engine's clock was told after a moment, and the run thought itself younger by that."""
    outcome = search.play_seed(seed)
    assert outcome.problems == [], told(outcome)


@pytest.mark.parametrize("seed", [106573, 106985])
def test_rows_are_read_once_more_when_their_evidence_was_slow(seed: int) -> None:
    outcome = search.play_seed(seed)
    assert outcome.problems == [], told(outcome)


def test_purge_that_begins_after_a_pause_of_the_process_leaves_alone_what_was_held_meanwhile() -> None:
    """What is held had been read half a minute before the time of its plan."""
    outcome = search.play_seed(67510)
    assert outcome.problems == [], told(outcome)


def test_soak_that_is_taken_over_is_as_long_by_any_clock() -> None:
    outcome = search.play_seed(88479)
    assert outcome.problems == [], told(outcome)


def test_run_of_a_sweep_that_was_passed_over_is_finished() -> None:
    """Another operator found nothing for the same tick, told so, and never asked for that tick's record again."""
    outcome = search.play_seed(114070)
    assert outcome.problems == [], told(outcome)


def test_own_limit_that_is_lowered_once_everything_was_asked_holds_for_what_follows() -> None:
    """Nothing was left to be fed, and so nobody took the limit in: kills followed as fast as before."""
    spec = {"verification": {"timeout": "90s"}, "escalation": {"killAfter": "8s"}}
    events = (Event(1.0, "patch", {"limits": {"operationsPerSecond": 1}}),)
    scenario = smallest("Cancel").but(handlers=(("fail_slow_retry", "backing-off"),) * 8, spec=spec, events=events)
    outcome = search.play(0, scenario.but(epilogue=False), None)
    assert outcome.problems == [], told(outcome)
    assert outcome.calls == 16


@pytest.mark.parametrize("seed", [202609])
def test_run_whose_part_of_the_queue_waits_already_does_not_ask_for_turns_without_a_pause(seed: int) -> None:
    outcome = search.play_seed(seed)
    assert outcome.problems == [], told(outcome)


def test_restart_by_another_run_is_known_however_slow_the_rows_of_a_look_are() -> None:
    """What had been restarted was asked before; the other run had its outcome, and its claim was over."""
    outcome = search.play_seed(205380)
    assert outcome.problems == [], told(outcome)


def test_run_that_is_deleted_keeps_others_from_what_it_may_still_ask() -> None:
    """Its call was lost, and arrived when another run had asked for the same."""
    action, handler, spec = "RestartAsNew", ("echo", "completed"), {"verification": {"timeout": "40s"}}
    same = Applied(action, (handler,), spec, name="act-1", service="Svc1", covers=("Svc",))
    made = smallest(action).but(handlers=(handler,) * 4, spec=spec, beside=(same,), batches=False, epilogue=False)
    limits = {"operationsPerSecond": 4}
    scenario = made.but(engine_spec={**made.engine_spec, "limits": limits}, events=(Event(1.2, "delete"),))
    calls = [line for line in search.play(0, scenario, {}).trace if line.endswith("/restart-as-new")]
    numbers = [int(line.partition("#")[2].split()[0]) for line in calls]
    assert len(numbers) >= 5
    for number in numbers:
        outcome = search.play(0, scenario, {number: Fault(LATE, 8.0)})
        assert outcome.problems == [], told(outcome)


# Replays.


def digest(seed: int) -> str:
    return hashlib.sha256("\n".join(search.play_seed(seed).trace).encode()).hexdigest()


# Runs that are looked at before, and done again.


def boundaries(outcome: Outcome) -> list[tuple[int, str]]:
    """Every request: its number, and what it asks for."""
    lines = [line.partition(" #")[2] for line in outcome.trace if " #" in line and " -> " not in line]
    return [(int(line.split()[0]), line) for line in lines]


def status_writes(outcome: Outcome) -> list[int]:
    """Boundaries at which the object's status is written."""
    written = "/invocationactions/act/status"
    return [number for number, line in boundaries(outcome) if "PATCH" in line and line.endswith(written)]


def test_status_has_all_of_its_run_when_the_first_of_it_was_answered_late() -> None:
    """What was told next had begun from a status without a record, or from that of the run before."""
    scenario = smallest("RestartAsNew", 4).but(epilogue=False, events=(Event(6.0, "again", "run-1"),))
    scenario = scenario.but(spec={**scenario.spec, "limits": {"operationsPerSecond": 1}})
    clean = search.play(0, scenario, {})
    assert clean.problems == []
    for number in status_writes(clean):
        assert told(search.play(0, scenario, {number: Fault(SLOW_ANSWER, 2.5)})).endswith("[]")


def test_run_whose_operator_went_away_before_it_said_so_goes_on_although_it_is_a_dry_run_again() -> None:
    """Its object told for ever that it was planned, and its record that it runs."""
    scenario = smallest("Cancel", 2)
    back = (Event(1.0, "say", {"mode": "Execute"}), Event(1.2, "say", {"mode": "DryRun"}))
    scenario = scenario.but(spec={**scenario.spec, "mode": "DryRun"}, events=back, epilogue=False)
    clean = search.play(0, scenario, {})
    first = search._record(clean)
    for number, kind in ((first, CRASH_AFTER), (first + 1, CRASH_BEFORE), (first + 1, CRASH_AFTER)):
        outcome = search.play(0, scenario, {number: Fault(kind)})
        assert told(outcome).endswith("[]")
        assert outcome.phase == "Succeeded"


def test_what_is_told_late_of_a_run_does_not_take_the_place_of_the_next_one() -> None:
    """Two operators: one ends a run or takes note of a change, and is not heard before the other has done the next."""
    events = (
        Event(0.5, "second"),
        Event(5.0, "patch", {"ttlSecondsAfterFinished": 86400}),
        Event(6.0, "again", "run-1"),
    )
    scenario = smallest("Cancel", 2).but(events=events, epilogue=False)
    for number in status_writes(search.play(0, scenario, {})):
        assert told(search.play(0, scenario, {number: Fault(SLOW_REQUEST, 8.0)})).endswith("[]")


@pytest.mark.parametrize(
    ("seed", "why"),
    [
        (1_000_739, "a run of which no status tells, and another one is asked for: nobody closed its record"),
        (1_000_300, "a run that ended was told of a specification that asks for the next one already"),
        (1_000_321, "a cancel of the run before, found after a crash, was taken for the run's own"),
    ],
)
def test_seed_of_runs_that_are_done_again_breaks_nothing(seed: int, why: str) -> None:
    outcome = search.play_seed(seed)
    assert outcome.problems == [], why


def test_run_whose_plan_takes_until_its_time_has_passed_does_not_start() -> None:
    """It was asked for the time first, and a plan's questions may each take half a minute."""
    scenario = smallest("Cancel", 2)
    scenario = scenario.but(spec={**scenario.spec, "notAfter": "2026-03-01T12:00:02Z"}, epilogue=False)
    clean = search.play(0, scenario, {})
    assert (clean.phase, clean.calls) == ("Succeeded", 2)
    # What is asked for the plan, and not by who looks after the engine.
    first = next(number for number, line in boundaries(clean) if "select now()" in line)
    asked = [n for n, _ in boundaries(clean) if first <= n < search._record(clean) and clean.sides[n] == "engine"]
    late = [search.play(0, scenario, {number: Fault(SLOW_ANSWER, 6.0)}) for number in asked]
    assert len(late) >= 5
    assert {(outcome.phase, outcome.calls) for outcome in late} == {("Expired", 0)}
    assert [told(outcome) for outcome in late if outcome.problems] == []


def test_seed_gives_the_same_history_to_the_last_step_in_every_process() -> None:
    """Also where texts hash to other numbers: nothing may hang on the order of a set."""
    seeds = (9, 105)
    here = [digest(seed) for seed in seeds]
    code = f"from tests.simulation.test_simulation_gate import digest; print(*map(digest, {seeds}))"
    for hash_seed in ("1",):
        env = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": f"{ROOT}:{ROOT / 'operator'}"}
        done = subprocess.run([sys.executable, "-c", code], env=env, cwd=ROOT, capture_output=True, text=True)
        assert done.stdout.split() == here, done.stderr[-2000:]


def test_failure_is_shrunk_to_the_faults_that_it_needs() -> None:
    scenario = smallest("Cancel")
    outcome = search.play(0, scenario, {3: Fault(LOST_ANSWER), 60: Fault(CRASH_AFTER)})
    outcome.problems = ["made up: it must hold"]
    shrunk = search.shrunk(0, scenario, outcome, disorder=False)
    assert shrunk is outcome, "what does not fail again is told as it was"


def test_what_a_run_says_first_is_not_lost_when_the_api_server_is_slow_to_take_it() -> None:
    """Progress that was told meanwhile was based on what had been answered: record, plan and start were gone."""
    scenario = smallest("Pause", 2).but(slowness=100.0, epilogue=False)
    for faults in search.singles(scenario, kinds=(SLOW_REQUEST, SLOW_ANSWER), begun=True, seconds=(2.0,)):
        outcome = search.play(0, scenario, faults)
        assert outcome.problems == [], told(outcome)
