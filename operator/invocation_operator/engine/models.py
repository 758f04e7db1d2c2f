"""What the engine client takes and returns, apart from rows.

Built by ``engine.client``; read by the reconcilers and by ``observe``. Values stay as the engine gave them where it
has its own notation (durations such as ``1m 30s``); comparing them is the business of who asks.
"""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any


@dataclass(frozen=True, slots=True)
class Connection:
    """Where an engine is and how to prove who talks to whom. PEM texts are held in memory; none is ever printed."""

    url: str
    """Base URL of the admin API, ``http`` or ``https``, possibly with a path in front (``https://host/restate``)."""
    token: str | None = field(default=None, repr=False)
    """Bearer token."""
    ca_pem: str | None = field(default=None, repr=False)
    """Certificate authorities that replace the system's."""
    client_cert_pem: bytes | None = field(default=None, repr=False)
    """Client certificate (chain) for mutual TLS."""
    client_key_pem: bytes | None = field(default=None, repr=False)
    """Its private key, not encrypted."""
    server_name: str | None = None
    """Name expected in the engine's certificate (and sent as SNI) when it is not the host of the URL."""


class Op(StrEnum):
    """Operations on one invocation, by their names in the path ``/invocations/{id}/{op}``."""

    CANCEL = "cancel"
    KILL = "kill"
    PAUSE = "pause"
    RESUME = "resume"
    PURGE = "purge"
    PURGE_JOURNAL = "purge-journal"
    RESTART_AS_NEW = "restart-as-new"


@dataclass(frozen=True, slots=True)
class Answer:
    """The engine took the request."""

    status: int
    """200: done or nothing to do; 202: noted, the effect comes later or not at all."""
    new_id: str | None = None
    """Restart only: the new invocation."""

    @property
    def accepted(self) -> bool:
        """Whether the engine only noted the request (202)."""
        return self.status == 202


@dataclass(frozen=True, slots=True)
class Handler:
    """A handler of a service, with its own overrides as the engine shows them."""

    name: str
    ty: str | None
    """``Exclusive``, ``Shared`` or ``Workflow``; None for plain services."""
    raw: dict[str, Any] = field(repr=False)
    """The engine's own object; retention fields are there only when the handler overrides them."""


@dataclass(frozen=True, slots=True)
class Service:
    """A registered service at its active revision."""

    name: str
    ty: str
    """``Service``, ``VirtualObject`` or ``Workflow``."""
    deployment_id: str
    revision: int
    handlers: tuple[Handler, ...]
    idempotency_retention: str | None
    """As the engine writes it, ``1d``; the default is not told from an override."""
    journal_retention: str | None
    workflow_completion_retention: str | None
    raw: dict[str, Any] = field(repr=False)
    """The engine's own object."""


@dataclass(frozen=True, slots=True)
class ServiceBrief:
    """A registered service at its active revision, without its handlers and values."""

    name: str
    revision: int
    deployment_id: str


@dataclass(frozen=True, slots=True)
class Deployment:
    """A registered deployment."""

    id: str
    uri: str | None
    """Endpoint; None for deployments that have no URI (Lambda: ``raw["arn"]``)."""
    created_at: datetime
    services: tuple[tuple[str, int], ...]
    """Names and revisions."""
    raw: dict[str, Any] = field(repr=False)
    """The engine's own object."""


@dataclass(frozen=True, slots=True)
class EngineCapabilities:
    """What the engine was seen to offer, by asking it."""

    pause: bool
    """``pause`` of invocations (1.6 and newer)."""
    batch: bool
    """The engine's internal batch endpoints."""
    scopes: bool
    """Column ``scope`` of ``sys_invocation`` (1.7)."""
    restarted_from: bool
    """Column ``restarted_from`` of ``sys_invocation`` (1.5)."""
    automatic_idempotency_keys: bool
    """Ingress calls get an idempotency key although nobody set one, so that ``idempotency_key is not null`` says
    nothing and the idempotency retention governs them."""
    columns: frozenset[str] = frozenset()
    """Columns of ``sys_invocation``."""


@dataclass(frozen=True, slots=True)
class EngineIdentity:
    """Which cluster answers, as far as the admin API shows it."""

    cluster_name: str
    """Configured by people and not unique: the default is ``localcluster``."""
    fingerprint: str | None = None
    """Something that one cluster has for good and no other has. No engine from 1.6.1 to 1.7.12 shows one: the
    cluster's fingerprint is known to its nodes only."""
    deployments: frozenset[str] = frozenset()
    """Ids of the registered deployments. They are random, so two clusters have none in common, also for the same
    endpoint; registering again with force keeps the id."""

    def same_as(self, other: "EngineIdentity") -> bool | None:
        """Whether both are one cluster; None when nothing tells: one of them has no deployment, or all were replaced
        since. Symmetric. Compare with the newest identity that was seen, not with the first.
        """
        if self.cluster_name != other.cluster_name:
            return False
        if self.fingerprint is not None and other.fingerprint is not None:
            return self.fingerprint == other.fingerprint
        if self.deployments & other.deployments:
            return True
        return None
