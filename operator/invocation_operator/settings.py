"""Options of the running operator, from the command line and from ``INVOCATION_OPERATOR_*`` environment variables.

Several names in one variable are separated by commas, or are a JSON list. A list that is set and empty is refused: it
would mean *all*, which is more than whoever set it asked for.
"""

import json
import os
import re
import socket
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any
from uuid import uuid4

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from invocation_operator.plan.urls import UrlPattern

ENV_PREFIX = "INVOCATION_OPERATOR_"

_POD_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")


class LogFormat(StrEnum):
    """How log lines are written."""

    JSON = "json"
    CONSOLE = "console"


class LogLevel(StrEnum):
    """The least level that is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def _own_namespace() -> str:
    try:
        return _POD_NAMESPACE.read_text().strip() or "default"
    except OSError:
        return "default"


def _identity() -> str:
    return f"{socket.gethostname()[:63]}-{os.getpid()}-{uuid4().hex[:8]}"


def _separate(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        try:
            return json.loads(value)
        except ValueError as error:
            raise ValueError("looks like a JSON list and is none; separate names by commas") from error
    return [name.strip() for name in value.split(",")] if value.strip() else []


def _name_something(names: tuple[str, ...]) -> tuple[str, ...]:
    if not names:
        raise ValueError("is set and names nothing; leave it out to mean all")
    return tuple(dict.fromkeys(names))


def _be_a_label(name: str) -> str:
    if len(name) > 63 or not _LABEL.fullmatch(name):
        raise ValueError(f"{name!r} is not the name of a namespace")
    return name


def _be_a_pattern(text: str) -> str:
    UrlPattern.parse(text)
    return text


Pattern = Annotated[str, AfterValidator(_be_a_pattern)]
Patterns = Annotated[tuple[Pattern, ...], NoDecode, BeforeValidator(_separate), AfterValidator(_name_something)]
Namespace = Annotated[str, AfterValidator(_be_a_label)]
Namespaces = Annotated[tuple[Namespace, ...], NoDecode, BeforeValidator(_separate), AfterValidator(_name_something)]


class Settings(BaseSettings):
    """Fixed at start."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, frozen=True, extra="forbid", validate_default=False)

    namespaces: Namespaces = ()
    """Namespaces to watch; none: all of them."""
    operator_namespace: Namespace = Field(default_factory=_own_namespace)
    """Namespace of the operator: where records are kept and the fallback `default` engine lives."""
    kubeconfig: Path | None = None
    """Kubeconfig file; default: the Pod's service account, else KUBECONFIG or ~/.kube/config."""
    cluster_domain: Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$")] = "cluster.local"
    """DNS domain of the Kubernetes cluster."""
    trusted_engine_namespaces: Namespaces = ()
    """Namespaces whose RestateEngines may be used from other namespaces; none: all."""
    allowed_engine_urls: Patterns = ()
    """What the URLs of engines may be; none: any. ``*`` stands for a part of a host, or for any port."""
    metrics_port: Annotated[int, Field(ge=0, le=65535)] = 9090
    """Port of /metrics; 0 switches it off."""
    health_port: Annotated[int, Field(ge=0, le=65535)] = 8081
    """Port of /healthz and /readyz; 0 switches them off."""
    bind_address: Annotated[str, Field(min_length=1)] = "0.0.0.0"  # noqa: S104 - a Pod is reached from outside; the command line sets loopback
    """Address that metrics and health are served on."""
    log_format: LogFormat | None = None
    """json or console; default: console on a terminal, else json."""
    log_level: LogLevel = LogLevel.INFO
    """debug, info, warning or error."""
    shutdown_seconds: Annotated[float, Field(ge=0, le=600)] = 20.0
    """How long runs may take to finish their batch and hand over when the operator stops."""
    leader_elect: bool = False
    """Work only while this process holds the Lease; stand by otherwise. Several may run then, and one works."""
    lease_name: Annotated[str, Field(max_length=253, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")] = (
        "restate-invocation-operator"
    )
    """Name of that Lease in the operator's namespace; the same for all that may stand in for each other."""
    lease_seconds: Annotated[float, Field(ge=1, le=300)] = 10.0
    """How long an operator may be silent before another one leads and takes its runs over."""
    call_timeout_seconds: Annotated[float, Field(ge=0.5, le=120)] = 10.0
    """How long one call on an invocation may take. A call whose answer was lost is judged after this and a margin."""
    batch_endpoints: bool = True
    """Use the engine's internal batch endpoints where they are seen to answer as expected; else one call each."""
    record_retention_days: Annotated[float, Field(ge=0, le=36_500)] = 400.0
    """Days after which the record of a run that has ended is deleted, unless its action still exists; 0: never."""
    requester_annotation_trusted: bool = False
    """Admission policies vouch for the annotations that name who asked and who approved, as those of the chart do."""
    identity: Annotated[str, Field(min_length=1, max_length=128)] = Field(default_factory=_identity)
    """Name of this process in leases and Events; unique for each process."""

    @property
    def unserved_engine_namespaces(self) -> tuple[str, ...]:
        """Namespaces that are not served and whose RestateEngines are used all the same."""
        if not self.namespaces:
            return ()
        homes = dict.fromkeys((self.operator_namespace, *self.trusted_engine_namespaces))
        return tuple(name for name in homes if name not in self.namespaces)
