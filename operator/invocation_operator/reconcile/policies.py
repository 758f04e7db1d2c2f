"""The RetentionPolicies that the operator knows, so that two of them do not fight over one service.

The older one wins, by creation and then by ``namespace/name``. A policy that is being deleted keeps its services until
it is gone: what it restores must not meet what the next one sets. Written by the watch, read by the reconciler.
"""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from pydantic import ValidationError

from invocation_operator.api.v1alpha1.retention import RetentionSpec
from invocation_operator.cluster.client import KubeClient, Object
from invocation_operator.cluster.errors import ClusterError
from invocation_operator.cluster.resources import RETENTION_POLICIES
from invocation_operator.plan import names
from invocation_operator.plan.holds import held_by
from invocation_operator.reconcile.cell import Key
from invocation_operator.reconcile.engines import Engines
from invocation_operator.reconcile.waiting import Waiting


@dataclass(frozen=True, slots=True)
class Policy:
    """One policy, as far as the others are concerned."""

    key: Key
    uid: str
    created: str
    spec: RetentionSpec

    @property
    def name(self) -> str:
        """``namespace/name``."""
        return "/".join(self.key)

    @property
    def age(self) -> tuple[str, str]:
        """What is smaller is older; the API server writes times so that they order as text."""
        return self.created, self.name

    @property
    def sets_values(self) -> bool:
        """Whether it lays claim to its services."""
        return Policies.sets_values(self.spec)


@dataclass(slots=True)
class Policies:
    """All RetentionPolicies, and which engine each leads to."""

    engines: Engines
    _known: dict[Key, Policy] = field(default_factory=dict)
    _addresses: dict[str, str] = field(default_factory=dict)

    @staticmethod
    def sets_values(spec: RetentionSpec) -> bool:
        """Whether a policy says anything of its services, and does not only sweep."""
        return spec.retention is not None or spec.timeouts is not None

    def observe(self, obj: Object, *, deleted: bool) -> bool:
        """Take in a policy and tell whether that changes anything for the others."""
        metadata = obj["metadata"]
        key = metadata["namespace"], metadata["name"]
        before = self._known.get(key)
        if deleted:
            if before is not None and before.uid == metadata["uid"]:
                del self._known[key]
                self._forget(before.uid)
            return before is not None
        spec = parse_spec(obj)
        if spec is None:
            # One that cannot be read sets nothing, and so claims nothing; what it held stays held until it can be read.
            self._known.pop(key, None)
            return before is not None
        now = Policy(key, metadata["uid"], metadata["creationTimestamp"], spec)
        self._known[key] = now
        if before is not None and (before.uid != now.uid or before.spec.engine_ref != spec.engine_ref):
            self._forget(before.uid)
        self._hold(now)
        return before != now

    def lead(self, uid: str, address: str) -> bool:
        """Take in which engine a policy leads to, and tell whether that is new."""
        before = self._addresses.get(uid)
        if before == address:
            return False
        self._forget(uid)
        self._addresses[uid] = address
        for policy in self._known.values():
            if policy.uid == uid:
                self._hold(policy)
        return True

    async def load(self, client: KubeClient, namespaces: Sequence[str | None]) -> None:
        """Read all policies before anything is executed, and put in force what they hold: it must not come too late.

        Raises the errors of ``cluster.errors``.
        """
        for namespace in namespaces:
            async for obj in client.list(RETENTION_POLICIES, namespace):
                self.observe(obj, deleted=False)
        for policy in [policy for policy in self._known.values() if policy.spec.holds]:
            # One whose engine it may not use, or which is not there, holds nothing.
            with suppress(Waiting):
                address = self.engines.address(await self.engines.locate(policy.spec.engine_ref, policy.key[0]))
                if address is not None:
                    self.lead(policy.uid, address)

    def _hold(self, policy: Policy) -> None:
        """Put in force what a policy holds, as soon as it is known on which engine."""
        address = self._addresses.get(policy.uid)
        if address is not None:
            held = held_by(policy.name, policy.spec.services, policy.spec.holds or [])
            self.engines.holds(address).put(policy.uid, held)

    def _forget(self, uid: str) -> None:
        address = self._addresses.pop(uid, None)
        if address is not None:
            self.engines.holds(address).put(uid, ())

    async def claimed(self, key: Key, address: str, services: Iterable[str]) -> dict[str, str]:
        """Return those of ``services`` that an older policy of the same engine has, each with that policy's name."""
        own = self._known.get(key)
        wanted = set(services)
        found: dict[str, str] = {}
        older = [p for p in self._known.values() if own is not None and p.age < own.age and p.sets_values]
        for rival in sorted(older, key=lambda p: p.age):
            common = names.selected(rival.spec.services, wanted - found.keys())
            if common and await self._address(rival) == address:
                found |= dict.fromkeys(common, rival.name)
        return found

    async def _address(self, policy: Policy) -> str | None:
        """Where a policy leads to; after a start it may not have been reconciled yet. None: nowhere it can be used."""
        known = self._addresses.get(policy.uid)
        if known is not None:
            return known
        try:
            resolved = await self.engines.connect(await self.engines.locate(policy.spec.engine_ref, policy.key[0]))
        except (Waiting, ClusterError):
            return None
        self.lead(policy.uid, resolved.station.address)
        return resolved.station.address


def parse_spec(obj: Object) -> RetentionSpec | None:
    """Return a policy's specification, or None when it is not valid."""
    try:
        return RetentionSpec.model_validate(obj.get("spec") or {})
    except ValidationError:
        return None
