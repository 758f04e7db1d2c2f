"""What every kind shares: model configuration, schema markers, conditions and the engine a status names.

The markers say in Python what OpenAPI has no word for (list types, CEL rules, printer columns); ``crdgen`` is
their only reader.
"""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints, model_validator
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

from invocation_operator.values.duration import DURATION_PATTERN, parse_duration

GROUP = "ops.restate.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
CATEGORY = "restate"

SCHEMA_REVISION = 1
"""Revision of the schemas below. Raised with every change of a CRD that an operator must not run without."""

SCHEMA_REVISION_ANNOTATION = f"{GROUP}/schema-revision"
"""Annotation on each CRD with the ``SCHEMA_REVISION`` it was generated from: an operator that meets a lower one
executes nothing, because the API server would have pruned fields that it knows."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A CEL validation rule (``x-kubernetes-validations``) at the level of a model or field."""

    rule: str
    message: str = ""
    message_expression: str = ""
    field_path: str = ""
    reason: str = ""
    optional_old_self: bool = False


@dataclass(frozen=True, slots=True)
class ListType:
    """``x-kubernetes-list-type`` of a list field; ``map`` lists are keyed by ``key``."""

    type: Literal["set", "atomic", "map"]
    key: str = "name"


@dataclass(frozen=True, slots=True)
class MapType:
    """``x-kubernetes-map-type`` of an object field."""

    type: Literal["granular", "atomic"]


@dataclass(frozen=True, slots=True)
class Nullable:
    """Keep an explicit ``null`` instead of dropping it, so that the operator can refuse it: a filter that vanishes
    widens the target.
    """


@dataclass(frozen=True, slots=True)
class OmitDefault:
    """The operator applies the default; the CRD must not write it into the object."""


@dataclass(frozen=True, slots=True)
class IntOrString:
    """A number or a share (``x-kubernetes-int-or-string``): one type for the API server, a union in Python."""

    minimum: int
    """Smallest number, and smallest share."""
    pattern: str
    """What a share looks like."""

    def checked(self, value: int | str) -> int | str:
        """Return ``value``, or raise ValueError when it is neither."""
        fits = re.fullmatch(self.pattern, value) if isinstance(value, str) else value >= self.minimum
        if not fits:
            least = self.minimum
            raise ValueError(f"{str(value)[:16]} is neither a number from {least} nor a share from {least}% to 100%")
        return value


@dataclass(frozen=True, slots=True)
class Column:
    """An additional printer column. ``priority`` above 0 shows only with ``-o wide``."""

    name: str
    type: Literal["string", "integer", "date", "boolean"]
    json_path: str
    description: str
    priority: int = 0


@dataclass(frozen=True, slots=True)
class Kind:
    """Names and presentation of one custom resource."""

    kind: str
    plural: str
    singular: str
    short_names: tuple[str, ...]
    description: str
    columns: tuple[Column, ...]
    status_subresource: bool = True
    rules: tuple[Rule, ...] = ()
    """CEL rules at the root: the only ones that see the specification and the status."""

    @property
    def crd_name(self) -> str:
        """Name of the CustomResourceDefinition."""
        return f"{self.plural}.{GROUP}"


class Model(BaseModel):
    """Base of all parts of a kind. Unknown fields are dropped by the running operator (a newer CRD meets an older
    operator); tests and the command line pass ``extra="forbid"`` when they validate.
    """

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="ignore",
        frozen=True,
    )

    rules: ClassVar[tuple[Rule, ...]] = ()
    """CEL rules at the level of this object."""
    preserve_unknown: ClassVar[bool] = False
    """Keep fields that the schema does not know, so that the operator can refuse them."""
    min_properties: ClassVar[int] = 0
    """Fewest fields that must be given."""


class StrictModel(Model):
    """A part whose unknown fields are refused by the operator too, because ignoring one would change what is acted
    upon. Its schema keeps unknown fields for that purpose.
    """

    model_config = ConfigDict(extra="forbid")
    preserve_unknown: ClassVar[bool] = True

    @model_validator(mode="before")
    @classmethod
    def _refuse_null(cls, data: Any) -> Any:
        if isinstance(data, dict):
            for name, value in data.items():
                if value is None:
                    raise PydanticCustomError(
                        "null_filter", "{name} is null: give it a value or leave it out", {"name": name}
                    )
        return data


_DURATION_SHAPE = DURATION_PATTERN.replace(r"[ \t\n\f\r]", r"\s")
"""The same in RE2, and shorter: a CRD carries it once for each duration."""


# A rule and no pattern: a pattern's error shows the pattern, and this one is longer than a screen.
DURATION_RULE = Rule(
    rf"self.matches(r'{_DURATION_SHAPE}') && !self.matches(r',\s*$')",
    message="not a duration: write 30s, 15m, 1d12h or PT15M; no sign, no months or years, units from the largest "
    "to the smallest",
)


def _checked_duration(text: str) -> str:
    parse_duration(text)
    return text


Duration = Annotated[
    str,
    StringConstraints(min_length=1, max_length=64),
    AfterValidator(_checked_duration),
    DURATION_RULE,
]
"""A length of time such as ``30s``, ``15m``, ``1d12h`` or ISO 8601 ``PT15M``; no sign, no months or years."""

_SHARE = IntOrString(0, r"^(100|[1-9]?[0-9])%$")
_POSITIVE_SHARE = IntOrString(1, r"^(100|[1-9][0-9]?)%$")

CountOrShare = Annotated[int | str, AfterValidator(_SHARE.checked), _SHARE]
"""A number of invocations, or a share such as ``5%``."""

PositiveCountOrShare = Annotated[int | str, AfterValidator(_POSITIVE_SHARE.checked), _POSITIVE_SHARE]
"""The same, and more than nothing."""

Name = Annotated[
    str,
    StringConstraints(
        min_length=1, max_length=253, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
    ),
]
"""The name of a Kubernetes object."""

DnsLabel = Annotated[str, StringConstraints(min_length=1, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]
"""The name of a namespace or of anything else that becomes one part of a host name."""

Text = Annotated[str, StringConstraints(max_length=1024)]
"""A sentence for people."""

ShortText = Annotated[str, StringConstraints(max_length=256)]
"""A word or a short phrase."""


class LocalSecretKey(StrictModel):
    """A key of a Secret in the same namespace."""

    name: Name
    """Name of the Secret. It must carry the label `ops.restate.dev/engine-credential: "true"`."""
    key: Annotated[str, StringConstraints(min_length=1, max_length=253, pattern=r"^[-._a-zA-Z0-9]+$")]
    """Key within the Secret's data."""


class EngineRef(StrictModel):
    """Reference to the RestateEngine that is acted upon."""

    name: Name
    """Name of the RestateEngine."""
    namespace: DnsLabel | None = None
    """Namespace of the RestateEngine; default: the namespace of this object. The engine must allow this namespace in
    `spec.allowedNamespaces`."""


class EngineIdentity(Model):
    """The engine that was resolved."""

    namespace: Name | None = None
    """Namespace of the RestateEngine."""
    name: Name | None = None
    """Name of the RestateEngine."""
    uid: ShortText | None = None
    """UID of the RestateEngine."""
    cluster_name: ShortText | None = None
    """Cluster name that the engine itself reports."""


class Condition(Model):
    """A condition in the kstatus convention: `Ready`, `Reconciling`, `Stalled`."""

    type: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    """`Ready`, `Reconciling` or `Stalled`."""
    status: Literal["True", "False", "Unknown"]
    """Status of the condition."""
    observed_generation: int | None = None
    """Generation of the specification that the condition was derived from."""
    last_transition_time: datetime
    """When the status last changed."""
    reason: Annotated[str, StringConstraints(min_length=1, max_length=128)]
    """Constant CamelCase word for programs."""
    message: Annotated[str, StringConstraints(max_length=2048)]
    """What happened and what to do next, for people."""
