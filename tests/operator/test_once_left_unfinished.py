"""What an earlier version has left in mid-run is finished by this one: what was done is not done again, what was asked
and not answered is found on the engine, and the rest is asked once.

`frozen/unfinished-*.yaml` hold what the real operator of that version had written when it was killed. What another
engine and another API server give out anew (UIDs, times of birth, names of deployments) is put in before they are
offered to this version; all else is as it was. Never correct them: add a file for each version that writes otherwise.
"""

import base64
import gzip
import json
import re
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.rig import ControlPlane, Engine
from e2e.scenarios import truth
from e2e.scenarios.cases import World
from e2e.scenarios.lane import ROOT, Lane, Object, until
from tests.operator.conftest import without_status

FROZEN = sorted((Path(__file__).parent / "frozen").glob("unfinished-*.yaml"))
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")


@pytest.fixture(params=FROZEN, ids=lambda path: path.stem)
def runs(request: pytest.FixtureRequest) -> list[Object]:
    """Of each: the record, the action, the ConfigMaps with the set if there are any, and what the engine had done."""
    return list(yaml.safe_load_all(request.param.read_text()))


@pytest.fixture
def lane(runs: list[Object], quiet_control_plane: ControlPlane, world: World, tmp_path: Path) -> Iterator[Lane]:
    """The namespaces that the objects were in, whose names are part of the record's."""
    made = Lane(quiet_control_plane, world.engine, tmp_path)
    made.namespace = runs[0]["action"]["metadata"]["namespace"]
    made.operator_namespace = runs[0]["record"]["metadata"]["namespace"]
    with made:
        yield made


def sent(run: Object, engine: Engine) -> list[str]:
    """The invocations that the run is about, of which some have been restarted."""
    then = run["engine"]
    keys = then["idempotencyKeys"]
    ids = [engine.send(then["service"], then["handler"], "x", idempotency_key=key) for key in keys]
    assert sorted(ids) == sorted(run["action"]["spec"]["target"]["ids"]), "the keys give the same ids on every engine"
    for id_ in ids:
        engine.wait_status(id_, "completed", timeout=60)
    return ids


def moved(obj: Object, by: timedelta) -> Object:
    """All times later, so that the operator was killed a moment ago."""

    def later(found: re.Match[str]) -> str:
        return (datetime.fromisoformat(found[0]) + by).isoformat().replace("+00:00", "Z")

    return dict(json.loads(TIME.sub(later, json.dumps(obj))))


def reborn(targets: str, engine: Engine) -> str:
    """The planned set with the times of birth that its invocations have here; as the version packed it."""
    kept = json.loads(zlib.decompress(base64.b64decode(targets)))
    rows = truth.rows(engine, [entry[0] for entry in kept["set"]])
    for entry in kept["set"]:
        born = datetime.fromisoformat(rows[entry[0]]["created_at"])
        entry[1] = (born - datetime.fromtimestamp(0, UTC)) // timedelta(microseconds=1)
    return base64.b64encode(zlib.compress(json.dumps(kept, separators=(",", ":")).encode())).decode()


def leave(run: Object, lane: Lane, by: timedelta) -> None:
    """Put the run's objects in place as that version would have left them on these servers."""
    plane, admin = lane.control_plane, lane.engine.admin
    record, action = moved(run["record"], by), moved(run["action"], by)
    engine = plane.request("GET", lane.path("restateengines", "production")).expect(200).json()
    name = admin("GET", "/cluster-health").expect().json()["cluster_name"]
    for kept in (record["spec"]["engine"], action["status"]["engine"]):
        kept |= {"uid": engine["metadata"]["uid"], "clusterName": name}
    deployments = [found["id"] for found in admin("GET", "/deployments").expect().json()["deployments"]]
    record["spec"]["deployments"] = sorted(deployments)[:64]
    plan = record["spec"]["plan"]
    if "targets" in plan:
        plan["targets"] = reborn(plan["targets"], lane.engine)

    action_name, record_name = action["metadata"]["name"], record["metadata"]["name"]
    record["spec"]["source"]["uid"] = lane.create(without_status(action))["metadata"]["uid"]
    path = f"{ROOT}/namespaces/{lane.operator_namespace}/invocationrecords"
    uid = plane.request("POST", path, without_status(record)).expect(201).json()["metadata"]["uid"]
    plane.request("PATCH", f"{path}/{record_name}/status", {"status": record["status"]}).expect(200)
    lane.patch(action_name, {"status": action["status"]}, "status")
    # It may be changed at any time, and a test need not wait.
    lane.patch(action_name, {"spec": {"limits": {"operationsPerSecond": 100}}})
    for chunk in run.get("chunks", ()):
        # Their names and owner say of which record they are.
        text = json.dumps(chunk).replace(run["record"]["metadata"]["uid"], uid)
        here = json.loads(
            text.replace(f"{record_name}-{run['record']['metadata']['uid'][:8]}", f"{record_name}-{uid[:8]}")
        )
        for fresh in ("uid", "resourceVersion", "creationTimestamp"):
            del here["metadata"][fresh]
        here["data"]["targets"] = reborn(here["data"]["targets"], lane.engine)
        plane.request("POST", f"/api/v1/namespaces/{lane.operator_namespace}/configmaps", here).expect(201)


def reported(lane: Lane) -> list[dict[str, Any]]:
    """All lines of the reports."""
    path = f"/api/v1/namespaces/{lane.namespace}/configmaps?labelSelector=ops.restate.dev/report"
    pages = lane.control_plane.request("GET", path).expect(200).json()["items"]
    texts = [gzip.decompress(base64.b64decode(page["binaryData"]["report"])).decode() for page in pages]
    return [json.loads(line) for text in texts for line in text.splitlines()]


def test_once_runs_that_an_earlier_version_left_unfinished_are_finished_and_nothing_is_repeated(
    runs: list[Object], lane: Lane, world: World
) -> None:
    engine = world.engine
    ids = [sent(run, engine) for run in runs]
    for run in runs:
        by = datetime.now(UTC) - datetime.fromisoformat(run["record"]["status"]["intentTime"])
        for id_ in run["engine"]["restarted"]:
            engine.operate(id_, "restart-as-new").expect()
        leave(run, lane, by)
    assert sum(len(run.get("chunks", ())) for run in runs) == len(lane.chunks()) > 0

    lane.start_operator()
    for run, those in zip(runs, ids, strict=True):
        name = run["action"]["metadata"]["name"]
        lane.ended(name)
        truth.none(truth.one_child_each(engine, those) + truth.told(lane, name, len(those)))
    asked = [write.what.rpartition(" ")[2] for write in lane.script.writes if "restart-as-new" in write.what]
    done = [id_ for run in runs for id_ in run["engine"]["restarted"]]
    assert sorted(asked) == sorted({id_ for those in ids for id_ in those} - set(done))
    until(lambda: not lane.chunks(), "the sets are kept")

    # The reports go on where that version had got to.
    lines = {line["id"]: line for line in reported(lane)}
    assert len(lines) == len(reported(lane)) == sum(map(len, ids))
    found = ", ".join(f"'{id_}'" for id_ in asked)
    rows = engine.sql(f"select id, restarted_from from sys_invocation where restarted_from in ({found})")
    assert {row["restarted_from"]: row["id"] for row in rows} == {id_: lines[id_]["newId"] for id_ in asked}
