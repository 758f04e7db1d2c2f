"""Refusals: a run that must not happen, with the reason for programs and the message for people."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a run is refused. ``reason`` is a constant CamelCase word, ``message`` says what to do."""

    reason: str
    message: str


UNKNOWN_FIELD = "UnknownField"
INVALID_SPEC = "InvalidSpec"
ACTION_NOT_ALLOWED = "ActionNotAllowed"
PROTECTED_SERVICE = "ProtectedService"
SERVICE_NOT_ALLOWED = "ServiceNotAllowed"
TOO_MANY_TARGETS = "TooManyTargets"
TOO_MANY_DESCENDANTS = "TooManyDescendants"
TOO_MUCH_OF_SERVICE = "TooMuchOfService"
REASON_REQUIRED = "ReasonRequired"
NOT_AFTER_REQUIRED = "NotAfterRequired"
APPROVAL_REQUIRED = "ApprovalRequired"
NAMESPACE_NOT_ALLOWED = "NamespaceNotAllowed"
RESTORED_FROM_BACKUP = "RestoredFromBackup"
UNSUPPORTED_FILTER = "UnsupportedFilter"
UNSUPPORTED_ACTION = "UnsupportedAction"
ENGINE_CHANGED = "EngineChanged"
PLAN_LOST = "PlanLost"
PLAN_DRIFTED = "PlanDrifted"
