"""Runs that nobody's InvocationAction asks for: those of a policy's sweep, at its tick or when its annotation asks.

What is applied in the place of an action, when it has come to its end, and what its status must say. Each tick and each
request happens once, whatever becomes of the policy's status.
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from e2e.simulation.runs import Run

PLURAL = "retentionpolicies"
ASKED, TICK = "asked for", "at its tick"
"""Why a sweep runs."""
REQUEST = "now"
SCHEDULE, TICK_SECONDS, TICK_TIME = "1 12 * * *", 60.0, "2026-03-01T12:01:00Z"
"""One tick a minute after the beginning; the next one is a day later."""
FAR_SCHEDULE = "0 0 1 1 *"
"""No tick while a history lasts."""
FIRST_TIME = "2026-03-01T12:00:00Z"


def manifest(action: str, why: str, metadata: Mapping[str, Any], spec: Mapping[str, Any]) -> dict[str, Any]:
    """The policy that is applied; `spec` has its engine and services, and what its sweep limits."""
    schedule = SCHEDULE if why == TICK else FAR_SCHEDULE
    sweep = {"name": "sweep", "schedule": schedule, "action": action, "limits": spec.get("limits")}
    annotations = {"ops.restate.dev/requestedAt": REQUEST} if why == ASKED else {}
    return {
        "apiVersion": "ops.restate.dev/v1alpha1",
        "kind": "RetentionPolicy",
        "metadata": {**metadata, "annotations": annotations},
        "spec": {
            "engineRef": spec["engineRef"],
            "services": spec["services"],
            "sweeps": [{name: value for name, value in sweep.items() if value is not None}],
        },
    }


def _entry(obj: Mapping[str, Any] | None) -> dict[str, Any]:
    entries = ((obj or {}).get("status") or {}).get("sweeps") or [{}]
    return dict(entries[0])


def known_since(obj: Mapping[str, Any]) -> str | None:
    """Since when an operator follows its schedule, as far as one does."""
    return _entry(obj).get("since")


def ended(obj: Mapping[str, Any], why: str, first_known: str | None = None) -> bool:
    """Whether the policy tells that its run has ended, or that it was created again and known after its only tick; or
    that nobody knew it before that (``first_known``).
    """
    entry, status = _entry(obj), obj.get("status") or {}
    if entry.get("active") is not None or entry.get("message") is not None:
        return False
    if why == ASKED:
        return bool(entry.get("history")) and status.get("lastHandledRequest") == REQUEST
    again = obj["metadata"]["creationTimestamp"] > FIRST_TIME and entry.get("since", "") >= TICK_TIME
    return bool(entry.get("history")) or again or (first_known or "") >= TICK_TIME


def phase(obj: Mapping[str, Any] | None) -> str | None:
    """How its last run ended."""
    history = _entry(obj).get("history")
    return str(history[0]["phase"]) if history else None


def wrong(obj: Mapping[str, Any], runs: Mapping[str, "Run"]) -> Iterator[str]:
    """What the policy's history says that the records do not."""
    history = _entry(obj).get("history") or []
    occasions = [(told.get("scheduledTime"), told.get("request")) for told in history]
    if len(set(occasions)) != len(occasions):
        yield f"an occasion is told twice: {occasions}"
    for told in history:
        run = runs.get(told.get("record") or "")
        if run is None:
            continue
        mine = run.record.spec.source.uid == obj["metadata"]["uid"]
        if told["phase"] == "AlreadyExecuted":
            if mine:
                yield "the policy's own run is told to be that of an earlier one"
            continue
        status = run.record.status
        known = (status.phase and status.phase.value, run.record.spec.plan.total)
        if mine and (told["phase"], told["planned"]) != known:
            yield f"{told['phase']} of {told['planned']} is told, the record says {known}"
        if mine and status.progress is not None and told["freed"] != status.progress.effective:
            yield f"{told['freed']} freed are told, the record says {status.progress.effective}"


def repeated(run: "Run", others: Mapping[str, "Run"]) -> Iterator[str]:
    """A record was created for what has one already."""

    def occasion(one: "Run") -> tuple[str, ...]:
        source = one.record.spec.source
        return source.kind, source.namespace, source.name, one.record.spec.run_id or ""

    for name, other in others.items():
        if name != run.name and run.record.spec.source.kind == "RetentionPolicy" and occasion(run) == occasion(other):
            yield f"{run.record.spec.run_id} has the record {name} already"
