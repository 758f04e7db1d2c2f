"""A Kubernetes API of plain objects in a dictionary, for what only reads."""

import base64
from collections.abc import AsyncIterator
from typing import Any

from invocation_operator.cluster.client import Object, Resource
from invocation_operator.cluster.errors import ClusterUnavailable, Forbidden, ObjectNotFound, WriteConflict
from invocation_operator.cluster.resources import CLOUD_ENVIRONMENTS, ENGINES, NAMESPACES, SECRETS


class FakeKube:
    """Objects by plural, namespace and name."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str | None, str], Object] = {}
        self.asked: list[tuple[str, str | None, str]] = []
        self.forbidden: set[str] = set()
        self.unavailable = False
        self.touched_before_delete = False
        self._version = 100

    def put(self, resource: Resource, namespace: str | None, name: str, **fields: Any) -> Object:
        """Create or replace an object."""
        self._version += 1
        metadata = {"name": name, "uid": f"uid-{name}", "resourceVersion": str(self._version), "generation": 1}
        if namespace is not None:
            metadata["namespace"] = namespace
        metadata |= fields.pop("metadata", {})
        obj = self.objects[(resource.plural, namespace, name)] = {"metadata": metadata, **fields}
        return obj

    def engine(self, namespace: str, name: str, *, uid: str | None = None, **spec: Any) -> Object:
        """Create or replace a RestateEngine."""
        return self.put(ENGINES, namespace, name, spec=spec, metadata={"uid": uid or f"uid-{namespace}-{name}"})

    def secret(self, namespace: str, name: str, *, labelled: bool = True, **data: bytes | str) -> Object:
        """Create or replace a Secret; ``_`` in keys stands for ``.``."""
        label = {"ops.restate.dev/engine-credential": "true"} if labelled else {}
        raw = {key.replace("_", "."): v if isinstance(v, bytes) else v.encode() for key, v in data.items()}
        encoded = {key: base64.b64encode(value).decode() for key, value in raw.items()}
        return self.put(SECRETS, namespace, name, data=encoded, metadata={"labels": label})

    def namespace(self, name: str, **labels: str) -> Object:
        """Create or replace a Namespace."""
        return self.put(NAMESPACES, None, name, metadata={"labels": labels})

    def environment(self, name: str, **spec: Any) -> Object:
        """Create or replace a RestateCloudEnvironment."""
        return self.put(CLOUD_ENVIRONMENTS, None, name, spec=spec)

    async def get(self, resource: Resource, namespace: str | None, name: str, *, metadata_only: bool = False) -> Object:
        key = (resource.plural, namespace, name)
        self.asked.append(key)
        if resource.plural in self.forbidden:
            raise Forbidden(f"{resource.plural} {namespace}/{name}: 403")
        if key not in self.objects:
            raise ObjectNotFound(f"{resource.plural} {namespace}/{name}")
        return self.objects[key]

    async def delete(
        self, resource: Resource, namespace: str | None, name: str, *, resource_version: str | None = None
    ) -> None:
        key = (resource.plural, namespace, name)
        known = self.objects.get(key)
        if known is not None and (
            self.touched_before_delete or known["metadata"]["resourceVersion"] != resource_version
        ):
            raise WriteConflict(name)
        self.objects.pop(key, None)

    async def list(
        self, resource: Resource, namespace: str | None = None, *, metadata_only: bool = False
    ) -> AsyncIterator[Object]:
        self.asked.append((resource.plural, namespace, "*"))
        if resource.plural in self.forbidden:
            raise Forbidden(f"{resource.plural} {namespace}: 403")
        if self.unavailable:
            raise ClusterUnavailable(f"{resource.plural} {namespace}: 503")
        for (plural, where, _), obj in list(self.objects.items()):
            if plural == resource.plural and namespace in (None, where):
                yield {"metadata": obj["metadata"]} if metadata_only else obj
