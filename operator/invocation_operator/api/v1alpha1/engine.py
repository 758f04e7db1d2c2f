"""RestateEngine: one connection to one engine's admin API, and the ceilings that hold for everything that uses it."""

from datetime import datetime
from enum import StrEnum
from ipaddress import IPv6Address
from typing import Annotated, ClassVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, StringConstraints

from invocation_operator.api.v1alpha1.action import ActionType, NamedCount
from invocation_operator.api.v1alpha1.base import (
    Column,
    Condition,
    DnsLabel,
    Duration,
    Kind,
    ListType,
    LocalSecretKey,
    MapType,
    Model,
    Name,
    Rule,
    ShortText,
    StrictModel,
)
from invocation_operator.api.v1alpha1.engine_rules import (
    ADMIN_URL_RULES,
    ALLOWED_NAMESPACES_RULES,
    ENDING_RULE,
    REQUIREMENT_RULES,
    SPEC_RULES,
)
from invocation_operator.api.v1alpha1.target import NamePattern
from invocation_operator.values.duration import parse_duration

CREDENTIAL_LABEL = "ops.restate.dev/engine-credential"
"""Secrets without this label set to `true` are never read: nobody can have an arbitrary Secret sent to a URL."""


def _checked_url(text: str) -> str:
    """Whoever asks where an engine is takes its URL apart: one that cannot be must not get so far."""
    try:
        parts = urlsplit(text)
        port = parts.port
        if parts.netloc.startswith("["):
            IPv6Address(parts.hostname or "")
    except ValueError:
        port = 0
    if port == 0:
        raise ValueError("a port is a number from 1 to 65535, and what stands in brackets is an IPv6 address")
    return text


AdminUrl = Annotated[
    str,
    StringConstraints(
        min_length=1,
        max_length=1024,
        # Strict about the host, so that every reader of the URL (CEL, the HTTP client) sees the same one.
        pattern=r"^https?://([0-9A-Za-z]([-.0-9A-Za-z]*[0-9A-Za-z])?|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?(/[-._~/%0-9A-Za-z]*)?$",
    ),
    AfterValidator(_checked_url),
    *ADMIN_URL_RULES,
]


class ServiceRef(StrictModel):
    """A Kubernetes Service in front of the admin API."""

    name: DnsLabel
    """Name of the Service."""
    namespace: DnsLabel | None = None
    """Namespace of the Service; default: the namespace of this object."""
    port: Annotated[int, Field(ge=1, le=65535)] = 9070
    """Port of the admin API."""
    path: Annotated[str, StringConstraints(max_length=256, pattern=r"^/[-._~/0-9A-Za-z]*$")] | None = None
    """Path in front of the admin API."""


class Auth(StrictModel):
    """How the operator proves itself to the engine."""

    bearer_token_secret: LocalSecretKey | None = None
    """Bearer token. White space around it is trimmed; a rotated token is picked up without a restart."""


class SecretName(StrictModel):
    """A Secret in the same namespace."""

    name: Name
    """Name of the Secret. It must carry the label `ops.restate.dev/engine-credential: "true"`."""


class Tls(StrictModel):
    """How the engine is verified. There is no switch that turns verification off."""

    ca_secret: LocalSecretKey | None = None
    """PEM bundle of the certificate authorities to trust instead of the system's."""
    client_cert_secret: SecretName | None = None
    """Secret of type `kubernetes.io/tls` with the client certificate for mutual TLS."""
    server_name: Annotated[str, StringConstraints(min_length=1, max_length=253)] | None = None
    """Name expected in the engine's certificate, when it differs from the host in the URL."""


class NamespacesFrom(StrEnum):
    """Which namespaces may refer to the engine."""

    SAME = "Same"
    ALL = "All"
    SELECTOR = "Selector"


class SelectorOperator(StrEnum):
    """Operators of a label selector requirement."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"


LabelText = Annotated[str, StringConstraints(max_length=316)]


class SelectorRequirement(StrictModel):
    """One requirement of a label selector."""

    key: LabelText
    """Label key."""
    operator: SelectorOperator
    """Relation of key and values."""
    values: Annotated[list[LabelText] | None, Field(max_length=32), ListType("atomic")] = None
    """Values for `In` and `NotIn`."""

    rules: ClassVar[tuple[Rule, ...]] = REQUIREMENT_RULES


class LabelSelector(StrictModel):
    """A Kubernetes label selector on namespaces. An empty one selects every namespace."""

    match_labels: Annotated[dict[LabelText, LabelText] | None, Field(max_length=32), MapType("atomic")] = None
    """Labels that must all be there."""
    match_expressions: Annotated[list[SelectorRequirement] | None, Field(max_length=32), ListType("atomic")] = None
    """Requirements that must all hold."""


class AllowedNamespaces(StrictModel):
    """Who may refer to this engine."""

    from_: Annotated[NamespacesFrom, Field(alias="from")] = NamespacesFrom.SAME
    """`Same` namespace, `All`, or those a `selector` selects."""
    selector: LabelSelector | None = None
    """Namespaces by label, with `from: Selector`."""

    rules: ClassVar[tuple[Rule, ...]] = ALLOWED_NAMESPACES_RULES


class Operation(StrEnum):
    """Everything a specification can cause: the actions, and the change of retention."""

    CANCEL = ActionType.CANCEL.value
    KILL = ActionType.KILL.value
    PAUSE = ActionType.PAUSE.value
    RESUME = ActionType.RESUME.value
    PURGE = ActionType.PURGE.value
    PURGE_JOURNAL = ActionType.PURGE_JOURNAL.value
    RESTART_AS_NEW = ActionType.RESTART_AS_NEW.value
    SET_RETENTION = "SetRetention"


Operations = Annotated[list[Operation], Field(max_length=8), ListType("set")]


class NamespaceGuardrail(StrictModel):
    """What the namespaces that a selector selects may do."""

    selector: LabelSelector
    """Namespaces by label."""
    services: Annotated[list[NamePattern] | None, Field(min_length=1, max_length=64), ListType("set")] = None
    """Services they may act upon; default: all that are not protected."""
    actions: Annotated[Operations | None, Field()] = None
    """Operations they may cause; default: all that are allowed."""


class Guardrails(StrictModel):
    """Ceilings that no referring resource can raise. They apply to everything that a specification can cause: an
    escalation is a Kill, `expedite` a Resume, moving what backs off to another deployment a Pause.
    """

    allowed_actions: Operations | None = None
    """Operations that may be caused; default: all."""
    protected_services: Annotated[list[NamePattern] | None, Field(max_length=256), ListType("set")] = None
    """Services that are never acted upon, also not as descendants of what is killed."""
    max_targets: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """Most invocations, descendants included, that one run may act upon."""
    require_approval_for: Operations | None = None
    """Operations that need an approved plan: only `mode: Approve` carries them out; `DryRun` stays allowed."""
    require_reason_for: Operations | None = None
    """Operations that need `spec.reason`."""
    require_not_after: bool = False
    """Every action needs `spec.notAfter`."""
    namespaces: Annotated[list[NamespaceGuardrail] | None, Field(max_length=32), ListType("atomic")] = None
    """What single namespaces may do. When given, a namespace that no entry selects may do nothing."""


def _ending(text: str) -> str:
    """To the HTTP client a timeout of nothing is none."""
    if not parse_duration(text):
        raise ValueError("it must be longer than nothing, such as 30s")
    return text


class EngineLimits(StrictModel):
    """Shared by everything that uses this engine."""

    max_in_flight: Annotated[int, Field(ge=1, le=20_000)] = 500
    """Operations asked and not yet verified at any time, over all actions."""
    operations_per_second: Annotated[int, Field(ge=1, le=100_000)] = 1000
    """Operations started per second, over all actions."""
    query_timeout: Annotated[Duration, AfterValidator(_ending), ENDING_RULE] = "30s"
    """How long one query may take; longer than nothing."""


class EngineSpec(StrictModel):
    """Where the engine is, how to talk to it, who may use it and within which ceilings."""

    cluster: DnsLabel | None = None
    """Name of a RestateCluster of the restate-operator: `http://restate.<cluster>.svc.<clusterDomain>:9070`."""
    service: ServiceRef | None = None
    """A Kubernetes Service in front of the admin API; asked over https when `tls` is given, else over http."""
    url: AdminUrl | None = None
    """URL of the admin API: `http://` or `https://`, a host, a port and a path; no credentials, query or fragment."""
    cloud: Name | None = None
    """Name of a RestateCloudEnvironment of the restate-operator."""
    auth: Auth | None = None
    """How the operator proves itself to the engine."""
    tls: Tls | None = None
    """How the engine is verified. Only with https: a `url` that says so, `service` or `cloud`."""
    allowed_namespaces: AllowedNamespaces = AllowedNamespaces()
    """Who may refer to this engine."""
    guardrails: Guardrails = Guardrails()
    """Ceilings for everything that uses this engine."""
    limits: EngineLimits = EngineLimits()
    """Budget shared by everything that uses this engine."""
    suspend: bool = False
    """The kill switch: everything on this engine stops between operations until it is set back to false."""
    redact_keys: bool = False
    """Keep keys and failure texts out of status and Events."""

    rules: ClassVar[tuple[Rule, ...]] = SPEC_RULES


class Capabilities(Model):
    """What the engine was seen to offer."""

    pause: bool = False
    """Pause of invocations."""
    batch: bool = False
    """The internal batch endpoints."""
    scopes: bool = False
    """The scope column (engine 1.7 or newer)."""
    automatic_idempotency_keys: bool = False
    """Ingress calls get an idempotency key although nobody set one."""


class EngineStatus(Model):
    """What the operator found."""

    observed_generation: int = -1
    """Generation of the specification that this status speaks of; -1: not seen yet."""
    url: Annotated[str, StringConstraints(max_length=1024)] | None = None
    """The admin API that was resolved."""
    version: ShortText | None = None
    """Version that the engine reports."""
    cluster_name: ShortText | None = None
    """Cluster name that the engine reports."""
    capabilities: Capabilities | None = None
    """What the engine was seen to offer."""
    invocations: Annotated[list[NamedCount] | None, Field(max_length=8), ListType("map")] = None
    """Invocations by status, sampled."""
    last_probe_time: datetime | None = None
    """When the sample was taken."""
    conditions: Annotated[list[Condition] | None, Field(max_length=8), ListType("map", key="type")] = None
    """`Ready`, and while they are true `Reconciling` or `Stalled`."""


ENGINE_KIND = Kind(
    kind="RestateEngine",
    plural="restateengines",
    singular="restateengine",
    short_names=("reng",),
    description="One connection to one Restate engine's admin API, with the ceilings for everything that uses it.",
    columns=(
        Column("URL", "string", ".status.url", "The admin API"),
        Column("Version", "string", ".status.version", "Version of the engine"),
        Column("Ready", "string", '.status.conditions[?(@.type=="Ready")].status', "Whether the engine can be used"),
        Column("Reason", "string", '.status.conditions[?(@.type=="Ready")].reason', "Why"),
        Column("Suspended", "boolean", ".spec.suspend", "The kill switch", priority=1),
        Column("Age", "date", ".metadata.creationTimestamp", "Since its creation"),
    ),
)
