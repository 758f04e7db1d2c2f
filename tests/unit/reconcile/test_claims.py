"""Who may ask what must come once, while several runs look at the same invocations."""

from invocation_operator.reconcile.claims import LINGER_SECONDS, Claims


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_claim_of_one_run_keeps_the_others_until_it_is_given_up() -> None:
    claims, one, other = Claims(Clock()), object(), object()
    assert claims.take("a", one)
    assert claims.take("a", one)
    assert not claims.take("a", other)
    claims.release("a", other, linger=False)
    assert not claims.take("a", other)
    claims.release("a", one, linger=False)
    assert claims.take("a", other)


def test_claim_that_lingers_keeps_the_others_for_a_while_and_not_its_own_run() -> None:
    clock = Clock()
    claims, one, other = Claims(clock), object(), object()
    claims.take("a", one)
    claims.release("a", one, linger=True)
    assert not claims.take("a", other)
    assert claims.take("a", one)
    claims.release("a", one, linger=True)
    clock.now += LINGER_SECONDS
    assert claims.take("a", other)


def test_claims_that_were_given_up_are_forgotten() -> None:
    clock = Clock()
    claims, run = Claims(clock), object()
    for number in range(1000):
        claims.take(str(number), run)
        claims.release(str(number), run, linger=True)
        clock.now += 0.1
    assert len(claims._lingering) <= LINGER_SECONDS / 0.1 + 1
    assert len(claims._order) <= LINGER_SECONDS / 0.1 + 1
    assert not claims._claims
