"""What a running operator tells of itself: its log, /metrics, /healthz and /readyz, over real runs."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.request import urlopen

import pytest

from e2e.rig import ControlPlane, Engine
from e2e.rig.process import free_ports
from invocation_operator.api.v1alpha1.engine import CREDENTIAL_LABEL
from tests.operator.conftest import Stage, operator_for, unique

SECRET = "Bearer-that-nobody-may-see"


@dataclass
class Observed:
    """An operator of this module's own, and how to look at it."""

    stage: Stage
    metrics: int
    health: int

    def lines(self) -> list[dict[str, Any]]:
        """The log; every line must be one JSON object."""
        return [json.loads(line) for line in self.stage.log.read_text().splitlines()]

    def about(self, name: str) -> list[dict[str, Any]]:
        """Lines about one object of the stage."""
        return [line for line in self.lines() if line.get("object") == f"{self.stage.namespace}/{name}"]

    def page(self, port: int, path: str) -> str:
        """A page of the operator's."""
        with urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as reply:
            return str(reply.read().decode())

    def value(self, series: str) -> float:
        """Value of one series."""
        (line,) = (li for li in self.page(self.metrics, "/metrics").splitlines() if li.startswith(series + " "))
        return float(line.rpartition(" ")[2])


@pytest.fixture(scope="module")
def observed(
    quiet_control_plane: ControlPlane, engine: Engine, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Observed]:
    log = tmp_path_factory.mktemp("observed") / "operator.log"
    metrics, health = free_ports(2)
    namespace = unique("observed")
    quiet_control_plane.request("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}}).expect(201)
    options = ["--namespace", namespace, "--metrics-port", str(metrics), "--health-port", str(health)]
    with operator_for(quiet_control_plane, log, *options, operator_namespace=f"{namespace}-operator"):
        stage = Stage(quiet_control_plane, engine, namespace, log)
        stage.define_engine()
        yield Observed(stage, metrics, health)
        for id_ in stage.ids:
            engine.operate(id_, "kill")


def test_log_of_a_run_is_one_line_for_its_start_and_one_for_its_end(observed: Observed) -> None:
    stage = observed.stage
    id_, unknown = stage.send("sleep_long", 3600.0, status="suspended"), "inv_1gdJBtdVEcM942bjcDmb1c1khoaJe11Hbz"
    done = stage.run("told", "Cancel", {"ids": [id_, unknown]}, runId="night-7")
    start, end = observed.about("told")
    assert (start["event"], end["event"]) == ("run starts", "run ended")
    for line in (start, end):
        assert line["level"] == "info"
        assert (line["kind"], line["action"], line["run"]) == ("InvocationAction", "Cancel", "night-7")
        assert line["record"] == done["status"]["record"]
    assert start["planned"] == 1
    assert start["engine"] == f"{stage.namespace}/production"
    assert (end["phase"], end["effective"], end["failed"], end["total"]) == ("PartiallyFailed", 1, 1, 2)


def test_log_of_a_refusal_is_one_line_that_says_why(observed: Observed) -> None:
    done = observed.stage.run("refused", "Cancel", {"ids": ["inv_" + "1" * 32, "-"]}, notAfter="2001-01-01T00:00:00Z")
    # Its log follows its status.
    observed.stage.until(lambda: observed.about("refused"), 30)
    (line,) = observed.about("refused")
    assert line["event"] == "concluded"
    assert line["phase"] == done["status"]["phase"]
    assert line["message"]


def test_log_of_an_engine_that_cannot_be_used_keeps_its_token_to_itself(observed: Observed) -> None:
    stage = observed.stage
    secret = {
        "metadata": {"name": "token", "labels": {CREDENTIAL_LABEL: "true"}},
        "stringData": {"token": SECRET},
    }
    stage.control_plane.request("POST", f"/api/v1/namespaces/{stage.namespace}/secrets", secret).expect(201)
    (port,) = free_ports(1)
    auth = {"bearerTokenSecret": {"name": "token", "key": "token"}}
    stage.define_engine("gone", url=f"https://127.0.0.1:{port}", auth=auth)
    stage.until(lambda: observed.about("gone"), 30)
    line = observed.about("gone")[0]
    assert (line["event"], line["kind"]) == ("engine cannot be used", "RestateEngine")
    assert SECRET not in stage.log.read_text()
    assert stage.control_plane.token not in stage.log.read_text()


def test_log_is_json_with_event_level_logger_and_time_and_has_no_line_for_each_event(observed: Observed) -> None:
    stage = observed.stage
    for number in range(3):
        stage.run(f"nothing-{number}", "Cancel", {"ids": [stage.send("sleep_long", 0.0)]})
    lines = observed.lines()
    for line in lines:
        assert {"event", "level", "logger", "timestamp"} <= line.keys()
        assert line["level"] == "info"
        assert line["logger"].startswith("invocation_operator"), line
    assert [line["event"] for line in lines[:2]] == ["starting", "ready"]


def test_metrics_count_a_run_and_what_became_of_its_invocations(observed: Observed) -> None:
    stage = observed.stage
    series = {
        "succeeded": 'invocation_operator_runs_total{action="Kill",phase="Succeeded"}',
        "executed": 'invocation_operator_runs_total{action="Kill",phase="AlreadyExecuted"}',
        "effective": 'invocation_operator_invocations_total{action="Kill",outcome="Effective"}',
        "seconds": 'invocation_operator_run_seconds_count{action="Kill"}',
    }
    assert {name: observed.value(one) for name, one in series.items()} == dict.fromkeys(series, 0)
    ids = [stage.send("sleep_long", 3600.0, status="suspended") for _ in range(3)]
    stage.run("counted", "Kill", {"ids": ids})
    stage.delete("counted")
    stage.run("counted", "Kill", {"ids": ids})
    expected = {"succeeded": 1, "executed": 1, "effective": 3, "seconds": 1}
    stage.until(lambda: {name: observed.value(one) for name, one in series.items()} == expected)
    assert observed.value('invocation_operator_run_seconds_sum{action="Kill"}') > 0


def test_metrics_tell_of_engines_and_of_the_operator(observed: Observed) -> None:
    labels = f'engine="production",namespace="{observed.stage.namespace}"'
    assert observed.value(f"invocation_operator_engine_up{{{labels}}}") == 1
    text = observed.page(observed.metrics, "/metrics")
    assert re.search(r'^invocation_operator_build_info\{version="[^"]+"\} 1.0$', text, re.MULTILINE)
    assert observed.value("process_resident_memory_bytes") > 0
    assert SECRET not in text


def test_health_of_a_running_operator_is_alive_and_ready(observed: Observed) -> None:
    assert observed.page(observed.health, "/healthz") == "ok\n"
    assert observed.page(observed.health, "/readyz") == "ok\n"
