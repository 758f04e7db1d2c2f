"""A reconcile that cannot go on now and may later: an engine that does not answer, a Secret that is missing."""

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
