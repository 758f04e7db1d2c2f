"""Metrics of the operator, in Prometheus' text format.

Runs are rare, and the first of its kind would not be seen as an increase of a series that was not there before: the
counters of all actions are there from the start, with zero.
"""

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    disable_created_metrics,
)

from invocation_operator import __version__
from invocation_operator.api.v1alpha1.action import ActionProgress, ActionType, Outcome, Phase

# They would be a second series for each of the counters, of use to nobody in this format.
disable_created_metrics()  # type: ignore[no-untyped-call]

REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)
Info("invocation_operator_build", "What runs here.", registry=REGISTRY).info({"version": __version__})

RUNS = Counter(
    "invocation_operator_runs_total",
    "Runs that ended, by action and phase; also those that were only planned, refused, expired or executed before.",
    ["action", "phase"],
    registry=REGISTRY,
)
INVOCATIONS = Counter(
    "invocation_operator_invocations_total",
    "Invocations of runs that ended, by what became of them.",
    ["action", "outcome"],
    registry=REGISTRY,
)
RUN_SECONDS = Histogram(
    "invocation_operator_run_seconds",
    "Time from the plan to the verified end of a run.",
    ["action"],
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800),
    registry=REGISTRY,
)
RECORDS_PRUNED = Counter(
    "invocation_operator_records_pruned_total",
    "InvocationRecords that were deleted because they were old enough.",
    registry=REGISTRY,
)
LEADER = Gauge("invocation_operator_leader", "Whether this process leads.", registry=REGISTRY)
ACTIVE = Gauge("invocation_operator_active_objects", "Objects being worked on.", ["kind"], registry=REGISTRY)
AWAITING_APPROVAL = Gauge(
    "invocation_operator_awaiting_approval", "Actions whose plan waits for its approval.", registry=REGISTRY
)
APPROVALS = Counter(
    "invocation_operator_approvals_total", "Approved plans that were taken up.", ["action"], registry=REGISTRY
)
ENGINE_UP = Gauge(
    "invocation_operator_engine_up", "Whether an engine can be used.", ["namespace", "engine"], registry=REGISTRY
)
ENGINE_INVOCATIONS = Gauge(
    "invocation_operator_engine_invocations",
    "Invocations on an engine, by status, sampled.",
    ["namespace", "engine", "status"],
    registry=REGISTRY,
)


ENDS = (
    Phase.PLANNED,
    Phase.SUCCEEDED,
    Phase.PARTIALLY_FAILED,
    Phase.FAILED,
    Phase.REFUSED,
    Phase.STOPPED,
    Phase.EXPIRED,
    Phase.ALREADY_EXECUTED,
)
UNKNOWN = "Unknown"
"""In the place of an action that cannot be read: such a run can only be refused."""
RUNS.labels(UNKNOWN, Phase.REFUSED.value)
for _action in ActionType:
    RUN_SECONDS.labels(_action.value)
    APPROVALS.labels(_action.value)
    for _phase in ENDS:
        RUNS.labels(_action.value, _phase.value)
    for _outcome in Outcome:
        INVOCATIONS.labels(_action.value, _outcome.value)


def run_ended(action: ActionType, phase: Phase, seconds: float, progress: ActionProgress) -> None:
    """Count a run that was carried out, ``seconds`` from its plan to its end, and what became of its invocations."""
    RUN_SECONDS.labels(action.value).observe(seconds)
    for outcome in Outcome:
        INVOCATIONS.labels(action.value, outcome.value).inc(getattr(progress, outcome.name.lower()))
    run_concluded(action, phase)


def run_concluded(action: ActionType | None, phase: Phase) -> None:
    """Count a run that ended, carried out or not; None: an action that only a newer operator knows."""
    RUNS.labels(action.value if action else UNKNOWN, phase.value).inc()


def plan_approved(action: ActionType) -> None:
    """Count an approval that was taken up."""
    APPROVALS.labels(action.value).inc()


def forget_engines() -> None:
    """Drop what is said of all engines: another process looks at them now."""
    for gauge in (ENGINE_UP, ENGINE_INVOCATIONS):
        gauge.clear()


def forget_engine(namespace: str, engine: str) -> None:
    """Drop what is said of a RestateEngine that is gone: it is neither up nor down."""
    for gauge in (ENGINE_UP, ENGINE_INVOCATIONS):
        gauge.remove_by_labels({"namespace": namespace, "engine": engine})
