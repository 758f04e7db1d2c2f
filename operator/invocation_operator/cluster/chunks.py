"""What is too large for an object's own fields: immutable ConfigMaps, owned by that object.

Planned sets are written before the first call of a run and read again after a crash; pages of a report while it goes
on; what a policy restores before it changes anything. Kubernetes removes all of them with their owner.
"""

import base64
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import dataclass

from invocation_operator.cluster.client import KubeClient, Object
from invocation_operator.cluster.errors import ObjectExists, ObjectNotFound
from invocation_operator.cluster.resources import CONFIG_MAPS


@dataclass(frozen=True, slots=True)
class SetSizes:
    """How planned sets are cut. All operators that may take over from each other have to cut them alike."""

    inline: int = 1000
    """Sets of up to so many targets are kept in the record itself."""
    chunk: int = 8000
    """Targets in one chunk: about 45 characters for each keep it well below 512 KiB."""

    def chunks(self, total: int) -> int:
        """Return how many chunks a set of ``total`` targets fills."""
        return -(-total // self.chunk)


REPORT_KEY = "report"
REPORT_LABEL = "ops.restate.dev/report"
"""Label of the pages of a report: the name of the run's record."""

_KEY = "targets"
_KEPT_KEY = "previous"


def chunk_name(prefix: str, number: int) -> str:
    """Return the name of one chunk."""
    return f"{prefix}-{number}"


async def write_chunks(client: KubeClient, owner: Object, prefix: str, texts: AsyncIterable[str]) -> None:
    """Write ``texts``, one after the other, as chunks owned by ``owner``. A chunk that is there already is one of an
    earlier try: the name is bound to the plan.
    """
    number = 0
    async for text in texts:
        body = _owned(owner, chunk_name(prefix, number), {"data": {_KEY: text}})
        with suppress(ObjectExists):
            await client.create(CONFIG_MAPS, owner["metadata"]["namespace"], body)
        number += 1


async def create_page(client: KubeClient, owner: Object, name: str, record: str, content: bytes) -> None:
    """Create one page of a report, owned by ``owner``. Raises ``ObjectExists`` when the name is taken."""
    await _create(client, owner, name, REPORT_KEY, content, {REPORT_LABEL: record})


async def read_page(client: KubeClient, owner: Object, name: str) -> bytes:
    """Return a page of a report. Raises ``ObjectNotFound`` when it is not there, or not owned by ``owner``."""
    return await _read(client, owner, name, REPORT_KEY)


async def create_kept(client: KubeClient, owner: Object, name: str, content: bytes) -> None:
    """Create what is kept for ``owner``, whose name is that of the content: one that is there is the same."""
    with suppress(ObjectExists):
        await _create(client, owner, name, _KEPT_KEY, content, {})


async def read_kept(client: KubeClient, owner: Object, name: str) -> bytes:
    """Return what is kept. Raises ``ObjectNotFound`` when it is not there, or not owned by ``owner``."""
    return await _read(client, owner, name, _KEPT_KEY)


async def _create(
    client: KubeClient, owner: Object, name: str, key: str, content: bytes, labels: Mapping[str, str]
) -> None:
    body = _owned(owner, name, {"binaryData": {key: base64.b64encode(content).decode()}})
    body["metadata"]["labels"].update(labels)
    await client.create(CONFIG_MAPS, owner["metadata"]["namespace"], body)


async def _read(client: KubeClient, owner: Object, name: str, key: str) -> bytes:
    metadata = owner["metadata"]
    found = await client.get(CONFIG_MAPS, metadata["namespace"], name)
    owners = {reference.get("uid") for reference in found["metadata"].get("ownerReferences") or ()}
    if metadata["uid"] not in owners:
        raise ObjectNotFound(f"the ConfigMap {name} belongs to something else")
    return base64.b64decode((found.get("binaryData") or {}).get(key, ""))


def _owned(owner: Object, name: str, content: Object) -> Object:
    metadata = owner["metadata"]
    reference = {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": metadata["name"],
        "uid": metadata["uid"],
        "controller": True,
        "blockOwnerDeletion": False,
    }
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": name,
            "namespace": metadata["namespace"],
            "labels": {"app.kubernetes.io/managed-by": "invocation-operator"},
            "ownerReferences": [reference],
        },
        "immutable": True,
        **content,
    }


async def read_chunks(client: KubeClient, namespace: str, prefix: str, count: int) -> AsyncIterator[str]:
    """Yield the texts of ``count`` chunks. Raises ``ObjectNotFound`` when one is missing."""
    for number in range(count):
        chunk = await client.get(CONFIG_MAPS, namespace, chunk_name(prefix, number))
        yield str((chunk.get("data") or {}).get(_KEY, ""))


async def delete_chunks(client: KubeClient, namespace: str, prefix: str, count: int) -> None:
    """Remove chunks that are needed no more."""
    for number in range(count):
        await client.delete(CONFIG_MAPS, namespace, chunk_name(prefix, number))
