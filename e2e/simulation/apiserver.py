"""A model of the Kubernetes API server: objects, versions, the status subresource, lists in pages, and watches.

Held to the real one by `tests/conformance`. Which kinds there are comes from the committed CRDs; a path that it does
not know ends the history (`UnknownPath`).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from uuid import UUID

import yaml
from pydantic_core import from_json, to_json

Object = dict[str, Any]
Key = tuple[str, str | None, str]
"""Plural, namespace, name."""

CRDS = Path(__file__).resolve().parents[2] / "crds"
_CORE = ("namespaces", "secrets", "configmaps", "events")
METADATA_ONLY = "as=PartialObjectMetadata"


class UnknownPath(Exception):
    """Nobody has taught the model this path."""


@cache
def crds() -> tuple[Object, ...]:
    """The CustomResourceDefinitions of the checkout."""
    return tuple(yaml.safe_load(path.read_text()) for path in sorted(CRDS.glob("*.yaml")))


@cache
def kinds() -> dict[str, tuple[str, str]]:
    """Plural to (apiVersion, kind)."""
    found = {
        "namespaces": ("v1", "Namespace"),
        "secrets": ("v1", "Secret"),
        "configmaps": ("v1", "ConfigMap"),
        "events": ("v1", "Event"),
        "customresourcedefinitions": ("apiextensions.k8s.io/v1", "CustomResourceDefinition"),
        "leases": ("coordination.k8s.io/v1", "Lease"),
    }
    for crd in crds():
        spec = crd["spec"]
        found[spec["names"]["plural"]] = (f"{spec['group']}/{spec['versions'][0]['name']}", spec["names"]["kind"])
    return found


@cache
def own_kinds() -> frozenset[str]:
    """Plurals of the CRDs: they have a status of their own."""
    return frozenset(crd["spec"]["names"]["plural"] for crd in crds())


@dataclass
class Answered:
    """What the API server says."""

    status: int
    body: Object


Watcher = Callable[[str, Object], None]
"""Told `ADDED`, `MODIFIED` or `DELETED`, and the object as it is then."""


@dataclass
class ApiServer:
    """All objects. `now` tells seconds since 1970."""

    now: Callable[[], float]
    objects: dict[Key, bytes] = field(default_factory=dict)
    """Each as JSON text: nobody can change what is kept."""
    version: int = 1000
    watchers: dict[str, list[Watcher]] = field(default_factory=dict)
    writes: int = 0
    _born: int = 0
    _serials: dict[Key, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for crd in crds():
            # Without their schemas, which nobody asks for: they are most of what there is.
            self._store("customresourcedefinitions", None, {"metadata": {**crd["metadata"]}}, "ADDED", new=True)

    # For the stage: what people and controllers do.

    def create(self, plural: str, namespace: str | None, body: Object) -> Object:
        """Create an object as a person would."""
        return _fine(self.request("POST", self._path(plural, namespace), body))

    def get(self, plural: str, namespace: str | None, name: str) -> Object | None:
        """One object, None when there is none."""
        text = self.objects.get((plural, namespace, name))
        return None if text is None else from_json(text)

    def patch(self, plural: str, namespace: str | None, name: str, patch: Object) -> Object:
        """Merge into an object."""
        return _fine(self.request("PATCH", f"{self._path(plural, namespace)}/{name}", patch))

    def delete(self, plural: str, namespace: str | None, name: str) -> None:
        """Delete an object."""
        self.request("DELETE", f"{self._path(plural, namespace)}/{name}")

    def all(self, plural: str) -> list[Object]:
        """Every object of a kind, by name."""
        return [from_json(text) for (kind, _, _), text in sorted(self.objects.items(), key=_by_name) if kind == plural]

    def collect_garbage(self) -> None:
        """What the controller does: objects whose owner is gone go too. Owners count within their namespace only."""
        for key, text in list(self.objects.items()):
            owners = from_json(text)["metadata"].get("ownerReferences") or ()
            if owners and not any(self._lives(owner, key[1]) for owner in owners):
                self._remove(key)

    def _lives(self, owner: Object, namespace: str | None) -> bool:
        plural = next(plural for plural, (_, kind) in kinds().items() if kind == owner["kind"])
        text = self.objects.get((plural, namespace, owner["name"]))
        return text is not None and from_json(text)["metadata"]["uid"] == owner["uid"]

    def watch(self, plural: str, watcher: Watcher) -> Callable[[], None]:
        """Tell of every change from now on; returns what ends that."""
        listening = self.watchers.setdefault(plural, [])
        listening.append(watcher)
        return lambda: listening.remove(watcher) if watcher in listening else None

    # The API.

    def request(self, method: str, target: str, body: Object | None = None, accept: str = "") -> Answered:
        """Answer one request; `target` is path and query."""
        parts = urlsplit(target)
        steps = [unquote(step) for step in parts.path.split("/") if step]
        match steps:
            case ["version"]:
                return Answered(200, {"gitVersion": "v1.37.2"})
            case ["apis"]:
                groups = {kinds()[plural][0] for plural in own_kinds()}
                return Answered(200, {"groups": [{"versions": [{"groupVersion": group}]} for group in sorted(groups)]})
            case ["apis", group, version] if method == "GET":
                served = [plural for plural in own_kinds() if kinds()[plural][0] == f"{group}/{version}"]
                return Answered(200, {"resources": [{"name": name} for name in sorted(served)]})
            case ["api", "v1", *rest]:
                return self._at("v1", rest, method, parts.query, body, accept)
            case ["apis", group, version, *rest]:
                return self._at(f"{group}/{version}", rest, method, parts.query, body, accept)
        raise UnknownPath(f"the model API server does not know {method} {target}")

    def _at(self, root: str, rest: list[str], method: str, query: str, body: Object | None, accept: str) -> Answered:
        namespace: str | None = None
        if len(rest) > 2 and rest[0] == "namespaces":
            namespace, rest = rest[1], rest[2:]
        plural, name, subresource = (*rest, None, None)[:3]
        assert plural is not None
        if kinds().get(plural, ("", ""))[0] != root:
            raise UnknownPath(f"the model API server does not know {root} {plural}")
        if name is None:
            if method == "GET":
                return self._list(plural, namespace, query)
            if method == "POST":
                return self._create(plural, namespace, body or {})
        else:
            key = (plural, namespace, name)
            text = self.objects.get(key)
            if text is None:
                return _status(404, "NotFound", f'{plural} "{name}" not found')
            known: Object = from_json(text)
            match method, subresource:
                case "GET", None:
                    return Answered(200, _metadata_only(known) if METADATA_ONLY in accept else known)
                case "PUT", None | "status":
                    return self._replace(key, known, body or {}, status=subresource is not None)
                case "PATCH", None | "status":
                    return self._patch(key, known, body or {}, status=subresource is not None)
                case "DELETE", None:
                    return self._delete(key, known, body or {})
        raise UnknownPath(f"the model API server does not know {method} {'/'.join(rest)}")

    def _list(self, plural: str, namespace: str | None, query: str) -> Answered:
        options = {name: values[0] for name, values in parse_qs(query).items()}
        wanted = _labels(options.get("labelSelector", ""))
        items = []
        for (kind, where, _), text in sorted(self.objects.items(), key=_by_name):
            if kind == plural and namespace in (None, where):
                obj = from_json(text)
                labels = obj["metadata"].get("labels") or {}
                if all(labels.get(name) == value for name, value in wanted):
                    items.append({name: value for name, value in obj.items() if name not in ("apiVersion", "kind")})
        start, limit = int(options.get("continue", "0")), int(options.get("limit", "0"))
        page = items[start : start + limit] if limit else items[start:]
        metadata: Object = {"resourceVersion": str(self.version)}
        if start + len(page) < len(items):
            metadata["continue"] = str(start + len(page))
        version, kind = kinds()[plural]
        return Answered(200, {"apiVersion": version, "kind": f"{kind}List", "metadata": metadata, "items": page})

    def _create(self, plural: str, namespace: str | None, body: Object) -> Answered:
        obj: Object = from_json(to_json(body))
        metadata = obj.setdefault("metadata", {})
        if "name" not in metadata:
            return _status(422, "Invalid", "name or generateName is required")
        key = (plural, namespace, metadata["name"])
        if key in self.objects:
            return _status(409, "AlreadyExists", f'{plural} "{metadata["name"]}" already exists')
        for name in ("uid", "resourceVersion", "creationTimestamp", "generation", "deletionTimestamp"):
            metadata.pop(name, None)
        if plural in own_kinds():
            obj["status"] = {"observedGeneration": -1}
        return Answered(201, self._store(plural, namespace, obj, "ADDED", new=True))

    def _replace(self, key: Key, known: Object, body: Object, *, status: bool) -> Answered:
        meant = body.get("metadata") or {}
        if key[0] in own_kinds() and not meant.get("resourceVersion"):
            return _status(422, "Invalid", "metadata.resourceVersion: must be specified for an update")
        conflict = _conflict(known, meant)
        if conflict is not None:
            return conflict
        if status:
            obj = {**known, "status": body.get("status") or {}}
        else:
            obj = {**body, "metadata": {**_fixed(known["metadata"]), **_writable(meant)}}
            if key[0] in own_kinds():
                obj["status"] = known.get("status")
        return Answered(200, self._store(key[0], key[1], obj, "MODIFIED", before=known))

    def _patch(self, key: Key, known: Object, patch: Object, *, status: bool) -> Answered:
        meant = patch.get("metadata") or {}
        # A uid in a patch of the status is no precondition: it is passed over, like all other metadata.
        conflict = _conflict(known, {"resourceVersion": meant.get("resourceVersion")} if status else meant)
        if conflict is not None:
            return conflict
        merged = _merge(known, patch)
        obj = {**merged, "metadata": {**_fixed(known["metadata"]), **_writable(merged["metadata"])}}
        if status:
            obj = {**known, "status": merged.get("status") or {}}
        elif key[0] in own_kinds():
            obj["status"] = known.get("status")
        return Answered(200, self._store(key[0], key[1], obj, "MODIFIED", before=known))

    def _delete(self, key: Key, known: Object, options: Object) -> Answered:
        conflict = _conflict(known, options.get("preconditions") or {})
        if conflict is not None:
            return conflict
        if known["metadata"].get("finalizers"):
            if "deletionTimestamp" in known["metadata"]:
                return Answered(200, known)
            metadata = {**known["metadata"], "deletionTimestamp": self._time()}
            return Answered(200, self._store(key[0], key[1], {**known, "metadata": metadata}, "MODIFIED"))
        return Answered(200, self._remove(key))

    # Keeping.

    def _store(
        self,
        plural: str,
        namespace: str | None,
        obj: Object,
        event: str,
        *,
        before: Object | None = None,
        new: bool = False,
    ) -> Object:
        metadata = obj["metadata"]
        if new:
            self._born += 1
            # Different from the first digit on: names are made of the first eight.
            metadata["uid"] = str(UUID(int=self._born * 0x9E3779B97F4A7C15F39CC0605CEDC835 % (1 << 128)))
            metadata["creationTimestamp"] = self._time()
            metadata["generation"] = 1
            if namespace is not None:
                metadata["namespace"] = namespace
            obj["apiVersion"], obj["kind"] = kinds()[plural]
        if before is not None:
            same = {**obj, "metadata": {**metadata, "resourceVersion": before["metadata"]["resourceVersion"]}} == before
            if same:
                # The API server writes nothing, and no watch is told.
                return before
            if obj.get("spec") != before.get("spec") or (
                plural not in own_kinds() and plural not in _CORE and obj != before
            ):
                metadata = {**metadata, "generation": before["metadata"]["generation"] + 1}
        self.version += 1
        self.writes += 1
        stored = {**obj, "metadata": {**metadata, "resourceVersion": str(self.version)}}
        text = to_json(stored)
        self.objects[(plural, namespace, metadata["name"])] = text
        self._tell(plural, event, text)
        if event == "MODIFIED" and "deletionTimestamp" in metadata and not metadata.get("finalizers"):
            return self._remove((plural, namespace, metadata["name"]))
        return stored

    def _remove(self, key: Key) -> Object:
        obj: Object = from_json(self.objects.pop(key))
        self.version += 1
        self.writes += 1
        obj["metadata"]["resourceVersion"] = str(self.version)
        self._tell(key[0], "DELETED", to_json(obj))
        return obj

    def _tell(self, plural: str, event: str, text: bytes) -> None:
        for watcher in list(self.watchers.get(plural, ())):
            watcher(event, from_json(text))

    def _time(self) -> str:
        return datetime.fromtimestamp(int(self.now()), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    @staticmethod
    def _path(plural: str, namespace: str | None) -> str:
        version, _ = kinds()[plural]
        root = f"/api/{version}" if "/" not in version else f"/apis/{version}"
        return f"{root}/{plural}" if namespace is None else f"{root}/namespaces/{namespace}/{plural}"


def _fine(answered: Answered) -> Object:
    assert answered.status < 300, answered.body
    return answered.body


def _by_name(item: tuple[Key, bytes]) -> tuple[str, str, str]:
    plural, namespace, name = item[0]
    return plural, namespace or "", name


def _status(code: int, reason: str, message: str) -> Answered:
    body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason}
    return Answered(code, {**body, "message": message})


def _conflict(known: Object, meant: Object) -> Answered | None:
    for name in ("uid", "resourceVersion"):
        if meant.get(name) not in (None, "", known["metadata"][name]):
            return _status(409, "Conflict", f"the {name} is {known['metadata'][name]}, not {meant[name]}")
    return None


_WRITABLE = ("labels", "annotations", "finalizers", "ownerReferences")


def _writable(metadata: Object) -> Object:
    return {name: value for name, value in metadata.items() if name in _WRITABLE}


def _fixed(metadata: Object) -> Object:
    return {name: value for name, value in metadata.items() if name not in _WRITABLE}


def _merge(value: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return patch
    merged = dict(value) if isinstance(value, dict) else {}
    for name, change in patch.items():
        if change is None:
            merged.pop(name, None)
        else:
            merged[name] = _merge(merged.get(name), change)
    return merged


def _metadata_only(obj: Object) -> Object:
    return {"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": obj["metadata"]}


def _labels(selector: str) -> Iterable[tuple[str, str]]:
    return [(name, value) for name, _, value in (part.partition("=") for part in selector.split(",") if part)]
