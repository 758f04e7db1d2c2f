"""Where a run tells how far it is: the status of one object, written in turn.

What is said next is based on what was said last, not on what was answered: a write can be slow, and what it says must
not be lost by the next. A run knows only the ``Bulletin``: what is the whole status of an InvocationAction is one entry
in that of another kind.
"""

import asyncio
from collections.abc import Mapping
from typing import Any, Protocol

import stamina

from invocation_operator.api.v1alpha1.action import ActionStatus
from invocation_operator.cluster import status as status_writer
from invocation_operator.cluster.client import KubeClient, Object
from invocation_operator.cluster.errors import ClusterUnavailable, ObjectNotFound, WriteConflict
from invocation_operator.cluster.resources import ACTIONS
from invocation_operator.plan.report import within
from invocation_operator.reconcile.cell import Cell
from invocation_operator.reconcile.parse import run_id_of


class Overtaken(WriteConflict):
    """The status tells of a later run: another operator has ended this one, and begun the next."""


ANSWER_SECONDS = 60.0
"""How long a decision is written again that was not answered; then the object is decided on anew."""
AGAIN = "To run it again set a new spec.runId."


class Bulletin(Protocol):
    """What a run needs of the object that asked for it."""

    status: ActionStatus
    """What was said of the run last; it may be on its way still."""

    @property
    def obj(self) -> Object:
        """The newest version of the object that is known."""

    @property
    def generation(self) -> int:
        """Generation of the specification that the run is about."""

    @property
    def title(self) -> str:
        """What its Events begin with; empty for an object that is one run."""

    @property
    def again(self) -> str:
        """How a person has it done again."""

    def knobs(self) -> Mapping[str, Any] | None:
        """Return the part of the specification as it is now that may change in mid-run: ``suspend`` and ``limits``.

        None when it is not there any more: the run is not wanted.
        """

    async def write(self, status: ActionStatus, *, insist: bool = False) -> None:
        """Say ``status``; with ``insist`` for as long as the API server is away.

        Raises ``ObjectNotFound`` or ``WriteConflict`` when the object is gone or replaced.
        """


class Board:
    """Writes the status of the InvocationAction in a cell, as long as it is the one with ``uid``."""

    def __init__(self, client: KubeClient, cell: Cell, obj: Object, status: ActionStatus) -> None:
        self._client = client
        self._cell = cell
        self._obj = obj
        self._run_id = run_id_of(obj)
        self._generation = int(obj["metadata"].get("generation", 1))
        self._turn = asyncio.Lock()
        self.status = status

    @property
    def obj(self) -> Object:
        """The newest version of the object that is known."""
        return self._cell.latest(self._obj)

    @property
    def generation(self) -> int:
        """Generation of the specification as it is now, as long as that asks for the same run."""
        obj = self.obj
        if run_id_of(obj) == self._run_id:
            self._generation = int(obj["metadata"].get("generation", 1))
        return self._generation

    @property
    def title(self) -> str:
        """None is needed: the object is the run."""
        return ""

    @property
    def again(self) -> str:
        """How a person has it done again."""
        return AGAIN

    def knobs(self) -> Mapping[str, Any]:
        """Return the specification as it is now."""
        return self.obj.get("spec") or {}

    async def write(self, status: ActionStatus, *, insist: bool = False) -> None:
        """Write ``status``, in what an object may hold; with ``insist`` for as long as the API server is away.

        Raises ``ObjectNotFound`` or ``WriteConflict`` when the object is gone or replaced, and ``Overtaken`` when its
        status tells of a later run.
        """
        self.status = status = within(status)
        async with self._turn:
            attempts = None if insist else 1
            retries = stamina.retry_context(on=ClusterUnavailable, attempts=attempts, timeout=None, wait_max=5.0)
            async for attempt in retries:
                with attempt:
                    await self._write(status)

    async def decide(self, status: ActionStatus, read: Object) -> None:
        """Write ``status`` if the object is still as ``read``, which it was decided on.

        Raises ``ObjectNotFound`` or ``WriteConflict`` when it is not: look again, and decide anew.
        """
        status = within(status)
        async with self._turn:
            self._keep(await self._decided(status, read))
        self.status = status

    async def _decided(self, status: ActionStatus, read: Object) -> Object:
        """A write that was not answered is made again: it may be there, and what is told of it beside must be told."""
        metadata, unanswered = read["metadata"], False
        retries = stamina.retry_context(on=ClusterUnavailable, attempts=None, timeout=ANSWER_SECONDS, wait_max=5.0)
        async for attempt in retries:
            with attempt:
                try:
                    return await status_writer.write(self._client, ACTIONS, read, status, as_read=True)
                except ClusterUnavailable:
                    unanswered = True
                    raise
                except WriteConflict:
                    if not unanswered:
                        raise
                    there = await self._client.get(ACTIONS, metadata["namespace"], metadata["name"])
                    mine = there["metadata"]["uid"] == metadata["uid"]
                    if not mine or there.get("status") != status_writer.dump(status):
                        raise
                    return there
        raise AssertionError

    async def _write(self, status: ActionStatus) -> None:
        known = ((self._obj.get("status") or {}).get("runId"), status.run_id)

        def meant(current: Object) -> ActionStatus:
            told = current.get("status") or {}
            if told.get("record") is not None and told.get("runId") not in known:
                raise Overtaken(f"the status tells of the run {told['record']} by now")
            return status

        try:
            obj = await status_writer.change(self._client, ACTIONS, self.obj, meant)
        except Overtaken:
            raise
        except (ObjectNotFound, WriteConflict):
            self._gone()
            raise
        self._keep(obj)

    def _keep(self, obj: Object) -> None:
        if self._cell.has(obj):
            self._cell.keep(obj)
        self._obj = obj

    def _gone(self) -> None:
        """The watch may have missed the deletion; whoever looks at the cell must know."""
        if self._cell.has(self._obj):
            self._cell.put(None)
