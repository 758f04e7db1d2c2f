"""Planned sets that are too large for an object's own fields: immutable ConfigMaps, owned by that object.

Written before the first call of a run and read again after a crash; Kubernetes removes them with their owner.
"""

from collections.abc import AsyncIterable, AsyncIterator
from contextlib import suppress

from invocation_operator.cluster.client import KubeClient, Object
from invocation_operator.cluster.errors import ObjectExists
from invocation_operator.cluster.resources import CONFIG_MAPS

TARGETS_PER_CHUNK = 8000
"""About 45 characters for each target keep a chunk well below 512 KiB."""
INLINE_TARGETS = 1000
"""Sets up to this size are kept in the record itself."""

_KEY = "targets"


def chunk_name(prefix: str, number: int) -> str:
    """Return the name of one chunk."""
    return f"{prefix}-{number}"


async def write_chunks(client: KubeClient, owner: Object, prefix: str, texts: AsyncIterable[str]) -> None:
    """Write ``texts``, one after the other, as chunks owned by ``owner``. A chunk that is there already is one of an
    earlier try: the name is bound to the plan.
    """
    metadata = owner["metadata"]
    reference = {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": metadata["name"],
        "uid": metadata["uid"],
        "controller": True,
        "blockOwnerDeletion": False,
    }
    number = 0
    async for text in texts:
        body: Object = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": chunk_name(prefix, number),
                "namespace": metadata["namespace"],
                "labels": {"app.kubernetes.io/managed-by": "invocation-operator"},
                "ownerReferences": [reference],
            },
            "immutable": True,
            "data": {_KEY: text},
        }
        with suppress(ObjectExists):
            await client.create(CONFIG_MAPS, metadata["namespace"], body)
        number += 1


async def read_chunks(client: KubeClient, namespace: str, prefix: str, count: int) -> AsyncIterator[str]:
    """Yield the texts of ``count`` chunks. Raises ``ObjectNotFound`` when one is missing."""
    for number in range(count):
        chunk = await client.get(CONFIG_MAPS, namespace, chunk_name(prefix, number))
        yield str((chunk.get("data") or {}).get(_KEY, ""))


async def delete_chunks(client: KubeClient, namespace: str, prefix: str, count: int) -> None:
    """Remove chunks that are needed no more."""
    for number in range(count):
        await client.delete(CONFIG_MAPS, namespace, chunk_name(prefix, number))
