"""A kill whose descendants are more than are counted, on the real engine: refused unless no ceiling can be broken.

Two hundred thousand descendants are no size for a test, so this operator counts two of them. It is told so by a
`sitecustomize` that its interpreter finds first: the operator itself knows no such setting.
"""

import pytest

from e2e.rig import ControlPlane
from e2e.rig.toolchain import ROOT
from e2e.scenarios import truth
from e2e.scenarios.cases import World
from e2e.scenarios.lane import Lane, until

COUNTS_TWO = "from invocation_operator.reconcile import cascade\n\ncascade.REACHED = 2\n"
HOUR = 3600.0


def test_kill_with_more_descendants_than_are_counted_touches_nothing_unless_all_calls_may_die(
    quiet_control_plane: ControlPlane, world: World, tmp_path_factory: pytest.TempPathFactory
) -> None:
    scratch = tmp_path_factory.mktemp("uncounted")
    (scratch / "sitecustomize.py").write_text(COUNTS_TWO)
    parents = world.send("send_children", HOUR, "suspended", 2)

    def children() -> list[str]:
        called = f"invoked_by_id in ({truth.listed(parents)}) and status <> 'completed'"
        return [row["id"] for row in world.engine.sql(f"select id from sys_invocation where {called}")]

    until(lambda: len(children()) == 6, "they did not call")
    with Lane(quiet_control_plane, world.engine, scratch) as lane:
        lane.start_operator(env={"PYTHONPATH": f"{scratch}:{ROOT / 'operator'}"})
        lane.create(lane.manifest("few", "Kill", {"ids": parents}, limits={"maxTargets": 6}))
        (ready, *_) = [c for c in lane.ended("few")["status"]["conditions"] if c["type"] == "Ready"]
        assert ready["reason"] == "TooManyDescendants"
        assert "more descendants than the 2 that were counted" in ready["message"]
        assert lane.records("few") == []
        assert len(children()) == 6
        lane.create(lane.manifest("all", "Kill", {"ids": parents}, limits={"maxTargets": 1_000_000}))
        done = lane.ended("all")
        assert done["status"]["plan"]["cascade"]["truncated"] is True
        truth.none(truth.told(lane, "all", len(parents)) + truth.ended_as(world.engine, parents, "killed"))
        until(lambda: not children(), "descendants live on")
