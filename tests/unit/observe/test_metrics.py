"""Metrics: names and units as Prometheus wants them, all series of runs there from the start."""

import re

import pytest
from prometheus_client import generate_latest

from invocation_operator.api.v1alpha1.action import ActionProgress, ActionType, Outcome, Phase
from invocation_operator.observe import metrics


def value(name: str, **labels: str) -> float:
    return metrics.REGISTRY.get_sample_value(name, labels) or 0.0


def test_metrics_are_named_as_prometheus_wants_them() -> None:
    text = generate_latest(metrics.REGISTRY).decode()
    types = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))
    helps = dict(re.findall(r"^# HELP (\S+) (.+)$", text, re.MULTILINE))
    own = {name: kind for name, kind in types.items() if name.startswith("invocation_operator_")}
    assert own
    for name, kind in own.items():
        assert re.fullmatch(r"[a-z][a-z0-9_]*", name)
        assert helps[name].endswith(".")
        assert (kind == "counter") == name.endswith("_total")
        assert not re.search(r"_(milliseconds|ms|minutes|percent|gauge|counter|histogram)(_|$)", name)
        if kind == "histogram":
            assert name.endswith(("_seconds", "_bytes"))
    assert not set(types) - set(own) - {name for name in types if name.startswith("process_")}


def test_metrics_of_runs_are_there_from_the_start() -> None:
    for action in ActionType:
        for phase in metrics.ENDS:
            sample = {"action": action.value, "phase": phase.value}
            assert metrics.REGISTRY.get_sample_value("invocation_operator_runs_total", sample) is not None
        for outcome in Outcome:
            sample = {"action": action.value, "outcome": outcome.value}
            assert metrics.REGISTRY.get_sample_value("invocation_operator_invocations_total", sample) is not None


def test_metrics_ends_are_all_phases_but_those_under_way() -> None:
    waiting = {Phase.PENDING, Phase.PLANNING, Phase.AWAITING_APPROVAL, Phase.SUSPENDED}
    under_way = waiting | {Phase.RUNNING, Phase.VERIFYING}
    assert set(metrics.ENDS) == set(Phase) - under_way


def test_metrics_every_outcome_is_a_count_of_the_progress() -> None:
    for outcome in Outcome:
        assert outcome.name.lower() in ActionProgress.model_fields


def test_metrics_run_that_ended_is_counted_with_its_invocations() -> None:
    def seen() -> tuple[float, ...]:
        action = "Purge"
        return (
            value("invocation_operator_runs_total", action=action, phase="PartiallyFailed"),
            value("invocation_operator_invocations_total", action=action, outcome="Effective"),
            value("invocation_operator_invocations_total", action=action, outcome="NoOp"),
            value("invocation_operator_run_seconds_count", action=action),
            value("invocation_operator_run_seconds_sum", action=action),
        )

    before = seen()
    metrics.run_ended(ActionType.PURGE, Phase.PARTIALLY_FAILED, 2.5, ActionProgress(effective=7, no_op=2))
    assert [after - was for was, after in zip(before, seen(), strict=True)] == pytest.approx([1, 7, 2, 1, 2.5])


def test_metrics_of_an_engine_that_is_gone_are_dropped() -> None:
    metrics.ENGINE_UP.labels("shop", "old").set(1)
    metrics.ENGINE_UP.labels("shop", "kept").set(1)
    metrics.ENGINE_INVOCATIONS.labels("shop", "old", "Running").set(4)
    metrics.forget_engine("shop", "old")
    metrics.forget_engine("shop", "never-there")
    text = generate_latest(metrics.REGISTRY).decode()
    assert 'engine="old"' not in text
    assert 'engine="kept"' in text
    metrics.forget_engine("shop", "kept")
