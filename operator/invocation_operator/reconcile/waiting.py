"""A reconcile that cannot go on now and may later: an engine that does not answer, a Secret that is missing."""

from invocation_operator.cluster.errors import ClusterError, Forbidden
from invocation_operator.engine import errors

ENGINE_NOT_FOUND = "EngineNotFound"
RETRY_SECONDS = 5.0
LONGEST_SECONDS = 60.0
"""Waits in a row double up to this. What ends one mostly rings before: a RestateEngine that changes, or is up again."""
FORBIDDEN_SECONDS = 30.0
"""How soon something is tried again for which the operator had no right: nothing tells of a changed role."""


class Waiting(Exception):
    """``reason`` is a constant CamelCase word, ``message`` says what is waited for and what to do.

    ``stalled`` marks what does not heal without a person.
    """

    def __init__(
        self, reason: str, message: str, *, retry_seconds: float = RETRY_SECONDS, stalled: bool = False
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.retry_seconds = retry_seconds
        self.stalled = stalled


def forbidden(error: Forbidden) -> Waiting:
    """Return the reason that people see when the operator's own rights are too small; the API server names the one."""
    message = f"the operator may not do what it needs to ({error}); extend its role: helm upgrade --install does."
    return Waiting("Forbidden", message, retry_seconds=FORBIDDEN_SECONDS)


def not_kept(error: ClusterError) -> Waiting:
    """Return the reason that people see when what has to be written down before anything is asked is not taken: by a
    quota, an admission webhook, or for want of a right. The API server's words name which.
    """
    if "exceeded quota" in str(error):
        reason, hint = "QuotaExceeded", "raise that ResourceQuota, or delete there what is not needed."
    elif isinstance(error, Forbidden):
        return forbidden(error)
    else:
        reason, hint = "NotKept", "see what refuses it: an admission webhook or policy, most likely."
    message = f"what is planned cannot be written down, so nothing was asked ({error}); {hint}"
    return Waiting(reason, message, retry_seconds=FORBIDDEN_SECONDS)


def told(error: errors.EngineError, *, redact: bool) -> str:
    """Return what people are told of an engine's failure. Its own words may quote keys: ``redact`` leaves them out."""
    if redact and isinstance(error, errors.Rejected | errors.ServerFault):
        return f"it answered {error.status} (its words are left out: spec.redactKeys)"
    return error.message


def unreachable(address: str, error: errors.EngineError, *, redact: bool = False) -> Waiting:
    """Return the reason that people see for an engine that cannot be used; ``redact`` as in ``told``."""
    match error:
        case errors.CertificateInvalid():
            reason, hint = "CertificateInvalid", "check spec.tls and the engine's certificate."
        case errors.Unauthorized():
            reason = "Unauthorized"
            hint = "check the token in the Secret that spec.auth.bearerTokenSecret of the RestateEngine names."
        case errors.Unreachable() | errors.ServerFault(status=502 | 503 | 504):
            # The latter three are what a proxy says when there is no engine behind it.
            reason = "Unreachable"
            hint = "check the address, that the engine runs, and that its NetworkPolicies admit the operator."
        case errors.BadReply():
            reason, hint = "BadReply", "what answers there is not the engine's admin API; check the address."
        case errors.Throttled():
            reason, hint = "Throttled", "it is asked again by itself; if that lasts, look at who else asks it."
        case _:
            reason, hint = "EngineFault", "look into the engine's logs."
    message = f"the engine at {address} cannot be used: {told(error, redact=redact)}; {hint}"
    return Waiting(reason, message, retry_seconds=min(max(RETRY_SECONDS, error.retry_after or 0.0), LONGEST_SECONDS))
