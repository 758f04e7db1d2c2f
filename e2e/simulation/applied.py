"""What people apply: one manifest, the invocations that it is meant for, and when it says that its run has ended."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from e2e.simulation import sweeping
from e2e.simulation.engine import Engine, Invocation
from invocation_operator.cluster.records import TERMINAL

NAMESPACE = "shop"
ENGINE = "production"
NAME = "act"
SERVICE = "Svc"


@dataclass(frozen=True)
class Applied:
    """One action, or one policy with a sweep."""

    action: str
    handlers: tuple[tuple[str, str], ...]
    """Handler and status of each invocation of its own population."""
    spec: dict[str, Any] = field(default_factory=dict)
    by_ids: bool = False
    """Whether the target names the ids, or selects by service."""
    sweep: str | None = None
    """Whether it is a policy's sweep that runs, and no action: `sweeping.ASKED` or `sweeping.TICK`."""
    name: str = NAME
    service: str = SERVICE
    """Of its own population: each has another one."""
    covers: tuple[str, ...] = ()
    """Services of others, which its target means too: what is theirs is asked by two runs."""
    after_seconds: float = 0.0
    """When it is applied: so long after the first."""

    @property
    def plural(self) -> str:
        """The kind of what is applied."""
        return "invocationactions" if self.sweep is None else sweeping.PLURAL

    @property
    def approved(self) -> bool:
        """Whether a person has to approve the plan."""
        return self.spec.get("mode") == "Approve"

    @property
    def services(self) -> list[str]:
        """All that its target means."""
        return [self.service, *self.covers]

    def populate(self, engine: Engine) -> list[Invocation]:
        """Make its invocations."""
        return [engine.add(self.service, handler, status) for handler, status in self.handlers]

    def manifest(self, population: Sequence[Invocation]) -> dict[str, Any]:
        """What is applied; `population` are all invocations that were there at first."""
        metadata = {"name": self.name, "namespace": NAMESPACE}
        if self.sweep is not None:
            spec = {**self.spec, "engineRef": {"name": ENGINE}, "services": self.services}
            return sweeping.manifest(self.action, self.sweep, metadata, spec)
        ids = [one.id for one in population if one.service in self.services]
        target: dict[str, Any] = {"ids": ids} if self.by_ids else {"services": self.services}
        target |= self.spec.get("target", {})
        spec = {"engineRef": {"name": ENGINE}, "action": self.action, **self.spec, "target": target}
        return {
            "apiVersion": "ops.restate.dev/v1alpha1",
            "kind": "InvocationAction",
            "metadata": metadata,
            "spec": spec,
        }

    def verification_seconds(self) -> float:
        """How long an effect is waited for."""
        return seconds_of(self.spec.get("verification", {}).get("timeout", "5m"))

    def ended(self, obj: Mapping[str, Any], first_known: str | None = None) -> bool:
        """Whether what was applied tells that its run has ended, at its newest; of a policy with when it was known."""
        status = obj.get("status") or {}
        if self.sweep is not None:
            return sweeping.ended(obj, self.sweep, first_known)
        return status.get("phase") in TERMINAL and status.get("observedGeneration") == obj["metadata"]["generation"]

    def phase(self, obj: Mapping[str, Any] | None) -> str | None:
        """How it says that its run has ended, or how far it is."""
        return sweeping.phase(obj) if self.sweep is not None else ((obj or {}).get("status") or {}).get("phase")


def seconds_of(text: str) -> float:
    """Seconds of what manifests here say: `90s`, `1m`, `1h`."""
    return float(text[:-1]) * {"s": 1, "m": 60, "h": 3600}[text[-1]]
