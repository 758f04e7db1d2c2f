"""The RetentionPolicies that the operator knows: who has a service of two that claim it, and what all of them hold.

Of two policies on one service the older one wins, by creation and then by ``namespace/name``. A policy that is being
deleted keeps its services until it is gone: what it restores must not meet what the next one sets. Holds are in force
until their policy is gone, whatever else becomes of it. Written by the watch, read by the reconcilers, and read anew
from the API server before anything is purged: a watch may be behind.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from invocation_operator.api.v1alpha1.base import EngineRef
from invocation_operator.api.v1alpha1.retention import RetentionSpec
from invocation_operator.cluster.client import KubeClient, Object
from invocation_operator.cluster.errors import ClusterError
from invocation_operator.cluster.resources import RETENTION_POLICIES
from invocation_operator.plan import names
from invocation_operator.plan.holds import Held, held_by, held_unread
from invocation_operator.reconcile.cell import Key
from invocation_operator.reconcile.engines import Engines
from invocation_operator.reconcile.waiting import Waiting

GONE = 1000
"""So many policies that are gone are remembered, for a list that was read before they went."""


@dataclass(frozen=True, slots=True)
class Policy:
    """One policy, as far as the others are concerned."""

    key: Key
    uid: str
    version: int
    created: str
    spec: RetentionSpec | None
    """None when it cannot be read: it claims nothing then."""
    engine_ref: EngineRef | None
    held: tuple[Held, ...]

    @property
    def name(self) -> str:
        """``namespace/name``."""
        return "/".join(self.key)

    @property
    def age(self) -> tuple[str, str]:
        """What is smaller is older; the API server writes times so that they order as text."""
        return self.created, self.name

    @property
    def claims(self) -> Sequence[str]:
        """Patterns of the services that it lays claim to."""
        return self.spec.services if self.spec is not None and Policies.sets_values(self.spec) else ()

    def differs(self, other: "Policy | None") -> bool:
        """Whether what it says to others is not what ``other`` says."""
        return other is None or (self.uid, self.spec, self.engine_ref, self.held) != (
            other.uid,
            other.spec,
            other.engine_ref,
            other.held,
        )


@dataclass(slots=True)
class Policies:
    """All RetentionPolicies, and which engine each leads to."""

    engines: Engines
    client: KubeClient
    namespaces: Sequence[str | None] = (None,)
    ring: Callable[[], None] = lambda: None
    """Wakes all policies: what was read is news that the watch has not told."""
    _known: dict[Key, Policy] = field(default_factory=dict)
    _addresses: dict[str, str] = field(default_factory=dict)
    _gone: dict[str, None] = field(default_factory=dict)
    _asked: int = 0
    _answered: int = 0
    """The last of those who asked for a reading to whom one that began later has answered."""
    _reading: asyncio.Lock = field(default_factory=asyncio.Lock)

    def __post_init__(self) -> None:
        self.engines.know_holds = self.read

    @staticmethod
    def sets_values(spec: RetentionSpec) -> bool:
        """Whether a policy says anything of its services, and does not only sweep."""
        return spec.retention is not None or spec.timeouts is not None

    def observe(self, obj: Object, *, deleted: bool) -> bool:
        """Take in a policy and tell whether that changes anything for the others."""
        metadata = obj["metadata"]
        key, uid = (metadata["namespace"], metadata["name"]), metadata["uid"]
        before = self._known.get(key)
        if deleted:
            self._bury(uid)
            if before is not None and before.uid == uid:
                del self._known[key]
            return before is not None
        now = _read(obj)
        if uid in self._gone or (before is not None and before.uid == uid and now.version < before.version):
            # It was read before what the watch has told since.
            return False
        self._known[key] = now
        if before is not None and before.uid != uid:
            self._bury(before.uid)
        elif before is not None and before.engine_ref != now.engine_ref:
            self._forget(uid)
        self._hold(now)
        return now.differs(before)

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

    def leads(self, uid: str) -> bool:
        """Whether it is known which engine a policy leads to, so that what it holds is in force."""
        return uid in self._addresses

    async def read(self) -> None:
        """Read all policies and put in force what they hold. A crowd that asks at once reads once.

        Raises the errors of ``cluster.errors``.
        """
        self._asked += 1
        mine = self._asked
        async with self._reading:
            if self._answered >= mine:
                return
            answers = self._asked
            await self._read_all()
            self._answered = answers

    async def _read_all(self) -> None:
        before = dict(self._known)
        there: set[str] = set()
        changed = False
        for namespace in self.namespaces:
            async for obj in self.client.list(RETENTION_POLICIES, namespace):
                there.add(obj["metadata"]["uid"])
                changed |= self.observe(obj, deleted=False)
        for key, policy in before.items():
            # A watch that was interrupted does not tell of what went meanwhile.
            if policy.uid not in there and self._known.get(key) is policy:
                del self._known[key]
                self._bury(policy.uid)
                changed = True
        if changed:
            self.ring()
        located: dict[tuple[str, str | None, str | None], str | None] = {}
        for policy in [policy for policy in self._known.values() if policy.held]:
            ref, namespace = policy.engine_ref, policy.key[0]
            place = (namespace, ref.namespace, ref.name) if ref is not None else (namespace, None, None)
            if place not in located:
                located[place] = None
                # One whose engine it may not use, or which is not there, holds nothing more than it did.
                with suppress(Waiting):
                    located[place] = self.engines.address(await self.engines.locate(ref, namespace))
            address = located[place]
            if address is not None:
                self.lead(policy.uid, address)

    def _hold(self, policy: Policy) -> None:
        """Put in force what a policy holds, as soon as it is known on which engine."""
        address = self._addresses.get(policy.uid)
        if address is not None:
            self.engines.holds(address).put(policy.uid, policy.held)

    def _bury(self, uid: str) -> None:
        self._forget(uid)
        self._gone[uid] = None
        while len(self._gone) > GONE:
            del self._gone[next(iter(self._gone))]

    def _forget(self, uid: str) -> None:
        address = self._addresses.pop(uid, None)
        if address is not None:
            self.engines.holds(address).put(uid, ())

    async def claimed(self, key: Key, address: str, services: Iterable[str]) -> dict[str, str]:
        """Return those of ``services`` that an older policy of the same engine has, each with that policy's name."""
        own = self._known.get(key)
        wanted = set(services)
        found: dict[str, str] = {}
        older = [p for p in self._known.values() if own is not None and p.age < own.age and p.claims]
        for rival in sorted(older, key=lambda p: p.age):
            common = names.selected(rival.claims, wanted - found.keys())
            if common and await self._address(rival) == address:
                found |= dict.fromkeys(common, rival.name)
        return found

    async def _address(self, policy: Policy) -> str | None:
        """Where a policy leads to; after a start it may not have been reconciled yet. None: nowhere it can be used."""
        known = self._addresses.get(policy.uid)
        if known is not None:
            return known
        try:
            located = await self.engines.locate(policy.engine_ref, policy.key[0])
            # Whether it can be asked there, with what credentials it has now, does not matter, as in its own look.
            address = self.engines.address(located) or (await self.engines.connect(located)).station.address
        except (Waiting, ClusterError):
            return None
        self.lead(policy.uid, address)
        return address


def _read(obj: Object) -> Policy:
    metadata, raw = obj["metadata"], obj.get("spec") or {}
    key = metadata["namespace"], metadata["name"]
    spec = parse_spec(obj)
    if spec is not None:
        held, engine_ref = held_by("/".join(key), spec.services, spec.holds or []), spec.engine_ref
    else:
        held, engine_ref = held_unread("/".join(key), raw), _engine_ref(raw)
    version = int(metadata.get("resourceVersion") or 0)
    return Policy(key, metadata["uid"], version, metadata["creationTimestamp"], spec, engine_ref, held)


def _engine_ref(spec: Mapping[str, Any]) -> EngineRef | None:
    """The engine of a specification that cannot be read as a whole; its own field is plain."""
    with suppress(ValidationError):
        return EngineRef.model_validate(spec["engineRef"]) if spec.get("engineRef") is not None else None
    return None


def parse_spec(obj: Object) -> RetentionSpec | None:
    """Return a policy's specification, or None when it is not valid."""
    try:
        return RetentionSpec.model_validate(obj.get("spec") or {})
    except ValidationError:
        return None
