"""What is asked again at once when it failed, how often, and how little of that an outage sees."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import pytest

from invocation_operator.engine import errors
from invocation_operator.engine.rounds import Rounds
from invocation_operator.reconcile.repeats import ALLOWANCE, GAIN, PAUSES_SECONDS, SLOW_SECONDS, Repeats

DOWN = errors.Unreachable("connection refused", sent=False)


@dataclass
class Engine:
    """Answers with what it was given, in its order, and then always with the last of it."""

    answers: Sequence[errors.EngineError | str]
    takes: float = 0.0
    now: float = 0.0
    asked: int = 0
    pauses: list[float] = field(default_factory=list)

    async def question(self) -> str:
        self.now += self.takes
        answer = self.answers[min(self.asked, len(self.answers) - 1)]
        self.asked += 1
        if isinstance(answer, str):
            return answer
        raise answer

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)

    def repeats(self) -> Repeats:
        return Repeats(lambda: self.now, self.sleep)


def fault(status: int, retry_after: float | None = None) -> errors.ServerFault:
    return errors.ServerFault("later", status=status, retry_after=retry_after)


@pytest.mark.parametrize(
    ("error", "asked"),
    [
        pytest.param(DOWN, 3, id="nobody there"),
        pytest.param(errors.Unreachable("reset", sent=True), 3, id="a connection that broke"),
        pytest.param(fault(503), 3, id="unavailable"),
        pytest.param(fault(500), 3, id="a 500, which is also a mistake in a query"),
        pytest.param(errors.CutOff("cut"), 3, id="an answer that was cut"),
        pytest.param(errors.BadReply("noise"), 3, id="noise"),
        pytest.param(errors.Throttled("slow down"), 3, id="throttled"),
        pytest.param(errors.Throttled("slow down", retry_after=1.0), 3, id="throttled for a moment"),
        pytest.param(errors.Throttled("slow down", retry_after=1.5), 1, id="throttled for longer than a moment"),
        pytest.param(fault(503, 30.0), 1, id="unavailable for longer than a moment"),
        pytest.param(errors.Rejected("wrong", status=400), 1, id="a query that is wrong"),
        pytest.param(errors.NotFound("no such thing", status=404), 1, id="what is not there"),
        pytest.param(errors.Unauthorized("no", status=403), 1, id="a token that is refused"),
        pytest.param(errors.CertificateInvalid("expired"), 1, id="a certificate"),
        pytest.param(errors.Withheld(), 1, id="another operator leads"),
    ],
)
async def test_question_that_fails_is_asked_again_where_that_may_help(error: errors.EngineError, asked: int) -> None:
    engine = Engine([error])
    with pytest.raises(type(error)) as raised:
        await engine.repeats().ask(engine.question)
    assert raised.value is error
    assert engine.asked == asked
    least = (getattr(error, "retry_after", None) or 0.0) if asked > 1 else 0.0
    for pause, (short, long) in zip(engine.pauses, PAUSES_SECONDS, strict=False):
        assert max(short, least) <= pause <= max(long, least)
    assert len(engine.pauses) == asked - 1, "nobody waits after the last failure"


@pytest.mark.parametrize("failures", [1, 2])
async def test_question_that_fails_now_and_then_is_answered(failures: int) -> None:
    engine = Engine([DOWN] * failures + ["yes"])
    assert await engine.repeats().ask(engine.question) == "yes"
    assert engine.asked == failures + 1


@pytest.mark.parametrize(("takes", "asked"), [(SLOW_SECONDS - 0.1, 3), (SLOW_SECONDS + 0.1, 2)])
async def test_question_that_took_long_to_fail_is_asked_again_once(takes: float, asked: int) -> None:
    """It may be what the engine is busy with."""
    engine = Engine([DOWN], takes=takes)
    with pytest.raises(errors.Unreachable):
        await engine.repeats().ask(engine.question)
    assert engine.asked == asked


@pytest.mark.parametrize("crowd", [1, 10, 1000])
async def test_questions_of_a_crowd_in_an_outage_are_hardly_repeated(crowd: int) -> None:
    engine = Engine([fault(503) for _ in range(10 * crowd)])
    repeats = engine.repeats()
    for _ in range(3):
        await asyncio.gather(*(repeats.ask(engine.question) for _ in range(crowd)), return_exceptions=True)
    assert engine.asked - 3 * crowd == min(6 * crowd, ALLOWANCE)


async def test_questions_are_repeated_again_once_the_engine_answers() -> None:
    engine = Engine([fault(503) for _ in range(30)] + ["yes"])
    repeats = engine.repeats()
    while engine.asked < 30:
        await asyncio.gather(repeats.ask(engine.question), return_exceptions=True)
    for _ in range(round(1 / GAIN)):
        await repeats.ask(engine.question)
    again = Engine([DOWN, "yes"])
    assert await repeats.ask(again.question) == "yes"


async def test_failure_that_many_share_costs_one_repetition() -> None:
    """The engine's time is asked once for all who want it at the same time; when that fails, all ask again together."""
    failures: list[errors.EngineError | str] = [fault(503), "yes"]
    engine = Engine(failures)
    rounds: Callable[[], Awaitable[str]] = Rounds(engine.question)
    repeats = engine.repeats()
    assert await asyncio.gather(*(repeats.ask(rounds) for _ in range(100))) == ["yes"] * 100
    assert engine.asked < 10, "they ask again within less than a second, each with a pause of its own"
