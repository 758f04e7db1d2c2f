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
from e2e.scenarios.lane import ROOT, Lane, Object

FROZEN = sorted((Path(__file__).parent / "frozen").glob("unfinished-*.yaml"))
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")


@pytest.fixture(params=FROZEN, ids=lambda path: path.stem)
def left(request: pytest.FixtureRequest) -> list[Object]:
    """Record, action, and what the engine had done."""
    return list(yaml.safe_load_all(request.param.read_text()))


@pytest.fixture
def lane(left: list[Object], quiet_control_plane: ControlPlane, world: World, tmp_path: Path) -> Iterator[Lane]:
    """The namespaces that the objects were in, whose names are part of the record's."""
    record, action, _ = left
    made = Lane(quiet_control_plane, world.engine, tmp_path)
    made.namespace, made.operator_namespace = action["metadata"]["namespace"], record["metadata"]["namespace"]
    with made:
        yield made


def born(engine: Engine, ids: list[str]) -> dict[str, datetime]:
    return {id_: datetime.fromisoformat(row["created_at"]) for id_, row in truth.rows(engine, ids).items()}


def moved(obj: Object, by: timedelta) -> Object:
    """All times later, so that the operator was killed a moment ago."""

    def later(found: re.Match[str]) -> str:
        return (datetime.fromisoformat(found[0]) + by).isoformat().replace("+00:00", "Z")

    return dict(json.loads(TIME.sub(later, json.dumps(obj))))


def reborn(targets: str, engine: Engine) -> str:
    """The planned set with the times of birth that its invocations have here; as the version packed it."""
    kept = json.loads(zlib.decompress(base64.b64decode(targets)))
    times = born(engine, [entry[0] for entry in kept["set"]])
    for entry in kept["set"]:
        entry[1] = (times[entry[0]] - datetime.fromtimestamp(0, UTC)) // timedelta(microseconds=1)
    return base64.b64encode(zlib.compress(json.dumps(kept, separators=(",", ":")).encode())).decode()


def here(record: Object, action: Object, lane: Lane, by: timedelta) -> tuple[Object, Object]:
    """Record and action, as that version would have written them on these servers."""
    engine = lane.control_plane.request("GET", lane.path("restateengines", "production")).expect(200).json()
    deployments = [found["id"] for found in lane.engine.admin("GET", "/deployments").expect().json()["deployments"]]
    name = lane.engine.admin("GET", "/cluster-health").expect().json()["cluster_name"]
    identity = {"uid": engine["metadata"]["uid"], "clusterName": name}
    record, action = moved(record, by), moved(action, by)
    record["spec"]["engine"] |= identity
    action["status"]["engine"] |= identity
    record["spec"]["deployments"] = deployments
    record["spec"]["plan"]["targets"] = reborn(record["spec"]["plan"]["targets"], lane.engine)
    return record, action


def without_status(frozen: Object) -> Object:
    """What is created of an object: status comes after."""
    kept = {key: frozen["metadata"][key] for key in ("name", "namespace", "labels") if key in frozen["metadata"]}
    return {**{key: value for key, value in frozen.items() if key != "status"}, "metadata": kept}


def reported(lane: Lane) -> list[dict[str, Any]]:
    """All lines of the report."""
    path = f"/api/v1/namespaces/{lane.namespace}/configmaps?labelSelector=ops.restate.dev/report"
    pages = lane.control_plane.request("GET", path).expect(200).json()["items"]
    texts = [gzip.decompress(base64.b64decode(page["binaryData"]["report"])).decode() for page in pages]
    return [json.loads(line) for text in texts for line in text.splitlines()]


def test_once_run_that_an_earlier_version_left_unfinished_is_finished_and_nothing_is_repeated(
    left: list[Object], lane: Lane, world: World
) -> None:
    record, action, then = left
    engine, done, name = world.engine, then["engine"], action["metadata"]["name"]
    keys = done["idempotencyKeys"]
    ids = [engine.send(done["service"], done["handler"], "x", idempotency_key=key) for key in keys]
    assert sorted(ids) == sorted(action["spec"]["target"]["ids"]), "the keys give the same ids on every engine"
    for id_ in ids:
        engine.wait_status(id_, "completed", timeout=60)
    by = datetime.now(UTC) - datetime.fromisoformat(record["status"]["intentTime"])
    for id_ in done["restarted"]:
        engine.operate(id_, "restart-as-new").expect()
    record, action = here(record, action, lane, by)

    uid = lane.create(without_status(action))["metadata"]["uid"]
    record["spec"]["source"]["uid"] = uid
    records = f"{ROOT}/namespaces/{lane.operator_namespace}/invocationrecords"
    plane = lane.control_plane
    plane.request("POST", records, without_status(record)).expect(201)
    path = f"{records}/{record['metadata']['name']}/status"
    plane.request("PATCH", path, {"status": record["status"]}).expect(200)
    lane.patch(name, {"status": action["status"]}, "status")
    # It may be changed at any time, and a test need not wait.
    lane.patch(name, {"spec": {"limits": {"operationsPerSecond": 100}}})

    lane.start_operator()
    lane.ended(name)
    truth.none(truth.one_child_each(engine, ids) + truth.told(lane, name, len(ids)))
    asked = [write.what.rpartition(" ")[2] for write in lane.script.writes if "restart-as-new" in write.what]
    assert sorted(asked) == sorted(set(ids) - set(done["restarted"]))

    # The report goes on where that version had got to.
    lines = {line["id"]: line for line in reported(lane)}
    assert len(lines) == len(reported(lane)) == len(ids)
    found = ", ".join(f"'{id_}'" for id_ in asked)
    rows = engine.sql(f"select id, restarted_from from sys_invocation where restarted_from in ({found})")
    assert {row["restarted_from"]: row["id"] for row in rows} == {id_: lines[id_]["newId"] for id_ in asked}
