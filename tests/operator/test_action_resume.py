"""Resume in every status, and onto another deployment."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from e2e.rig import ServicesProcess
from tests.operator.conftest import Object, Stage, conditions, results, unique
from tests.operator.population import ENDED, HOUR, MAKERS, outcomes, populate

RESUMABLE = ["Paused", "BackingOff", "Suspended"]
NEVER_RAN = {"scheduled": ("Skipped", "Scheduled"), "pending behind a key": ("Skipped", "Pending")}
ENDED_OR_GONE = {**dict.fromkeys(ENDED, ("Skipped", "Completed")), "nothing retained": ("Failed", "NotFound")}

BY_STATUS = {
    **NEVER_RAN,
    **ENDED_OR_GONE,
    "running an open sleep": ("Skipped", "Running"),
    "suspended": ("Skipped", "Suspended"),
    "suspended and holding a key": ("Skipped", "Suspended"),
    "backing off": ("Skipped", "BackingOff"),
}


def test_resume_by_default_moves_paused_ones_only(any_stage: Stage) -> None:
    made = populate(any_stage, MAKERS)
    done = any_stage.run("resume", "Resume", {"ids": list(made.values())}, timeout=60)
    found = outcomes(done, made)
    assert found.pop("paused by hand") == ("Effective", "Running")
    # Its policy pauses it again at once; how far it is when it is looked at is the engine's affair.
    outcome, reason = found.pop("paused by its policy")
    assert outcome == "Effective"
    assert reason in ("Ready", "Running", "BackingOff", "PausedAgain")
    assert found == BY_STATUS


def test_resume_of_what_waits_otherwise_is_possible_when_asked_for(any_stage: Stage) -> None:
    made = populate(any_stage, ["backing off", "suspended", "suspended and holding a key", "paused by hand"])
    target = {"ids": list(made.values()), "statuses": RESUMABLE}
    done = any_stage.run("resume", "Resume", target, timeout=60)
    assert {outcome for outcome, _ in outcomes(done, made).values()} == {"Effective"}
    any_stage.engine.wait_status(made["backing off"], "backing-off", timeout=60)
    any_stage.engine.wait_status(made["suspended"], "suspended", timeout=60)


def test_resume_of_one_that_its_policy_pauses_again_says_so_and_is_done(stage: Stage) -> None:
    """A pause by policy comes at once, so that a look may come too late to see it move."""
    ids = [stage.send("fail_then_pause", "x", status="paused") for _ in range(8)]
    done = stage.run("resume", "Resume", {"ids": ids}, timeout=60)
    assert {outcome for outcome, _ in results(done).values()} == {"Effective"}
    for id_ in ids:
        stage.engine.wait_status(id_, "paused", timeout=60)


@dataclass
class Fleet:
    """The lab's services twice under the same names: an older deployment and the latest one."""

    stage: Stage
    prefix: str
    old: str
    new: str

    def send(self, handler: str, body: object, status: str) -> str:
        return self.stage.send(handler, body, service=f"{self.prefix}LabSvc", status=status)

    def deployment_of(self, id_: str) -> str:
        row = self.stage.engine.invocation(id_)
        assert row is not None
        return str(row["pinned_deployment_id"])

    def resume(self, name: str, ids: list[str], deployment: str, **spec: object) -> Object:
        options = {"resume": {"deployment": deployment}, **spec}
        return self.stage.manifest(name, "Resume", {"ids": ids, "statuses": RESUMABLE}, **options)


@pytest.fixture
def waiting(stage: Stage) -> Iterator[tuple[Fleet, dict[str, list[str]]]]:
    """Invocations on the older deployment in each status that can be resumed, and the fleet when the newer one came."""
    prefix = unique("Moved").replace("-", "")
    with (
        ServicesProcess("lab", variant="v1", prefix=prefix) as first,
        ServicesProcess("lab", variant="v2", prefix=prefix) as second,
    ):
        fleet = Fleet(stage, prefix, stage.engine.register(first.uri), "")
        ids = {
            "backing-off": [fleet.send("run_fails_slow", "x", "backing-off") for _ in range(4)],
            "paused": [fleet.send("run_fails_then_pause", "x", "paused") for _ in range(3)],
            "suspended": [fleet.send("sleep_long", HOUR, "suspended") for _ in range(2)],
        }
        fleet.new = stage.engine.register(second.uri)
        yield fleet, ids


def test_resume_onto_another_deployment_moves_each_that_can_be_resumed(
    stage: Stage, waiting: tuple[Fleet, dict[str, list[str]]]
) -> None:
    fleet, ids = waiting
    backing_off, paused, suspended = ids["backing-off"], ids["paused"], ids["suspended"]
    unknown = "dp_" + "1" * len(fleet.new.removeprefix("dp_"))
    stage.create(fleet.resume("latest", [backing_off[0], paused[0], suspended[0]], "Latest"))
    stage.create(fleet.resume("named", [backing_off[1], paused[1], suspended[1]], fleet.new))
    stage.create(fleet.resume("unknown", [paused[2], backing_off[2], backing_off[3]], unknown))

    latest, named = stage.ended("latest", timeout=90), stage.ended("named", timeout=90)
    for done, moved in ((latest, 0), (named, 1)):
        assert {outcome for outcome, _ in results(done).values()} == {"Effective"}, done["status"]["results"]
        assert done["status"]["plan"]["warnings"] == [
            "1 of them back off and are paused first, then resumed onto the deployment."
        ]
        for status in ids:
            assert fleet.deployment_of(ids[status][moved]) == fleet.new

    refused = stage.ended("unknown", timeout=90)
    assert refused["status"]["phase"] == "Failed"
    assert conditions(refused)["Stalled"] == ("True", "Failed")
    reasons = [(r["id"], r["outcome"], r["reason"]) for r in refused["status"]["results"]]
    assert {id_ for id_, _, reason in reasons[:2] if reason == "LeftPaused"} == set(backing_off[2:])
    assert reasons[2] == (paused[2], "Failed", "Invalid")
    # The batch endpoint and the public call word it differently.
    assert re.search(r"deployment (was )?not found", refused["status"]["results"][0]["error"], re.IGNORECASE)
    for id_ in backing_off[2:]:
        assert stage.status_of(id_) == "paused"
        assert fleet.deployment_of(id_) == fleet.old


def test_resume_that_has_paused_one_on_the_way_finishes_it_although_deleted(stage: Stage) -> None:
    """The run is suspended between two operations and then deleted: nobody is left paused by it."""
    prefix = unique("Kept").replace("-", "")
    with (
        ServicesProcess("lab", variant="v1", prefix=prefix) as first,
        ServicesProcess("lab", variant="v2", prefix=prefix) as second,
    ):
        fleet = Fleet(stage, prefix, stage.engine.register(first.uri), "")
        ids = [fleet.send("run_fails_slow", "x", "backing-off") for _ in range(6)]
        fleet.new = stage.engine.register(second.uri)
        slowly = {"operationsPerSecond": 1, "maxInFlight": 1}
        stage.create(fleet.resume("resume", ids, "Latest", limits=slowly))
        stage.until(lambda: any(stage.status_of(id_) == "paused" for id_ in ids), 60)
        stage.delete("resume")
        stage.until(lambda: stage.records("resume")[0]["status"].get("phase") == "Stopped", 60)
        assert [stage.status_of(id_) for id_ in ids].count("paused") == 0
        moved = [id_ for id_ in ids if fleet.deployment_of(id_) == fleet.new]
        assert 0 < len(moved) < len(ids)
