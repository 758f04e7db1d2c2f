import inspect

import pytest

from invocation_operator.engine import errors


def test_errors_message_is_one_capped_line() -> None:
    error = errors.BadReply("a\r\nb\x00\u2028c " + "x" * 1000)
    assert error.message.startswith("a b c x")
    assert len(error.message) == 256
    assert error.message.endswith("…")
    assert str(error) == error.message


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (errors.Unreachable("", sent=False), False),
        (errors.Unreachable("", sent=True), True),
        (errors.CertificateInvalid(""), False),
        (errors.Unauthorized("", status=401), False),
        (errors.Rejected("", status=400), False),
        (errors.NotFound("", status=404), False),
        (errors.Throttled(""), False),
        (errors.ServerFault("", status=503), True),
        (errors.BadReply(""), True),
        (errors.CutOff(""), True),
    ],
)
def test_errors_may_have_acted_unless_that_is_ruled_out(error: errors.EngineError, expected: bool) -> None:
    assert error.may_have_acted is expected


def test_errors_tree_is_drawn_completely() -> None:
    assert errors.__doc__ is not None
    for name, _ in inspect.getmembers(errors, lambda it: inspect.isclass(it) and issubclass(it, Exception)):
        assert f" {name}" in errors.__doc__
