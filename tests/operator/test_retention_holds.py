"""Holds on a real engine: what no purge touches, whoever asks, and what the engine expires all the same."""

from collections.abc import Iterator
from datetime import datetime

import pytest

from e2e.rig import ControlPlane
from e2e.scenarios.cases import World
from e2e.scenarios.lane import Lane
from tests.operator.conftest import ROOT, Stage, conditions, results, unique
from tests.operator.policies import PLURAL, Shelf, second_later
from tests.operator.policies import any_shelf as any_shelf
from tests.operator.policies import shelf as shelf


def ended(shelf: Shelf, handler: str = "echo", **options: str) -> str:
    body = "boom" if handler == "fail_terminal" else "x"
    return shelf.stage.send(handler, body, service=shelf.service("LabSvc"), status="completed", **options)


def hold(shelf: Shelf, **target: object) -> None:
    """A policy that holds, in force."""
    shelf.apply("legal", "LabSvc", holds=[{"name": "case", "reason": "a case", "target": target}])
    shelf.until("legal", lambda s: s.get("holds"))


NOT_COUNTED = "in force; not counted yet."


def service(shelf: Shelf) -> dict[str, list[str]]:
    return {"services": [shelf.service("LabSvc")]}


def test_held_invocations_are_purged_neither_by_filter_nor_by_name(any_shelf: Shelf) -> None:
    shelf = any_shelf
    held, free = ended(shelf, idempotency_key="order-4711"), ended(shelf)
    hold(shelf, idempotencyKeys=["order-4711"])
    policy = shelf.until("legal", lambda s: s["holds"][0]["held"] == 1)
    assert conditions(policy) == {"Ready": ("True", "HoldsOnly")}
    [expiring] = policy["status"]["holds"][0]["expiring"]
    row = shelf.engine.invocation(held)
    assert row is not None
    left = datetime.fromisoformat(expiring["expires"]) - datetime.fromisoformat(row["completed_at"])
    assert (expiring["id"], round(left.total_seconds() / 86400, 3)) == (held, 1.0)
    by_name = shelf.stage.run("by-name", "PurgeJournal", {"ids": [held, free]}, timeout=60)
    assert results(by_name) == {held: ("Skipped", "Held"), free: ("Effective", "JournalPurged")}
    by_filter = shelf.stage.run("by-filter", "Purge", service(shelf), timeout=60)
    assert results(by_filter) == {free: ("Effective", "Purged")}
    warned = by_filter["status"]["plan"]["warnings"]
    assert any(f"1 that match are held by RetentionPolicy {shelf.stage.namespace}/legal (case)" in w for w in warned)
    kept = shelf.engine.invocation(held)
    assert kept is not None
    assert kept["journal_size"] == row["journal_size"]
    shelf.stage.delete("legal", PLURAL)
    after = shelf.stage.run("after", "Purge", service(shelf), timeout=60)
    assert results(after) == {held: ("Effective", "Purged")}


@pytest.fixture
def elsewhere(shelf: Shelf) -> Iterator[Stage]:
    """Another namespace, with a RestateEngine of its own that leads to the same engine."""
    stage = shelf.stage
    name = unique("test-elsewhere")
    stage.control_plane.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}}).expect(201)
    made = Stage(stage.control_plane, stage.engine, name, stage.log)
    made.define_engine()
    yield made
    made.delete("production", "restateengines")
    stage.control_plane.request("DELETE", f"/api/v1/namespaces/{name}").expect(200)


def purge(stage: Stage, shelf: Shelf, name: str) -> dict[str, tuple[str, str | None]]:
    return results(stage.run(name, "Purge", service(shelf), timeout=60))


def test_hold_is_heeded_in_every_namespace_whatever_else_becomes_of_its_policy(shelf: Shelf, elsewhere: Stage) -> None:
    held = ended(shelf)
    case = {"name": "case", "target": {"ids": [held], "services": [shelf.service("LabSvc")]}}
    # Suspended from the beginning, of services that are not the policy's own.
    shelf.create(shelf.manifest("legal", "LabObj", holds=[case], suspend=True))
    policy = shelf.until("legal", lambda s: s.get("holds"))
    assert policy["status"]["holds"] == [{"name": "case", "held": 0, "omitted": 0, "message": NOT_COUNTED}]
    assert purge(elsewhere, shelf, "suspended") == {}
    shelf.apply("older", "LabSvc", retention={"journal": "2h"})
    shelf.reached("older", "LabSvc", lambda e: e["state"] == "InForce")
    # Its claim to the service fails, its hold does not.
    values = {"services": [shelf.service("LabSvc")], "retention": {"journal": "3h"}, "suspend": False}
    shelf.stage.delete("legal", PLURAL)
    shelf.stage.until(lambda: second_later(shelf, "older"))
    shelf.create(
        shelf.manifest("legal", "LabSvc", holds=[case], **{k: v for k, v in values.items() if k != "services"})
    )
    shelf.reached("legal", "LabSvc", lambda e: e["state"] == "Conflicted")
    assert purge(elsewhere, shelf, "conflicted") == {}
    # Being deleted, it holds until it is gone.
    path = f"{ROOT}/namespaces/{shelf.stage.namespace}/{PLURAL}/legal"
    finalizers = {"metadata": {"finalizers": ["example.org/slow"]}}
    shelf.stage.control_plane.request("PATCH", path, finalizers).expect(200)
    shelf.stage.control_plane.request("DELETE", path).expect(200)
    assert purge(elsewhere, shelf, "deleting") == {}
    shelf.stage.control_plane.request("PATCH", path, {"metadata": {"finalizers": []}}).expect(200)
    shelf.stage.until(lambda: shelf.stage.control_plane.request("GET", path).status == 404)
    assert purge(elsewhere, shelf, "gone") == {held: ("Effective", "Purged")}


def test_hold_that_this_operator_cannot_read_holds_more_and_is_told(shelf: Shelf, elsewhere: Stage) -> None:
    held = ended(shelf)
    target = {"outcomes": ["Failed"], "filterOfTomorrow": ["x"]}
    shelf.create(shelf.manifest("legal", "LabSvc", holds=[{"name": "case", "target": target}]))
    policy = shelf.until("legal", lambda s: "conditions" in s)
    assert conditions(policy)["Stalled"] == ("True", "UnknownField")
    assert "rather more than less" in policy["status"]["conditions"][0]["message"]
    assert purge(elsewhere, shelf, "all") == {}
    assert shelf.stage.status_of(held) == "completed"


def test_operator_that_has_just_started_knows_the_holds_before_it_purges(
    quiet_control_plane: ControlPlane, world: World, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with Lane(quiet_control_plane, world.engine, tmp_path_factory.mktemp("holds")) as lane:
        keys = [unique("held") for _ in range(2)]
        ids = [lane.engine.send("LabObj", "obj_echo", "x", key=key) for key in keys]
        for id_ in ids:
            lane.engine.wait_status(id_, "completed")
        # Nobody has ever looked at this policy when the first purge begins.
        lane.create_policy("legal", ["LabObj"], holds=[{"name": "case", "target": {"keys": keys[:1]}}])
        lane.create(lane.manifest("all", "Purge", {"services": ["LabObj"], "keys": keys}))
        lane.start_operator()
        assert results(lane.ended("all")) == {ids[1]: ("Effective", "Purged")}


def test_hold_that_comes_in_mid_run_is_heeded_from_when_it_is_shown(shelf: Shelf) -> None:
    ids = [ended(shelf) for _ in range(12)]
    # All of them are looked at and on their way when it comes, and asked for one by one.
    limits = {"operationsPerSecond": 1, "maxInFlight": 12}
    shelf.stage.create(shelf.stage.manifest("slow", "Purge", service(shelf), limits=limits))
    shelf.stage.until(lambda: any(shelf.stage.status_of(id_) == "absent" for id_ in ids), 30)
    hold(shelf, outcomes=["Succeeded"])
    kept = [id_ for id_ in ids if shelf.stage.status_of(id_) != "absent"]
    shelf.stage.ended("slow", timeout=60)
    assert kept
    assert [id_ for id_ in ids if shelf.stage.status_of(id_) != "absent"] == kept


def test_hold_does_not_stop_the_engine_which_is_told_beforehand(stage: Stage) -> None:
    id_ = stage.send("short_echo", "x", service="LabShort", status="completed")
    shelf = Shelf(stage, None, "")  # type: ignore[arg-type]
    shelf.apply("legal", "LabShort", holds=[{"name": "case", "target": {"ids": [id_]}}])
    policy = shelf.until("legal", lambda s: s.get("holds"))
    [expiring] = policy["status"]["holds"][0].get("expiring", [{"id": id_}])
    assert expiring["id"] == id_
    stage.until(lambda: stage.status_of(id_) == "absent", 30)
    shelf.clear()
