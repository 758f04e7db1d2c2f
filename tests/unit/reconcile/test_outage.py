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
@pytest.mark.parametrize("kind", ["throttled", "unavailable"])
def test_outage_lasts_as_long_as_the_engine_asked_for_within_reason(
    kind: str, asked_for: float | None, least: float, most: float
) -> None:
    told = {
        "throttled": errors.Throttled("slow down", retry_after=asked_for),
        "unavailable": errors.ServerFault("later", status=503, retry_after=asked_for),
    }
    outage = Outage()
    outage.failed(told[kind], 0.0)
    assert least <= outage.until <= most


def test_outage_of_calls_outlives_looks_and_doubles_until_a_call_is_answered() -> None:
    """An engine that answers queries and refuses every call must not be met by all of them after each look."""
    outage, now, pauses = Outage(), 0.0, []
    for _ in range(6):
        assert outage.admit(100, now) == (1 if pauses else 100)
        outage.failed(DOWN, now, call=True)
        outage.looked()
        assert outage.admit(100, now) == 0
        pauses.append(outage.until - now)
        now = outage.until
    assert pauses[-1] >= min(FIRST_SECONDS * 2**5, LIMIT_SECONDS) / 2 > pauses[0]
    assert (outage.admit(100, now), outage.admit(100, now)) == (1, 0), "one is tried at a time"
    outage.called()
    assert outage.admit(100, now) == 100
    assert outage.error is None


def test_outage_of_looks_lets_no_call_through_until_a_look_succeeds() -> None:
    outage = Outage()
    outage.failed(DOWN, 0.0)
    assert outage.admit(5, outage.until + 1) == 0
    outage.looked()
    assert outage.admit(5, outage.until + 1) == 5


def test_outage_that_is_over_is_forgotten() -> None:
    outage = Outage()
    for now in (0.0, 100.0, 200.0):
        outage.failed(DOWN, now)
    assert outage.error is DOWN
    outage.looked()
    assert outage.error is None
    outage.failed(DOWN, 300.0)
    assert outage.until <= 300.0 + FIRST_SECONDS
