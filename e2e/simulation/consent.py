"""Runs that wait for a person: nothing outside the plan that was approved is touched, whatever happens in between.

Part of the observer. It keeps what was shown (the set behind each hash, as it was first stored) and what people wrote,
and looks at each approval when it is taken up.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from e2e.simulation.applied import seconds_of
from e2e.simulation.engine import EPOCH
from invocation_operator.plan.targets import decode
from invocation_operator.values.times import milliseconds

if TYPE_CHECKING:
    from e2e.simulation.history import World
    from e2e.simulation.runs import Run

LATE_SECONDS = 40.0
"""An approval is judged by the engine's time, and written some requests later."""
Identities = frozenset[tuple[str, int]]


class Consent:
    """Watches the approvals of one history."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._parts: dict[str, str] = {}
        """What ConfigMaps hold, as they were first."""
        self._shown: dict[tuple[str, str], Identities] = {}
        """The set behind a hash, by the object that showed it."""
        self._standing: dict[tuple[str, str | None], str] = {}
        """The approval that an object's status says was taken up, by object and run."""

    def _asked_for(self, name: str) -> bool:
        return self._world.scenario.applied[name].approved

    def kept(self, event: str, obj: dict[str, Any]) -> None:
        """A ConfigMap was written."""
        if event == "ADDED" and "targets" in (obj.get("data") or {}):
            self._parts.setdefault(obj["metadata"]["name"], obj["data"]["targets"])

    def told(self, obj: dict[str, Any]) -> Iterator[str]:
        """The object is as it is now."""
        if not self._asked_for(obj["metadata"]["name"]):
            return
        uid, status = obj["metadata"]["uid"], obj.get("status") or {}
        plan, approval = status.get("plan") or {}, (status.get("approval") or {}).get("hash")
        # What a run has planned of it stands in the place of what was shown from then on.
        if approval is None and plan.get("hash") and (uid, plan["hash"]) not in self._shown:
            shown = self._shown[uid, plan["hash"]] = self._set_of(uid, plan["hash"])
            if len(shown) != plan["total"]:
                yield f"{plan['total']} are shown and {len(shown)} are kept under {plan['hash']}"
        run = uid, status.get("runId")
        standing = self._standing.get(run)
        if standing is not None and approval != standing:
            yield f"the approval of {standing} was taken up, now it is {approval}"
        if approval is not None and standing is None:
            self._standing[run] = approval
            yield from self._taken_up(obj, plan, approval)

    def _taken_up(self, obj: dict[str, Any], plan: dict[str, Any], approval: str) -> Iterator[str]:
        spec = obj["spec"]
        if spec.get("approvedPlan") != approval:
            yield f"{approval} is taken up, and {spec.get('approvedPlan')} is what people approve"
        if plan.get("hash") != approval:
            yield f"{approval} is taken up, and {plan.get('hash')} is what is shown"
        most = seconds_of((spec.get("approval") or {}).get("planMaxAge", "1h")) + LATE_SECONDS
        age = self._world.engine.now() - milliseconds_of(plan["time"]) / 1000
        if age > most:
            yield f"{approval} is taken up at the age of {age:.0f} s"

    def begun(self, run: "Run") -> Iterator[str]:
        """A record was created: the set is fixed."""
        if not self._asked_for(run.of):
            return
        uid, approval = run.record.spec.source.uid, run.record.spec.approval
        standing = self._standing.get((uid, run.record.spec.run_id))
        if approval is None or standing != approval.hash:
            yield f"a run begins on {approval and approval.hash}, and {standing} was approved"

    def complete(self, run: "Run") -> Iterator[str]:
        """All of the set can be read."""
        if not self._asked_for(run.of) or run.record.spec.approval is None:
            return
        shown = self._shown.get((run.record.spec.source.uid, run.record.spec.approval.hash), frozenset())
        mine = {(one.id, milliseconds(one.created_at)) for one in run.planned}
        if strangers := mine - shown:
            yield f"{sorted(strangers)} are planned, and were not in what was approved"
        drift = (self._world.scenario.applied[run.of].spec.get("approval") or {}).get("drift", "Subset")
        if drift == "Exact" and mine != shown:
            yield f"{len(shown)} were approved as they were, and {len(mine)} are planned"

    def _set_of(self, uid: str, digest: str) -> Identities:
        prefix = f"iact-plan-{uid}-{digest.removeprefix('sha256:')[:12]}-"
        texts = [text for name, text in self._parts.items() if name.startswith(prefix)]
        return frozenset((one.id, milliseconds(one.created_at)) for text in texts for one in decode(text))


def milliseconds_of(text: str) -> float:
    """Milliseconds since 1970 of a time in a status."""
    return milliseconds(type(EPOCH).fromisoformat(text.replace("Z", "+00:00")))
