"""Kubernetes Events: one per transition of an object, never one per invocation.

Events are told in the background and are allowed to be lost: nothing depends on them.
"""

import asyncio
import contextlib
from datetime import UTC, datetime
from typing import Literal
from uuid import uuid4

import structlog

from invocation_operator.cluster.client import KubeClient, Object
from invocation_operator.cluster.errors import ClusterError
from invocation_operator.cluster.resources import EVENTS

log = structlog.get_logger(__name__)

COMPONENT = "invocation-operator"
QUEUE = 1000


class EventRecorder:
    """Writes Events one after the other, so that a crowd of transitions does not compete with status writes."""

    def __init__(self, client: KubeClient, identity: str) -> None:
        self._client = client
        self._identity = identity
        self._queue: asyncio.Queue[Object] = asyncio.Queue(QUEUE)

    def tell(self, obj: Object, reason: str, message: str, kind: Literal["Normal", "Warning"] = "Normal") -> None:
        """Tell one transition of ``obj``; dropped when too many wait."""
        with contextlib.suppress(asyncio.QueueFull):
            self._queue.put_nowait(self._event(obj, reason, message, kind))

    async def run(self) -> None:
        """Write what is told until cancelled."""
        while True:
            event = await self._queue.get()
            try:
                await self._client.create(EVENTS, event["metadata"]["namespace"], event)
            except ClusterError as error:
                log.debug("an Event was lost", error=str(error))
            except Exception:
                # Also a mistake of ours must not end this task: nothing would be told any more.
                log.exception("an Event was lost")
            finally:
                self._queue.task_done()

    async def drain(self, timeout_seconds: float) -> None:
        """Wait until everything told is written, or time is up."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._queue.join(), timeout_seconds)

    def _event(self, obj: Object, reason: str, message: str, kind: str) -> Object:
        metadata = obj["metadata"]
        now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": _name(metadata["name"]), "namespace": metadata["namespace"]},
            "involvedObject": {
                "apiVersion": obj.get("apiVersion"),
                "kind": obj.get("kind"),
                "name": metadata["name"],
                "namespace": metadata["namespace"],
                "uid": metadata["uid"],
                "resourceVersion": metadata.get("resourceVersion"),
            },
            "reason": reason,
            "message": message[:1024],
            "type": kind,
            "count": 1,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "source": {"component": COMPONENT},
            "reportingComponent": COMPONENT,
            "reportingInstance": self._identity[:128],
        }


def _name(subject: str) -> str:
    """No part of a name may end with a hyphen or a dot, as one may that is cut."""
    return f"{subject[:220].rstrip('-.')}.{uuid4().hex[:16]}"
