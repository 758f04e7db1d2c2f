"""From a manifest to `Ready=True` for one cancelled invocation, beside the bare cost of its parts in the same run."""

import time

from e2e.bench.figures import Figure, median, milliseconds, percentile
from e2e.bench.stage import BARE, NAMESPACE, OPERATOR_NAMESPACE, ROOT, Stage
from e2e.bench.wire import Line, Watch, ready

RUNS = 120
WARM_UP = 5
GOAL_SECONDS = 0.150
GOAL_WRITES = 3
MERGE = "application/merge-patch+json"

NOTE = (
    f"{RUNS} runs one after the other, each followed by the bare parts, all over connections that stay open. Measured "
    "from sending the create request to the arrival of the `Ready=True` event on a watch; the start of kubectl is not "
    "in it."
)


def measure(stage: Stage, _rounds: int) -> list[Figure]:
    actions = f"{ROOT}/namespaces/{NAMESPACE}/invocationactions"
    records = f"{ROOT}/namespaces/{OPERATOR_NAMESPACE}/invocationrecords"
    ids = stage.suspended(2 * (RUNS + WARM_UP))
    ours: list[float] = []
    engine_part: list[float] = []
    cluster_part: list[float] = []
    with (
        stage.operator("latency"),
        Watch(stage.control_plane, actions) as watch,
        Watch(stage.control_plane, records) as record_watch,
    ):
        api, admin = Line.to(stage.control_plane), Line(stage.engine.admin_url)
        names = [f"cancel-{number}" for number in range(RUNS + WARM_UP)]
        for number, name in enumerate(names):
            ours.append(_action(stage, api, watch, name, ids[2 * number]))
            engine_part.append(_bare_cancel(admin, ids[2 * number + 1]))
            cluster_part.append(_bare_object(stage, api, name))
        # Whatever is still written about the last one.
        time.sleep(2)
        object_writes = [watch.writes(name) for name in names]
        record_writes = _per_source(record_watch)
        events = api.request("GET", f"/api/v1/namespaces/{NAMESPACE}/events")["items"]
    ours, engine_part, cluster_part = ours[WARM_UP:], engine_part[WARM_UP:], cluster_part[WARM_UP:]
    bare = median(engine_part) + median(cluster_part)
    told = [e for e in events if e["involvedObject"]["name"] in set(names)]
    p50 = median(ours)
    return [
        Figure("apply → Ready, median", milliseconds(p50), "goal ≤ 150 ms", p50 <= GOAL_SECONDS),
        Figure("apply → Ready, p99", milliseconds(percentile(ours, 0.99))),
        Figure("apply → Ready, fastest tenth", milliseconds(percentile(ours, 0.1)), "hardly disturbed by neighbours"),
        Figure("bare: cancel request, then queries until completed, median", milliseconds(median(engine_part))),
        Figure("bare: create, then one status patch, median", milliseconds(median(cluster_part))),
        Figure("apply → Ready : both bare parts", f"{p50 / bare:.1f} : 1", "medians of one run"),
        Figure(
            "writes to the object after its creation, most",
            str(max(object_writes)),
            f"median {median(object_writes):.0f}; goal ≤ {GOAL_WRITES}",
            max(object_writes) <= GOAL_WRITES,
        ),
        Figure("writes to the record, its creation included, median", f"{median(record_writes):.0f}", "counted apart"),
        Figure("Events, each", f"{len(told) / len(names):.1f}", "counted apart"),
    ]


def _action(stage: Stage, api: Line, watch: Watch, name: str, id_: str) -> float:
    seen = len(watch.events)
    begun = time.perf_counter()
    body = stage.action(name, "Cancel", {"ids": [id_]})
    api.request("POST", f"{ROOT}/namespaces/{NAMESPACE}/invocationactions", body)
    at, _ = watch.first(lambda obj: obj["metadata"]["name"] == name and ready(obj), since=seen)
    return at - begun


def _bare_cancel(admin: Line, id_: str) -> float:
    begun = time.perf_counter()
    admin.request("PATCH", f"/invocations/{id_}/cancel")
    query = {"query": f"select status from sys_invocation where id = '{id_}'"}
    while admin.request("POST", "/query", query)["rows"][0]["status"] != "completed":
        time.sleep(0.002)
    return time.perf_counter() - begun


def _bare_object(stage: Stage, api: Line, name: str) -> float:
    """In a namespace that the operator does not watch."""
    body = stage.action(name, "Cancel", {"ids": ["inv_none"]})
    body["metadata"]["namespace"] = BARE
    path = f"{ROOT}/namespaces/{BARE}/invocationactions"
    begun = time.perf_counter()
    api.request("POST", path, body)
    api.request("PATCH", f"{path}/{name}/status", {"status": {"phase": "Succeeded"}}, MERGE)
    return time.perf_counter() - begun


def _per_source(watch: Watch) -> list[float]:
    """Writes to each record."""
    counted: dict[str, float] = {}
    for _, _, obj in watch.events:
        name = obj["metadata"]["name"]
        counted[name] = counted.get(name, 0) + 1
    return list(counted.values())
