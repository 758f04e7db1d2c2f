"""A reconcile that cannot go on now and may later: an engine that does not answer, a Secret that is missing."""

from invocation_operator.engine import errors

RETRY_SECONDS = 5.0


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


def unreachable(address: str, error: errors.EngineError) -> Waiting:
    """Return the reason that people see for an engine that cannot be used."""
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
    return Waiting(reason, f"the engine at {address} cannot be used: {error.message}; {hint}")
