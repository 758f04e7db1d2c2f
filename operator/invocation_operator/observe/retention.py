"""Metrics of RetentionPolicies: is a policy in force, where not, and how often was it undone."""

from collections import Counter as Counted
from collections.abc import Iterable
from datetime import datetime

from prometheus_client import Counter, Gauge

from invocation_operator.api.v1alpha1.retention import ServiceState
from invocation_operator.api.v1alpha1.sweep import SweepRun
from invocation_operator.observe.metrics import REGISTRY


def _gauge(name: str, told: str, *more: str) -> Gauge:
    return Gauge(f"invocation_operator_{name}", told, ["namespace", "policy", *more], registry=REGISTRY)


def _counter(name: str, told: str, *more: str) -> Counter:
    return Counter(f"invocation_operator_{name}", told, ["namespace", "policy", *more], registry=REGISTRY)


SERVICES = _gauge("retention_services", "Services of a RetentionPolicy, by whether it is in force there.", "state")
DRIFTS = _counter(
    "retention_drifts_total",
    "How often values of a service were found to be others than a RetentionPolicy had set, by why.",
    "cause",
)
NEXT_SWEEP = _gauge(
    "sweep_next_timestamp_seconds", "When the next run of a sweep is; absent while it is suspended.", "sweep"
)
LAST_SWEEP = _gauge("sweep_last_timestamp_seconds", "When the last run of a sweep ended, by how.", "sweep", "phase")
SWEPT = _counter(
    "sweep_freed_invocations_total", "Invocations that a sweep purged, or whose journals it purged.", "sweep"
)
SWEPT_BYTES = _counter(
    "sweep_freed_bytes_total", "Bytes of journals that a sweep freed, counted before each run.", "sweep"
)


def next_sweep(namespace: str, policy: str, sweep: str, at: datetime | None) -> None:
    """Say when a sweep runs next; None: not by itself."""
    if at is None:
        NEXT_SWEEP.remove_by_labels({"namespace": namespace, "policy": policy, "sweep": sweep})
    else:
        NEXT_SWEEP.labels(namespace, policy, sweep).set(at.timestamp())


def forget_sweep(namespace: str, policy: str, sweep: str) -> None:
    """Drop what is said of a sweep that has left its policy, but for what it has freed."""
    for metric in (NEXT_SWEEP, LAST_SWEEP):
        metric.remove_by_labels({"namespace": namespace, "policy": policy, "sweep": sweep})


def swept(namespace: str, policy: str, sweep: str, run: SweepRun) -> None:
    """Count a run that has ended."""
    labels = namespace, policy, sweep
    if run.completion_time is not None:
        LAST_SWEEP.labels(*labels, run.phase.value).set(run.completion_time.timestamp())
    SWEPT.labels(*labels).inc(run.freed)
    SWEPT_BYTES.labels(*labels).inc(run.bytes_freed or 0)


def services(namespace: str, policy: str, states: Iterable[ServiceState]) -> None:
    """Say in which states the services of a policy are."""
    found = Counted(states)
    for state in ServiceState:
        SERVICES.labels(namespace, policy, state.value).set(found[state])


def drifted(namespace: str, policy: str, causes: Iterable[str]) -> None:
    """Count drifts."""
    for cause in causes:
        DRIFTS.labels(namespace, policy, str(cause)).inc()


def forget(namespace: str, policy: str) -> None:
    """Drop what is said of a policy that is gone."""
    for metric in (SERVICES, DRIFTS, NEXT_SWEEP, LAST_SWEEP, SWEPT, SWEPT_BYTES):
        metric.remove_by_labels({"namespace": namespace, "policy": policy})


def forget_policies() -> None:
    """Drop what is said of all policies, but for what was counted: another process looks after them now."""
    for gauge in (SERVICES, NEXT_SWEEP, LAST_SWEEP):
        gauge.clear()
