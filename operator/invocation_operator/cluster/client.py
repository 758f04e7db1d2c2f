"""A thin client of the Kubernetes API for plain JSON objects, on the official library's asynchronous core.

The library brings configuration, credentials and their refresh; typed models are left out, because every object here is
either one of our own kinds (parsed by pydantic) or read for a few fields, and the models cost more than the requests.
Requests are bounded in time; nothing is retried here: what is safe to retry is known by the caller.
"""

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, urlencode
from urllib.request import getproxies

import aiohttp
import yaml
from kubernetes.aio import config as kube_config
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.configuration import Configuration

from invocation_operator.cluster import errors

REQUEST_TIMEOUT_SECONDS = 15.0
PAGE = 500

MERGE_PATCH = "application/merge-patch+json"
JSON = "application/json"
METADATA_ONLY = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
METADATA_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"

Object = dict[str, Any]

_MAY_BE_SIZE = frozenset({400, 422, 500})
"""The refusal of the API server's store comes as a 500, and would else be tried again for ever."""
_SIZE = re.compile(
    r"too (large|long)|larger than max|(must|may|should) (have|be|not be) (at most|no more|more|no larger|larger)", re.I
)

_SURPRISES = (TypeError, ValueError, AttributeError, LookupError)
"""What the library raises on a file that is YAML and no kubeconfig."""


class Resource:
    """Where objects of one kind live: ``/api/v1`` for the core group, ``/apis/GROUP/VERSION`` for others."""

    def __init__(self, plural: str, group: str = "", version: str = "v1") -> None:
        self.plural = plural
        self.root = f"/apis/{group}/{version}" if group else f"/api/{version}"

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """Return the path of a collection, an object or its subresource."""
        parts = [self.root]
        if namespace is not None:
            parts.append(f"namespaces/{quote(namespace, safe='')}")
        parts.append(self.plural)
        if name is not None:
            parts.append(quote(name, safe=""))
        if subresource is not None:
            parts.append(subresource)
        return "/".join(parts)


async def load_configuration(kubeconfig: Path | None) -> Configuration:
    """Return the library's configuration: from ``kubeconfig`` (or ``KUBECONFIG``), else from the Pod's service account.

    Raises ``ClusterError`` with one line that says what is missing.
    """
    configuration = Configuration()
    try:
        if kubeconfig is not None:
            kubeconfig.read_bytes()  # noqa: ASYNC240 - the library does the same, and takes a missing file for an empty one
            await kube_config.load_kube_config(config_file=str(kubeconfig), client_configuration=configuration)
        else:
            try:
                kube_config.load_incluster_config(client_configuration=configuration)
            except kube_config.ConfigException:
                await kube_config.load_kube_config(client_configuration=configuration)
    except (kube_config.ConfigException, yaml.YAMLError, OSError, *_SURPRISES) as error:
        raise errors.ClusterError(_no_configuration(kubeconfig, error)) from error
    return configuration


def _no_configuration(kubeconfig: Path | None, error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        detail = error.strerror
    elif isinstance(error, _SURPRISES):
        detail = "not a kubeconfig"
    else:
        detail = " ".join(str(error).split())
    if kubeconfig is not None:
        return f"--kubeconfig {kubeconfig}: {detail}"
    usual = kube_config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION
    if not any(Path(file).expanduser().is_file() for file in usual.split(os.pathsep)):
        return f"no way to the API server: no service account of a Pod, no file {usual} (KUBECONFIG), no --kubeconfig"
    return f"kubeconfig {usual}: {detail}"


class KubeClient:
    """Plain objects in, plain objects out. All methods raise the errors of ``cluster.errors``.

    ``may_write`` is asked right before each write: a process that does not lead must change nothing.
    """

    def __init__(
        self,
        configuration: Configuration,
        *,
        connections: int = 64,
        timeout_seconds: float = REQUEST_TIMEOUT_SECONDS,
        may_write: Callable[[], bool] = lambda: True,
    ) -> None:
        configuration.connection_pool_maxsize = connections
        # Where the environment names no proxy none is looked for: that takes a thread for each request.
        configuration.client_session_kwargs = {"trust_env": bool(getproxies())}
        self._api = ApiClient(configuration)
        self._timeout_seconds = timeout_seconds
        self._may_write = may_write
        self._host: str = configuration.host

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._api.close()

    async def get(self, resource: Resource, namespace: str | None, name: str, *, metadata_only: bool = False) -> Object:
        """Return one object, or only its metadata."""
        accept = METADATA_ONLY if metadata_only else JSON
        return await self._request("GET", resource.path(namespace, name), accept=accept)

    async def list(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        label_selector: str | None = None,
        page: int = PAGE,
        metadata_only: bool = False,
    ) -> AsyncIterator[Object]:
        """Yield all objects, or only their metadata, ``page`` of them with each request."""
        accept = METADATA_LIST if metadata_only else JSON
        more: str | None = ""
        while more is not None:
            query = {"limit": str(page)}
            if label_selector:
                query["labelSelector"] = label_selector
            if more:
                query["continue"] = more
            found = await self._request("GET", f"{resource.path(namespace)}?{urlencode(query)}", accept=accept)
            # Of metadata alone an empty list comes as null.
            for item in found.get("items") or ():
                yield item
            more = found.get("metadata", {}).get("continue") or None

    async def create(self, resource: Resource, namespace: str | None, body: Object) -> Object:
        """Create an object. Raises ``ObjectExists`` when the name is taken."""
        return await self._request("POST", resource.path(namespace), body, creating=True)

    async def patch(self, resource: Resource, namespace: str, name: str, patch: Object) -> Object:
        """Merge ``patch`` into an object; a ``metadata.uid`` or resourceVersion in it is a precondition."""
        return await self._request("PATCH", resource.path(namespace, name), patch, content_type=MERGE_PATCH)

    async def replace(self, resource: Resource, namespace: str | None, name: str, body: Object) -> Object:
        """Replace an object; ``body`` carries the resourceVersion that was read."""
        return await self._request("PUT", resource.path(namespace, name), body)

    async def replace_status(self, resource: Resource, namespace: str, name: str, body: Object) -> Object:
        """Replace an object's status; ``body`` carries the resourceVersion that was read."""
        return await self._request("PUT", resource.path(namespace, name, "status"), body)

    async def patch_status(self, resource: Resource, namespace: str, name: str, patch: Object) -> Object:
        """Merge ``patch`` into an object's status. A resourceVersion in it is a precondition, a uid is not."""
        path = resource.path(namespace, name, "status")
        return await self._request("PATCH", path, patch, content_type=MERGE_PATCH)

    async def delete(
        self, resource: Resource, namespace: str | None, name: str, *, resource_version: str | None = None
    ) -> None:
        """Delete an object, with ``resource_version`` only as it was read; one that is gone already is fine."""
        options: Object = {"propagationPolicy": "Background"}
        if resource_version is not None:
            options["preconditions"] = {"resourceVersion": resource_version}
        try:
            await self._request("DELETE", resource.path(namespace, name), options)
        except errors.ObjectNotFound:
            return

    async def served(self, group: str, version: str) -> set[str]:
        """Return the plural names of the kinds that the API server serves in ``group`` and ``version``."""
        # The group is looked for in the list: asked for one that is not there, the API server does not answer in JSON.
        groups = (await self._request("GET", "/apis")).get("groups", ())
        if f"{group}/{version}" not in {v["groupVersion"] for found in groups for v in found["versions"]}:
            return set()
        try:
            found = await self._request("GET", f"/apis/{group}/{version}")
        except errors.ObjectNotFound:
            return set()
        return {kind["name"] for kind in found.get("resources", ()) if "/" not in kind["name"]}

    async def version(self) -> Mapping[str, Any]:
        """Return the API server's version."""
        return await self._request("GET", "/version")

    async def _request(
        self,
        method: str,
        path: str,
        body: Object | None = None,
        *,
        accept: str = JSON,
        content_type: str = JSON,
        creating: bool = False,
    ) -> Object:
        headers = {"Accept": accept, "Content-Type": content_type, "User-Agent": "invocation-operator"}
        try:
            # It reads the token's file again now and then, or asks whoever issues tokens.
            await self._api.update_params_for_auth(headers, [], ["BearerToken"], path, method, body)
        except (kube_config.ConfigException, TimeoutError, aiohttp.ClientError, OSError, *_SURPRISES) as error:
            detail = str(error) or type(error).__name__
            raise errors.ClusterUnavailable(f"{method} {path}: no credentials for the API server: {detail}") from error
        if method != "GET" and not self._may_write():
            raise errors.NotLeading(f"{method} {path}: not sent, another operator leads or may do so by now")
        try:
            response = await self._api.rest_client.request(
                method, self._host + path, headers=headers, body=body, _request_timeout=self._timeout_seconds
            )
            text: bytes = await response.read()
        except (TimeoutError, aiohttp.ClientError, OSError, asyncio.IncompleteReadError) as error:
            detail = str(error) or type(error).__name__
            raise errors.ClusterUnavailable(f"{method} {path}: no answer from the API server: {detail}") from error
        try:
            answer = json.loads(text) if text else {}
        except ValueError as error:
            if response.status == 413:
                # A proxy in front says it in its own words.
                raise errors.TooLarge(f"{method} {path}: 413") from None
            if response.status == 404 and text.startswith(b"404 page not found"):
                # The API server's own words for a kind that is not installed.
                raise errors.ObjectNotFound(f"{method} {path}: no such kind") from None
            raise errors.ClusterUnavailable(f"{method} {path}: {response.status}, not JSON") from error
        if not isinstance(answer, dict):
            raise errors.ClusterUnavailable(f"{method} {path}: {response.status}, no JSON object")
        if response.status >= 400:
            raise _error(method, path, response.status, answer, creating=creating)
        return answer


def _error(method: str, path: str, status: int, answer: Object, *, creating: bool) -> errors.ClusterError:
    said = str(answer.get("message") or "")
    message = f"{method} {path}: {status} {said}"
    if status == 413 or (status in _MAY_BE_SIZE and _SIZE.search(said)):
        return errors.TooLarge(message)
    kind: type[errors.ClusterError]
    match status:
        case 401 | 403:
            kind = errors.Forbidden
        case 404:
            kind = errors.ObjectNotFound
        case 409:
            kind = errors.ObjectExists if creating and answer.get("reason") == "AlreadyExists" else errors.WriteConflict
        case 408 | 410 | 429 | 500 | 502 | 503 | 504:
            # 410: a list took longer than the API server keeps the version that it began with.
            kind = errors.ClusterUnavailable
        case _:
            kind = errors.WriteRefused
    return kind(message)


async def still_there(client: KubeClient, resource: Resource, obj: Object) -> bool:
    """Whether the very object is there: a watch that was interrupted for long does not tell what went meanwhile.

    What the API server does not say is as it was.
    """
    metadata = obj["metadata"]
    try:
        found = await client.get(resource, metadata["namespace"], metadata["name"], metadata_only=True)
    except errors.ObjectNotFound:
        return False
    except errors.ClusterError:
        return True
    return bool(found["metadata"]["uid"] == metadata["uid"])
