"""Before the operator is uninstalled: nothing is left that only it could let go.

A policy that restores carries a finalizer, and with no operator there its deletion, and that of its namespace or its
CRD, would wait for ever. The chart runs this as a hook before it deletes anything. The operators still run then and
would put the finalizer on again, so whoever leads is deposed first, for long enough to be gone by then.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime

import structlog

from invocation_operator.api.v1alpha1.retention import RESTORE_FINALIZER
from invocation_operator.cluster.client import KubeClient, Object
from invocation_operator.cluster.errors import ObjectNotFound, WriteConflict
from invocation_operator.cluster.resources import LEASES, RETENTION_POLICIES

log = structlog.get_logger(__name__)

HOLDER = "uninstall"
DEPOSED_SECONDS = 60
"""How long nobody leads; whoever installs again within that waits for the rest of it."""
TRIES = 20


async def withdraw(
    client: KubeClient,
    namespaces: Sequence[str],
    operator_namespace: str,
    lease_name: str | None,
    lease_seconds: float,
    *,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> int:
    """Take the finalizers off and return of how many objects. Raises the errors of ``cluster.errors``."""
    if not await _held(client, namespaces):
        return 0
    if lease_name is not None and await _depose(client, operator_namespace, lease_name):
        await sleep(lease_seconds)
    # Looked for again: until it ceased the leader may have put more of them on.
    held = await _held(client, namespaces)
    for obj in held:
        await _let_go(client, obj)
    return len(held)


async def _held(client: KubeClient, namespaces: Sequence[str]) -> list[Object]:
    """Return the objects that carry the finalizer."""
    found = []
    # Where the CRD is gone so are the objects; a hook that fails would keep the release from being uninstalled.
    with suppress(ObjectNotFound):
        for namespace in namespaces or (None,):
            async for obj in client.list(RETENTION_POLICIES, namespace):
                if RESTORE_FINALIZER in (obj["metadata"].get("finalizers") or ()):
                    found.append(obj)
    return found


async def _let_go(client: KubeClient, obj: Object) -> None:
    namespace, name = obj["metadata"]["namespace"], obj["metadata"]["name"]
    for _ in range(TRIES):
        metadata = obj["metadata"]
        left = [finalizer for finalizer in metadata.get("finalizers") or () if finalizer != RESTORE_FINALIZER]
        patch = {"metadata": {"resourceVersion": metadata["resourceVersion"], "finalizers": left}}
        try:
            await client.patch(RETENTION_POLICIES, namespace, name, patch)
            log.info("let go", object=f"{namespace}/{name}")
            return
        except ObjectNotFound:
            return
        except WriteConflict:
            try:
                obj = await client.get(RETENTION_POLICIES, namespace, name)
            except ObjectNotFound:
                return
    raise WriteConflict(f"{namespace}/{name} changes all the time")


async def _depose(client: KubeClient, namespace: str, name: str) -> bool:
    """Take the Lease away from whoever leads; False when nobody can."""
    for _ in range(TRIES):
        try:
            lease = await client.get(LEASES, namespace, name)
        except ObjectNotFound:
            return False
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        terms = {"holderIdentity": HOLDER, "leaseDurationSeconds": DEPOSED_SECONDS, "renewTime": now}
        try:
            await client.replace(LEASES, namespace, name, {**lease, "spec": {**(lease.get("spec") or {}), **terms}})
            return True
        except WriteConflict:
            continue
    raise WriteConflict(f"the Lease {namespace}/{name} changes all the time")
