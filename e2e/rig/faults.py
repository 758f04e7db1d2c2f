"""What a network, a front or a server in trouble does to requests: the table that a proxy of the rig plays.

A kill proxy asks for every request that comes in what is to become of it. It keeps when each of them came, so that a
test can count what was asked in an outage.
"""

import enum
import random
import re
import threading
import time
from dataclasses import dataclass, field


class Fault(enum.Enum):
    """What becomes of one request. Those of `ACTED` reach the server and take effect there."""

    ERROR = "a 500, and the server never saw it"
    UNAVAILABLE = "a 503 with Retry-After, and the server never saw it"
    TOO_MANY = "a 429 with Retry-After, and the server never saw it"
    RESET = "the connection is reset before the server sees it"
    STALL = "no answer for half a minute, and the server never saw it"
    GATEWAY_TIMEOUT = "the server does it, and the answer is a 504"
    RESET_AFTER = "the server does it, and the connection is reset before the answer"
    STALL_AFTER = "the server does it, and there is no answer for half a minute"
    LATE = "held until the client has given up, and delivered then"
    TRUNCATED = "the server does it, and the answer is cut in half, of a matching length"
    CUT = "the server does it, and the connection is closed amid the answer"
    GARBAGE = "the server does it, and the answer is a 200 full of noise"
    DRIP = "the server does it, and the answer comes byte by byte"


ACTED = frozenset(
    {
        Fault.GATEWAY_TIMEOUT,
        Fault.RESET_AFTER,
        Fault.STALL_AFTER,
        Fault.LATE,
        Fault.TRUNCATED,
        Fault.CUT,
        Fault.GARBAGE,
        Fault.DRIP,
    }
)
STATUSES = {Fault.ERROR: 500, Fault.UNAVAILABLE: 503, Fault.TOO_MANY: 429, Fault.GATEWAY_TIMEOUT: 504}
STALL_SECONDS = 30.0
DRIP_SECONDS = 0.2
"""Between two bytes."""


@dataclass(frozen=True)
class Asked:
    """One request as it came in; `what` is a write's short name, or method and path."""

    what: str
    at: float
    """Monotonic seconds."""


@dataclass
class _Rule:
    fault: Fault
    pattern: str
    left: int | None
    share: float


@dataclass
class Faults:
    """Rules in the order in which they were made; the first that applies to a request strikes."""

    late_seconds: float = 2.0
    """How long what is delivered late is held; longer than the client's timeout."""
    retry_after: str = "1"
    asked: list[Asked] = field(default_factory=list)
    struck: list[str] = field(default_factory=list)
    """What was struck, as `what`."""
    _rules: list[_Rule] = field(default_factory=list)
    _dice: random.Random = field(default_factory=random.Random)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def strike(
        self, fault: Fault, pattern: str = "", *, count: int | None = None, share: float = 1.0, seed: str = ""
    ) -> None:
        """From now on strike requests that match the regular expression: that many, and of them that share."""
        with self._lock:
            if seed:
                self._dice = random.Random(seed)
            self._rules.append(_Rule(fault, pattern, count, share))

    def calm(self) -> None:
        """Let everything through again. Requests that stall go on stalling."""
        with self._lock:
            self._rules.clear()
            self.struck = []

    def meet(self, what: str) -> Fault | None:
        """Count a request; what becomes of it."""
        with self._lock:
            self.asked.append(Asked(what, time.monotonic()))
            for rule in self._rules:
                if rule.left == 0 or not re.search(rule.pattern, what) or self._dice.random() >= rule.share:
                    continue
                if rule.left is not None:
                    rule.left -= 1
                self.struck.append(what)
                return rule.fault
        return None

    def count(self, pattern: str = "", *, since: float = 0.0, until: float = float("inf")) -> int:
        """How many requests between two monotonic times match the regular expression."""
        return sum(1 for it in list(self.asked) if since <= it.at < until and re.search(pattern, it.what))
