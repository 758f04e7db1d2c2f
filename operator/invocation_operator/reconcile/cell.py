"""One watched object as its task sees it: the latest version, and a bell that rings when it changes.

Level-triggered: a task never learns *what* happened, it looks at what is there. Handlers write cells, tasks read them.
"""

import asyncio

from invocation_operator.cluster.client import Object

Key = tuple[str, str]
"""Namespace and name."""


class Cell:
    """The latest version of one object; ``obj`` is None once it is deleted."""

    def __init__(self, key: Key, obj: Object | None) -> None:
        self.key = key
        self.obj = obj
        self.version = 0
        self.told = -1
        """The resourceVersion that the watch told of last."""
        # In the order in which they were hung: what wakes whom first is the same in every replay of a history.
        self._bells: dict[asyncio.Event, None] = {}

    def has(self, obj: Object) -> bool:
        """Whether it is the very object, and not a successor of its name, that ``obj`` is a version of."""
        return self.obj is not None and bool(self.obj["metadata"]["uid"] == obj["metadata"]["uid"])

    def latest(self, obj: Object) -> Object:
        """Return the newest version that is known of the very object that ``obj`` is a version of."""
        return self.obj if self.obj is not None and self.has(obj) else obj

    def put(self, obj: Object | None) -> None:
        """Take in what the watch says and ring the bells; what is not newer than our own last write is passed over."""
        if obj is not None and self.obj is not None and not _newer(obj, self.obj):
            return
        self.obj = obj
        self.version += 1
        self.ring()

    def keep(self, obj: Object) -> None:
        """Take in the answer to our own write. Nobody needs to be told of it, unless it shows that somebody changed the
        specification meanwhile: the watch's word of that will be older, and passed over.

        An answer may be late: that of a write to a predecessor must not take the place of its successor.
        """
        if self.obj is None or version_of(obj) <= version_of(self.obj):
            return
        changed = any(obj["metadata"].get(part) != self.obj["metadata"].get(part) for part in ("uid", "generation"))
        self.obj = obj
        if changed:
            self.version += 1
            self.ring()

    @property
    def ahead(self) -> bool:
        """Whether the watch has yet to tell of this version: until then it brings older ones."""
        return self.obj is not None and self.told < version_of(self.obj)

    def ring(self) -> None:
        """Wake whoever waits, without a new version (something that the object depends on has changed)."""
        for bell in self._bells:
            bell.set()

    def bell(self) -> "Bell":
        """Return a bell; use it as a context manager so that it is taken down again."""
        return Bell(self._bells)


class Bell:
    """An event that is hung on a cell while it is used."""

    def __init__(self, bells: dict[asyncio.Event, None]) -> None:
        self._bells = bells
        self._event = asyncio.Event()

    def __enter__(self) -> "Bell":
        self._bells[self._event] = None
        return self

    def __exit__(self, *_: object) -> None:
        self._bells.pop(self._event, None)

    def clear(self) -> None:
        """Forget earlier rings; do so before looking at what the bell stands for."""
        self._event.clear()

    async def wait(self, timeout_seconds: float | None) -> bool:
        """Wait for a ring; False when time was up."""
        try:
            # Not ``wait_for``: before Python 3.12 it forgets a cancellation that comes together with the ring.
            async with asyncio.timeout(timeout_seconds):
                await self._event.wait()
        except TimeoutError:
            return False
        return True


def _newer(obj: Object, known: Object) -> bool:
    """Whether ``obj`` is a later version, or another object. Resource versions are numbers that only grow."""
    new, old = obj["metadata"], known["metadata"]
    return bool(new["uid"] != old["uid"]) or version_of(obj) > version_of(known)


def version_of(obj: Object) -> int:
    """Return the version of an object; a number that only grows, over all objects of a kind."""
    return int(obj["metadata"]["resourceVersion"])
