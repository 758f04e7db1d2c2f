"""Sweeps as decisions: what a sweep means as a run, which are due, and what status remembers of them.

Pure: policy, status and time go in. A sweep becomes the specification of an InvocationAction that nobody wrote, so that
it is planned, bounded, carried out and verified like one.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from invocation_operator.api.v1alpha1.action import ActionProgress, ActionSpec, ActionType, Limits, Phase
from invocation_operator.api.v1alpha1.retention import RetentionSpec
from invocation_operator.api.v1alpha1.sweep import HISTORY, Sweep, SweepAction, SweepRun, SweepStatus, SweepTarget
from invocation_operator.api.v1alpha1.target import Target
from invocation_operator.plan import refusal as r
from invocation_operator.plan.refusal import Refusal
from invocation_operator.values import schedule
from invocation_operator.values.schedule import Memory, ScheduleError, Tick, Timetable
from invocation_operator.values.text import cut

MESSAGE = 512
RUN_ID = 128
"""Characters of a run's id."""
NO_SCHEDULE = "schedule: "
"""What the message of a sweep begins with whose schedule cannot be read."""
PATTERNS = 64
"""Services that a target takes."""
_BAD = frozenset({Phase.PARTIALLY_FAILED, Phase.FAILED, Phase.REFUSED, Phase.STOPPED})


@dataclass(frozen=True, slots=True)
class Occasion:
    """A sweep, and the tick for which it runs now."""

    sweep: Sweep
    tick: Tick

    @property
    def once(self) -> str:
        """What happens once: this tick of this sweep."""
        return f"{self.sweep.name} {self.tick.key}"

    @property
    def run_id(self) -> str:
        """The same, for people, as a run's id."""
        return cut(self.once, RUN_ID)


EXISTING_RESULTS = "existing-results"
EXISTING_JOURNALS = "existing-journals"
EXISTING = frozenset({EXISTING_RESULTS, EXISTING_JOURNALS})
"""Names of the sweeps that ``applyToExisting`` means; admission keeps them free."""
EXISTING_SCHEDULE = "*/10 * * * *"
_EXISTING_HEAD_START = timedelta(minutes=10)
"""What exists is looked at right away: it has waited long enough."""
_MOST = 1_000_000


def sweeps_of(spec: RetentionSpec) -> list[Sweep]:
    """Return the sweeps of a policy, those included that ``applyToExisting`` means: journals first, they are larger."""
    named = list(spec.sweeps or ())
    if not spec.apply_to_existing or spec.retention is None:
        return named
    limits = Limits(max_targets=_MOST)
    pairs = (EXISTING_JOURNALS, SweepAction.PURGE_JOURNAL), (EXISTING_RESULTS, SweepAction.PURGE)
    # What is more than a run may have is left for the next one.
    target = SweepTarget(limit=_MOST)
    implied = [
        Sweep(name=name, schedule=EXISTING_SCHEDULE, action=action, target=target, limits=limits)
        for name, action in pairs
    ]
    return [*named, *implied]


def common(policy: Sequence[str], sweep: Sequence[str] | None) -> list[str]:
    """Return the patterns that select what both select; those of the policy when the sweep names none."""
    if sweep is None:
        return sorted(set(policy))
    both = {pattern for one in policy for other in sweep if (pattern := _narrower(one, other)) is not None}
    # What a wider one of them says already is not said again: a target takes few.
    return sorted(p for p in both if not any(o != p and o.endswith("*") and p.startswith(o[:-1]) for o in both))


def _narrower(one: str, other: str) -> str | None:
    for wide, narrow in ((one, other), (other, one)):
        if wide == narrow or (wide.endswith("*") and narrow.startswith(wide[:-1])):
            return narrow
    return None


def specification(spec: RetentionSpec, name: str, occasion: Occasion) -> ActionSpec | Refusal:
    """Return what the policy ``name`` has done on ``occasion``, as an action."""
    sweep = occasion.sweep
    own = sweep.target
    services = common(spec.services, own.services if own is not None else None)
    if not services:
        return Refusal(r.INVALID_SPEC, f"sweep {sweep.name}: target.services are not among the policy's services.")
    if len(services) > PATTERNS:
        return Refusal(r.INVALID_SPEC, f"sweep {sweep.name}: together with the policy's these are too many services.")
    given = own.model_dump(exclude_none=True, exclude={"services"}) if own is not None else {}
    because = f": {spec.reason}" if spec.reason else ""
    kept = f", keeping the last {sweep.keep_last} of each handler" if sweep.keep_last else ""
    return ActionSpec(
        action=action_of(sweep),
        reason=cut(f"sweep {sweep.name} of RetentionPolicy {name}{kept}{because}", 512),
        target=Target.model_validate({**given, "services": services}),
        limits=sweep.limits or Limits(),
        run_id=occasion.run_id,
    )


def action_of(sweep: Sweep) -> ActionType:
    """Return what a sweep does, as an action."""
    return ActionType(sweep.action.value)


def timetable(sweep: Sweep, *, suspended: bool = False) -> Timetable:
    """Return when a sweep is to run; ``suspended`` with its policy."""
    head_start = _EXISTING_HEAD_START if sweep.name in EXISTING else timedelta()
    return Timetable(sweep.schedule, sweep.time_zone, suspend=suspended or sweep.suspend, head_start=head_start)


def occasion_of(spec: RetentionSpec, run_id: str, request: Tick | None = None) -> Occasion | None:
    """Return what the run of that id is, or was, for; None when the policy has no such sweep any more. ``request`` is
    what is asked for now.
    """
    name, _, key = run_id.partition(" ")
    sweep, tick = next((s for s in sweeps_of(spec) if s.name == name), None), Tick.of_key(key)
    if sweep is None or tick is None:
        return None
    # A long request does not fit into a run's id.
    whole = Occasion(sweep, request) if request is not None else None
    return whole if whole is not None and whole.run_id == run_id else Occasion(sweep, tick)


def synchronised(
    sweeps: Iterable[Sweep], known: Mapping[str, SweepStatus], now: datetime, *, suspended: bool
) -> list[SweepStatus]:
    """Return the entries of status for ``sweeps`` as they are now: new ones begin, changed ones begin anew, those that
    are gone leave.
    """
    return [_entry(sweep, known.get(sweep.name), now, suspended=suspended) for sweep in sweeps]


def _entry(sweep: Sweep, known: SweepStatus | None, now: datetime, *, suspended: bool) -> SweepStatus:
    entry, table = known or SweepStatus(name=sweep.name), timetable(sweep, suspended=suspended)
    before = _memory(entry)
    memory = schedule.remembered(table, before, now)
    message = entry.message if memory == before and not table.suspend else None
    try:
        following = schedule.following(table, memory, now)
    except ScheduleError as error:
        following, message = None, cut(f"{NO_SCHEDULE}{error}", MESSAGE)
    return _remembering(entry, memory).model_copy(update={"next_schedule_time": following, "message": message})


def _memory(entry: SweepStatus) -> Memory:
    return Memory(entry.schedule, entry.since, entry.last_schedule_time)


def _remembering(entry: SweepStatus, memory: Memory) -> SweepStatus:
    update = {"schedule": memory.text, "since": memory.since, "last_schedule_time": memory.last}
    return entry.model_copy(update=update)


def no_schedule(entry: SweepStatus) -> bool:
    """Whether the schedule of a sweep cannot be read, as its message tells."""
    return entry.message is not None and entry.message.startswith(NO_SCHEDULE)


def waits(entry: SweepStatus) -> bool:
    """Whether a sweep waits for something, as its message tells."""
    return entry.message is not None and not no_schedule(entry)


def waiting_for(entry: SweepStatus, message: str | None) -> SweepStatus:
    """Return an entry that waits, as ``message`` tells, or for nothing; a schedule that cannot be read goes first."""
    return entry if no_schedule(entry) else entry.model_copy(update={"message": message})


def next_occasion(
    spec: RetentionSpec,
    entries: Mapping[str, SweepStatus],
    request: Tick | None,
    now: datetime,
    *,
    released: bool,
    besides: Collection[str] = (),
) -> Occasion | None:
    """Return what is to run now, ``besides`` sweeps that wait: first what was asked for, then what is due. What exists
    is swept once it is ``released``: once it was told how much that is.
    """
    if request is not None and (sweep := _asked_for(spec, entries, request, besides)) is not None:
        return Occasion(sweep, request)
    for sweep in sweeps_of(spec):
        if sweep.name in besides:
            continue
        tick = due(sweep, entries[sweep.name], now) if released or sweep.name not in EXISTING else None
        if tick is not None:
            return Occasion(sweep, tick)
    return None


def _asked_for(
    spec: RetentionSpec, entries: Mapping[str, SweepStatus], request: Tick, besides: Collection[str]
) -> Sweep | None:
    """Return the next sweep that has not had ``request`` yet, which is one to all that are not suspended."""
    for sweep in spec.sweeps or ():
        if (
            not sweep.suspend
            and sweep.name not in besides
            and not seen_to(entries[sweep.name], Occasion(sweep, request))
        ):
            return sweep
    return None


def due(sweep: Sweep, entry: SweepStatus, now: datetime) -> Tick | None:
    """Return the tick that is to be run now; None also for a schedule that cannot be read, which its entry tells."""
    try:
        return schedule.due(timetable(sweep), _memory(entry), now)
    except ScheduleError:
        return None


def seen_to(entry: SweepStatus, occasion: Occasion) -> bool:
    """Whether an entry tells how the run of ``occasion`` ended."""
    tick = occasion.tick
    return any((run.scheduled_time, run.request) == (tick.at, tick.request) for run in entry.history or ())


def begun(entry: SweepStatus, occasion: Occasion) -> SweepStatus:
    """Return an entry whose occasion is seen to."""
    if occasion.tick.at is None:
        return entry
    made = _remembering(entry, schedule.taken(_memory(entry), occasion.tick))
    return made.model_copy(update={"message": None})


def undone(entry: SweepStatus) -> SweepStatus:
    """Return an entry whose run had asked nothing when its record was taken back: its tick is due again."""
    memory = _memory(entry)
    if all(run.scheduled_time != memory.last for run in entry.history or ()):
        # Else it was the run of a request: the last tick has had its own.
        memory = schedule.given_back(memory)
    return _remembering(entry, memory).model_copy(update={"active": None, "progress": None})


def ended(entry: SweepStatus, run: SweepRun) -> SweepStatus:
    """Return an entry with ``run`` in its history; one that is there already is replaced."""

    def same(other: SweepRun) -> bool:
        return (other.scheduled_time, other.request) == (run.scheduled_time, run.request)

    earlier = [other for other in entry.history or () if not same(other)]
    return entry.model_copy(
        update={"history": [run, *earlier][:HISTORY], "active": None, "progress": None, "message": None}
    )


def freed_bytes(planned_bytes: int | None, progress: ActionProgress | None) -> int | None:
    """Return the bytes that a run freed: counted before it, and of a run that did not purge all the share that it did.
    Journals differ in length, so that share is an estimate.
    """
    if planned_bytes is None or progress is None or not progress.total:
        return planned_bytes
    return planned_bytes * progress.effective // progress.total


def went_badly(entry: SweepStatus) -> SweepRun | None:
    """Return the last run of a sweep if it needs a person."""
    last = entry.history[0] if entry.history else None
    return last if last is not None and last.phase in _BAD else None


def last_sweep(entries: Iterable[SweepStatus]) -> str | None:
    """Return what the sweep that is under way has done, else what the last run of all did, for the printer column."""
    listed = list(entries)
    for entry in listed:
        if entry.active is not None:
            return f"{entry.name}: {Phase.RUNNING.value}, {entry.progress or '0'} done"
    runs = [(run.completion_time, entry.name, run) for entry in listed for run in (entry.history or ())[:1]]
    told = [(at, name, run) for at, name, run in runs if at is not None]
    if not told:
        return None
    _, name, run = max(told, key=lambda one: one[0])
    size = f", {human_bytes(run.bytes_freed)}" if run.bytes_freed is not None else ""
    ended_badly = "" if run.phase is Phase.SUCCEEDED else f"{run.phase.value}, "
    return f"{name}: {ended_badly}{run.freed} freed{size}"


def human_bytes(count: int) -> str:
    """Return a number of bytes for people: ``12 KiB``."""
    size, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if size < 1024:
            break
        size, unit = size / 1024, larger
    return f"{size:.0f} {unit}" if unit == "B" or size >= 10 else f"{size:.1f} {unit}"


def next_sweep(entries: Iterable[SweepStatus]) -> datetime | None:
    """Return when the next sweep of all is."""
    return min((e.next_schedule_time for e in entries if e.next_schedule_time is not None), default=None)
