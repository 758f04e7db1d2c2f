"""Status writes: the smallest merge patch from what is there to what is meant, for exactly this object.

The object's UID in the patch is a precondition: an object that was deleted and created again under the same name is
never written to by the run of its predecessor.
"""

from typing import Any

from invocation_operator.api.v1alpha1.base import Model
from invocation_operator.cluster.client import KubeClient, Object, Resource


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


async def write(client: KubeClient, resource: Resource, obj: Object, status: Model, *, as_read: bool = False) -> Object:
    """Write ``status`` of ``obj`` unless it is there already; return the object as it is then.

    With ``as_read`` only if the object is still the version that was read: for what was decided on it. Raises
    ``ObjectNotFound`` when the object is gone, ``WriteConflict`` when its name belongs to another one, or when it has
    changed.
    """
    patch = merge_patch(obj.get("status") or {}, dump(status))
    if not patch:
        return obj
    metadata = obj["metadata"]
    version = {"resourceVersion": metadata["resourceVersion"]} if as_read else {}
    body = {"metadata": {"uid": metadata["uid"], **version}, "status": patch}
    return await client.patch_status(resource, metadata["namespace"], metadata["name"], body)
