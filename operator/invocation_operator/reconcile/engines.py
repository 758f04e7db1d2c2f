"""The engines that the operator knows: which object means which engine, and what everything on it shares.

Several RestateEngines may lead to one engine. They share one *station*: one budget with the strictest limits, all their
guardrails, and any of their kill switches. What they lead to is told apart by the address of the admin API; each has
connections of its own, since its credentials may differ.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from operator import itemgetter
from weakref import WeakValueDictionary

from invocation_operator.api.v1alpha1.base import EngineIdentity, EngineRef
from invocation_operator.api.v1alpha1.engine import EngineSpec, Guardrails
from invocation_operator.cluster.client import KubeClient, Object
from invocation_operator.cluster.errors import ClusterError, Forbidden, ObjectNotFound
from invocation_operator.cluster.resources import ENGINES, NAMESPACES
from invocation_operator.engine import errors
from invocation_operator.engine.client import EngineClient
from invocation_operator.engine.replay import require_caught_up
from invocation_operator.engine.transport import Transport
from invocation_operator.engine.version import Support, supported
from invocation_operator.observe import metrics
from invocation_operator.plan.holds import Holds
from invocation_operator.plan.urls import UrlPattern
from invocation_operator.reconcile.budget import Budget
from invocation_operator.reconcile.connect import (
    address_of,
    connection_of,
    located,
    may_refer,
    parse_spec,
    static_url,
    url_of,
)
from invocation_operator.reconcile.readings import Readings
from invocation_operator.reconcile.station import Key, Located, Probe, Resolved, Station
from invocation_operator.reconcile.waiting import ENGINE_NOT_FOUND, Waiting, forbidden, unreachable
from invocation_operator.values.duration import DurationError, parse_duration

DEFAULT_NAME = "default"
"""Name of the engine that is meant when nothing is said."""
PROBE_SECONDS = 30.0
"""How long what was learned of an engine is relied on."""
SETTLED_SECONDS = 0.5
"""How long an engine counts as caught up: less than a restart takes."""
FAILURE_SECONDS = 2.0
"""How long a probe is not repeated for those who want to know it now, and a failed one for nobody."""
GONE_SECONDS = 600.0
"""How long it is remembered up to which version a RestateEngine that is gone was seen."""
NOT_ALLOWED_SECONDS = 30.0
"""How soon a reference that is not allowed is looked at again: nothing tells of a namespace's changed labels."""
CLOSE_SECONDS = 60.0
"""How long connections with former credentials stay open for the requests that are under way on them."""


class Engines:
    """All RestateEngines, as the watch tells of them, and the stations that they lead to."""

    def __init__(
        self,
        client: KubeClient,
        *,
        operator_namespace: str,
        cluster_domain: str,
        trusted_namespaces: Sequence[str],
        call_timeout: float,
        batch_endpoints: bool,
        clock: Callable[[], float],
        engine_client: Callable[..., EngineClient] = EngineClient,
        may_write: Callable[[], bool] = lambda: True,
        allowed_urls: Sequence[UrlPattern] = (),
    ) -> None:
        self._client = client
        self._readings = Readings(client)
        self._engine_client = engine_client
        self._operator_namespace = operator_namespace
        self._cluster_domain = cluster_domain
        self._trusted = tuple(trusted_namespaces)
        self._call_timeout = call_timeout
        self._batch_endpoints = batch_endpoints
        self._clock = clock
        self._may_write = may_write
        self._allowed_urls = tuple(allowed_urls)
        self._specs: dict[Key, EngineSpec] = {}
        self._uids: dict[Key, str] = {}
        self._versions: dict[Key, int] = {}
        self._gone: dict[Key, float] = {}
        self._addresses: dict[Key, str] = {}
        self._stations: dict[Key, Station] = {}
        # A budget lives for as long as a station or a run uses it.
        self._holds: dict[str, Holds] = {}
        self._budgets: WeakValueDictionary[str, Budget] = WeakValueDictionary()
        self._former: dict[EngineClient | Transport, asyncio.Task[None]] = {}
        self.know_holds: Callable[[], Awaitable[None]] = _nothing_held
        """Puts in force all that is held now; asked before anything is purged. Raises ``cluster.errors``."""
        self.revision = 0
        """Grows whenever what is known of any RestateEngine changes, or where it leads to."""

    # What the watch says.

    async def load(self, namespaces: Sequence[str | None]) -> None:
        """Read all RestateEngines before anything is executed: a ceiling must not come too late."""
        for namespace in namespaces:
            async for obj in self._client.list(ENGINES, namespace):
                self.observe(obj, deleted=False)
        for key, spec in self._specs.items():
            if spec.cloud is not None:
                # Its own reconciler tells what is wrong with it.
                with contextlib.suppress(Waiting, ClusterError):
                    url = await url_of(self._client, key[0], spec, self._cluster_domain)
                    self._lead(key, address_of(url, self._cluster_domain))

    def observe(self, obj: Object, *, deleted: bool) -> bool:
        """Take in a RestateEngine and tell whether that changes anything for those who use it.

        One that cannot be parsed counts as suspended: its ceilings are unknown.
        """
        key = _key(obj)
        version = int(obj["metadata"]["resourceVersion"])
        if version < self._versions.get(key, 0):
            # Somebody read the object while the watch had not told of that version yet.
            return False
        self._versions[key] = version
        before = self._specs.get(key)
        self._take_in(key, obj, deleted=deleted)
        changed = self._specs.get(key) != before
        self.revision += changed
        return changed

    def _take_in(self, key: Key, obj: Object, *, deleted: bool) -> None:
        if deleted:
            if self._uids.get(key) == obj["metadata"]["uid"]:
                self.revision += 1
                for known in (self._specs, self._uids):
                    known.pop(key, None)
                self._lead(key, None)
                metrics.forget_engine(*key)
                self._bury(key)
            return
        self._uids[key] = obj["metadata"]["uid"]
        before = self._specs.get(key)
        spec = self._specs[key] = parse_spec(obj) or EngineSpec(suspend=True)
        url = static_url(key[0], spec, self._cluster_domain)
        if url is not None:
            self._lead(key, address_of(url, self._cluster_domain))
        elif spec.cloud is not None and before is not None and before.cloud != spec.cloud:
            self._lead(key, None)
        elif key in self._addresses:
            self._tighten(self._addresses[key])

    def _bury(self, key: Key) -> None:
        """Remember the version of what is gone for as long as somebody may still come with an older one."""
        now = self._clock()
        self._gone[key] = now
        for former in [former for former, since in self._gone.items() if now - since > GONE_SECONDS]:
            del self._gone[former]
            if former not in self._uids:
                self._versions.pop(former, None)

    def _lead(self, key: Key, address: str | None) -> None:
        """Take in where a RestateEngine leads to; None: nowhere, as far as is known."""
        before = self._addresses.pop(key, None)
        self.revision += before != address
        if address is not None:
            self._addresses[key] = address
            self._tighten(address)
        if before is not None and before != address:
            self._tighten(before)
            station = self._stations.pop(key, None)
            if station is not None:
                self._close_later(station.client)

    def static_url(self, namespace: str, spec: EngineSpec) -> str | None:
        """Return where ``spec`` alone says that the engine is; None for ``cloud``."""
        return static_url(namespace, spec, self._cluster_domain)

    def uid(self, key: Key) -> str | None:
        """Return the UID of a RestateEngine, None when there is none of that name."""
        return self._uids.get(key)

    def replaced(self, resolved: Resolved) -> bool:
        """Whether the RestateEngine is gone, is another object, or leads elsewhere now."""
        another = self._uids.get(resolved.key) != resolved.identity.uid
        return another or self._addresses.get(resolved.key) != resolved.station.address

    def suspended(self, address: str) -> bool:
        """Whether the kill switch of any RestateEngine that leads to ``address`` is on."""
        return any(self._specs[key].suspend for key in self._leading_to(address))

    def switches(self, address: str) -> list[str]:
        """Return the RestateEngines that lead to ``address`` and whose kill switch is on."""
        return sorted("/".join(key) for key in self._leading_to(address) if self._specs[key].suspend)

    def guardrails_at(self, address: str) -> list[tuple[str, Guardrails]]:
        """Return the guardrails of every RestateEngine that leads to ``address``, by its ``namespace/name``."""
        return sorted(
            (("/".join(key), self._specs[key].guardrails) for key in self._leading_to(address)), key=itemgetter(0)
        )

    def holds(self, address: str) -> Holds:
        """Return what no purge on the engine at ``address`` touches; whoever holds something puts it there."""
        return self._holds.setdefault(address, Holds())

    def address(self, located: Located) -> str | None:
        """Return where a located engine leads to, as far as that is known without asking it."""
        return self._addresses.get((located.namespace, located.name))

    # What the reconcilers ask.

    async def locate(self, ref: EngineRef | None, namespace: str) -> Located:
        """Return the RestateEngine that ``ref`` of an object in ``namespace`` means, read afresh.

        Raises ``Waiting`` and the errors of ``cluster.errors``.
        """
        try:
            return await self._locate(ref, namespace)
        except Forbidden as error:
            raise forbidden(error) from error

    async def _locate(self, ref: EngineRef | None, namespace: str) -> Located:
        obj = await self._find(ref, namespace)
        own = located(obj)
        spec, engine_namespace, name = own.spec, own.namespace, own.name
        if namespace != engine_namespace and self._trusted and engine_namespace not in self._trusted:
            raise Waiting(
                "EngineNotAllowed",
                f"the operator does not let namespace {engine_namespace} define engines for others "
                "(trustedEngineNamespaces); use an engine of a namespace that it trusts, or of your own.",
                retry_seconds=NOT_ALLOWED_SECONDS,
            )
        labels: Mapping[str, str] | None = None
        if spec.allowed_namespaces.selector is not None or spec.guardrails.namespaces is not None:
            labels = await self.labels_of(namespace)
        if not may_refer(spec, engine_namespace, namespace, labels or {}):
            raise Waiting(
                "EngineNotAllowed",
                f"the RestateEngine {engine_namespace}/{name} does not allow references from namespace {namespace} "
                "(spec.allowedNamespaces); ask its owner, or use another engine.",
                retry_seconds=NOT_ALLOWED_SECONDS,
            )
        self.observe(obj, deleted=False)
        return replace(own, referrer=namespace, namespace_labels=labels)

    async def connect(self, located: Located, *, fresh: bool = False) -> Resolved:
        """Return the station of a located engine, probed not long ago; ``fresh``: just now.

        Raises ``Waiting`` and the errors of ``cluster.errors``.
        """
        key = (located.namespace, located.name)
        station = await self._connected(key, located.spec)
        probe = await self._probed(station, FAILURE_SECONDS if fresh else PROBE_SECONDS)
        identity = EngineIdentity(
            namespace=located.namespace, name=located.name, uid=located.uid, cluster_name=probe.cluster_name
        )
        others = [self._specs[other].guardrails for other in self._leading_to(station.address) if other != key]
        rails, labels = [located.spec.guardrails, *others], located.namespace_labels
        if labels is None and any(rail.namespaces is not None for rail in rails):
            try:
                labels = await self.labels_of(located.referrer)
            except Forbidden as error:
                raise forbidden(error) from error
        return Resolved(identity, located.spec, station, probe, rails, labels or {})

    async def refresh(self, key: Key) -> None:
        """Read one RestateEngine again. Raises the errors of ``cluster.errors``."""
        known = self._uids.get(key)
        try:
            self.observe(await self._readings.get(ENGINES, *key), deleted=False)
        except ObjectNotFound:
            # Nothing is said of one that was created, and told of, while the answer was on its way.
            self._take_in(key, {"metadata": {"uid": known}}, deleted=True)

    async def renew(self, resolved: Resolved) -> None:
        """Read the credentials again, for a run that the engine refuses. Raises ``Waiting``."""
        spec = self._specs.get(resolved.key)
        if spec is not None and not self.replaced(resolved):
            await self._connected(resolved.key, spec)

    async def labels_of(self, namespace: str) -> Mapping[str, str]:
        """Return a namespace's labels. Raises the errors of ``cluster.errors``."""
        found = await self._readings.get(NAMESPACES, None, namespace)
        labels: Mapping[str, str] = found["metadata"].get("labels") or {}
        return labels

    async def require_caught_up(self, station: Station) -> None:
        """Make sure that what the engine shows is not of before its last restart. A crowd asks once.

        Raises the engine client's errors.
        """
        async with station.settling:
            now = self._clock()
            if now - station.settled_at < SETTLED_SECONDS:
                return
            if station.unsettled is not None and now - station.unsettled[1] < SETTLED_SECONDS:
                raise station.unsettled[0]
            try:
                batches = station.batches.usable
                await station.ask(lambda: require_caught_up(station.client, batches=batches))
            except errors.EngineError as error:
                station.unsettled = error, self._clock()
                raise
            station.settled_at = now

    @staticmethod
    def doubt(station: Station) -> None:
        """Something that was asked failed: before more is, one request is to show whether the engine is there."""
        if station.probe is not None:
            station.probe = replace(station.probe, at=float("-inf"))

    async def probe(self, station: Station) -> Probe:
        """Ask an engine for its version, name and abilities, now. Raises ``Waiting``."""
        asked = station.connection
        try:
            found = await self._ask(station)
        except Waiting as waiting:
            if station.connection is asked:
                station.failure = (waiting, self._clock())
            raise
        if station.connection is asked:
            station.probe, station.failure = found, None
        return found

    async def _ask(self, station: Station) -> Probe:
        try:
            version = await station.client.version()
            if version.release is None:
                raise errors.BadReply("it gives a version that cannot be read")
            if supported(version) is Support.UNSUPPORTED:
                raise Waiting(
                    "VersionUnsupported",
                    f"the engine at {station.address} is version {version.text}; supported are 1.6.1 to 1.7.x: upgrade "
                    "it, or use an operator that knows it.",
                    retry_seconds=PROBE_SECONDS,
                    stalled=True,
                )
            cluster_name = await station.client.cluster_name()
            known = station.probe
            same = known is not None and known.version.text == version.text and known.cluster_name == cluster_name
            capabilities = known.capabilities if known and same else await station.client.capabilities()
        except errors.EngineError as error:
            raise unreachable(station.address, error) from error
        if capabilities is not (known.capabilities if known else None):
            station.batches.usable = capabilities.batch and self._batch_endpoints
        return Probe(version, cluster_name, capabilities, self._clock())

    async def close(self) -> None:
        """Close all connections."""
        for station in self._stations.values():
            await station.client.close()
        former = dict(self._former)
        for connections, task in former.items():
            task.cancel()
            await connections.close()
        await asyncio.gather(*former.values(), return_exceptions=True)

    # Inside.

    async def _find(self, ref: EngineRef | None, namespace: str) -> Object:
        if ref is not None:
            places = [(ref.namespace or namespace, ref.name)]
        else:
            places = [(namespace, DEFAULT_NAME), (self._operator_namespace, DEFAULT_NAME)]
        for place in places:
            try:
                return await self._readings.get(ENGINES, *place)
            except ObjectNotFound:
                continue
        named = (
            f"RestateEngine {places[0][0]}/{places[0][1]}"
            if ref
            else (
                f"RestateEngine 'default' in {namespace} or {self._operator_namespace}, and spec.engineRef names none"
            )
        )
        raise Waiting(ENGINE_NOT_FOUND, f"there is no {named}; create it.")

    async def _connected(self, key: Key, spec: EngineSpec) -> Station:
        """Return the station of a RestateEngine with the credentials as they are now. Raises ``Waiting``."""
        connection = await connection_of(
            self._client, key[0], spec, cluster_domain=self._cluster_domain, allowed_urls=self._allowed_urls
        )
        address = address_of(connection.url, self._cluster_domain)
        self._lead(key, address)
        try:
            timeout = parse_duration(spec.limits.query_timeout).total_seconds()
            station = self._stations.get(key)
            if station is None:
                client = self._engine_client(
                    connection,
                    query_timeout=timeout,
                    call_timeout=self._call_timeout,
                    may_write=self._may_write,
                )
                budget = self._budgets.setdefault(address, Budget(1, 1, self._clock))
                station = Station(
                    address, connection, timeout, client, budget, asyncio.Semaphore(64), self.holds(address)
                )
                self._stations[key] = station
                self._tighten(address)
            elif (station.connection, station.query_timeout) != (connection, timeout):
                self._close_later(station.client.reconnect(connection, query_timeout=timeout))
                station.connection, station.query_timeout, station.failure = connection, timeout, None
                if station.probe is not None:
                    # It says nothing of what the engine thinks of the new credentials.
                    station.probe = replace(station.probe, at=float("-inf"))
        except errors.EngineError as error:
            raise unreachable(address, error) from error
        except (DurationError, ValueError) as error:
            raise Waiting("EngineInvalid", f"the RestateEngine cannot be used: {error}", stalled=True) from error
        return station

    def _close_later(self, connections: EngineClient | Transport) -> None:
        task = self._former[connections] = asyncio.create_task(_close(connections))
        task.add_done_callback(lambda _: self._former.pop(connections, None))

    def _tighten(self, address: str) -> None:
        """The strictest limits of all that lead to one engine hold."""
        limits = [self._specs[key].limits for key in self._leading_to(address)]
        if limits and address in self._budgets:
            self._budgets[address].set_limits(
                min(limit.max_in_flight for limit in limits), min(limit.operations_per_second for limit in limits)
            )

    def _leading_to(self, address: str) -> list[Key]:
        return [key for key, where in self._addresses.items() if where == address and key in self._specs]

    async def _probed(self, station: Station, reliable_seconds: float) -> Probe:
        async with station.probing:
            known = station.probe
            if known is not None and self._clock() - known.at < reliable_seconds:
                return known
            if station.failure is not None and self._clock() - station.failure[1] < FAILURE_SECONDS:
                raise station.failure[0]
            return await self.probe(station)


async def _nothing_held() -> None:
    """Nobody has said yet who holds something."""


async def _close(connections: EngineClient | Transport) -> None:
    await asyncio.sleep(CLOSE_SECONDS)
    await connections.close()


def _key(obj: Object) -> Key:
    return obj["metadata"]["namespace"], obj["metadata"]["name"]
