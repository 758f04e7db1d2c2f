"""Metrics of RetentionPolicies: is a policy in force, where not, and how often was it undone."""

from collections import Counter as Counted
from collections.abc import Iterable

from prometheus_client import Counter, Gauge

from invocation_operator.api.v1alpha1.retention import ServiceState
from invocation_operator.observe.metrics import REGISTRY

SERVICES = Gauge(
    "invocation_operator_retention_services",
    "Services of a RetentionPolicy, by whether it is in force there.",
    ["namespace", "policy", "state"],
    registry=REGISTRY,
)
DRIFTS = Counter(
    "invocation_operator_retention_drifts_total",
    "How often values of a service were found to be others than a RetentionPolicy had set, by why.",
    ["namespace", "policy", "cause"],
    registry=REGISTRY,
)


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
    for metric in (SERVICES, DRIFTS):
        metric.remove_by_labels({"namespace": namespace, "policy": policy})
