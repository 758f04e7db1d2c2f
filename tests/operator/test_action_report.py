"""Reports: the full outcome of a run, read with plain tools as the documentation says."""

import json
import os
import re
import subprocess
from pathlib import Path

from e2e.rig import toolchain
from e2e.rig.toolchain import ROOT
from tests.operator.conftest import Object, Stage, conditions, unique
from tests.operator.population import HOUR

PAGE = ROOT / "docs" / "how-to" / "read-a-report.md"


def read_as_documented(stage: Stage, name: str, home: Path) -> list[Object]:
    """What the documented line prints for the action, in a shell with nothing but plain tools."""
    command = re.findall(r"^```console\n(for c in .*)\n```", PAGE.read_text(), re.MULTILINE)[0]
    mine = command.replace("-n shop", f"-n {stage.namespace}").replace("iact restart-failed-orders", f"iact {name}")
    env = {
        "PATH": f"{toolchain.kubectl().parent}:{os.environ['PATH']}",
        "HOME": str(home),
        "KUBECONFIG": str(stage.control_plane.kubeconfig),
    }
    done = subprocess.run(
        ["/bin/sh", "-c", mine], env=env, capture_output=True, text=True, timeout=120, check=True, encoding="utf-8"
    )
    assert done.stderr == ""
    return [json.loads(text) for text in done.stdout.splitlines()]


def pages(stage: Stage) -> list[str]:
    reply = stage.control_plane.request(
        "GET", f"/api/v1/namespaces/{stage.namespace}/configmaps?labelSelector=ops.restate.dev/report"
    )
    return [found["metadata"]["name"] for found in reply.expect(200).json()["items"]]


def test_report_read_as_documented_tells_every_invocation_and_goes_with_its_action(
    stage: Stage, tmp_path: Path
) -> None:
    ids = [stage.send("echo", f"{n}", status="completed") for n in range(3)]
    workflow = stage.send("run", 0.0, service="LabWf", key=unique("w\u00f6rk"), status="completed")
    target = {"ids": [*ids, workflow, "nonsense"]}
    done = stage.run("restart", "RestartAsNew", target, report="ConfigMap", timeout=60)
    report = done["status"]["report"]
    assert (report["format"], report["lines"]) == ("jsonl.gz", 5)
    assert report["configMaps"] == pages(stage)
    told = {found["id"]: found for found in read_as_documented(stage, "restart", tmp_path)}
    assert set(told) == {*ids, workflow, "nonsense"}
    for id_ in ids:
        new = stage.engine.sql(f"select id from sys_invocation where restarted_from = '{id_}'")[0]["id"]
        expected = {"id": id_, "target": "LabSvc/echo", "outcome": "Effective", "reason": "Restarted", "newId": new}
        assert told[id_] == expected
    assert told[workflow]["reason"] == "WorkflowNotRestartable"
    assert "w\u00f6rk" in told[workflow]["target"]
    assert told["nonsense"]["reason"] == "InvalidId"
    # What status shows is what the report says.
    assert all(told[result["id"]] == result for result in done["status"]["results"])
    stage.delete("restart")
    stage.until(lambda: pages(stage) == [], 60)


def test_report_of_a_run_that_was_stopped_tells_what_was_not_touched(stage: Stage, tmp_path: Path) -> None:
    ids = [stage.send("sleep_long", HOUR, status="suspended") for _ in range(8)]
    slowly = {"operationsPerSecond": 1, "maxInFlight": 1}
    end = {"limits": slowly, "timeout": "3s", "verification": {"timeout": "2s"}}
    stage.create(stage.manifest("stopped", "Cancel", {"ids": ids}, report="ConfigMap", **end))
    done = stage.ended("stopped", timeout=60)
    assert conditions(done)["Stalled"] == ("True", "TimedOut")
    told = {found["id"]: found["outcome"] for found in read_as_documented(stage, "stopped", tmp_path)}
    assert set(told) == set(ids)
    progress = done["status"]["progress"]
    left = [id_ for id_ in ids if told[id_] == "NotTouched"]
    assert len(left) == progress["total"] - progress["done"] > 0
    assert [stage.status_of(id_) for id_ in left] == ["suspended"] * len(left)


def test_report_of_an_engine_that_redacts_holds_no_key_and_no_failure_text(stage: Stage, tmp_path: Path) -> None:
    stage.define_engine("discreet", redactKeys=True)
    key = unique("customer")
    id_ = stage.send("obj_echo", "x", service="LabObj", key=key, status="completed")
    workflow = stage.send("run", 0.0, service="LabWf", key=key, status="completed")
    target = {"keys": [key]}
    engine = {"engineRef": {"name": "discreet"}}
    stage.run("quiet", "RestartAsNew", target, report="ConfigMap", timeout=60, **engine)
    told = read_as_documented(stage, "quiet", tmp_path)
    assert {found["id"] for found in told} == {id_, workflow}
    assert key not in json.dumps(told)
    assert all("error" not in found for found in told)


def test_report_that_is_not_asked_for_is_not_made(stage: Stage) -> None:
    id_ = stage.send("sleep_long", HOUR, status="suspended")
    done = stage.run("plain", "Cancel", {"ids": [id_]}, timeout=60)
    assert "report" not in done["status"]
    assert pages(stage) == []
