"""What can go wrong between the operator and an engine, told apart by what a caller has to do about it.

Raised by this package only; caught by name in the reconcilers, which turn it into a retry, a condition or the
outcome of one invocation::

    EngineError
    ├── Unreachable            no answer: connection refused, DNS, reset, timeout; ``sent`` tells whether it was asked
    │   ├── CertificateInvalid TLS: the engine's certificate, ours, or the PEM that was configured
    │   └── Withheld           a write that this process may not send now, and did not
    ├── Unauthorized           401, 403
    ├── Rejected               any other 4xx, ``status``
    │   ├── NotFound           404, in the engine's own words (a proxy's 404 is a BadReply)
    │   ├── Conflict           409
    │   ├── Gone               410
    │   ├── Unprocessable      422
    │   ├── NotReady           425
    │   └── Throttled          429, ``retry_after``
    ├── ServerFault            5xx, ``status``, ``retry_after``; for queries a 500 may also mean a mistake in the SQL
    ├── BadReply               an answer that is not the engine's: HTML, wrong type, a redirect, too large
    │   └── CutOff             the answer began well and did not end
    └── VersionUnsupported     the engine is older than what the operator was built for

Invariant: ``message`` holds at most 256 characters, at most the engine's own JSON ``message``, never another reply's
text and never a credential; so it may be shown in a condition.
"""

import contextlib
import re
from collections.abc import Iterator

MESSAGE_LIMIT = 256
"""Longest message, in characters."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


def capped(text: str) -> str:
    """``text`` on one line, without control characters, cut to ``MESSAGE_LIMIT`` characters."""
    line = _CONTROL.sub(" ", text).strip()
    return line if len(line) <= MESSAGE_LIMIT else f"{line[: MESSAGE_LIMIT - 1]}…"


class EngineError(Exception):
    """Anything that kept the engine from doing or answering what it was asked."""

    message: str
    retry_after: float | None = None
    """Seconds after which the engine wants to be asked again, when its answer said so (429 and 5xx)."""

    def __init__(self, message: str) -> None:
        self.message = capped(message)
        super().__init__(self.message)

    @property
    def may_have_acted(self) -> bool:
        """Whether a write that failed like this may have taken effect all the same.

        False only where that is certain: before it was sent, or when the engine itself refused it.
        """
        return True


class Unreachable(EngineError):
    """No answer came. ``sent``: whether the request may have reached the engine."""

    sent: bool

    def __init__(self, message: str, *, sent: bool) -> None:
        super().__init__(message)
        self.sent = sent

    @property
    def may_have_acted(self) -> bool:
        """As ``sent``."""
        return self.sent


class CertificateInvalid(Unreachable):
    """TLS failed over a certificate, the engine's or ours. Nothing was asked."""

    def __init__(self, message: str, *, sent: bool = False) -> None:
        super().__init__(message, sent=sent)


class Withheld(Unreachable):
    """Not sent: another operator process works now, or may do so. Nothing was asked."""

    def __init__(self) -> None:
        super().__init__("not sent, another operator leads or may do so by now", sent=False)


class Unauthorized(EngineError):
    """401 or 403: no token, a wrong one, or one without the right."""

    status: int

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status

    @property
    def may_have_acted(self) -> bool:
        """Never: it was refused."""
        return False


class Rejected(EngineError):
    """4xx: the engine does not do this, and would not when asked again."""

    status: int

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status

    @property
    def may_have_acted(self) -> bool:
        """Never: it was refused."""
        return False


class NotFound(Rejected):
    """404, and the engine itself says so: no such invocation or service."""


class Conflict(Rejected):
    """409: the invocation's status does not allow it."""


class Gone(Rejected):
    """410: the journal that a restart needs is not there any more."""


class Unprocessable(Rejected):
    """422: not possible for this kind of invocation, or a malformed value."""


class NotReady(Rejected):
    """425: the invocation is scheduled or inboxed and has not started."""


class Throttled(Rejected):
    """429. ``retry_after`` in seconds, when the answer said it."""

    def __init__(self, message: str, *, status: int = 429, retry_after: float | None = None) -> None:
        super().__init__(message, status=status)
        self.retry_after = retry_after


class ServerFault(EngineError):
    """5xx. What happened to a write is unknown. ``retry_after`` in seconds, when the answer said it."""

    status: int

    def __init__(self, message: str, *, status: int, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after


class BadReply(EngineError):
    """An answer that the engine's admin API does not give; something else may be answering."""


class CutOff(BadReply):
    """The answer stopped before its end. What came before it is not the whole result."""


@contextlib.contextmanager
def reading(what: str) -> Iterator[None]:
    """Raise BadReply for an answer that lacks what it must have, or has it in another form."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise BadReply(f"the engine's answer cannot be read ({what}: {type(error).__name__})") from error


class VersionUnsupported(EngineError):
    """The engine is older than the oldest one whose behaviour the operator was built on. Nothing was asked of it."""

    @property
    def may_have_acted(self) -> bool:
        """Never: nothing was asked."""
        return False
