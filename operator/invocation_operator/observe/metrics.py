"""Metrics of the operator, in Prometheus' text format."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)

RUNS = Counter(
    "invocation_operator_runs_total", "Runs that ended, by action and phase.", ["action", "phase"], registry=REGISTRY
)
INVOCATIONS = Counter(
    "invocation_operator_invocations_total",
    "Invocations by what became of them.",
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
ACTIVE = Gauge("invocation_operator_active_objects", "Objects being worked on.", ["kind"], registry=REGISTRY)
ENGINE_UP = Gauge(
    "invocation_operator_engine_up", "Whether an engine can be used.", ["namespace", "engine"], registry=REGISTRY
)
ENGINE_INVOCATIONS = Gauge(
    "invocation_operator_engine_invocations",
    "Invocations on an engine, by status, sampled.",
    ["namespace", "engine", "status"],
    registry=REGISTRY,
)


def forget_engine(namespace: str, engine: str) -> None:
    """Drop what is said of a RestateEngine that is gone: it is neither up nor down."""
    for gauge in (ENGINE_UP, ENGINE_INVOCATIONS):
        gauge.remove_by_labels({"namespace": namespace, "engine": engine})
