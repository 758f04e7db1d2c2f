"""Metrics of policies: what they tell while there is one, and that nothing stays when it is gone."""

from datetime import UTC, datetime

from prometheus_client import generate_latest

from invocation_operator.api.v1alpha1.action import Phase
from invocation_operator.api.v1alpha1.retention import ServiceState
from invocation_operator.api.v1alpha1.sweep import SweepRun
from invocation_operator.observe import retention as metrics

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)
OWN = {"namespace": "shop", "policy": "metered"}


def value(name: str, **labels: str) -> float | None:
    return metrics.REGISTRY.get_sample_value(f"invocation_operator_{name}", OWN | labels)


def test_metrics_of_a_policy_answer_where_it_is_in_force_and_what_was_freed() -> None:
    metrics.services("shop", "metered", [ServiceState.IN_FORCE, ServiceState.IN_FORCE, ServiceState.CONFLICTED])
    metrics.drifted("shop", "metered", ["NewDeployment", "NewDeployment"])
    metrics.next_sweep("shop", "metered", "nightly", NOON)
    run = SweepRun(phase=Phase.SUCCEEDED, completion_time=NOON, freed=7, bytes_freed=700)
    metrics.swept("shop", "metered", "nightly", run)
    metrics.swept("shop", "metered", "nightly", SweepRun(phase=Phase.FAILED, completion_time=NOON, freed=1))
    states = {state.value: value("retention_services", state=state.value) for state in ServiceState}
    assert {state: count for state, count in states.items() if count} == {"InForce": 2, "Conflicted": 1}
    assert len([count for count in states.values() if count is not None]) == len(ServiceState)
    assert value("retention_drifts_total", cause="NewDeployment") == 2
    assert value("sweep_next_timestamp_seconds", sweep="nightly") == NOON.timestamp()
    assert value("sweep_last_timestamp_seconds", sweep="nightly", phase="Failed") == NOON.timestamp()
    assert value("sweep_freed_invocations_total", sweep="nightly") == 8
    assert value("sweep_freed_bytes_total", sweep="nightly") == 700
    metrics.next_sweep("shop", "metered", "nightly", None)
    assert value("sweep_next_timestamp_seconds", sweep="nightly") is None
    metrics.next_sweep("shop", "metered", "nightly", NOON)
    metrics.forget_sweep("shop", "metered", "nightly")
    assert value("sweep_next_timestamp_seconds", sweep="nightly") is None
    assert value("sweep_last_timestamp_seconds", sweep="nightly", phase="Failed") is None
    assert value("sweep_freed_invocations_total", sweep="nightly") == 8, "a counter stays while its policy does"
    metrics.forget("shop", "metered")
    assert 'policy="metered"' not in generate_latest(metrics.REGISTRY).decode()
