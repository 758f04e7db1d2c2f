"""A sweep of a hundred thousand completed invocations, beside the official command line in the same run."""

import time
from typing import Any

from e2e.bench.crowd import Crowd
from e2e.bench.figures import Figure
from e2e.bench.scale import RAISED, high_water
from e2e.bench.stage import NAMESPACE, ROOT, Stage
from e2e.rig import ServicesProcess

SERVICES = "bulk"
SMALL = 1_000
LARGE = 100_000
GOAL_MEMORY = 1.3
POLICIES = f"{ROOT}/namespaces/{NAMESPACE}/retentionpolicies"

NOTE = (
    f"Purge of {LARGE:,} completed invocations by a sweep of a RetentionPolicy, under raised limits, timed from the "
    "annotation that asks for it to the history that tells its verified end; the bytes of the journals are counted "
    "before. They were killed while they backed off, since their service does not answer: each has a journal of its "
    "input. The official command line (`restate invocations purge … --yes --limit`) purges as many of its own in the "
    "same run, timed from its start to its end. Memory is the operator's largest resident set (VmHWM), each sweep in a "
    "process of its own."
)


def measure(stage: Stage, _rounds: int) -> list[Figure]:
    sides = {"BULK_SIDES": "Small,Large,Official", "BULK_FILLS": "no"}
    with ServicesProcess("bulk", env=sides) as away:
        stage.engine.register(away.uri)
    small_seconds, small_peak, _ = _swept(stage, "small", SMALL)
    seconds, peak, run = _swept(stage, "large", LARGE)
    official = _official(stage)
    ratio = peak / small_peak
    return [
        Figure(f"sweep of {LARGE:,}, asked → verified", f"{seconds:.1f} s", f"{LARGE / seconds:,.0f}/s"),
        Figure(f"official command line, {LARGE:,}", f"{official:.1f} s", f"{LARGE / official:,.0f}/s"),
        Figure("sweep beside the command line", f"{official / seconds:.1f} : 1"),
        Figure("bytes of journals freed, as told", f"{run['bytesFreed'] / 2**20:.1f} MiB"),
        Figure(f"sweep of {SMALL:,}, asked → verified", f"{small_seconds:.2f} s"),
        Figure(
            f"peak memory, {LARGE:,} beside {SMALL:,}",
            f"{peak:.0f} MiB",
            f"{ratio:.2f} times that of {SMALL:,}, goal ≤ {GOAL_MEMORY}",
            ratio <= GOAL_MEMORY,
        ),
    ]


def _swept(stage: Stage, name: str, size: int) -> tuple[float, float, dict[str, Any]]:
    """Seconds, MiB, and the run as status tells it."""
    crowd = Crowd.killed(stage.engine, name.capitalize(), size)
    sweep = {"name": "all", "schedule": "0 0 29 2 *", "action": "Purge", "limits": {"maxTargets": size}}
    body = {
        "apiVersion": "ops.restate.dev/v1alpha1",
        "kind": "RetentionPolicy",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"engineRef": {"name": "production"}, "services": [crowd.service], "sweeps": [sweep]},
    }
    with stage.operator(name) as operator:
        stage.connect("production", stage.engine.admin_url, RAISED)
        stage.control_plane.request("POST", POLICIES, body).expect(201)
        patch = {"metadata": {"annotations": {"ops.restate.dev/requestedAt": "now"}}}
        begun = time.perf_counter()
        stage.control_plane.request("PATCH", f"{POLICIES}/{name}", patch).expect(200)
        while not (run := _ended(stage, name)):
            if time.perf_counter() - begun > 600:
                raise TimeoutError(f"the sweep did not end; the operator says:\n{operator.tail()}")
            time.sleep(0.1)
        seconds = time.perf_counter() - begun
        peak = high_water(operator.pid)
    if (run["phase"], run["freed"]) != ("Succeeded", size):
        raise RuntimeError(f"the sweep was to purge all: {run}")
    stage.control_plane.request("DELETE", f"{POLICIES}/{name}").expect(200)
    return seconds, peak, run


def _ended(stage: Stage, name: str) -> dict[str, Any]:
    status = stage.control_plane.request("GET", f"{POLICIES}/{name}").expect(200).json().get("status", {})
    runs = [run for entry in status.get("sweeps", ()) for run in entry.get("history", ())]
    return runs[0] if runs else {}


def _official(stage: Stage) -> float:
    crowd = Crowd.killed(stage.engine, "Official", LARGE)
    begun = time.perf_counter()
    stage.engine.cli("invocations", "purge", crowd.service, "--yes", "--limit", str(LARGE))
    seconds = time.perf_counter() - begun
    crowd.wait(lambda counts: not counts)
    return seconds
