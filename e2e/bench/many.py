"""A thousand actions at once, beside a bare kopf handler that makes the same writes; and ten thousand finished ones."""

import json
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from e2e.bench.figures import Figure, median
from e2e.bench.scale import high_water, resident
from e2e.bench.stage import BARE, NAMESPACE, OPERATOR_NAMESPACE, ROOT, Stage
from e2e.bench.wire import Line, Watch, ready
from e2e.rig.process import Child, free_ports
from e2e.rig.toolchain import ROOT as CHECKOUT
from e2e.rig.wire import NOBODY_THERE, exchange

SERVICES = "bulk"
COUNT = 1_000
FINISHED = 10_000
CREATORS = 8
GOAL_RATIO = 0.6
GOAL_START = 5.0
GOAL_MEMORY = 1.1
MERGE = "application/merge-patch+json"

NOTE = (
    f"{COUNT:,} InvocationActions created by {CREATORS} connections as fast as they take them, each cancelling one "
    "scheduled invocation, from the first create request to the last `Ready=True`; the bare handler in a namespace of "
    "its own makes the same writes (record, its end, two statuses, two Events) with the same client and knows no "
    "engine. Medians of {rounds} in changing order."
)
NOTE_FINISHED = (
    f"{FINISHED:,} InvocationActions that have ended are there when the operator starts. Ready is what /readyz says, "
    "from the start of the process. Ten seconds later no object has another resourceVersion."
)


def measure(stage: Stage, rounds: int) -> list[Figure]:
    """The crowd."""
    ours: list[float] = []
    bare: list[float] = []
    peaks: list[float] = []
    with stage.operator("many") as operator:
        template = _template(stage)
        with _bare_handler(stage, template):
            _crowd(stage, NAMESPACE, "warm", 20)
            _crowd(stage, BARE, "warm", 20)
            for number in range(rounds):
                sides = [(NAMESPACE, ours), (BARE, bare)]
                for namespace, times in sides if number % 2 else reversed(sides):
                    times.append(_crowd(stage, namespace, f"round-{number}", COUNT))
                    if namespace == NAMESPACE:
                        peaks.append(high_water(operator.pid))
        at_rest = resident(operator.pid)
    ratio = median(bare) / median(ours)
    growth = peaks[-1] / peaks[0]
    return [
        Figure("bare handler", f"{COUNT / median(bare):,.0f} actions/s"),
        Figure(
            "operator, verified",
            f"{COUNT / median(ours):,.0f} actions/s",
            f"{ratio:.2f} of the bare handler, goal ≥ {GOAL_RATIO}",
            ratio >= GOAL_RATIO,
        ),
        Figure("lost", "0", f"{rounds * COUNT:,} actions, each Ready with one invocation effective"),
        Figure("peak memory after the first round", f"{peaks[0]:.0f} MiB"),
        Figure(
            f"peak memory after {rounds} rounds",
            f"{peaks[-1]:.0f} MiB",
            f"{growth:.2f} times that, goal ≤ {GOAL_MEMORY}",
            growth <= GOAL_MEMORY,
        ),
        Figure("memory afterwards", f"{at_rest:.0f} MiB"),
    ]


def measure_finished(stage: Stage, _rounds: int) -> list[Figure]:
    """The start."""
    with stage.operator("template"):
        template = _template(stage)
    _finished(stage, template)
    before = _versions(stage)
    (port,) = free_ports(1)
    begun = time.perf_counter()
    child = stage.start_operator("finished", "--health-port", str(port))
    try:
        while not _ready(port):
            if time.perf_counter() - begun > 120:
                raise RuntimeError(f"the operator is not ready after 120 s:\n{child.tail()}")
            time.sleep(0.01)
        seconds = time.perf_counter() - begun
        time.sleep(10)
        peak = high_water(child.pid)
        changed = sum(before[name] != version for name, version in _versions(stage).items())
        ids = stage.waiting(1)
        took = _crowd_of(stage, NAMESPACE, "after", ids)
    finally:
        child.stop(grace=10)
    return [
        Figure(
            f"start → ready, {FINISHED:,} finished actions",
            f"{seconds:.2f} s",
            f"goal ≤ {GOAL_START:.0f} s",
            seconds <= GOAL_START,
        ),
        Figure("finished actions that were written to", str(changed), "goal 0", changed == 0),
        Figure("peak memory", f"{peak:.0f} MiB"),
        Figure("a new action then, apply → Ready", f"{took * 1000:.0f} ms"),
    ]


def _ready(port: int) -> bool:
    try:
        return exchange("GET", f"http://127.0.0.1:{port}/readyz", timeout=2).status == 200
    except NOBODY_THERE:
        return False


def _crowd(stage: Stage, namespace: str, name: str, count: int) -> float:
    ids = stage.waiting(count) if namespace == NAMESPACE else [f"inv_{number}" for number in range(count)]
    return _crowd_of(stage, namespace, name, ids)


def _crowd_of(stage: Stage, namespace: str, name: str, ids: list[str]) -> float:
    """Seconds from the first create request to the last Ready; raises when one is not."""
    path = f"{ROOT}/namespaces/{namespace}/invocationactions"
    manifests = [stage.action(f"{name}-{number}", "Cancel", {"ids": [id_]}) for number, id_ in enumerate(ids)]
    for manifest in manifests:
        manifest["metadata"]["namespace"] = namespace

    def create(mine: list[dict[str, Any]]) -> None:
        line = Line.to(stage.control_plane)
        for manifest in mine:
            line.request("POST", path, manifest)

    waiting = {manifest["metadata"]["name"] for manifest in manifests}
    with Watch(stage.control_plane, path) as watch:
        begun = time.perf_counter()
        with ThreadPoolExecutor(CREATORS) as pool:
            list(pool.map(create, [manifests[start::CREATORS] for start in range(CREATORS)]))
        looked, ended = 0, begun
        deadline = time.monotonic() + 240
        while waiting:
            for at, _, obj in watch.events[looked:]:
                looked += 1
                if ready(obj) and obj["metadata"]["name"] in waiting:
                    if obj["status"]["progress"]["effective"] != 1:
                        raise RuntimeError(f"not done: {obj['status']}")
                    waiting.discard(obj["metadata"]["name"])
                    ended = at
            if time.monotonic() > deadline:
                raise RuntimeError(f"{len(waiting)} of {len(ids)} actions in {namespace} did not become Ready")
            time.sleep(0.01)
    return ended - begun


def _template(stage: Stage) -> dict[str, Any]:
    """What the operator writes for one action of one invocation."""
    path = f"{ROOT}/namespaces/{NAMESPACE}/invocationactions"
    with Watch(stage.control_plane, path) as watch:
        _crowd_of(stage, NAMESPACE, "template", stage.waiting(1))
        running = next(obj for _, _, obj in watch.events if obj.get("status", {}).get("phase") == "Running")
    line = Line.to(stage.control_plane)
    done = line.request("GET", f"{path}/template-0")["status"]
    records = f"{ROOT}/namespaces/{OPERATOR_NAMESPACE}/invocationrecords"
    record = line.request("GET", f"{records}/{done['record']}")
    return {
        "record": {key: record[key] for key in ("apiVersion", "kind", "spec")},
        "recordStatus": record["status"],
        "running": running["status"],
        "done": done,
    }


@contextmanager
def _bare_handler(stage: Stage, template: dict[str, Any]) -> Iterator[Child]:
    file = stage.work / "template.json"
    file.write_text(json.dumps(template))
    child = Child(
        [sys.executable, "-m", "e2e.bench.barehandler", BARE, OPERATOR_NAMESPACE, str(file)],
        log=stage.work / "bare.log",
        env={
            "PYTHONPATH": f"{CHECKOUT / 'operator'}:{CHECKOUT}",
            "PYTHONUNBUFFERED": "1",
            "KUBECONFIG": str(stage.control_plane.kubeconfig),
        },
        cwd=stage.work,
    )
    try:
        yield child
    finally:
        child.stop(grace=5)


def _finished(stage: Stage, template: dict[str, Any]) -> None:
    """Actions that have ended: created, and their status written, as the operator would have."""
    path = f"{ROOT}/namespaces/{NAMESPACE}/invocationactions"

    def create(mine: range) -> None:
        line = Line.to(stage.control_plane)
        for number in mine:
            line.request("POST", path, stage.action(f"finished-{number}", "Cancel", {"ids": ["inv_finished"]}))
            line.request("PATCH", f"{path}/finished-{number}/status", {"status": template["done"]}, MERGE)

    with ThreadPoolExecutor(CREATORS) as pool:
        list(pool.map(create, [range(start, FINISHED, CREATORS) for start in range(CREATORS)]))


def _versions(stage: Stage) -> dict[str, str]:
    line, more = Line.to(stage.control_plane), ""
    found: dict[str, str] = {}
    path = f"{ROOT}/namespaces/{NAMESPACE}/invocationactions?limit=1000"
    while True:
        listed = line.request("GET", f"{path}&continue={more}" if more else path)
        found |= {item["metadata"]["name"]: item["metadata"]["resourceVersion"] for item in listed["items"]}
        more = listed["metadata"].get("continue", "")
        if not more:
            return {name: version for name, version in found.items() if name.startswith("finished-")}
