"""Leader election by a Lease: of several operator processes one works, the others stand by.

What it guarantees: while one process is *certain* to lead, no other that takes part in the same election is. The leader
renews, and is certain for two thirds of the lease from the moment at which it *sent* its last successful renewal.
Another one takes the Lease only after it has watched the same renewal for the whole lease, on its own clock, from the
moment at which it *saw* it. So no two clocks need to agree; an API server that stalls, a process that is frozen and a
renewal that arrives late only make the leader less certain, never the other one too early.

Every request is bounded in time and goes through connections of the election's own, which nothing else can use up.
``kubernetes.aio.leaderelection`` 37 cannot create a Lease, never gives it back, and leads on while the API server
stalls.
"""

import asyncio
import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import structlog

from invocation_operator.cluster.client import KubeClient, Object
from invocation_operator.cluster.errors import ClusterError, ObjectExists, ObjectNotFound, WriteConflict
from invocation_operator.cluster.records import Lease
from invocation_operator.cluster.resources import LEASES

log = structlog.get_logger(__name__)

LOOK_SECONDS = 1.0
"""How often a process that stands by looks at the Lease: one that is given back is taken within this."""
RELEASE_SECONDS = 2.0
OTHERS = 64
"""How many former leaders are remembered."""


class Elector:
    """One process's part in the election. ``run`` it as a task; ``release`` when its work has ended."""

    def __init__(
        self,
        client: KubeClient,
        namespace: str,
        name: str,
        identity: str,
        lease: Lease,
        clock: Callable[[], float],
    ) -> None:
        self._client = client
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._lease = lease
        self._clock = clock
        self._obj: Object | None = None
        """The Lease as it was last read or written; None when there was none."""
        self._seen_at = float("-inf")
        """When the version in ``_obj`` was first seen."""
        self._renewed_at = float("-inf")
        self._heard_at = float("-inf")
        self._leading = False
        self._told = False
        self._stepping = asyncio.Lock()
        self._others: dict[str, None] = {}
        self.turned = asyncio.Event()
        """Set whenever this process begins or ceases to lead, or is certain again."""

    @property
    def leading(self) -> bool:
        """Whether the Lease is held by this process, as far as it knows."""
        return self._leading

    @property
    def certain(self) -> bool:
        """Whether nobody else can lead now. To be asked right before whatever only the leader may do."""
        return self._leading and self._clock() - self._renewed_at < self._lease.hold_seconds

    @property
    def in_touch(self) -> bool:
        """Whether the Lease could be read or written not longer ago than it lasts."""
        return self._clock() - self._heard_at < self._lease.seconds

    def outlived(self, identity: str) -> bool:
        """Whether the process of that name led before and, since this one leads now, has ceased to work."""
        return identity in self._others and self.certain

    async def run(self) -> None:
        """Take part until cancelled."""
        while True:
            began = self._clock()
            await self._try()
            renew = self._lease.renew_seconds
            # From the sending on: an API server that is slow to answer must not make renewals rare.
            due = began + renew - self._clock() if self.certain else min(LOOK_SECONDS, renew)
            await asyncio.sleep(max(0.0, due))

    async def release(self) -> None:
        """Give the Lease back, for another one to lead at once. Call it when nothing is being done any more."""
        was, self._leading = self._leading, False
        if not was:
            return
        try:
            async with asyncio.timeout(RELEASE_SECONDS), self._stepping:
                await self._give_back()
            log.info("gave the lead back")
        except (ClusterError, TimeoutError) as error:
            # The next one waits until it runs out.
            log.warning("could not give the lead back", error=str(error) or "no answer in time")

    async def _try(self) -> None:
        before = (self._leading, self.certain)
        try:
            async with asyncio.timeout(self._lease.renew_seconds), self._stepping:
                await self._step()
        except (ClusterError, TimeoutError) as error:
            if not self._told:
                self._told = True
                log.warning("cannot read or renew the Lease", lease=self._name, error=str(error) or "no answer in time")
        except Exception:
            # Also a mistake of ours must not end this task: nobody would lead.
            log.exception("cannot read or renew the Lease", lease=self._name)
        else:
            self._told = False
        if before != (self._leading, self.certain):
            self.turned.set()

    async def _step(self) -> None:
        if self._leading and self._obj is not None:
            try:
                return await self._hold(self._obj)
            except (WriteConflict, ObjectNotFound):
                # Perhaps an earlier renewal went through without an answer. Else it is another's, or nobody's.
                pass
        found = await self._read()
        holder = _holder(found)
        if holder == self._identity and found is not None:
            return await self._hold(found)
        if self._leading:
            log.warning("another one leads", lease=self._name, holder=holder)
        self._leading = False
        if holder:
            self._remember(holder)
        if found is None and self._known_free():
            return await self._make()
        if found is not None and (not holder or self._known_free()):
            return await self._hold(found)
        return None

    async def _read(self) -> Object | None:
        """Read the Lease, and note since when it is as it is. That one is gone is no renewal of it."""
        try:
            found = await self._client.get(LEASES, self._namespace, self._name)
        except ObjectNotFound:
            self._heard_at = self._clock()
            return None
        self._heard_at = now = self._clock()
        if self._obj is None or _version(self._obj) != _version(found):
            self._obj, self._seen_at = found, now
        return found

    def _known_free(self) -> bool:
        """Whether the last holder that was seen, if any, has been silent for as long as it may be.

        It counts on the lease that it wrote there itself; ours may be another one after a change of the setting.
        """
        if self._obj is None or _holder(self._obj) in ("", self._identity):
            return True
        seconds = max(self._lease.seconds, float(self._obj["spec"].get("leaseDurationSeconds") or 0))
        return self._clock() - self._seen_at >= seconds

    async def _make(self) -> None:
        body: Object = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": self._name, "namespace": self._namespace},
            "spec": self._terms(None),
        }
        started = self._clock()
        try:
            self._lead(await self._client.create(LEASES, self._namespace, body), started)
        except ObjectExists:
            # Somebody was faster, or an earlier try went through: the next look tells.
            return

    async def _hold(self, found: Object) -> None:
        """Write ourselves into the Lease, as long as it is as it was found. Raises ``WriteConflict``."""
        started = self._clock()
        body = {**found, "spec": {**(found.get("spec") or {}), **self._terms(found)}}
        self._lead(await self._client.replace(LEASES, self._namespace, self._name, body), started)

    def _lead(self, obj: Object, since: float) -> None:
        self._obj = obj
        self._renewed_at = since
        self._heard_at = self._seen_at = self._clock()
        if not self._leading:
            self._leading = True
            log.info("leading", lease=self._name)

    async def _give_back(self) -> None:
        found = self._obj
        for last in (False, True):
            if found is None or _holder(found) != self._identity:
                return
            body = {**found, "spec": {**found["spec"], "holderIdentity": "", "renewTime": _now()}}
            try:
                await self._client.replace(LEASES, self._namespace, self._name, body)
                return
            except WriteConflict:
                if last:
                    raise
                found = await self._read()
            except ObjectNotFound:
                return

    def _terms(self, found: Object | None) -> dict[str, Any]:
        before = (found or {}).get("spec") or {}
        now, same = _now(), _holder(found) == self._identity
        return {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": math.ceil(self._lease.seconds),
            "acquireTime": before.get("acquireTime", now) if same else now,
            "renewTime": now,
            "leaseTransitions": int(before.get("leaseTransitions") or 0) + (0 if same or found is None else 1),
        }

    def _remember(self, holder: str) -> None:
        self._others.pop(holder, None)
        self._others[holder] = None
        if len(self._others) > OTHERS:
            del self._others[next(iter(self._others))]


def _holder(obj: Object | None) -> str:
    """Return who holds the Lease; empty when it was given back or there is none."""
    return str(((obj or {}).get("spec") or {}).get("holderIdentity") or "")


def _version(obj: Object) -> tuple[str, str]:
    return obj["metadata"]["uid"], obj["metadata"]["resourceVersion"]


def _now() -> str:
    """The time for people to read; nothing is decided by it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
