"""Once, with a set that is kept in chunks beside the record: killed while it is written, and while it is worked on."""

import base64
import gzip
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from e2e.rig import Child, ControlPlane, Engine, ServicesProcess
from e2e.rig.killproxy import Cut
from e2e.scenarios import truth
from e2e.scenarios.cases import World
from e2e.scenarios.lane import Lane, until

SIZE = 1050
"""More than fit into the record."""
REPORTED = 1500
"""More than fit into the first page of a report, by more than a second's worth."""
LIMITS = {"maxTargets": 2 * REPORTED, "operationsPerSecond": 500}
SLOWER = {**LIMITS, "operationsPerSecond": 300}


@pytest.fixture
def lane(quiet_control_plane: ControlPlane, world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lane]:
    with Lane(quiet_control_plane, world.engine, tmp_path_factory.mktemp("large")) as made:
        yield made


@pytest.fixture(scope="module")
def crowd(engine: Engine) -> Iterator[str]:
    """Name of a service that nobody else calls."""
    with ServicesProcess("lab", prefix="Crowd") as own:
        engine.register(own.uri)
        yield "CrowdLabSvc"


@pytest.fixture
def late_collector(quiet_control_plane: ControlPlane) -> Iterator[Child]:
    """The process with the garbage collector; awake again afterwards."""
    process = quiet_control_plane.processes["kube-controller-manager"]
    yield process
    process.resume()


def completed(engine: Engine, service: str, size: int, handler: str = "echo") -> list[str]:
    """Invocations of the service that have completed."""
    with ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(lambda number: engine.send(service, handler, f"{number}"), range(size)))
    query = (
        f"select count(*) as n from sys_invocation where target_service_name = '{service}' and status <> 'completed'"
    )
    until(lambda: engine.sql(query)[0]["n"] == 0, f"{service} did not complete")
    return ids


def test_once_large_restart_killed_in_mid_run_makes_one_child_each(lane: Lane, world: World, crowd: str) -> None:
    ids = completed(world.engine, crowd, SIZE)
    victim = lane.start_operator()
    lane.create(lane.manifest("large", "RestartAsNew", {"services": [crowd], "handlers": ["echo"]}, limits=LIMITS))
    until(lambda: lane.script.count("restart-as-new") >= SIZE // 3, lambda: f"nothing began\n{lane.logs()}")
    victim.kill()
    assert truth.children(world.engine, ids).total() < SIZE, "the run was to be in the middle"
    assert lane.chunks(), "a set of this size is kept in chunks"
    lane.revive()
    lane.ended("large", timeout=120)
    truth.none(truth.told(lane, "large", SIZE) + truth.one_child_each(world.engine, ids)[:5])
    until(lambda: not lane.chunks(), lambda: f"chunks were left: {lane.chunks()}")


def test_once_large_report_of_a_run_killed_in_the_middle_tells_each_once(lane: Lane, world: World, crowd: str) -> None:
    ids = completed(world.engine, crowd, REPORTED, "fail_terminal")
    victim = lane.start_operator()
    target = {"services": [crowd], "handlers": ["fail_terminal"]}
    lane.create(lane.manifest("told", "RestartAsNew", target, limits=SLOWER, report="ConfigMap"))
    # After the first page, and before the last.
    until(lambda: pages(lane), lambda: f"no page was written\n{lane.logs()}")
    victim.kill()
    assert "completionTime" not in lane.records("told")[0]["status"], "it was to be killed in the middle"
    lane.revive()
    done = lane.ended("told", timeout=120)
    truth.none(truth.told(lane, "told", REPORTED) + truth.one_child_each(world.engine, ids)[:5])
    assert [page["metadata"]["name"] for page in pages(lane)] == done["status"]["report"]["configMaps"]
    texts = [gzip.decompress(base64.b64decode(page["binaryData"]["report"])).decode() for page in pages(lane)]
    lines = [json.loads(line) for text in texts for line in text.splitlines()]
    assert sorted(line["id"] for line in lines) == sorted(ids)
    rows = world.engine.sql(
        f"select id, restarted_from from sys_invocation where target_service_name = '{crowd}' "
        "and target_handler_name = 'fail_terminal' and restarted_from is not null"
    )
    assert {(line["id"], line["newId"]) for line in lines} == {(row["restarted_from"], row["id"]) for row in rows}


def pages(lane: Lane) -> list[dict[str, Any]]:
    path = f"/api/v1/namespaces/{lane.namespace}/configmaps?labelSelector=ops.restate.dev/report"
    return list(lane.control_plane.request("GET", path).expect(200).json()["items"])


@pytest.mark.parametrize("cut", [Cut.KILL_BEFORE, Cut.KILL_AFTER])
def test_once_large_set_killed_while_it_is_written_starts_over_with_a_set_of_its_own(
    lane: Lane, world: World, crowd: str, late_collector: Child, cut: Cut
) -> None:
    """The second try plans anew; what the first one left behind must not be taken for its set when it dies as well.

    The garbage collector is frozen meanwhile, as a busy cluster's is late, so that it is still there.
    """
    handler = "headers"
    completed(world.engine, crowd, SIZE, handler)
    victim = lane.start_operator()
    late_collector.pause()
    lane.script.arm(2, cut, victim)
    lane.create(lane.manifest("twice", "Purge", {"services": [crowd], "handlers": [handler]}, limits=LIMITS))
    until(lambda: not victim.running, lambda: f"it was not struck: {lane.script.writes}\n{lane.logs()}")
    assert lane.script.hit
    assert lane.script.hit.what == "POST configmaps"
    later = completed(world.engine, crowd, 100, handler)
    second = lane.start_operator(wait=False)
    until(lambda: lane.script.count("purge") >= SIZE // 3, lambda: f"nothing began\n{lane.logs()}")
    second.kill()
    late_collector.resume()
    lane.revive()
    lane.ended("twice", timeout=120)
    truth.none(truth.told(lane, "twice", SIZE + len(later)))
    left = f"select id from sys_invocation where target_service_name = '{crowd}' and target_handler_name = '{handler}'"
    assert world.engine.sql(left) == []
    until(lambda: not lane.chunks(), lambda: f"chunks were left: {lane.chunks()}")
