"""What is too large for an object's own fields: immutable ConfigMaps, owned by that object.

Planned sets are written before the first call of a run and read again after a crash; pages of a report while it goes
on. Kubernetes removes both with their owner.
"""

import base64
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import suppress

from invocation_operator.cluster.client import KubeClient, Object
from invocation_operator.cluster.errors import ObjectExists, ObjectNotFound
from invocation_operator.cluster.resources import CONFIG_MAPS

TARGETS_PER_CHUNK = 8000
"""About 45 characters for each target keep a chunk well below 512 KiB."""
INLINE_TARGETS = 1000
"""Sets up to this size are kept in the record itself."""

REPORT_KEY = "report"
REPORT_LABEL = "ops.restate.dev/report"
"""Label of the pages of a report: the name of the run's record."""

_KEY = "targets"


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
    body = _owned(owner, name, {"binaryData": {REPORT_KEY: base64.b64encode(content).decode()}})
    body["metadata"]["labels"][REPORT_LABEL] = record
    await client.create(CONFIG_MAPS, owner["metadata"]["namespace"], body)


async def read_page(client: KubeClient, owner: Object, name: str) -> bytes:
    """Return a page of a report. Raises ``ObjectNotFound`` when it is not there, or not owned by ``owner``."""
    metadata = owner["metadata"]
    found = await client.get(CONFIG_MAPS, metadata["namespace"], name)
    owners = {reference.get("uid") for reference in found["metadata"].get("ownerReferences") or ()}
    if metadata["uid"] not in owners:
        raise ObjectNotFound(f"the ConfigMap {name} belongs to something else")
    return base64.b64decode((found.get("binaryData") or {}).get(REPORT_KEY, ""))


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
