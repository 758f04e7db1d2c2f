"""The log pipeline: one JSON object for each line whoever writes it, and a format for people."""

import io
import json
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from invocation_operator.observe import logs

SECRET = "not-to-be-seen"


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Logging is the process's: what a test sets up is undone."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    levels = {name: logging.getLogger(name).level for name in ("aiohttp", "asyncio", "kopf", "kubernetes", "stamina")}
    yield
    logging.captureWarnings(capture=False)
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, before in levels.items():
        logging.getLogger(name).setLevel(before)
    structlog.contextvars.clear_contextvars()
    structlog.reset_defaults()


def pipeline(level: str = "info", *, json_lines: bool = True) -> io.StringIO:
    stream = io.StringIO()
    logs.configure(json=json_lines, level=level, stream=stream)
    return stream


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_logs_own_line_has_event_level_logger_time_and_fields() -> None:
    stream = pipeline()
    structlog.get_logger("invocation_operator.x").info("run ended", phase="Succeeded", effective=3)
    (line,) = lines(stream)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "run ended",
        "level": "info",
        "logger": "invocation_operator.x",
        "phase": "Succeeded",
        "effective": 3,
    }


def test_logs_line_of_a_library_goes_the_same_way() -> None:
    stream = pipeline()
    logging.getLogger("kopf.of.an.object").warning("%s of %s\nfailed", 1, 2)
    (line,) = lines(stream)
    assert (line["event"], line["level"], line["logger"]) == ("1 of 2\nfailed", "warning", "kopf.of.an.object")
    assert "timestamp" in line


def test_logs_what_kopf_attaches_becomes_the_object() -> None:
    stream = pipeline()
    extra = {"k8s_ref": {"namespace": "shop", "name": "x", "uid": "1"}, "k8s_skip": False, "settings": object()}
    logging.getLogger("kopf.of.an.object").warning("something", extra=extra)
    (line,) = lines(stream)
    assert line["object"] == "shop/x"
    assert not line.keys() & extra.keys()


def test_logs_context_of_a_task_is_on_every_line_and_what_is_said_wins() -> None:
    stream = pipeline()
    structlog.contextvars.bind_contextvars(object="shop/x", run="1")
    structlog.get_logger("a").info("own", run="2")
    logging.getLogger("b").warning("library")
    assert [(line["object"], line["run"]) for line in lines(stream)] == [("shop/x", "2"), ("shop/x", "1")]


def test_logs_exception_is_inside_its_line() -> None:
    stream = pipeline()
    for log in (structlog.get_logger("own"), logging.getLogger("library")):
        try:
            raise ValueError("first\nsecond")
        except ValueError:
            log.exception("it failed")
    own, library = lines(stream)
    for line in (own, library):
        assert line["level"] == "error"
        assert "ValueError: first" in line["exception"]


def test_logs_python_warning_is_a_line() -> None:
    stream = pipeline()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=True)
        warnings.warn("old ways", DeprecationWarning, stacklevel=1)
    (line,) = lines(stream)
    assert (line["level"], line["logger"]) == ("warning", "py.warnings")


def test_logs_value_that_json_does_not_know_is_still_a_line() -> None:
    stream = pipeline()
    structlog.get_logger("x").info("odd", value={1, 2}, text="line\nbreak \u2028 \x00")
    assert len(lines(stream)) == 1


@pytest.mark.parametrize(
    ("level", "heard"),
    [
        ("debug", ["debug", "info", "warning", "error"]),
        ("info", ["info", "warning", "error"]),
        ("warning", ["warning", "error"]),
        ("error", ["error"]),
    ],
)
def test_logs_level_option_is_kept_to(level: str, heard: list[str]) -> None:
    stream = pipeline(level)
    log = structlog.get_logger("invocation_operator.x")
    for name in ("debug", "info", "warning", "error"):
        getattr(log, name)("said")
    assert [line["level"] for line in lines(stream)] == heard


@pytest.mark.parametrize("level", ["debug", "info"])
@pytest.mark.parametrize("library", ["kopf.of.an.object", "kopf._core.engines", "aiohttp.access", "asyncio", "stamina"])
def test_logs_libraries_are_heard_from_warnings_on(library: str, level: str) -> None:
    stream = pipeline(level)
    logging.getLogger(library).info("for each event")
    logging.getLogger(library).warning("trouble")
    assert [line["event"] for line in lines(stream)] == ["trouble"]


def test_logs_kubernetes_replies_are_not_printed_even_when_debugging() -> None:
    stream = pipeline("debug")
    logging.getLogger("kubernetes.aio.client.rest").debug("response body: %s", SECRET)
    assert stream.getvalue() == ""


def test_logs_console_is_for_people() -> None:
    stream = pipeline(json_lines=False)
    structlog.get_logger("x").warning("run ended", object="shop/x")
    said = stream.getvalue()
    assert "run ended" in said
    assert "object=shop/x" in said
    assert not said.startswith("{")
    assert "\x1b" not in said, "no colours where nobody sees them"


@pytest.mark.parametrize("json_lines", [True, False])
def test_logs_exception_does_not_print_local_variables(json_lines: bool) -> None:
    stream = pipeline(json_lines=json_lines)
    try:
        token = "".join(SECRET)
        raise ValueError(len(token))
    except ValueError:
        structlog.get_logger("x").exception("it failed")
    assert "ValueError" in stream.getvalue()
    assert SECRET not in stream.getvalue()
