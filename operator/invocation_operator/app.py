"""The composition root: the one place where the rooms are wired, and the order in which the process starts and stops.

Start: configuration, a look at the API server, all RestateEngines (a ceiling must not come too late), then the watches.
Stop: the runs finish their batch and hand over while the watches still run, then the watches stop.
"""

import asyncio
import contextlib
import signal
import time
from dataclasses import dataclass
from typing import Any

import kopf
import structlog
from aiohttp import web
from kubernetes.aio.client.configuration import Configuration

from invocation_operator import __version__
from invocation_operator.cluster.client import KubeClient, load_configuration
from invocation_operator.cluster.events import EventRecorder
from invocation_operator.cluster.records import Lease, RecordStore
from invocation_operator.handlers import actions, engines
from invocation_operator.observe import http, metrics
from invocation_operator.reconcile import parse
from invocation_operator.reconcile.action import ActionReconciler
from invocation_operator.reconcile.engine import EngineReconciler
from invocation_operator.reconcile.engines import Engines
from invocation_operator.reconcile.lock import Lock
from invocation_operator.reconcile.orphans import Orphans
from invocation_operator.reconcile.runner import Runner
from invocation_operator.reconcile.schema import SchemaGate
from invocation_operator.reconcile.takeover import Leases
from invocation_operator.reconcile.workbench import Workbench
from invocation_operator.settings import Settings

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Shutdown:
    """Set once the process is asked to stop."""

    asked: bool = False


@dataclass(slots=True)
class House:
    """Everything that runs, wired."""

    client: KubeClient
    events: EventRecorder
    known: Engines
    action_bench: Workbench
    engine_bench: Workbench
    orphans: Orphans
    registry: kopf.OperatorRegistry


def build(settings: Settings, client: KubeClient, shutdown: Shutdown) -> House:
    """Wire the rooms."""
    clock = time.monotonic
    events = EventRecorder(client, settings.identity)
    known = Engines(
        client,
        operator_namespace=settings.operator_namespace,
        cluster_domain=settings.cluster_domain,
        trusted_namespaces=settings.trusted_engine_namespaces,
        call_timeout=settings.call_timeout_seconds,
        clock=clock,
    )
    lease = Lease(settings.lease_seconds)
    records = RecordStore(client, settings.operator_namespace, settings.identity, lease, clock)
    leases = Leases(settings.identity, lease, clock)
    action_reconciler = ActionReconciler(
        client=client,
        engines=known,
        records=records,
        lock=Lock(client, records, leases),
        runner=Runner(client, known, events, clock, lambda: shutdown.asked, settings.call_timeout_seconds),
        events=events,
        gate=SchemaGate(client, clock),
        leases=leases,
    )
    engine_reconciler = EngineReconciler(client, known, events, clock)
    action_bench = Workbench("InvocationAction", action_reconciler.reconcile, lambda obj: not parse.settled(obj))
    engine_bench = Workbench("RestateEngine", engine_reconciler.reconcile, lambda obj: True)
    registry = kopf.OperatorRegistry()
    actions.register(registry, action_bench)
    engines.register(registry, known, engine_bench, action_bench)
    return House(client, events, known, action_bench, engine_bench, Orphans(client, records, leases), registry)


async def run(settings: Settings) -> None:
    """Run the operator until SIGTERM or SIGINT. Raises ``ClusterError`` when it cannot start."""
    configuration = await load_configuration(settings.kubeconfig)
    shutdown = Shutdown()
    async with KubeClient(configuration) as client:
        version = await client.version()
        log.info(
            "starting",
            version=__version__,
            kubernetes=version.get("gitVersion"),
            identity=settings.identity,
            namespaces=list(settings.namespaces) or "all",
            operator_namespace=settings.operator_namespace,
        )
        house = build(settings, client, shutdown)
        await house.known.load(settings.namespaces or (None,))
        await _live(settings, configuration, house, shutdown)


async def _live(settings: Settings, configuration: Configuration, house: House, shutdown: Shutdown) -> None:
    ready, stop = asyncio.Event(), asyncio.Event()
    background = [asyncio.create_task(house.events.run()), asyncio.create_task(house.orphans.run())]
    servers = await _serve(settings, house, ready)
    _log_in_with(configuration, house.registry)
    watching = asyncio.create_task(
        kopf.operator(
            registry=house.registry,
            settings=_kopf_settings(clusterwide=not settings.namespaces),
            standalone=True,
            clusterwide=not settings.namespaces,
            namespaces=list(settings.namespaces),
            ready_flag=ready,
            stop_flag=stop,
        )
    )
    try:
        await asyncio.wait({watching, asyncio.create_task(ready.wait())}, return_when=asyncio.FIRST_COMPLETED)
        asked = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            # kopf has set its own by now, which would stop the watches before the runs have handed over.
            asyncio.get_running_loop().add_signal_handler(number, asked.set)
        log.info("ready")
        waiting = asyncio.create_task(asked.wait())
        await asyncio.wait({watching, waiting}, return_when=asyncio.FIRST_COMPLETED)
        log.info("stopping")
    finally:
        shutdown.asked = True
        await asyncio.gather(house.action_bench.close(settings.shutdown_seconds), house.engine_bench.close(0.0))
        await house.events.drain(2.0)
        stop.set()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(watching, 10.0)
        for task in background:
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)
        for server in servers:
            await server.cleanup()
        await house.known.close()
        log.info("stopped")


async def _serve(settings: Settings, house: House, ready: asyncio.Event) -> list[web.AppRunner]:
    servers = []
    metrics.ACTIVE.labels("InvocationAction").set_function(lambda: house.action_bench.active)
    metrics.ACTIVE.labels("RestateEngine").set_function(lambda: house.engine_bench.active)
    if settings.health_port:
        servers.append(await http.serve_health(settings.bind_address, settings.health_port, ready.is_set))
    if settings.metrics_port:
        servers.append(await http.serve_metrics(settings.bind_address, settings.metrics_port))
    return servers


def _kopf_settings(*, clusterwide: bool) -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    # Looking for new namespaces and kinds needs rights that an operator of single namespaces does not have.
    settings.scanning.disabled = not clusterwide
    settings.posting.enabled = False
    settings.watching.client_timeout = 600
    settings.watching.connect_timeout = 10
    settings.networking.request_timeout = 30
    settings.process.ultimate_exiting_timeout = None
    settings.queueing.exit_timeout = 1.0
    return settings


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
