"""What is said of RestateEngines, and to whom it goes: to what is known of engines, to those who use them, and to the
workbench that writes their statuses.

The watches tell of the namespaces that are served. Of a few others engines are used too: the operator's own, where the
``default`` one lives, and those that it trusts. Its rights there are to engines alone, and kopf watches the same kinds
in every namespace; so these are looked at every few seconds. A list also shows what went while nobody could look.
"""

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import structlog

from invocation_operator.cluster.client import KubeClient, Object
from invocation_operator.cluster.errors import ClusterError, Forbidden
from invocation_operator.cluster.resources import ENGINES
from invocation_operator.reconcile.engines import Engines
from invocation_operator.reconcile.workbench import Workbench

log = structlog.get_logger(__name__)

LOOK_SECONDS = 5.0
"""As often as a run looks at its own engine: another one's kill switch and ceilings count as much."""
LIMIT_SECONDS = 60.0
"""How seldom it is looked when the API server does not answer for long, or refuses."""

Seen = Mapping[str, Object]
"""The engines of one namespace by their names, as they were at the last look."""


@dataclass(frozen=True, slots=True)
class EngineNews:
    """Passes on what is said of an engine."""

    engines: Engines
    bench: Workbench
    ring_users: Callable[[], None]
    """Wakes what refers to engines: a change may concern it."""

    def tell(self, obj: Object, *, deleted: bool) -> None:
        """Take in an engine as a watch tells of it."""
        if self.engines.observe(obj, deleted=deleted):
            self.ring_users()
        self.bench.observe(obj, deleted=deleted)

    async def gone(self, obj: Object) -> None:
        """Take in that an engine is not there any more. Raises the errors of ``cluster.errors``.

        Nobody told of the version at which it went, and somebody may have read a later one than ``obj``: what is known
        of engines looks once more.
        """
        metadata = obj["metadata"]
        before = self.engines.revision
        await self.engines.refresh((metadata["namespace"], metadata["name"]))
        if self.engines.revision != before:
            self.ring_users()
        self.bench.observe(obj, deleted=True)


@dataclass(frozen=True, slots=True)
class Outskirts:
    """Looks at the engines of namespaces that are not served."""

    client: KubeClient
    news: EngineNews
    namespaces: Sequence[str]

    async def run(self) -> None:
        """Look until cancelled."""
        await asyncio.gather(*(self._follow(namespace) for namespace in self.namespaces))

    async def _follow(self, namespace: str) -> None:
        seen: Seen = {}
        failures = 0
        told = ""
        while True:
            try:
                seen, failures, told = await self.look(namespace, seen), 0, ""
            except ClusterError as error:
                failures = 16 if isinstance(error, Forbidden) else failures + 1
                if told != type(error).__name__:
                    told = type(error).__name__
                    log.warning("cannot look at engines", namespace=namespace, error=_explained(namespace, error))
            except Exception:
                # Also a mistake of ours must not end this task: nobody would look again.
                failures += 1
                log.exception("cannot look at engines", namespace=namespace)
            pause = min(LOOK_SECONDS * 2.0 ** min(failures, 16), LIMIT_SECONDS)
            await asyncio.sleep(pause * random.uniform(0.8, 1.0))  # noqa: S311 - jitter, nothing secret

    async def look(self, namespace: str, seen: Seen) -> Seen:
        """Look once at one namespace and pass on what differs from what was ``seen``; return what is there.

        Raises the errors of ``cluster.errors``; then nothing counts as gone.
        """
        there = {obj["metadata"]["name"]: obj async for obj in self.client.list(ENGINES, namespace)}
        for name, before in seen.items():
            if name not in there or there[name]["metadata"]["uid"] != before["metadata"]["uid"]:
                await self.news.gone(before)
        for name, obj in there.items():
            if name not in seen or obj["metadata"]["resourceVersion"] != seen[name]["metadata"]["resourceVersion"]:
                self.news.tell(obj, deleted=False)
        return there


def _explained(namespace: str, error: ClusterError) -> str:
    if not isinstance(error, Forbidden):
        return str(error)
    return (
        f"RestateEngines of namespace {namespace} get no status, and the ceilings of one hold only once something "
        f"refers to it, until the operator may list them there (helm upgrade --install gives it the right): {error}"
    )
