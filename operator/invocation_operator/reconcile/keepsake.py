"""What held before a policy with ``onDelete: Restore`` changed it, kept where a restart does not lose it.

Status shows 200 services at most and is written after a change; this holds all of them and is written before. It is an
immutable ConfigMap of the policy's own, named by its content; status says which is the newest, and so a crash at any
point leaves one that can be read.
"""

import gzip
import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import structlog
from pydantic import TypeAdapter, ValidationError

from invocation_operator.api.v1alpha1.base import API_VERSION
from invocation_operator.api.v1alpha1.retention import RETENTION_KIND, RetentionStatus, ServiceRetention
from invocation_operator.cluster import status as status_writer
from invocation_operator.cluster.chunks import create_kept, read_kept
from invocation_operator.cluster.client import KubeClient, Object
from invocation_operator.cluster.errors import ObjectNotFound
from invocation_operator.cluster.resources import CONFIG_MAPS, RETENTION_POLICIES
from invocation_operator.reconcile.cell import Cell
from invocation_operator.reconcile.sweepboard import read_status

log = structlog.get_logger(__name__)

_ENTRIES = TypeAdapter(list[ServiceRetention])


@dataclass(slots=True)
class Keepsakes:
    """Writes and reads them."""

    client: KubeClient

    async def keep(self, cell: Cell, obj: Object, entries: Iterable[ServiceRetention]) -> str | None:
        """Write down ``entries`` before anything else happens and return where; no entries: nothing is kept.

        Raises the errors of ``cluster.errors``.
        """
        content = _packed(entries)
        uid = obj["metadata"]["uid"]
        name = _name(uid, content) if content else None
        current = cell.latest(obj)
        status = read_status(current)
        if status.restore_from == name:
            return name
        if name is not None:
            await create_kept(self.client, {**current, "apiVersion": API_VERSION, "kind": _KIND}, name, content)
        written = status.model_copy(update={"restore_from": name})
        cell.keep(await status_writer.write(self.client, RETENTION_POLICIES, current, written, shared=True))
        if status.restore_from is not None:
            await self.client.delete(CONFIG_MAPS, obj["metadata"]["namespace"], status.restore_from)
        return name

    async def read(self, obj: Object, status: RetentionStatus) -> dict[str, ServiceRetention]:
        """Return what is kept of each service. Raises the errors of ``cluster.errors`` but ``ObjectNotFound``.

        Whoever may write ConfigMaps could have put something else in its place: only what its name stands for is read.
        """
        if status.restore_from is None:
            return {}
        try:
            content = await read_kept(self.client, obj, status.restore_from)
            if _name(obj["metadata"]["uid"], content) != status.restore_from:
                raise ObjectNotFound(f"the ConfigMap {status.restore_from} holds something else than was kept there")
            return {entry.name: entry for entry in _ENTRIES.validate_json(gzip.decompress(content))}
        except (ObjectNotFound, ValidationError, OSError, EOFError) as error:
            log.warning("what held before cannot be read; status alone tells", error=str(error)[:256])
            return {}


_KIND = RETENTION_KIND.kind


def _name(uid: str, content: bytes) -> str:
    return f"rpol-previous-{hashlib.sha256(uid.encode() + content).hexdigest()[:40]}"


def _packed(entries: Iterable[ServiceRetention]) -> bytes:
    """The same bytes for the same entries; none for none."""
    listed: list[Any] = [status_writer.dump(entry) for entry in sorted(entries, key=lambda entry: entry.name)]
    text = json.dumps(listed, separators=(",", ":"), sort_keys=True)
    return gzip.compress(text.encode(), mtime=0) if listed else b""
