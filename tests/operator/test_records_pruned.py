"""Old InvocationRecords are deleted, and only those that nothing needs any more."""

import time

import pytest

from e2e.rig import ControlPlane
from e2e.scenarios.cases import World
from e2e.scenarios.lane import BATCHED, Lane, until

A_MOMENT = str(2 / 86400)
"""Two seconds, in days."""


def test_records_that_are_old_enough_are_deleted_and_those_of_living_or_unfinished_actions_kept(
    quiet_control_plane: ControlPlane, world: World, tmp_path_factory: pytest.TempPathFactory
) -> None:
    engine = world.engine
    options = (*BATCHED, "--record-retention-days", A_MOMENT)
    with Lane(quiet_control_plane, engine, tmp_path_factory.mktemp("pruned"), *options) as lane:
        lane.start_operator("--record-retention-days", "0")
        nothing = {"services": ["no-such-service"]}
        for name in ("served", "living"):
            lane.create(lane.manifest(name, "Cancel", nothing))
            lane.ended(name)
        lane.delete("served")
        id_ = engine.send("LabSvc", "swallow_cancel", 3600.0)
        engine.wait_status(id_, "suspended")
        lane.create(lane.manifest("begun", "Cancel", {"ids": [id_]}))
        until(lambda: lane.records("begun"), lane.logs)
        time.sleep(6)
        assert lane.records("served"), "0 keeps records for ever"

        lane.operator.stop()
        lane.start_operator()
        until(lambda: not lane.records("served"), lane.logs)
        until(lambda: "pruned old records" in lane.operator.log.read_text(), lane.logs)
        assert lane.records("living")
        assert lane.records("begun")
        engine.operate(id_, "kill")
        lane.ended("begun")
