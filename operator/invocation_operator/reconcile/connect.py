"""From a RestateEngine's specification to a connection: its URL, its credentials, who may use it.

Called by the reconcilers of the engine itself and of everything that refers to one. Raises ``Waiting`` with the reason
that both show.
"""

import re
from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from urllib.parse import unquote, urlsplit

from pydantic import ValidationError

from invocation_operator.api.v1alpha1.engine import EngineSpec, NamespacesFrom
from invocation_operator.cluster.client import KubeClient, Object
from invocation_operator.cluster.errors import Forbidden, ObjectNotFound
from invocation_operator.cluster.resources import CLOUD_ENVIRONMENTS
from invocation_operator.cluster.secrets import SecretProblem, key_of, read_credential
from invocation_operator.engine.client import Connection
from invocation_operator.plan.selector import selects
from invocation_operator.plan.urls import UrlPattern
from invocation_operator.reconcile.parse import refusal_of
from invocation_operator.reconcile.station import Located
from invocation_operator.reconcile.waiting import Waiting, forbidden

ADMIN_PORT = 9070

_ENVIRONMENT = re.compile(r"[0-9A-Za-z_-]+")
_REGION = re.compile(r"[0-9a-z-]+(\.[0-9a-z-]+)*")
_API_VERSION = re.compile(r"/v\d+$")


def parse_spec(obj: Object) -> EngineSpec | None:
    """Return an engine's specification, or None when it is not valid."""
    try:
        return located(obj).spec
    except Waiting:
        return None


def located(obj: Object) -> Located:
    """Return a RestateEngine as its own reconciler sees it. Raises ``Waiting`` with what is wrong with it."""
    metadata = obj["metadata"]
    namespace, name = metadata["namespace"], metadata["name"]
    try:
        spec = EngineSpec.model_validate(obj.get("spec") or {})
    except ValidationError as error:
        message = f"the RestateEngine {namespace}/{name} is not valid: {refusal_of(error).message}"
        raise Waiting("EngineInvalid", message, stalled=True) from error
    return Located(namespace, name, metadata["uid"], spec, namespace, None)


def may_refer(spec: EngineSpec, engine_namespace: str, namespace: str, labels: Mapping[str, str]) -> bool:
    """Whether objects in ``namespace``, which carries ``labels``, may use the engine."""
    allowed = spec.allowed_namespaces
    match allowed.from_:
        case NamespacesFrom.ALL:
            return True
        case NamespacesFrom.SAME:
            return namespace == engine_namespace
        case NamespacesFrom.SELECTOR:
            return allowed.selector is not None and selects(allowed.selector, labels)


def static_url(namespace: str, spec: EngineSpec, cluster_domain: str) -> str | None:
    """Return the URL of the admin API as far as the specification alone tells it; None for ``cloud``."""
    if spec.url is not None:
        return spec.url.rstrip("/")
    if spec.cluster is not None:
        return f"http://restate.{spec.cluster}.svc.{cluster_domain}:{ADMIN_PORT}"
    if spec.service is not None:
        service = spec.service
        scheme = "https" if spec.tls is not None else "http"
        host = f"{service.name}.{service.namespace or namespace}.svc.{cluster_domain}"
        return f"{scheme}://{host}:{service.port}{(service.path or '').rstrip('/')}"
    return None


def address_of(url: str, cluster_domain: str) -> str:
    """Return what tells engines apart: host, port and path of the admin API; scheme and spelling aside."""
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    if host.endswith(".svc"):
        host = f"{host}.{cluster_domain.lower()}"
    elif host == "localhost":
        host = "127.0.0.1"
    port = parts.port or (443 if parts.scheme == "https" else 80)
    path = "/".join(part for part in unquote(parts.path).split("/") if part not in ("", "."))
    # The engine answers the same below /v2, /v3 ... as without.
    return f"{host}:{port}{_API_VERSION.sub('', f'/{path}').rstrip('/')}"


async def connection_of(
    client: KubeClient,
    namespace: str,
    spec: EngineSpec,
    *,
    cluster_domain: str,
    allowed_urls: Sequence[UrlPattern] = (),
) -> Connection:
    """Return the connection that ``spec`` describes, to one of ``allowed_urls`` unless that is empty.

    Raises ``Waiting``, and the errors of ``cluster.errors``.
    """
    try:
        return await _connection(client, namespace, spec, cluster_domain, allowed_urls)
    except Forbidden as error:
        raise forbidden(error) from error


async def _connection(
    client: KubeClient, namespace: str, spec: EngineSpec, cluster_domain: str, allowed_urls: Sequence[UrlPattern]
) -> Connection:
    url = await url_of(client, namespace, spec, cluster_domain)
    if allowed_urls and not any(pattern.admits(url) for pattern in allowed_urls):
        raise Waiting(
            "UrlNotAllowed",
            f"the operator does not let engines be at {url} (allowedEngineUrls of its chart); name another one, or ask "
            "whoever runs it.",
            stalled=True,
        )
    token_ref = spec.auth.bearer_token_secret if spec.auth else None
    if token_ref is not None and not _token_may_travel(url, cluster_domain):
        raise Waiting(
            "TokenOverPlainHttp",
            f"the bearer token is not sent over plain http to {urlsplit(url).hostname}: use https, or a "
            "service of this cluster.",
            stalled=True,
        )
    try:
        token = None
        if token_ref is not None:
            data = await read_credential(client, namespace, token_ref.name)
            token = key_of(data, namespace, token_ref.name, token_ref.key).decode().strip()
            if not token:
                message = f"the token in the Secret {namespace}/{token_ref.name} is empty; fill it."
                raise Waiting("SecretInvalid", message)
        ca_pem = cert = key = None
        if spec.tls is not None and spec.tls.ca_secret is not None:
            ca = spec.tls.ca_secret
            ca_pem = key_of(await read_credential(client, namespace, ca.name), namespace, ca.name, ca.key).decode()
        if spec.tls is not None and spec.tls.client_cert_secret is not None:
            name = spec.tls.client_cert_secret.name
            data = await read_credential(client, namespace, name)
            cert, key = key_of(data, namespace, name, "tls.crt"), key_of(data, namespace, name, "tls.key")
    except SecretProblem as problem:
        raise Waiting(problem.reason, problem.message) from problem
    except UnicodeDecodeError as error:
        raise Waiting("SecretInvalid", "a credential is not text; check the Secrets that the engine names.") from error
    server_name = spec.tls.server_name if spec.tls else None
    return Connection(url, token, ca_pem, cert, key, server_name)


async def url_of(client: KubeClient, namespace: str, spec: EngineSpec, cluster_domain: str) -> str:
    """Return the URL of the admin API. Raises ``Waiting``, and the errors of ``cluster.errors``."""
    url = static_url(namespace, spec, cluster_domain)
    if url is not None:
        return url
    if spec.cloud is not None:
        return await _cloud_url(client, spec.cloud)
    raise Waiting("InvalidSpec", "name the engine by exactly one of cluster, service, url or cloud.", stalled=True)


async def _cloud_url(client: KubeClient, name: str) -> str:
    try:
        environment = await client.get(CLOUD_ENVIRONMENTS, None, name)
    except ObjectNotFound:
        raise Waiting("CloudEnvironmentNotFound", f"there is no RestateCloudEnvironment {name}; create it.") from None
    spec = environment.get("spec", {})
    env, region = str(spec.get("environmentId", "")).removeprefix("env_"), spec.get("region")
    if not _ENVIRONMENT.fullmatch(env) or not isinstance(region, str) or not _REGION.fullmatch(region):
        # Both become part of the host that the token is sent to.
        message = f"the RestateCloudEnvironment {name} has no usable environmentId or region; correct it."
        raise Waiting("CloudEnvironmentInvalid", message, stalled=True)
    return f"https://{env}.env.{region}.restate.cloud:{ADMIN_PORT}"


def _token_may_travel(url: str, cluster_domain: str) -> bool:
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    if parts.scheme == "https" or host == "localhost" or host.endswith((".svc", f".svc.{cluster_domain.lower()}")):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
