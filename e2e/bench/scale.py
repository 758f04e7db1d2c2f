"""A hundred thousand invocations in one action: memory, status, writes, and what a small action feels beside it."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e2e.bench.crowd import Crowd
from e2e.bench.figures import Figure, median, milliseconds, percentile
from e2e.bench.stage import NAMESPACE, OPERATOR_NAMESPACE, ROOT, Stage
from e2e.bench.wire import Line, Watch, ready

SERVICES = "bulk"
SMALL = 1_000
LARGE = 100_000
HUGE = 1_000_000
SINGLES = 100
"""Small actions that are timed, one after the other."""
RAISED = {"maxInFlight": 10_000, "operationsPerSecond": 100_000}
GOAL_MEMORY = 1.3
GOAL_STATUS = 64 * 1024
GOAL_LATENCY = 3.0
CONFIG_MAPS = f"/api/v1/namespaces/{OPERATOR_NAMESPACE}/configmaps"
RECORDS = f"{ROOT}/namespaces/{OPERATOR_NAMESPACE}/invocationrecords"
ACTIONS = f"{ROOT}/namespaces/{NAMESPACE}/invocationactions"

NOTE = (
    f"Cancel of scheduled invocations under raised limits ({RAISED['maxInFlight']:,} in flight, "
    f"{RAISED['operationsPerSecond']:,} per second). Memory is the largest resident set that the kernel has seen "
    "(VmHWM), each run in a process of its own. Writes are all changes of the action, its record, its chunks and its "
    f"Events. Small actions cancel one invocation each, {SINGLES} one after the other, from the create request to the "
    "`Ready=True` event."
)


@dataclass
class Seen:
    """One bulk run as it was seen."""

    seconds: float
    peak: float
    """MiB."""
    status: int
    """Bytes of the largest status."""
    writes: int


def measure(stage: Stage, _rounds: int, large: int = LARGE, **spec: Any) -> list[Figure]:
    """``large`` beside a thousand, the actions with ``spec`` besides."""
    small_run = _alone(stage, "small", SMALL, **spec)
    large_run = _alone(stage, "large", large, **spec)
    ratio = large_run.peak / small_run.peak
    rate = large / large_run.seconds
    bounded = large == LARGE
    return [
        Figure(f"peak memory, {SMALL:,} targets", _mebibytes(small_run.peak)),
        Figure(
            f"peak memory, {large:,} targets",
            _mebibytes(large_run.peak),
            f"{ratio:.2f} times that" + (f", goal ≤ {GOAL_MEMORY}" if bounded else ""),
            ratio <= GOAL_MEMORY if bounded else None,
        ),
        Figure("apply → Ready (verified)", f"{large_run.seconds:.1f} s", f"{rate:,.0f}/s"),
        Figure(
            "largest status, bytes as JSON",
            f"{large_run.status:,}",
            f"goal < {GOAL_STATUS:,}",
            large_run.status < GOAL_STATUS,
        ),
        Figure(
            "Kubernetes writes", f"{large_run.writes}", f"{large_run.writes / large_run.seconds * 60:,.0f} per minute"
        ),
    ]


def measure_beside(stage: Stage, _rounds: int) -> list[Figure]:
    """The latency of small actions: alone, beside a bulk run at half its rate, and beside one without a limit."""
    with stage.operator("beside"):
        stage.connect("production", stage.engine.admin_url, RAISED)
        _bulk(stage, "warm", SMALL)
        idle = _singles(stage, "idle", None)
        Crowd.waiting(stage.engine, "Ours", LARGE)
        rate = LARGE / _bulk_of(stage, "measured")
        half = max(1, int(rate / 2))
        beside, took = _with_bulk(stage, "half", {"operationsPerSecond": half})
        unlimited, unlimited_took = _with_bulk(stage, "unlimited", {})
    p99 = percentile(idle, 0.99)
    return [
        Figure("small action alone, median", milliseconds(median(idle))),
        Figure("small action alone, p99", milliseconds(p99)),
        Figure(f"bulk run of {LARGE:,} alone", f"{rate:,.0f}/s"),
        Figure(f"small action beside a bulk run limited to {half:,}/s, median", milliseconds(median(beside))),
        Figure(
            f"small action beside a bulk run limited to {half:,}/s, p99",
            milliseconds(percentile(beside, 0.99)),
            f"{percentile(beside, 0.99) / p99:.1f} times alone, goal ≤ {GOAL_LATENCY:.0f}",
            percentile(beside, 0.99) <= GOAL_LATENCY * p99,
        ),
        Figure("that bulk run", f"{took:.1f} s", f"{LARGE / took:,.0f}/s; {len(beside)} small actions beside it"),
        Figure("small action beside an unlimited bulk run, median", milliseconds(median(unlimited))),
        Figure(
            "small action beside an unlimited bulk run, p99",
            milliseconds(percentile(unlimited, 0.99)),
            f"{percentile(unlimited, 0.99) / p99:.1f} times alone",
        ),
        Figure(
            "that bulk run", f"{unlimited_took:.1f} s", f"{LARGE / unlimited_took:,.0f}/s; {len(unlimited)} beside it"
        ),
    ]


def _alone(stage: Stage, name: str, size: int, **spec: Any) -> Seen:
    """One run in an operator of its own."""
    Crowd.waiting(stage.engine, "Ours", size)
    paths = (ACTIONS, RECORDS, CONFIG_MAPS, f"/api/v1/namespaces/{NAMESPACE}/events")
    with stage.operator(name) as operator:
        stage.connect("production", stage.engine.admin_url, RAISED)
        with _watched(stage, paths) as watches:
            seconds = _bulk_of(stage, name, size, **spec)
            time.sleep(3)
            writes = sum(len(watch.events) for watch in watches)
            status = max(len(json.dumps(obj.get("status", {}))) for _, _, obj in watches[0].events)
        peak = high_water(operator.pid)
    return Seen(seconds, peak, status, writes)


@contextmanager
def _watched(stage: Stage, paths: tuple[str, ...]) -> Iterator[list[Watch]]:
    watches = [Watch(stage.control_plane, path) for path in paths]
    for watch in watches:
        watch.__enter__()
    yield watches


def _bulk(stage: Stage, name: str, size: int) -> float:
    Crowd.waiting(stage.engine, "Ours", size)
    return _bulk_of(stage, name, size)


def _bulk_of(stage: Stage, name: str, size: int = LARGE, limits: dict[str, int] | None = None, **spec: Any) -> float:
    """Cancel what waits; seconds from the manifest to Ready."""
    limits = {"maxTargets": size, **(limits or {})}
    manifest = stage.action(name, "Cancel", {"services": ["WaitsOurs"]}, limits=limits, **spec)
    with Watch(stage.control_plane, ACTIONS) as watch:
        applied = time.perf_counter()
        Line.to(stage.control_plane).request("POST", ACTIONS, manifest)
        ended, obj = watch.first(
            lambda obj: obj["metadata"]["name"] == name and "completionTime" in obj.get("status", {}), timeout=1200
        )
    if not ready(obj) or obj["status"]["progress"]["effective"] != size:
        raise RuntimeError(f"{name} was to cancel all: {obj['status']}")
    return ended - applied


def _singles(stage: Stage, name: str, until: threading.Event | None) -> list[float]:
    """Small actions one after the other: ``SINGLES`` of them, or until the event."""
    ids = stage.waiting(SINGLES * (1 if until is None else 10))
    line = Line.to(stage.control_plane)
    latencies: list[float] = []
    with Watch(stage.control_plane, ACTIONS) as watch:
        for number, id_ in enumerate(ids):
            if until is not None and until.is_set():
                break
            own = f"{name}-{number}"
            manifest = stage.action(own, "Cancel", {"ids": [id_]})
            seen = len(watch.events)
            begun = time.perf_counter()
            line.request("POST", ACTIONS, manifest)
            at, _ = watch.first(lambda obj, own=own: obj["metadata"]["name"] == own and ready(obj), since=seen)  # type: ignore[misc]
            latencies.append(at - begun)
    return latencies


def _with_bulk(stage: Stage, name: str, limits: dict[str, int]) -> tuple[list[float], float]:
    """Small actions for as long as a bulk run takes, and how long that is."""
    Crowd.waiting(stage.engine, "Ours", LARGE)
    over, took = threading.Event(), 0.0

    def bulk() -> None:
        nonlocal took
        try:
            took = _bulk_of(stage, name, LARGE, limits)
        finally:
            over.set()

    thread = threading.Thread(target=bulk)
    thread.start()
    latencies = _singles(stage, f"beside-{name}", over)
    thread.join()
    if not took:
        raise RuntimeError(f"the bulk run {name} failed")
    return latencies, took


def high_water(pid: int) -> float:
    """MiB of the largest resident set so far."""
    return _status_of(pid)["VmHWM"]


def resident(pid: int) -> float:
    """MiB of the resident set."""
    return _status_of(pid)["VmRSS"]


def _status_of(pid: int) -> dict[str, float]:
    lines: list[Any] = [line.split() for line in Path(f"/proc/{pid}/status").read_text().splitlines()]
    return {line[0].rstrip(":"): int(line[1]) / 1024 for line in lines if len(line) == 3 and line[2] == "kB"}


def _mebibytes(value: float) -> str:
    return f"{value:.0f} MiB"
