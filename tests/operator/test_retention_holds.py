"""Holds on a real engine: what no purge touches, whoever asks, and what the engine expires all the same."""

from datetime import datetime

import pytest

from tests.operator.conftest import Stage, conditions, results
from tests.operator.policies import PLURAL, Shelf
from tests.operator.policies import shelf as shelf


def ended(shelf: Shelf, handler: str = "echo", **options: str) -> str:
    body = "boom" if handler == "fail_terminal" else "x"
    return shelf.stage.send(handler, body, service=shelf.service("LabSvc"), status="completed", **options)


def hold(shelf: Shelf, **target: object) -> None:
    """A policy that holds, in force."""
    shelf.apply("legal", "LabSvc", holds=[{"name": "case", "reason": "a case", "target": target}])
    shelf.until("legal", lambda s: s.get("holds"))


@pytest.fixture(autouse=True)
def nothing_left(shelf: Shelf) -> None:
    for row in shelf.engine.sql("select id from sys_invocation where target_service_name = 'KeptLabSvc'"):
        shelf.engine.operate(row["id"], "kill")
        shelf.engine.operate(row["id"], "purge")


def service(shelf: Shelf) -> dict[str, list[str]]:
    return {"services": [shelf.service("LabSvc")]}


def test_held_invocations_are_purged_neither_by_filter_nor_by_name(shelf: Shelf) -> None:
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


def test_hold_that_comes_in_mid_run_is_heeded_from_then_on(shelf: Shelf) -> None:
    ids = [ended(shelf) for _ in range(8)]
    limits = {"operationsPerSecond": 1, "maxInFlight": 1}
    shelf.stage.create(shelf.stage.manifest("slow", "Purge", service(shelf), limits=limits))
    shelf.stage.until(lambda: any(shelf.stage.status_of(id_) == "absent" for id_ in ids), 30)
    hold(shelf, outcomes=["Succeeded"])
    kept = [id_ for id_ in ids if shelf.stage.status_of(id_) != "absent"]
    shelf.stage.ended("slow", timeout=60)
    left = [id_ for id_ in ids if shelf.stage.status_of(id_) != "absent"]
    assert len(kept) - 1 <= len(left), "one may have been asked for already"
    assert left


def test_hold_does_not_stop_the_engine_which_is_told_beforehand(stage: Stage) -> None:
    id_ = stage.send("short_echo", "x", service="LabShort", status="completed")
    shelf = Shelf(stage, None, "")  # type: ignore[arg-type]
    shelf.apply("legal", "LabShort", holds=[{"name": "case", "target": {"ids": [id_]}}])
    policy = shelf.until("legal", lambda s: s.get("holds"))
    [expiring] = policy["status"]["holds"][0].get("expiring", [{"id": id_}])
    assert expiring["id"] == id_
    stage.until(lambda: stage.status_of(id_) == "absent", 30)
    shelf.clear()
