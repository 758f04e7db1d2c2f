"""Sweeps as decisions: what they mean as a run, which are due, what is remembered."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from invocation_operator.api.v1alpha1.action import ActionProgress, ActionType, Phase
from invocation_operator.api.v1alpha1.retention import RetentionSpec
from invocation_operator.api.v1alpha1.sweep import Sweep, SweepRun, SweepStatus
from invocation_operator.plan import identity
from invocation_operator.plan import sweeps as plan
from invocation_operator.plan.refusal import Refusal
from invocation_operator.plan.sweeps import Occasion
from invocation_operator.values.schedule import Tick

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
TICK = datetime(2026, 11, 25, 3, tzinfo=UTC)


def sweep(**fields: Any) -> Sweep:
    return Sweep.model_validate({"name": "nightly", "schedule": "0 3 * * *", "action": "Purge", **fields})


def policy(*services: str) -> RetentionSpec:
    return RetentionSpec.model_validate({"services": list(services or ("checkout", "report-*")), "reason": "disks"})


COMMON = [
    (["a"], None, ["a"], "the policy's own"),
    (["a", "b"], ["b", "c"], ["b"], "what both name"),
    (["report-*"], ["report-daily"], ["report-daily"], "one of a prefix"),
    (["report-daily"], ["report-*"], ["report-daily"], "the other way round"),
    (["report-*"], ["report-d*"], ["report-d*"], "the longer prefix"),
    (["report-*", "report-daily"], ["rep*"], ["report-*"], "what a wider one says is not said again"),
    (["a*"], ["b*"], [], "nothing"),
    (["checkout"], ["Checkout"], [], "case counts"),
]


@pytest.mark.parametrize(("own", "other", "both", "why"), COMMON, ids=[row[3] for row in COMMON])
def test_target_of_a_sweep_is_within_the_policys_services(
    own: list[str], other: list[str] | None, both: list[str], why: str
) -> None:
    assert plan.common(own, other) == both, why


def test_sweep_as_a_run_has_its_target_limits_and_reason() -> None:
    made = sweep(target={"outcomes": ["Succeeded"], "completedFor": "1d", "not": {"handlers": ["pay"]}}, keepLast=7)
    spec = plan.specification(policy(), "shop/p", Occasion(made, Tick(TICK)))
    assert not isinstance(spec, Refusal)
    assert spec.action is ActionType.PURGE
    assert spec.target.services == ["checkout", "report-*"]
    assert (spec.target.completed_for, spec.target.not_ and spec.target.not_.handlers) == ("1d", ["pay"])
    assert spec.limits.max_targets == 1000
    assert spec.run_id == "nightly 2026-11-25T03:00:00Z"
    assert spec.reason == "sweep nightly of RetentionPolicy shop/p, keeping the last 7 of each handler: disks"


def test_sweep_of_services_that_are_not_the_policys_is_refused() -> None:
    made = plan.specification(policy("checkout"), "shop/p", Occasion(sweep(target={"services": ["x"]}), Tick(TICK)))
    assert isinstance(made, Refusal)


def test_record_of_a_sweep_is_named_by_its_occasion_and_not_by_what_the_policy_says() -> None:
    def name(occasion: Occasion, policy: str = "p") -> str:
        return identity.sweep_record_name(
            engine="shop/e", namespace="shop", name=policy, sweep=occasion.sweep.name, once=occasion.once
        )

    first = name(Occasion(sweep(), Tick(TICK)))
    assert first == name(Occasion(sweep(keepLast=3), Tick(TICK)))
    others = {
        name(Occasion(sweep(), Tick(TICK + timedelta(days=1)))),
        name(Occasion(sweep(name="other"), Tick(TICK))),
        name(Occasion(sweep(), Tick(request="now"))),
        name(Occasion(sweep(), Tick(request="again"))),
        name(Occasion(sweep(), Tick(TICK)), "q"),
    }
    assert len(others | {first}) == 6


def entry(**fields: Any) -> SweepStatus:
    told = {"name": "nightly", "schedule": "0 3 * * * UTC", "since": "2026-11-20T00:00:00Z", **fields}
    return SweepStatus.model_validate(told)


DUE = [
    ("never run: the last tick since it is known", entry(), sweep(), TICK),
    ("known since after that tick", entry(since="2026-11-25T03:00:00Z"), sweep(), None),
    ("it was run", entry(lastScheduleTime="2026-11-25T03:00:00Z"), sweep(), None),
    ("yesterday's was", entry(lastScheduleTime="2026-11-24T03:00:00Z"), sweep(), TICK),
    ("suspended", entry(), sweep(suspend=True), None),
    ("a schedule that cannot be read", entry(), sweep(schedule="0 0 30 2 *"), None),
]


@pytest.mark.parametrize(("why", "known", "made", "tick"), DUE, ids=[row[0] for row in DUE])
def test_due_is_the_last_tick_that_nobody_has_seen_to(
    why: str, known: SweepStatus, made: Sweep, tick: datetime | None
) -> None:
    assert plan.due(made, known, NOW) == (Tick(tick) if tick is not None else None), why


def test_new_sweep_and_changed_schedule_catch_up_nothing() -> None:
    [fresh] = plan.synchronised([sweep()], {}, NOW, suspended=False)
    assert plan.due(sweep(), fresh, NOW) is None
    assert fresh.next_schedule_time == TICK + timedelta(days=1)
    hourly = sweep(schedule="@hourly", timeZone="Europe/Berlin")
    [changed] = plan.synchronised([hourly], {"nightly": entry()}, NOW, suspended=False)
    assert plan.due(hourly, changed, NOW) is None
    assert (changed.schedule, changed.next_schedule_time) == ("@hourly Europe/Berlin", NOW + timedelta(hours=1))


def test_suspended_sweep_has_no_next_time_and_one_that_is_gone_leaves() -> None:
    made = plan.synchronised([sweep()], {"nightly": entry(), "gone": entry(name="gone")}, NOW, suspended=True)
    assert [(e.name, e.next_schedule_time) for e in made] == [("nightly", None)]


def test_run_whose_record_was_taken_back_is_due_again() -> None:
    again = plan.undone(entry(active="rpol-x", lastScheduleTime="2026-11-25T03:00:00Z"))
    assert (again.active, plan.due(sweep(), again, NOW)) == (None, Tick(TICK))


def test_tick_that_was_run_is_not_due_again_because_the_run_of_a_request_was_taken_back() -> None:
    ran = {"phase": "Succeeded", "scheduledTime": "2026-11-25T03:00:00Z"}
    asked_for = entry(active="rpol-x", lastScheduleTime="2026-11-25T03:00:00Z", history=[ran])
    again = plan.undone(asked_for)
    assert (again.active, plan.due(sweep(), again, NOW)) == (None, None)


def test_request_comes_before_ticks_and_asks_for_each_sweep_once() -> None:
    request = Tick(request="now")
    spec = policy().model_copy(update={"sweeps": [sweep(), sweep(name="off", suspend=True), sweep(name="other")]})
    entries = {name: entry(name=name) for name in ("nightly", "off", "other")}
    order: list[str] = []
    while (found := plan.next_occasion(spec, entries, request, NOW, released=False)) is not None:
        order.append(found.once)
        name = found.sweep.name
        made = SweepRun(scheduled_time=found.tick.at, request=found.tick.request, phase=Phase.SUCCEEDED)
        entries[name] = plan.ended(plan.begun(entries[name], found), made)
        assert len(order) < 9
    tick = "2026-11-25T03:00:00Z"
    assert order == ["nightly request now", "other request now", f"nightly {tick}", f"other {tick}"]


def test_what_exists_is_swept_once_it_was_told_how_much_that_is() -> None:
    told = {"services": ["a"], "retention": {"journal": "1d"}, "applyToExisting": True}
    spec = RetentionSpec.model_validate(told)
    entries = {e.name: e for e in plan.synchronised(plan.sweeps_of(spec), {}, NOW, suspended=False)}
    assert plan.next_occasion(spec, entries, None, NOW, released=False) is None
    found = plan.next_occasion(spec, entries, None, NOW, released=True)
    assert found is not None
    assert found.once == f"{plan.EXISTING_JOURNALS} 2026-11-25T12:00:00Z"


def test_what_exists_is_swept_in_portions_where_it_is_more_than_a_run_may_have() -> None:
    spec = RetentionSpec.model_validate(
        {"services": ["checkout"], "retention": {"journal": "1d"}, "applyToExisting": True}
    )
    for made in plan.sweeps_of(spec):
        action = plan.specification(spec, "shop/p", Occasion(made, Tick(TICK)))
        assert not isinstance(action, Refusal)
        assert action.target.limit == action.limits.max_targets, "else it would be refused for ever"


RUN_IDS = [
    ("nightly 2026-11-25T03:00:00Z", Occasion(sweep(), Tick(TICK)), "a tick"),
    ("nightly request right now", Occasion(sweep(), Tick(request="right now")), "a request"),
    ("gone 2026-11-25T03:00:00Z", None, "a sweep that left the policy"),
    ("nightly", None, "no tick"),
    ("", None, "no run of a sweep"),
]


@pytest.mark.parametrize(("run_id", "occasion", "why"), RUN_IDS, ids=[row[2] for row in RUN_IDS])
def test_run_id_tells_what_a_run_was_for(run_id: str, occasion: Occasion | None, why: str) -> None:
    spec = policy().model_copy(update={"sweeps": [sweep()]})
    assert plan.occasion_of(spec, run_id) == occasion, why


def run(tick: datetime | None = TICK, phase: Phase = Phase.SUCCEEDED, **fields: Any) -> SweepRun:
    return SweepRun(scheduled_time=tick, phase=phase, completion_time=NOW, **fields)


def test_history_is_bounded_newest_first_and_tells_an_occasion_once() -> None:
    known = entry()
    for day in range(9):
        known = plan.ended(known, run(TICK + timedelta(days=day)))
    known = plan.ended(known, run(TICK + timedelta(days=8), Phase.STOPPED))
    history = known.history or []
    assert [r.scheduled_time for r in history] == [TICK + timedelta(days=day) for day in (8, 7, 6, 5, 4)]
    assert plan.went_badly(known) is history[0]


def test_last_sweep_tells_what_it_freed() -> None:
    told = plan.ended(entry(), run(freed=1234, bytes_freed=5_000_000))
    assert plan.last_sweep([entry(name="other"), told]) == "nightly: 1234 freed, 4.8 MiB"
    badly = plan.ended(entry(), run(phase=Phase.STOPPED, freed=3))
    assert plan.last_sweep([badly]) == "nightly: Stopped, 3 freed"
    assert plan.last_sweep([entry()]) is None
    assert plan.last_sweep([told, entry(active="rpol-x", progress="40/200")]) == "nightly: Running, 40/200 done"


BYTES = [
    (None, 10, 10, None, "not counted"),
    (1000, 10, 10, 1000, "all"),
    (1000, 10, 5, 500, "half"),
    (1000, 0, 0, 1000, "nothing to share"),
]


@pytest.mark.parametrize(("size", "total", "effective", "freed", "why"), BYTES, ids=[row[4] for row in BYTES])
def test_freed_bytes_are_the_share_that_was_purged(
    size: int | None, total: int, effective: int, freed: int | None, why: str
) -> None:
    assert plan.freed_bytes(size, ActionProgress(total=total, effective=effective)) == freed, why


@pytest.mark.parametrize(
    ("count", "told"), [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (10_485_760, "10 MiB"), (5 << 40, "5.0 TiB")]
)
def test_bytes_are_told_for_people(count: int, told: str) -> None:
    assert plan.human_bytes(count) == told
