"""The engines that the operator knows: which object means which engine, and what everything on it shares.

Several RestateEngines may lead to one engine. They share one *station*: one budget with the strictest limits, all their
guardrails, and any of their kill switches. Stations are told apart by the address of the admin API.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit

from pydantic import ValidationError

from invocation_operator.api.v1alpha1.base import EngineIdentity, EngineRef
from invocation_operator.api.v1alpha1.engine import EngineSpec, Guardrails
from invocation_operator.cluster.client import KubeClient, Object
from invocation_operator.cluster.errors import ObjectNotFound
from invocation_operator.cluster.resources import ENGINES, NAMESPACES
from invocation_operator.engine import errors
from invocation_operator.engine.client import Connection, EngineClient
from invocation_operator.engine.models import EngineCapabilities
from invocation_operator.engine.version import Support, Version, supported
from invocation_operator.reconcile.budget import Budget
from invocation_operator.reconcile.connect import connection_of, may_refer, static_url
from invocation_operator.reconcile.waiting import Waiting
from invocation_operator.values.duration import DurationError, parse_duration

DEFAULT_NAME = "default"
"""Name of the engine that is meant when nothing is said."""
PROBE_SECONDS = 30.0
"""How long what was learned of an engine is relied on."""
FAILURE_SECONDS = 2.0
"""How long a failed probe is not repeated."""


@dataclass(frozen=True, slots=True)
class Probe:
    """What an engine said of itself."""

    version: Version
    cluster_name: str
    capabilities: EngineCapabilities
    at: float


@dataclass(slots=True)
class Station:
    """One engine: the connection, what it offers, and the budget that everything on it shares."""

    address: str
    connection: Connection
    client: EngineClient
    budget: Budget
    connections: asyncio.Semaphore
    probe: Probe | None = None
    failure: tuple[Waiting, float] | None = None
    """The last probe's failure and when it was: a crowd that waits for one engine asks it once."""
    probing: asyncio.Lock = field(default_factory=asyncio.Lock)


@dataclass(frozen=True, slots=True)
class Resolved:
    """A RestateEngine that may be used, and the station that it leads to."""

    identity: EngineIdentity
    spec: EngineSpec
    station: Station
    probe: Probe
    guardrails: Sequence[Guardrails]
    namespace_labels: Mapping[str, str]

    @property
    def key(self) -> tuple[str, str]:
        """Namespace and name of the RestateEngine."""
        return self.identity.namespace or "", self.identity.name or ""

    @property
    def name(self) -> str:
        """``namespace/name`` of the RestateEngine."""
        return "/".join(self.key)


@dataclass(frozen=True, slots=True)
class Located:
    """A RestateEngine that is referred to, allowed and well-formed; nothing was asked of the engine itself yet."""

    namespace: str
    name: str
    uid: str
    spec: EngineSpec
    namespace_labels: Mapping[str, str]

    @property
    def full_name(self) -> str:
        """``namespace/name``."""
        return f"{self.namespace}/{self.name}"


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
        clock: Callable[[], float],
    ) -> None:
        self._client = client
        self._operator_namespace = operator_namespace
        self._cluster_domain = cluster_domain
        self._trusted = tuple(trusted_namespaces)
        self._call_timeout = call_timeout
        self._clock = clock
        self._specs: dict[tuple[str, str], EngineSpec] = {}
        self._uids: dict[tuple[str, str], str] = {}
        self._addresses: dict[tuple[str, str], str] = {}
        self._stations: dict[tuple[tuple[str, str], Connection], Station] = {}
        self._budgets: dict[str, Budget] = {}
        self._closing: set[asyncio.Task[None]] = set()

    # What the watch says.

    async def load(self, namespaces: Sequence[str | None]) -> None:
        """Read all RestateEngines before anything is executed: a ceiling must not come too late."""
        for namespace in namespaces:
            async for obj in self._client.list(ENGINES, namespace):
                self.observe(obj, deleted=False)

    def observe(self, obj: Object, *, deleted: bool) -> bool:
        """Take in a RestateEngine and tell whether that changes anything for those who use it.

        One that cannot be parsed counts as suspended: its ceilings are unknown.
        """
        key = _key(obj)
        before = self._specs.get(key)
        self._take_in(key, obj, deleted=deleted)
        return self._specs.get(key) != before

    def _take_in(self, key: tuple[str, str], obj: Object, *, deleted: bool) -> None:
        if deleted:
            if self._uids.get(key) == obj["metadata"]["uid"]:
                for known in (self._specs, self._uids, self._addresses):
                    known.pop(key, None)
                self._retire(key)
            return
        self._uids[key] = obj["metadata"]["uid"]
        spec = self._specs[key] = parse_spec(obj) or EngineSpec(suspend=True)
        url = static_url(key[0], spec, self._cluster_domain)
        if url is not None:
            self._addresses[key] = address_of(url)
        if key in self._addresses:
            self._tighten(self._addresses[key])

    def uid(self, key: tuple[str, str]) -> str | None:
        """Return the UID of a RestateEngine, None when there is none of that name."""
        return self._uids.get(key)

    def suspended(self, address: str) -> bool:
        """Whether the kill switch of any RestateEngine that leads to ``address`` is on."""
        return any(spec.suspend for spec in self._sharing(address))

    # What the reconcilers ask.

    async def locate(self, ref: EngineRef | None, namespace: str) -> Located:
        """Return the RestateEngine that ``ref`` of an object in ``namespace`` means, read afresh.

        Raises ``Waiting`` and the errors of ``cluster.errors``.
        """
        obj = await self._find(ref, namespace)
        own = self.located(obj)
        spec, engine_namespace, name = own.spec, own.namespace, own.name
        labels: Mapping[str, str] = {}
        needs_labels = spec.allowed_namespaces.selector is not None or spec.guardrails.namespaces is not None
        if needs_labels:
            found = await self._client.get(NAMESPACES, None, namespace)
            labels = found["metadata"].get("labels") or {}
        trusted = namespace == engine_namespace or not self._trusted or engine_namespace in self._trusted
        if not trusted or not may_refer(spec, engine_namespace, namespace, labels):
            raise Waiting(
                "EngineNotAllowed",
                f"the RestateEngine {engine_namespace}/{name} does not allow references from namespace {namespace} "
                "(spec.allowedNamespaces); ask its owner, or use another engine.",
                retry_seconds=30.0,
            )
        self.observe(obj, deleted=False)
        return replace(own, namespace_labels=labels)

    def located(self, obj: Object) -> Located:
        """Return a RestateEngine as its own reconciler sees it. Raises ``Waiting``."""
        engine_namespace, name = _key(obj)
        spec = parse_spec(obj)
        if spec is None:
            message = f"the RestateEngine {engine_namespace}/{name} is not valid for this operator; correct it."
            raise Waiting("EngineInvalid", message, stalled=True)
        return Located(engine_namespace, name, obj["metadata"]["uid"], spec, {})

    async def connect(self, located: Located) -> Resolved:
        """Return the station of a located engine, probed not long ago. Raises ``Waiting``."""
        key = (located.namespace, located.name)
        connection = await connection_of(
            self._client, located.namespace, located.spec, cluster_domain=self._cluster_domain
        )
        station = self._station(key, connection, located.spec)
        probe = await self._probed(station)
        identity = EngineIdentity(
            namespace=located.namespace, name=located.name, uid=located.uid, cluster_name=probe.cluster_name
        )
        rails = [located.spec.guardrails, *(spec.guardrails for spec in self._sharing(station.address, but=key))]
        return Resolved(identity, located.spec, station, probe, rails, located.namespace_labels)

    async def probe(self, station: Station) -> Probe:
        """Ask an engine for its version, name and abilities, now. Raises ``Waiting``."""
        try:
            station.probe = await self._ask(station)
        except Waiting as waiting:
            station.failure = (waiting, self._clock())
            raise
        station.failure = None
        return station.probe

    async def _ask(self, station: Station) -> Probe:
        try:
            version = await station.client.version()
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
        return Probe(version, cluster_name, capabilities, self._clock())

    async def close(self) -> None:
        """Close all connections."""
        for station in self._stations.values():
            await station.client.close()
        await asyncio.gather(*self._closing, return_exceptions=True)

    # Inside.

    async def _find(self, ref: EngineRef | None, namespace: str) -> Object:
        if ref is not None:
            places = [(ref.namespace or namespace, ref.name)]
        else:
            places = [(namespace, DEFAULT_NAME), (self._operator_namespace, DEFAULT_NAME)]
        for place in places:
            try:
                return await self._client.get(ENGINES, *place)
            except ObjectNotFound:
                continue
        named = (
            f"RestateEngine {places[0][0]}/{places[0][1]}"
            if ref
            else (
                f"RestateEngine 'default' in {namespace} or {self._operator_namespace}, and spec.engineRef names none"
            )
        )
        raise Waiting("EngineNotFound", f"there is no {named}; create it.")

    def _station(self, key: tuple[str, str], connection: Connection, spec: EngineSpec) -> Station:
        address = address_of(connection.url)
        self._addresses[key] = address
        station = self._stations.get((key, connection))
        if station is None:
            self._retire(key)
            try:
                query_timeout = parse_duration(spec.limits.query_timeout).total_seconds()
                client = EngineClient(connection, query_timeout=query_timeout, call_timeout=self._call_timeout)
            except errors.EngineError as error:
                raise unreachable(address, error) from error
            except (DurationError, ValueError) as error:
                raise Waiting("EngineInvalid", f"the RestateEngine cannot be used: {error}", stalled=True) from error
            budget = self._budgets.setdefault(address, Budget(1, 1, self._clock))
            station = Station(address, connection, client, budget, asyncio.Semaphore(64))
            self._stations[(key, connection)] = station
        self._tighten(address)
        return station

    def _retire(self, key: tuple[str, str]) -> None:
        """Forget the stations of older credentials; requests under way are let finish."""
        for old in [k for k in self._stations if k[0] == key]:
            client = self._stations.pop(old).client
            task = asyncio.create_task(_close_later(client))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    def _tighten(self, address: str) -> None:
        """The strictest limits of all that lead to one engine hold."""
        limits = [spec.limits for spec in self._sharing(address)]
        if limits and address in self._budgets:
            self._budgets[address].set_limits(
                min(limit.max_in_flight for limit in limits), min(limit.operations_per_second for limit in limits)
            )

    def _sharing(self, address: str, but: tuple[str, str] | None = None) -> list[EngineSpec]:
        return [
            self._specs[key]
            for key, where in self._addresses.items()
            if where == address and key != but and key in self._specs
        ]

    async def _probed(self, station: Station) -> Probe:
        async with station.probing:
            known = station.probe
            if known is not None and self._clock() - known.at < PROBE_SECONDS:
                return known
            if station.failure is not None and self._clock() - station.failure[1] < FAILURE_SECONDS:
                raise station.failure[0]
            return await self.probe(station)


def parse_spec(obj: Object) -> EngineSpec | None:
    """Return an engine's specification, or None when it is not valid."""
    try:
        return EngineSpec.model_validate(obj.get("spec") or {})
    except ValidationError:
        return None


def unreachable(address: str, error: errors.EngineError) -> Waiting:
    """Return the reason that people see for an engine that cannot be used."""
    match error:
        case errors.CertificateInvalid():
            reason, hint = "CertificateInvalid", "check spec.tls and the engine's certificate."
        case errors.Unauthorized():
            reason, hint = "Unauthorized", "check the token in spec.auth."
        case errors.Unreachable():
            reason = "Unreachable"
            hint = "check the address, that the engine runs, and that its NetworkPolicies admit the operator."
        case errors.BadReply():
            reason, hint = "BadReply", "what answers there is not the engine's admin API; check the address."
        case _:
            reason, hint = "EngineFault", "look into the engine's logs."
    return Waiting(reason, f"the engine at {address} cannot be used: {error.message}; {hint}")


def address_of(url: str) -> str:
    """Return what tells engines apart: scheme aside, host, port and path of the admin API."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return f"{(parts.hostname or '').lower()}:{port}{parts.path.rstrip('/')}"


async def _close_later(client: EngineClient) -> None:
    await asyncio.sleep(60)
    await client.close()


def _key(obj: Object) -> tuple[str, str]:
    return obj["metadata"]["namespace"], obj["metadata"]["name"]
