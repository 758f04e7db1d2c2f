"""Status writes: the smallest merge patch from what is there to what is meant, for exactly this object.

The version that was read is a precondition of each write: an object that was deleted and created again under the same
name is never written to by the run of its predecessor. (Its UID alone would not do: the API server passes it over in a
patch of the status.) Where only the version has moved on, the write is made anew from what is there.
"""

from typing import Any

from invocation_operator.api.v1alpha1.base import Model
from invocation_operator.cluster.client import KubeClient, Object, Resource
from invocation_operator.cluster.errors import ClusterUnavailable, WriteConflict

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
    metadata, meant = obj["metadata"], dump(status)
    namespace, name = metadata["namespace"], metadata["name"]
    patch = merge_patch(obj.get("status") or {}, meant)
    for _ in range(ATTEMPTS):
        if not patch:
            return obj
        version = {"uid": metadata["uid"], "resourceVersion": obj["metadata"]["resourceVersion"]}
        try:
            return await client.patch_status(resource, namespace, name, {"metadata": version, "status": patch})
        except WriteConflict:
            if as_read:
                raise
            obj = await client.get(resource, namespace, name)
            if obj["metadata"]["uid"] != metadata["uid"]:
                raise
            if not shared:
                patch = merge_patch(obj.get("status") or {}, meant)
    raise ClusterUnavailable(f"{namespace}/{name} keeps changing while its status is written")
