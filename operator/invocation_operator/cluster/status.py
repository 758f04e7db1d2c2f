"""Status writes: the smallest merge patch from what is there to what is meant, for exactly this object.

The version that was read is a precondition of each write: an object that was deleted and created again under the same
name is never written to by the run of its predecessor. (Its UID alone would not do: the API server passes it over in a
patch of the status.) Where only the version has moved on, the write is made anew from what is there.
"""

from collections.abc import Callable
from typing import Any

from invocation_operator.api.v1alpha1.base import Model
from invocation_operator.cluster.client import KubeClient, Object, Resource
from invocation_operator.cluster.errors import ClusterUnavailable, WriteConflict

Patch = Any
"""A JSON merge patch."""
ATTEMPTS = 5
"""How often a write is made anew when somebody else keeps changing the object."""


def merge_patch(before: Any, after: Any) -> Any:
    """Return the JSON merge patch (RFC 7386) that turns object ``before`` into ``after``."""
    if not isinstance(before, dict) or not isinstance(after, dict):
        return after
    patch = {key: None for key in before if key not in after}
    for key, value in after.items():
        if key not in before:
            patch[key] = value
        elif before[key] != value:
            patch[key] = merge_patch(before[key], value)
    return patch


def dump(status: Model) -> dict[str, Any]:
    """Return a status as the API server stores it."""
    return status.model_dump(by_alias=True, exclude_none=True, mode="json")


async def write(
    client: KubeClient, resource: Resource, obj: Object, status: Model, *, as_read: bool = False, shared: bool = False
) -> Object:
    """Write ``status`` of ``obj`` unless it is there already; return the object as it is then.

    With ``as_read`` only if the object is still the version that was read: for what was decided on it. With ``shared``
    only what ``status`` changes of ``obj``: what it leaves as it was is others', who may have written meanwhile. Raises
    ``ObjectNotFound`` when the object is gone, ``WriteConflict`` when its name belongs to another one, or when it has
    changed.
    """
    meant = dump(status)

    def patch_of(current: Object) -> Patch:
        return merge_patch(current.get("status") or {}, meant)

    if shared:
        own = patch_of(obj)
        return await _send(client, resource, obj, lambda _: own, once=as_read)
    return await _send(client, resource, obj, patch_of, once=as_read)


async def change(client: KubeClient, resource: Resource, obj: Object, make: Callable[[Object], Model]) -> Object:
    """Write the status that ``make`` makes of ``obj``, or of a newer version where somebody has written meanwhile.

    Returns and raises what ``write`` does.
    """

    def patch_of(current: Object) -> Patch:
        return merge_patch(current.get("status") or {}, dump(make(current)))

    return await _send(client, resource, obj, patch_of)


async def _send(
    client: KubeClient, resource: Resource, obj: Object, patch_of: Callable[[Object], Patch], *, once: bool = False
) -> Object:
    """Send what ``patch_of`` says of the version that is known; ``once``: of a newer one nothing is sent."""
    metadata = obj["metadata"]
    namespace, name = metadata["namespace"], metadata["name"]
    for _ in range(ATTEMPTS):
        patch = patch_of(obj)
        if not patch:
            return obj
        version = {"uid": metadata["uid"], "resourceVersion": obj["metadata"]["resourceVersion"]}
        try:
            return await client.patch_status(resource, namespace, name, {"metadata": version, "status": patch})
        except WriteConflict:
            if once:
                raise
            obj = await client.get(resource, namespace, name)
            if obj["metadata"]["uid"] != metadata["uid"]:
                raise
    raise ClusterUnavailable(f"{namespace}/{name} keeps changing while its status is written")
