"""Options of the running operator, from the command line and from ``INVOCATION_OPERATOR_*`` environment variables."""

import os
import socket
from enum import StrEnum
from pathlib import Path
from typing import Annotated
from uuid import uuid4

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

_POD_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


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


class Settings(BaseSettings):
    """Fixed at start."""

    model_config = SettingsConfigDict(
        env_prefix="INVOCATION_OPERATOR_", frozen=True, use_attribute_docstrings=True, extra="forbid"
    )

    namespaces: tuple[str, ...] = ()
    """Namespaces to watch; none: all of them."""
    operator_namespace: str = Field(default_factory=_own_namespace)
    """Namespace of the operator: where records are kept and the fallback `default` engine lives."""
    kubeconfig: Path | None = None
    """Kubeconfig file; default: the Pod's service account, else KUBECONFIG or ~/.kube/config."""
    cluster_domain: str = "cluster.local"
    """DNS domain of the Kubernetes cluster."""
    trusted_engine_namespaces: tuple[str, ...] = ()
    """Namespaces whose RestateEngines may be used from other namespaces; none: all."""
    metrics_port: Annotated[int, Field(ge=0, le=65535)] = 9090
    """Port of /metrics; 0 switches it off."""
    health_port: Annotated[int, Field(ge=0, le=65535)] = 8081
    """Port of /healthz and /readyz; 0 switches them off."""
    bind_address: str = "0.0.0.0"  # noqa: S104 - a Pod is reached from outside; the command line sets loopback
    """Address that metrics and health are served on."""
    log_format: LogFormat | None = None
    """json or console; default: console on a terminal, else json."""
    log_level: LogLevel = LogLevel.INFO
    """debug, info, warning or error."""
    shutdown_seconds: Annotated[float, Field(ge=0, le=600)] = 20.0
    """How long runs may take to finish their batch and hand over when the operator stops."""
    lease_seconds: Annotated[float, Field(ge=1, le=300)] = 15.0
    """How long an operator may be silent before another one takes its runs over."""
    call_timeout_seconds: Annotated[float, Field(ge=0.5, le=120)] = 10.0
    """How long one call on an invocation may take. A call whose answer was lost is judged after this and a margin."""
    identity: str = Field(default_factory=_identity)
    """Name of this process in leases and Events; unique for each process."""
