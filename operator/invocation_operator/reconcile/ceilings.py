"""Whether a run may still do what it was started for: the guardrails of its engine as they are known now.

Guardrails may be tightened while a run is under way, also by a RestateEngine that only now comes to lead to the same
address. A run asks before each operation, so the answer is kept until what is known of engines changes.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from invocation_operator.api.v1alpha1.action import ActionSpec, Mode
from invocation_operator.api.v1alpha1.engine import Guardrails
from invocation_operator.cluster.errors import ClusterError, Forbidden
from invocation_operator.plan.guardrails import Reach, no_longer_allowed
from invocation_operator.reconcile.engines import Engines
from invocation_operator.reconcile.station import Resolved

AGAIN_SECONDS = 2.0


@dataclass(slots=True)
class Ceilings:
    """The ceilings of one run. ``namespace`` is that of the object that asked for it; ``approved``: its plan was."""

    engines: Engines
    resolved: Resolved
    spec: ActionSpec
    reach: Reach
    namespace: str
    approved: bool = False
    _labels: Mapping[str, str] | None = None
    """Labels of the namespace; None while they are not known."""
    _unreadable: bool = False
    _revision: int | None = None
    _broken: str | None = None

    def __post_init__(self) -> None:
        # What a record keeps of a specification is without its mode, and the object's may have been changed since.
        self.spec = self.spec.model_copy(update={"mode": Mode.APPROVE if self.approved else Mode.EXECUTE})
        if any(rails.namespaces is not None for rails in self.resolved.guardrails):
            self._labels = self.resolved.namespace_labels

    def broken(self) -> str | None:
        """Return what the run may not do any more and who says so, or None."""
        if self._revision != self.engines.revision:
            revision = self.engines.revision
            self._broken = self._judge()
            # Without the labels it is not judged in full: they are on their way, and it is judged again until then.
            self._revision = revision if self._labels is not None or self._unreadable else None
        return self._broken

    async def learn(self) -> None:
        """Ask for the namespace's labels, which no guardrail may have needed when the run began."""
        while self._labels is None and not self._unreadable:
            try:
                self._labels = await self.engines.labels_of(self.namespace)
            except Forbidden:
                self._unreadable = True
            except ClusterError:
                await asyncio.sleep(AGAIN_SECONDS)

    def _judge(self) -> str | None:
        for name, rails in self.engines.guardrails_at(self.resolved.station.address):
            broken = self._judge_by(rails)
            if broken is not None:
                return f"RestateEngine {name}: {broken}"
        return None

    def _judge_by(self, rails: Guardrails) -> str | None:
        labels = self._labels
        if labels is None and rails.namespaces is not None:
            if self._unreadable:
                return (
                    f"the operator may not read the labels of namespace {self.namespace}, by which spec.guardrails."
                    "namespaces are judged; extend its role: helm upgrade --install does"
                )
            rails, labels = rails.model_copy(update={"namespaces": None}), {}
        return no_longer_allowed(self.spec, self.reach, rails, labels or {})
