"""Options from the command line and the environment: what is taken, what is refused, and in which words."""

import pytest
from pydantic import ValidationError

from invocation_operator.settings import LogFormat, LogLevel, Settings


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NAMESPACES", "METRICS_PORT", "LOG_LEVEL", "OPERATOR_NAMESPACE", "TRUSTED_ENGINE_NAMESPACES"):
        monkeypatch.delenv(f"INVOCATION_OPERATOR_{name}", raising=False)


def test_settings_without_anything_watch_all_namespaces() -> None:
    settings = Settings()
    assert settings.namespaces == ()
    assert settings.trusted_engine_namespaces == ()
    assert (settings.metrics_port, settings.health_port) == (9090, 8081)
    assert settings.log_format is None
    assert settings.log_level is LogLevel.INFO


def test_settings_identity_differs_for_each_process() -> None:
    assert Settings().identity != Settings().identity


def test_settings_are_fixed() -> None:
    with pytest.raises(ValidationError):
        Settings().metrics_port = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("shop", ("shop",), id="one"),
        pytest.param("shop,payments", ("shop", "payments"), id="commas"),
        pytest.param(" shop , payments ", ("shop", "payments"), id="blanks"),
        pytest.param('["shop","123"]', ("shop", "123"), id="a JSON list, as the chart writes it"),
        pytest.param("shop,shop", ("shop",), id="twice is once: two watches would tell everything twice"),
    ],
)
def test_settings_namespaces_in_the_environment(text: str, expected: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INVOCATION_OPERATOR_NAMESPACES", text)
    assert Settings().namespaces == expected


@pytest.mark.parametrize(
    ("namespaces", "trusted", "expected"),
    [
        pytest.param((), ("platform",), (), id="all are served"),
        pytest.param(("shop",), (), ("own",), id="trusting all makes none its business but its own"),
        pytest.param(("shop",), ("platform", "shop"), ("own", "platform"), id="what is served is watched already"),
        pytest.param(("shop", "own"), ("own",), (), id="it serves itself"),
        pytest.param(("shop",), ("own", "platform"), ("own", "platform"), id="each once"),
    ],
)
def test_settings_unserved_engine_namespaces(
    namespaces: tuple[str, ...], trusted: tuple[str, ...], expected: tuple[str, ...]
) -> None:
    how = {"namespaces": namespaces} if namespaces else {}
    how |= {"trusted_engine_namespaces": trusted} if trusted else {}
    assert Settings(operator_namespace="own", **how).unserved_engine_namespaces == expected


@pytest.mark.parametrize("name", ["NAMESPACES", "TRUSTED_ENGINE_NAMESPACES"])
@pytest.mark.parametrize(
    ("text", "why"),
    [
        pytest.param("", "names nothing", id="empty would mean all"),
        pytest.param("  ", "names nothing", id="blank would mean all"),
        pytest.param("[]", "names nothing", id="an empty list would mean all"),
        pytest.param('["shop"', "JSON list", id="cut off"),
        pytest.param('["shop", 7]', "string", id="a number"),
        pytest.param("shop,", "'' is not the name", id="nothing after the comma"),
        pytest.param("Shop", "'Shop' is not the name", id="upper case"),
        pytest.param("shop payments", "is not the name", id="separated by a blank"),
        pytest.param("../x", "is not the name", id="a path"),
        pytest.param("shop-*", "is not the name", id="a pattern: rights are given for names"),
        pytest.param("!shop", "is not the name", id="a negation"),
        pytest.param("s" * 64, "is not the name", id="too long"),
    ],
)
def test_settings_lists_that_are_refused(name: str, text: str, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"INVOCATION_OPERATOR_{name}", text)
    with pytest.raises(ValidationError, match=why) as raised:
        Settings()
    assert {problem["loc"][0] for problem in raised.value.errors()} == {name.lower()}


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("metrics_port", "abc"),
        ("metrics_port", "99999"),
        ("metrics_port", "-1"),
        ("metrics_port", "tcp://10.0.0.7:9090"),
        ("health_port", "80.5"),
        ("log_format", "xml"),
        ("log_level", "loud"),
        ("operator_namespace", "Operator"),
        ("operator_namespace", ""),
        ("cluster_domain", "cluster local"),
        ("cluster_domain", ""),
        ("bind_address", ""),
        ("shutdown_seconds", "nan"),
        ("shutdown_seconds", "601"),
        ("lease_seconds", "0"),
        ("lease_seconds", "inf"),
        ("call_timeout_seconds", "0"),
        ("identity", ""),
        ("identity", "x" * 129),
    ],
)
def test_settings_values_that_are_refused(option: str, value: str) -> None:
    with pytest.raises(ValidationError) as raised:
        Settings(**{option: value})
    assert [problem["loc"] for problem in raised.value.errors()] == [(option,)]


def test_settings_unknown_option_is_refused() -> None:
    with pytest.raises(ValidationError, match="extra_forbidden"):
        Settings(metriks_port="1")  # type: ignore[call-arg]


def test_settings_command_line_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INVOCATION_OPERATOR_METRICS_PORT", "1")
    monkeypatch.setenv("INVOCATION_OPERATOR_LOG_FORMAT", "console")
    settings = Settings(metrics_port="2")  # type: ignore[arg-type]
    assert settings.metrics_port == 2
    assert settings.log_format is LogFormat.CONSOLE
