"""The composition root: the one place where the rooms are wired, and the order in which the process starts and stops.

Start: configuration, a look at the API server, health and metrics, the CRDs, all RestateEngines, the watches, and then
the election, if there is one: whoever does not see yet what there is to do must not lead.
Stop: the runs finish their batch and hand over while the watches still run, the lead is given back, the watches stop.
"""

import asyncio
import signal
import time
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import kopf
import structlog
from aiohttp import web
from kopf._cogs.structs.references import Insights  # the type of a public option
from kopf._core.engines.peering import Identity  # likewise
from kubernetes.aio.client.configuration import Configuration

from invocation_operator import __version__
from invocation_operator.api.v1alpha1.action import ACTION_KIND, Phase
from invocation_operator.api.v1alpha1.engine import ENGINE_KIND
from invocation_operator.api.v1alpha1.retention import RETENTION_KIND
from invocation_operator.cluster.chunks import SetSizes
from invocation_operator.cluster.client import KubeClient, load_configuration
from invocation_operator.cluster.election import Elector
from invocation_operator.cluster.errors import ClusterError, ClusterUnavailable, Forbidden
from invocation_operator.cluster.events import EventRecorder
from invocation_operator.cluster.records import Lease, RecordStore
from invocation_operator.cluster.resources import ACTIONS
from invocation_operator.engine.client import EngineClient
from invocation_operator.handlers import actions, engines, retention, watch
from invocation_operator.observe import http, metrics
from invocation_operator.plan.urls import UrlPattern
from invocation_operator.reconcile import parse
from invocation_operator.reconcile import withdraw as withdrawing
from invocation_operator.reconcile.action import ActionReconciler
from invocation_operator.reconcile.approval import Approvals
from invocation_operator.reconcile.authors import Authors
from invocation_operator.reconcile.duty import Duty
from invocation_operator.reconcile.engine import EngineReconciler
from invocation_operator.reconcile.enginenews import EngineNews, Outskirts
from invocation_operator.reconcile.engines import Engines
from invocation_operator.reconcile.expiry import Expiry
from invocation_operator.reconcile.lock import Lock
from invocation_operator.reconcile.opening import Opening
from invocation_operator.reconcile.orphans import Orphans
from invocation_operator.reconcile.policies import Policies
from invocation_operator.reconcile.pruning import Pruning
from invocation_operator.reconcile.restore import Restorer
from invocation_operator.reconcile.retention import RetentionReconciler
from invocation_operator.reconcile.runner import Runner
from invocation_operator.reconcile.schema import SchemaGate
from invocation_operator.reconcile.sweeps import SweepReconciler
from invocation_operator.reconcile.sweepscene import needs_work
from invocation_operator.reconcile.takeover import Leases
from invocation_operator.reconcile.turns import Turns
from invocation_operator.reconcile.workbench import Workbench
from invocation_operator.settings import Settings

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Shutdown:
    """SIGTERM or SIGINT: once is a request to stop, twice is one to stop at once."""

    event: asyncio.Event = field(default_factory=asyncio.Event)
    insisted: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def asked(self) -> bool:
        """Whether the process is asked to stop."""
        return self.event.is_set()

    def listen(self) -> None:
        """Take the signals; again whenever something else took them."""
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._ask)

    def _ask(self) -> None:
        (self.insisted if self.asked else self.event).set()


@dataclass(slots=True)
class House:
    """Everything that runs, wired."""

    client: KubeClient
    events: EventRecorder
    known: Engines
    outskirts: Outskirts
    records: RecordStore
    policies: Policies
    action_bench: Workbench
    engine_bench: Workbench
    retention_bench: Workbench
    sweep_bench: Workbench
    duty: Duty
    registry: kopf.OperatorRegistry

    def background(self) -> list[Coroutine[Any, Any, None]]:
        """What runs beside the watches, each until it is cancelled."""
        return [self.events.run(), self.outskirts.run(), self.duty.run()]


def uptime() -> float:
    """Seconds since some moment in the past, those included in which the whole machine was asleep.

    A lease runs out meanwhile, which the usual monotonic clock would not see.
    """
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


def build(
    settings: Settings,
    client: KubeClient,
    shutdown: Shutdown,
    *,
    elector: Elector | None = None,
    clock: Callable[[], float] = uptime,
    engine_client: Callable[..., EngineClient] = EngineClient,
    sizes: SetSizes | None = None,
) -> House:
    """Wire the rooms. ``clock`` tells monotonic seconds, ``sizes`` say how planned sets are kept."""
    leads: Callable[[], bool] = (lambda: elector.certain) if elector is not None else (lambda: True)
    events = EventRecorder(client, settings.identity)
    known = Engines(
        client,
        operator_namespace=settings.operator_namespace,
        cluster_domain=settings.cluster_domain,
        trusted_namespaces=settings.trusted_engine_namespaces,
        call_timeout=settings.call_timeout_seconds,
        batch_endpoints=settings.batch_endpoints,
        clock=clock,
        engine_client=engine_client,
        may_write=leads,
        allowed_urls=[UrlPattern.parse(text) for text in settings.allowed_engine_urls],
    )
    lease = Lease(settings.lease_seconds)
    records = RecordStore(client, settings.operator_namespace, settings.identity, lease, clock)
    outlived: Callable[[str], bool] = elector.outlived if elector is not None else (lambda holder: False)
    leases = Leases(settings.identity, lease, clock, outlived)
    lock = Lock(client, records, leases, sizes or SetSizes())
    gate = SchemaGate(client, clock)
    runner = Runner(client, known, events, clock, lambda: shutdown.asked, settings.call_timeout_seconds, leads)
    authors = Authors(settings.requester_annotation_trusted)
    turns = Turns()
    action_reconciler = ActionReconciler(
        client=client,
        engines=known,
        records=records,
        lock=lock,
        runner=runner,
        events=events,
        gate=gate,
        leases=leases,
        approvals=Approvals(lock, events, authors),
        authors=authors,
        turns=turns,
    )
    resting = elector is not None
    action_bench = Workbench(
        ACTION_KIND.kind,
        action_reconciler.reconcile,
        lambda obj: not parse.settled(obj),
        resting=resting,
        turns=turns,
    )
    policies = Policies(known, client, settings.namespaces or (None,))
    retention_reconciler = RetentionReconciler(
        client=client,
        engines=known,
        policies=policies,
        restorer=Restorer(client, known, events, clock),
        events=events,
        gate=gate,
        clock=clock,
        counted=lambda: sweep_bench.ring_all(),  # noqa: PLW0108 - it is made below
    )
    retention_bench = Workbench(RETENTION_KIND.kind, retention_reconciler.reconcile, lambda obj: True, resting=resting)
    policies.ring = retention_bench.ring_all
    sweep_reconciler = SweepReconciler(
        client=client,
        engines=known,
        policies=policies,
        records=records,
        lock=lock,
        runner=runner,
        events=events,
        gate=gate,
        leases=leases,
        authors=authors,
        now=lambda: datetime.now(UTC),
        ended=retention_bench.ring_all,
    )
    sweep_bench = Workbench(RETENTION_KIND.kind, sweep_reconciler.reconcile, needs_work, resting=resting)

    def ring_users() -> None:
        """Wake whatever refers to engines."""
        for bench in (action_bench, retention_bench, sweep_bench):
            bench.ring_all()

    engine_reconciler = EngineReconciler(client, known, events, clock, ring_users)
    engine_bench = Workbench("RestateEngine", engine_reconciler.reconcile, lambda obj: True, resting=resting)
    registry = kopf.OperatorRegistry()
    expiry = Expiry(client, events, ACTIONS, parse.settled, lambda: datetime.now(UTC))
    actions.register(registry, action_bench, expiry)
    news = EngineNews(known, engine_bench, ring_users)
    engines.register(registry, news)
    retention_reconciler.gone = retention.register(
        registry, policies, retention_bench, sweep_bench, retention_reconciler.forget
    )
    orphans = Orphans(client, records, leases, runner.running, settings.namespaces, sweep_reconciler.recall)
    days = settings.record_retention_days
    pruning = Pruning(client, records, timedelta(days=days) if days else None, lambda: datetime.now(UTC))
    benches = action_bench, engine_bench, retention_bench, sweep_bench
    duty = Duty(elector, benches, (orphans.run, expiry.run, pruning.run))
    outskirts = Outskirts(client, news, settings.unserved_engine_namespaces)
    return House(client, events, known, outskirts, records, policies, *benches, duty, registry)


def _elector(settings: Settings, client: KubeClient) -> Elector:
    lease = Lease(settings.lease_seconds)
    return Elector(client, settings.operator_namespace, settings.lease_name, settings.identity, lease, uptime)


async def run(settings: Settings) -> None:
    """Run the operator until SIGTERM or SIGINT.

    Raises ``ClusterError`` when it cannot start or its watches end, and ``OSError`` when a port is taken.
    """
    configuration = await load_configuration(settings.kubeconfig)
    shutdown = Shutdown()
    shutdown.listen()
    async with AsyncExitStack() as stack:
        elector = None
        if settings.leader_elect:
            # Of its own: whatever else hangs, renewals have connections.
            renewing = await stack.enter_async_context(KubeClient(await load_configuration(settings.kubeconfig)))
            elector = _elector(settings, renewing)
        may_write: Callable[[], bool] = (lambda: elector.certain) if elector is not None else (lambda: True)
        client = await stack.enter_async_context(KubeClient(configuration, may_write=may_write))
        version = await _greet(client, configuration)
        log.info(
            "starting",
            version=__version__,
            kubernetes=version.get("gitVersion"),
            identity=settings.identity,
            namespaces=list(settings.namespaces) or "all",
            operator_namespace=settings.operator_namespace,
        )
        house, ready = build(settings, client, shutdown, elector=elector), asyncio.Event()
        servers: list[web.AppRunner] = []
        try:
            # Before the CRDs are waited for: a probe of liveness must not end that.
            await _serve(settings, house, ready, servers)
            if await _opened(settings, house, shutdown):
                await _live(settings, configuration, house, shutdown, ready)
        finally:
            for server in servers:
                await server.cleanup()
            await house.known.close()
        log.info("stopped")


async def withdraw(settings: Settings) -> None:
    """Let go of what only the operator could. Raises ``ClusterError`` when that is not possible."""
    configuration = await load_configuration(settings.kubeconfig)
    async with KubeClient(configuration) as client:
        await _greet(client, configuration)
        lease = settings.lease_name if settings.leader_elect else None
        namespaces, own = settings.namespaces, settings.operator_namespace
        count = await withdrawing.withdraw(client, namespaces, own, lease, settings.lease_seconds)
    log.info("withdrawn", objects=count)


async def _greet(client: KubeClient, configuration: Configuration) -> Mapping[str, Any]:
    """Ask the API server for its version: whether there is one, and whether it knows us."""
    try:
        return await client.version()
    except Forbidden as error:
        raise ClusterError(
            f"the API server {configuration.host} refuses the operator's credentials: {error}"
        ) from error
    except ClusterUnavailable as error:
        raise ClusterError(f"cannot reach the API server {configuration.host}: {error}") from error


async def _opened(settings: Settings, house: House, shutdown: Shutdown) -> bool:
    """Wait until the watches may start; False when the process is asked to stop first."""
    opening = Opening(
        house.client,
        house.known,
        house.records,
        house.policies,
        settings.namespaces or (None,),
        settings.operator_namespace,
        settings.unserved_engine_namespaces,
        settings.lease_name if settings.leader_elect else None,
    )
    work = asyncio.create_task(opening.run())
    waiting = asyncio.create_task(shutdown.event.wait())
    try:
        await asyncio.wait({work, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            work.result()
        return not shutdown.asked
    finally:
        await _end(work, waiting)


async def _live(
    settings: Settings, configuration: Configuration, house: House, shutdown: Shutdown, ready: asyncio.Event
) -> None:
    stop = asyncio.Event()
    background = [asyncio.create_task(work) for work in house.background()]
    _log_in_with(configuration, house.registry)
    insights = Insights()
    watching = asyncio.create_task(_watch(settings, house, shutdown, insights, stop))
    waiting = asyncio.create_task(shutdown.event.wait())
    starting = asyncio.create_task(_started(insights))
    try:
        await asyncio.wait({watching, starting, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
            house.duty.opened.set()
            ready.set()
            log.info("ready")
        await asyncio.wait({watching, waiting}, return_when=asyncio.FIRST_COMPLETED)
        log.info("stopping", active=house.action_bench.active)
    finally:
        died = watching.done()
        ready.clear()
        shutdown.event.set()
        await _hand_over(settings, house, shutdown)
        # kopf leaves tasks behind whose requests its end cut off; what matters of them is known by now.
        asyncio.get_running_loop().set_exception_handler(lambda _loop, _context: None)
        stop.set()
        await asyncio.wait({watching}, timeout=10.0)
        await _end(watching, waiting, starting, *background)
    if died:
        _explain(watching)


async def _watch(settings: Settings, house: House, shutdown: Shutdown, insights: Insights, stop: asyncio.Event) -> None:
    """Run kopf's watches, which stop by ``stop`` only and not by a signal: the runs hand over first."""
    ignored = asyncio.all_tasks()
    tasks = await kopf.spawn_tasks(
        registry=house.registry,
        settings=watch.settings(clusterwide=not settings.namespaces),
        standalone=True,
        # It would ask the system who it is, which an image without an entry for its user cannot tell.
        identity=Identity(settings.identity),
        clusterwide=not settings.namespaces,
        namespaces=list(settings.namespaces),
        insights=insights,
        stop_flag=stop,
    )
    shutdown.listen()
    await watch.until_ended(asyncio.create_task(kopf.run_tasks(tasks, ignored=ignored)), tasks, ignored)


async def _started(insights: Insights) -> None:
    """Wait until kopf knows what to watch.

    It looks once and watches what it sees; one of several API servers may not show kinds yet that another one does, and
    an operator that misses them would wait for ever for objects that nobody tells it of. Raises ``ClusterError``.
    """
    await insights.ready_resources.wait()
    await insights.ready_namespaces.wait()
    wanted = {ACTION_KIND.plural, ENGINE_KIND.plural, RETENTION_KIND.plural}
    missing = sorted(wanted - {found.plural for found in insights.watched_resources})
    if missing:
        raise ClusterError(f"the API server does not show {', '.join(missing)} yet; another start will find them")


async def _hand_over(settings: Settings, house: House, shutdown: Shutdown) -> None:
    """Let the runs finish what cannot be left; a second signal cuts that short, which the records survive."""
    await house.duty.stop()
    running = house.action_bench, house.sweep_bench

    async def close(seconds: float) -> None:
        await asyncio.gather(*(bench.close(seconds) for bench in running))

    closing = asyncio.create_task(close(settings.shutdown_seconds))
    insisting = asyncio.create_task(shutdown.insisted.wait())
    await asyncio.wait({closing, insisting}, return_when=asyncio.FIRST_COMPLETED)
    if not closing.done():
        log.warning("stopping at once", active=sum(bench.active for bench in running))
        await close(0.0)
    await closing
    for bench in (house.retention_bench, house.engine_bench):
        await bench.close(0.0)
    await _end(insisting)
    await house.events.drain(1.0)
    await house.duty.give_back()


def _explain(watching: asyncio.Task[None]) -> None:
    """The watches ended by themselves. Without them nothing is seen, so the process ends and is started again."""
    error = None if watching.cancelled() else watching.exception()
    # kopf's errors of the API server carry its whole reply beside the message.
    why = getattr(error, "message", None) or error or "without a word"
    raise ClusterError(f"the watches ended: {why}") from error


async def _end(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _serve(settings: Settings, house: House, ready: asyncio.Event, servers: list[web.AppRunner]) -> None:
    metrics.ACTIVE.labels("InvocationAction").set_function(lambda: house.action_bench.active)
    metrics.AWAITING_APPROVAL.set_function(lambda: house.action_bench.count(Phase.AWAITING_APPROVAL))
    metrics.ACTIVE.labels("RestateEngine").set_function(lambda: house.engine_bench.active)
    metrics.ACTIVE.labels(RETENTION_KIND.kind).set_function(lambda: house.retention_bench.active)

    def able() -> bool:
        return ready.is_set() and house.duty.able

    if settings.health_port:
        servers.append(await http.serve_health(settings.bind_address, settings.health_port, able))
    if settings.metrics_port:
        servers.append(await http.serve_metrics(settings.bind_address, settings.metrics_port))


def _log_in_with(configuration: Configuration, registry: kopf.OperatorRegistry) -> None:
    """Let kopf log in with the configuration that everything else uses."""

    @kopf.on.login(registry=registry)
    async def login(**_: Any) -> kopf.ConnectionInfo:
        header = await configuration.get_api_key_with_prefix("BearerToken", alias="authorization")
        scheme, _sep, token = (header or "").rpartition(" ")
        return kopf.ConnectionInfo(
            server=configuration.host,
            ca_path=configuration.ssl_ca_cert,
            insecure=not configuration.verify_ssl,
            token=token or None,
            scheme=scheme or None,
            certificate_path=configuration.cert_file,
            private_key_path=configuration.key_file,
        )
