"""When a run may be taken over, and that what ended elsewhere is forgotten."""

from typing import Any

from invocation_operator.cluster.client import Object
from invocation_operator.cluster.records import Lease, Record
from invocation_operator.cluster.status import dump
from invocation_operator.reconcile.takeover import UNWATCHED_SECONDS, Leases
from tests.unit.cluster.test_cluster_records import SPEC


class Watch:
    def __init__(self) -> None:
        self.now = 0.0
        self.leases = Leases("me", Lease(15.0), lambda: self.now)

    def wait(self, name: str, version: int = 1, holder: str = "other") -> float:
        status: dict[str, Any] = {"observedGeneration": 1, "holder": holder}
        metadata = {"name": name, "namespace": "ops", "uid": "u", "resourceVersion": str(version)}
        obj: Object = {"metadata": metadata, "spec": dump(SPEC), "status": status}
        return self.leases.wait_seconds(Record.of(obj))


def test_lease_is_watched_on_the_own_clock_and_starts_over_with_each_renewal() -> None:
    watch = Watch()
    assert watch.wait("a") == 15.0
    watch.now = 10.0
    assert watch.wait("a") == 5.0
    assert watch.wait("a", version=2) == 15.0
    watch.now = 25.0
    assert watch.wait("a", version=2) == 0.0


def test_lease_of_nobody_and_of_this_process_needs_no_wait() -> None:
    watch = Watch()
    assert [watch.wait("a", holder=holder) for holder in ("", "me")] == [0.0, 0.0]


def test_leases_of_runs_that_ended_elsewhere_are_forgotten() -> None:
    watch = Watch()
    for number in range(1000):
        watch.wait(f"a{number}")
    watch.now = 200.0
    watch.wait("still-asked-about")
    watch.now = 15.0 + UNWATCHED_SECONDS + 1.0
    assert watch.wait("still-asked-about") == 0.0
    watch.wait("new")
    assert set(watch.leases._seen) == {"still-asked-about", "new"}


def test_lease_of_a_former_leader_needs_no_wait_while_this_process_leads() -> None:
    watch = Watch()
    gone: set[str] = set()
    watch.leases = Leases("me", Lease(15.0), lambda: watch.now, gone.__contains__)
    assert watch.wait("a") == 15.0
    gone.add("other")
    assert watch.wait("a") == 0.0
    gone.clear()
    assert watch.wait("a") == 15.0, "from the beginning: it may be at work again"
