"""Argo CD's health check of our kinds: on statuses that the operator has written, and as people paste it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lupa.lua51
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
ARGO = ROOT / "docs" / "examples" / "argo-cd"
HOME = ARGO / "resource_customizations" / "ops.restate.dev" / "_"
SCRIPT = (HOME / "health.lua").read_text()
CASES: list[dict[str, Any]] = yaml.safe_load((HOME / "health_test.yaml").read_text())["tests"]
KINDS = [yaml.safe_load(path.read_text())["spec"]["names"]["kind"] for path in sorted((ROOT / "crds").glob("*.yaml"))]

Object = dict[str, Any]


@pytest.fixture(scope="module")
def health() -> Callable[[Object], Object]:
    """The script as Argo CD runs it: Lua 5.1, of whose library only the base and tables are there."""
    lua = lupa.lua51.LuaRuntime(unpack_returned_tuples=True, register_eval=False, register_builtins=False)
    for name in ("io", "os", "string", "math", "debug", "package", "coroutine", "require", "dofile", "loadfile"):
        lua.globals()[name] = None

    def judge(obj: Object) -> Object:
        lua.globals().obj = lua.table_from(obj, recursive=True)
        return dict(lua.execute(SCRIPT).items())

    return judge


def manifest(name: str) -> Object:
    found: Object = yaml.safe_load((HOME / name).read_text())
    return found


@pytest.mark.parametrize("case", CASES, ids=lambda case: Path(case["inputPath"]).stem)
def test_health_of_a_recorded_status_is_as_its_table_says(health: Callable[[Object], Object], case: Object) -> None:
    assert health(manifest(case["inputPath"])) == case["healthStatus"]


def test_health_table_has_every_recorded_status_and_every_verdict() -> None:
    assert {case["inputPath"] for case in CASES} == {f"testdata/{path.name}" for path in HOME.glob("testdata/*.yaml")}
    assert {case["healthStatus"]["status"] for case in CASES} == {"Healthy", "Progressing", "Suspended", "Degraded"}
    recorded = {manifest(case["inputPath"])["kind"] for case in CASES}
    assert recorded >= {"InvocationAction", "InvocationRecord", "RestateEngine", "RetentionPolicy"}


@pytest.mark.parametrize("case", CASES, ids=lambda case: Path(case["inputPath"]).stem)
def test_health_of_a_status_that_speaks_of_an_older_specification_is_progressing(
    health: Callable[[Object], Object], case: Object
) -> None:
    changed = manifest(case["inputPath"])
    changed["metadata"]["generation"] += 1
    assert health(changed) == {"status": "Progressing", "message": "Waiting for the operator to look at it"}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "status",
    [
        pytest.param(None, id="no status"),
        pytest.param({"observedGeneration": -1}, id="as the CRD makes it"),
        pytest.param({"observedGeneration": 1}, id="no conditions"),
        pytest.param({"observedGeneration": 1, "conditions": []}, id="empty conditions"),
    ],
)
def test_health_of_what_nobody_has_looked_at_is_progressing(
    health: Callable[[Object], Object], kind: str, status: Object | None
) -> None:
    obj = {"kind": kind, "metadata": {"generation": 1}, "spec": {}, **({"status": status} if status else {})}
    assert health(obj)["status"] == "Progressing"


def test_health_that_people_paste_is_the_script_that_is_tried_here() -> None:
    data = yaml.safe_load((ARGO / "argocd-cm.yaml").read_text())["data"]
    assert yaml.safe_load(data["resource.customizations"]) == {"ops.restate.dev/*": {"health.lua": SCRIPT}}
