"""Durations mean to the engine what they mean here: each text of the tables is offered to it."""

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from e2e.rig import Engine, ServicesProcess
from e2e.rig.wire import NOBODY_THERE
from invocation_operator.api.v1alpha1.target import InvocationStatus, Target
from invocation_operator.target.freeze import freeze
from invocation_operator.target.sql import held_rows
from invocation_operator.values.duration import parse_duration
from tests.unit.values.test_duration import ACCEPTED, REFUSED

STRICTER = {
    "finer than a microsecond": "the engine keeps nanoseconds, status and comparison do not",
    "the engine's own limit": "a sum above it makes the engine hang up instead of answering",
    "the engine drops the connection at this one": "the same",
    "negative": "the engine reads a sign for some, and refuses the value",
    "positive sign": "the engine takes it; a policy has no use for a sign",
}
"""Reasons of rows that are refused here and that the engine may take: stricter is safe, laxer is not."""


@pytest.fixture(scope="module")
def service(engine: Engine) -> Iterator[str]:
    with ServicesProcess("lab", prefix="Len") as running:
        engine.register(running.uri)
        yield "/services/LenLabSvc"


@pytest.mark.parametrize("setting", ["journal_retention", "inactivity_timeout"])
def test_durations_that_are_accepted_mean_the_same_to_the_engine(engine: Engine, service: str, setting: str) -> None:
    for text, _, why in ACCEPTED:
        shown = engine.admin("PATCH", service, {setting: text}).expect(200).json()[setting]
        assert parse_duration(shown) == parse_duration(text), (text, why, shown)


def test_durations_that_are_refused_are_refused_by_the_engine(engine: Engine, service: str) -> None:
    laxer = []
    for text, _, why in REFUSED:
        try:
            status = engine.admin("PATCH", service, {"journal_retention": text}).status
        except NOBODY_THERE:
            status = 0
        if status == 200 and why not in STRICTER:
            laxer.append((text, why))
    assert laxer == []


def test_engine_passes_over_what_it_does_not_know_and_answers_success(engine: Engine, service: str) -> None:
    """Why the answer to a change is compared, and why a policy's fields are not sent as they come."""
    before = engine.admin("GET", service).expect().json()["journal_retention"]
    for body in ({"journalRetention": "7h"}, {"journal_retention": None}, {}):
        assert engine.admin("PATCH", service, body).expect(200).json()["journal_retention"] == before


def test_what_expires_first_comes_first_of_what_is_held_though_it_completed_later(engine: Engine, service: str) -> None:
    """Of many that are held only some are looked at, for those that have to be read soon."""
    name, made = service.removeprefix("/services/"), []
    for kept in ("30d", "2d"):
        engine.admin("PATCH", service, {"journal_retention": kept, "idempotency_retention": kept}).expect(200)
        made.append(engine.send(name, "echo", "x"))
        assert engine.wait_status(made[-1], "completed")
    held = freeze(Target(services=[name]), datetime.now(UTC), frozenset({InvocationStatus.COMPLETED}))
    rows = engine.sql(held_rows(held, scopes_supported=True, limit=2))
    assert [row["id"] for row in rows] == made[::-1]
