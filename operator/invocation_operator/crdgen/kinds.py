"""The one list of kinds that have a CRD. A kind that is not here does not exist for the generator, its reference and
the drift check.
"""

from dataclasses import dataclass

from invocation_operator.api.v1alpha1.action import ACTION_KIND, ActionSpec, ActionStatus
from invocation_operator.api.v1alpha1.base import Kind, Model
from invocation_operator.api.v1alpha1.engine import ENGINE_KIND, EngineSpec, EngineStatus
from invocation_operator.api.v1alpha1.record import RECORD_KIND, RecordSpec, RecordStatus
from invocation_operator.api.v1alpha1.retention import RETENTION_KIND, RetentionSpec, RetentionStatus


@dataclass(frozen=True, slots=True)
class Resource:
    """A kind with its two halves."""

    kind: Kind
    spec: type[Model]
    status: type[Model]


RESOURCES: tuple[Resource, ...] = (
    Resource(ACTION_KIND, ActionSpec, ActionStatus),
    Resource(ENGINE_KIND, EngineSpec, EngineStatus),
    Resource(RECORD_KIND, RecordSpec, RecordStatus),
    Resource(RETENTION_KIND, RetentionSpec, RetentionStatus),
)
