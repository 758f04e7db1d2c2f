"""Reasons that people see for an engine that cannot be used."""

import pytest

from invocation_operator.engine import errors
from invocation_operator.reconcile.waiting import unreachable


@pytest.mark.parametrize(
    ("error", "reason", "hint"),
    [
        (errors.Unreachable("refused", sent=False), "Unreachable", "NetworkPolicies"),
        (errors.CertificateInvalid("expired"), "CertificateInvalid", "spec.tls"),
        (errors.Unauthorized("not authorized (401)", status=401), "Unauthorized", "bearerTokenSecret"),
        (errors.BadReply("HTML"), "BadReply", "address"),
        (errors.CutOff("cut"), "BadReply", "address"),
        (errors.ServerFault("later", status=503), "Unreachable", "the engine runs"),
        (errors.ServerFault("panic", status=500), "EngineFault", "logs"),
        (errors.Throttled("slow down", retry_after=1.0), "Throttled", "by itself"),
    ],
)
def test_unreachable_names_the_reason_and_what_to_do(error: errors.EngineError, reason: str, hint: str) -> None:
    waiting = unreachable("engine.example:9070", error)
    assert waiting.reason == reason
    assert not waiting.stalled, "all of these may heal"
    assert "engine.example:9070" in waiting.message
    assert error.message in waiting.message
    assert hint in waiting.message


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (errors.ServerFault("key 'alice' overflowed", status=500), "it answered 500"),
        (errors.Rejected("key 'alice' is odd", status=400), "it answered 400"),
        (errors.Unreachable("connection refused", sent=False), "connection refused"),
    ],
)
def test_unreachable_keeps_the_engines_own_words_out_where_keys_are_redacted(
    error: errors.EngineError, shown: str
) -> None:
    waiting = unreachable("engine.example:9070", error, redact=True)
    assert shown in waiting.message
    assert "alice" not in waiting.message
    assert error.message in unreachable("engine.example:9070", error).message


@pytest.mark.parametrize(("asked_for", "expected"), [(None, 5.0), (1.0, 5.0), (30.0, 30.0), (86400.0, 60.0)])
def test_unreachable_waits_as_long_as_the_engine_asks_for_within_reason(
    asked_for: float | None, expected: float
) -> None:
    for error in (
        errors.Throttled("", retry_after=asked_for),
        errors.ServerFault("", status=503, retry_after=asked_for),
    ):
        assert unreachable("engine.example:9070", error).retry_seconds == expected
