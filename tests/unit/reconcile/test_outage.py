"""An engine that cannot be asked now: what is told, and when it is tried again."""

import pytest

from invocation_operator.engine import errors
from invocation_operator.reconcile.outage import FIRST_SECONDS, LIMIT_SECONDS, Outage

DOWN = errors.Unreachable("connection refused", sent=False)


def test_outage_doubles_its_pause_up_to_a_limit() -> None:
    outage, now, pauses = Outage(), 0.0, []
    for _ in range(10):
        outage.failed(DOWN, now)
        pauses.append(outage.until - now)
        now = outage.until
    nominal = [min(FIRST_SECONDS * 2**n, LIMIT_SECONDS) for n in range(10)]
    for pause, most in zip(pauses, nominal, strict=True):
        assert most / 2 <= pause <= most + 1e-9


def test_outage_counts_failures_at_the_same_time_once() -> None:
    outage = Outage()
    outage.failed(DOWN, 0.0)
    until = outage.until
    for _ in range(50):
        outage.failed(DOWN, until / 2)
    assert outage.until == until


@pytest.mark.parametrize(("asked_for", "least", "most"), [(7.0, 7.0, 7.0), (3600.0, 60.0, 60.0), (None, 0.25, 0.5)])
def test_outage_by_throttling_waits_as_long_as_asked_within_reason(
    asked_for: float | None, least: float, most: float
) -> None:
    outage = Outage()
    outage.failed(errors.Throttled("slow down", retry_after=asked_for), 0.0)
    assert least <= outage.until <= most


def test_outage_that_is_over_is_forgotten() -> None:
    outage = Outage()
    for now in (0.0, 100.0, 200.0):
        outage.failed(DOWN, now)
    assert outage.message == "connection refused"
    outage.over()
    assert outage.message is None
    outage.failed(DOWN, 300.0)
    assert outage.until <= 300.0 + FIRST_SECONDS
