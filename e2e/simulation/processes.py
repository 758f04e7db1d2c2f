"""An operator process in the simulation: everything that `app.build` wires, watched and fed as kopf would.

It can be killed at any instant: its tasks are frozen where they stand and nothing of it ever runs again while the
history lasts. What it had sent is on its way all the same.
"""

import asyncio
import contextvars
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from pydantic_core import from_json, to_json

from e2e.simulation.apiserver import Object, kinds
from e2e.simulation.loop import OWNER
from e2e.simulation.wires import Network, SimulatedEngineClient, SimulatedKube
from invocation_operator.app import House, Shutdown, _hand_over, _opened, build
from invocation_operator.cluster.chunks import SetSizes
from invocation_operator.cluster.client import Resource
from invocation_operator.cluster.election import Elector
from invocation_operator.cluster.errors import ClusterError
from invocation_operator.cluster.records import Lease
from invocation_operator.settings import Settings


class World(Network, Protocol):
    """What a process needs to know of the world."""

    def watch_delay(self) -> float: ...

    def ended(self, process: "Process") -> None: ...

    def tell(self, who: str, what: str) -> None: ...

    def failed(self, process: "Process", error: BaseException | None) -> None: ...


class Process:
    """One operator."""

    def __init__(self, world: World, name: str, settings: Settings, sizes: SetSizes) -> None:
        self.world = world
        self.sizes = sizes
        self.name = name
        self.settings = settings
        self.frozen = False
        self.kept: list[asyncio.Handle] = []
        self.dead = False
        """Buried: what is left of it only unwinds, and asks nobody anything."""
        self.killed = False
        self.isolated = False
        """The API server is out of its reach, and of its alone."""
        self.woke_at = float("-inf")
        """When it last went on after standing still."""
        self.house: House | None = None
        self.shutdown: Shutdown | None = None
        self.task: asyncio.Task[None] | None = None
        self._unwatch: list[Any] = []

    @property
    def alive(self) -> bool:
        """Whether it is there (it may stand still)."""
        return not self.killed and self.task is not None and not self.task.done()

    def start(self) -> None:
        """Begin, in a context of its own: all that it starts belongs to it."""
        context = contextvars.Context()
        context.run(OWNER.set, self)
        self.task = asyncio.get_running_loop().create_task(self._main(), context=context)
        self.task.add_done_callback(self._ended_as, context=contextvars.Context())

    def _ended_as(self, task: "asyncio.Task[None]") -> None:
        if not self.dead and not task.cancelled() and task.exception() is not None:
            self.world.failed(self, task.exception())

    def kill(self) -> None:
        """As SIGKILL."""
        self.killed = self.frozen = True
        self.end_watches()

    def bury(self) -> None:
        """Let what is left of it unwind: nothing is begun any more, and nobody asked."""
        self.dead = True
        self.end_watches()
        for bench in self.house.duty.benches if self.house is not None else ():
            bench._closing = True

    def end_watches(self) -> None:
        """Nobody listens any more."""
        for end in self._unwatch:
            end()
        self._unwatch.clear()

    def ask_to_stop(self) -> None:
        """As SIGTERM."""
        if self.shutdown is not None:
            self.shutdown.event.set()

    async def _main(self) -> None:
        settings = self.settings
        self.shutdown = shutdown = Shutdown()
        clock = asyncio.get_running_loop().time
        elector = self._elector(clock)
        may_write: Callable[[], bool] = (lambda: elector.certain) if elector is not None else (lambda: True)
        kube = SimulatedKube(self.world, self, may_write=may_write)
        self.house = house = build(
            settings,
            kube,
            shutdown,
            elector=elector,
            clock=clock,
            engine_client=partial(SimulatedEngineClient, self.world, self),
            sizes=self.sizes,
        )
        try:
            await _opened(settings, house, shutdown)
        except ClusterError:
            self._end()
            return
        tasks = [asyncio.create_task(work) for work in house.background()]
        handlers = house.registry._watching.get_all_handlers()
        plurals = dict.fromkeys(str(h.selector.any_name or h.selector.plural) for h in handlers if h.selector)
        for plural in plurals:
            told = [h.fn for h in handlers if h.selector and plural in (h.selector.any_name, h.selector.plural)]
            tasks.append(asyncio.create_task(self._watch(kube, plural, told)))
        house.duty.opened.set()
        await shutdown.event.wait()
        await _hand_over(settings, house, shutdown)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await house.known.close()
        self._end()

    def _elector(self, clock: Callable[[], float]) -> Elector | None:
        settings = self.settings
        if not settings.leader_elect:
            return None
        lease, renewing = Lease(settings.lease_seconds), SimulatedKube(self.world, self)
        return Elector(renewing, settings.operator_namespace, settings.lease_name, settings.identity, lease, clock)

    def _end(self) -> None:
        self.end_watches()
        self.world.ended(self)

    async def _watch(self, kube: SimulatedKube, plural: str, handlers: list[Any]) -> None:
        """List, then follow; a broken watch lists again, and never learns what went away meanwhile."""
        group, _, version = kinds()[plural][0].rpartition("/")
        resource = Resource(plural, group, version)
        while True:
            events: asyncio.Queue[tuple[str, Object] | None] = asyncio.Queue()
            await self._listed(kube, resource, plural, handlers, events)
            while (event := await events.get()) is not None:
                await _tell(handlers, *event)

    async def _listed(
        self,
        kube: SimulatedKube,
        resource: Resource,
        plural: str,
        handlers: list[Any],
        events: "asyncio.Queue[tuple[str, Object] | None]",
    ) -> None:
        follow = _Follow(self.world, plural, events)
        while True:
            follow.end()
            follow.begin()
            try:
                found = [obj async for obj in kube.list(resource)]
            except ClusterError:
                await asyncio.sleep(1.0)
                continue
            break
        self._unwatch.append(follow.end)
        version, kind = kinds()[plural]
        for obj in found:
            await _tell(handlers, None, {"apiVersion": version, "kind": kind, **obj})

    def break_watches(self) -> None:
        """The connections of its watches are cut."""
        for end in self._unwatch:
            end()
            owner = getattr(end, "__self__", None)
            if isinstance(owner, _Follow):
                owner.events.put_nowait(None)
        self._unwatch.clear()


class _Follow:
    """One watch: events in their order, each after a moment."""

    def __init__(self, world: World, plural: str, events: "asyncio.Queue[tuple[str, Object] | None]") -> None:
        self.world = world
        self.plural = plural
        self.events = events
        self._end: Any = None
        self._last = 0.0
        self._open = False
        self._waiting: deque[tuple[str, bytes]] = deque()

    def begin(self) -> None:
        self._open = True
        self._end = self.world.api.watch(self.plural, self._told)

    def end(self) -> None:
        self._open = False
        if self._end is not None:
            self._end()
            self._end = None

    def _told(self, kind: str, obj: Object) -> None:
        now = asyncio.get_running_loop().time()
        self._last = max(self._last, now + self.world.watch_delay())
        self._waiting.append((kind, to_json(obj)))

        def deliver() -> None:
            # Not this very event but the oldest that waits: whatever the order of callbacks, a watch keeps its own.
            kind, text = self._waiting.popleft()
            if self._open:
                told = from_json(text)
                metadata = told["metadata"]
                self.world.tell("watch", f"{kind} {self.plural} {metadata['name']} at {metadata['resourceVersion']}")
                self.events.put_nowait((kind, told))

        self.world.later(self._last - now, deliver)


async def _tell(handlers: list[Any], kind: str | None, obj: Object) -> None:
    for handler in handlers:
        await handler(event={"type": kind, "object": obj})
