"""applyToExisting on a real engine: told first, then purged, and nothing that is held or has values of its own."""

from e2e.rig import NEWEST
from tests.operator.policies import PLURAL, Shelf
from tests.operator.policies import any_shelf as any_shelf


def test_what_exists_is_counted_first_and_purged_when_that_is_asked_for(any_shelf: Shelf) -> None:
    shelf = any_shelf
    keyed = shelf.stage.send("echo", "x", service="KeptLabSvc", idempotency_key="kept-1", status="completed")
    called = shelf.stage.send("call_tree", 0.0, service="KeptLabSvc", idempotency_key="kept-2", status="completed")
    own = shelf.stage.send("ret_echo", "x", service="KeptLabRet", idempotency_key="kept-3", status="completed")
    held = shelf.stage.send("echo", "x", service="KeptLabSvc", idempotency_key="kept-4", status="completed")
    flow = shelf.stage.send("run", 0.0, service="KeptLabWf", key="kept-flow", status="completed")
    retention = {"idempotency": "0s", "journal": "0s", "workflowCompletion": "1d"}
    shelf.apply(
        "kept",
        "LabSvc",
        "LabRet",
        "LabWf",
        retention=retention,
        holds=[{"name": "case", "target": {"idempotencyKeys": ["kept-4"]}}],
    )
    # The child of the call has no key: its completion goes with its journal.
    policy = shelf.until("kept", lambda s: s.get("wouldRelease", {}).get("results") == 3)
    told = policy["status"]["wouldRelease"]
    assert told["journals"] == 4, "the workflow's journal too"
    # An engine before 1.7 does not tell the sizes of journals.
    assert ("bytes" in told) == (shelf.engine.version == NEWEST)
    assert told.get("bytes", 1) > 0
    assert shelf.stage.status_of(keyed) == "completed"
    shelf.stage.patch("kept", {"applyToExisting": True}, PLURAL)
    names = {"existing-journals", "existing-results"}
    shelf.until("kept", lambda s: names <= {e["name"] for e in s.get("sweeps", ()) if e.get("history")}, timeout=60)
    assert [shelf.stage.status_of(id_) for id_ in (keyed, called)] == ["absent", "absent"]
    assert [shelf.stage.status_of(id_) for id_ in (own, held, flow)] == ["completed"] * 3
    sizes = [row["journal_size"] for id_ in (own, held, flow) if (row := shelf.engine.invocation(id_)) is not None]
    assert (sizes[0] > 0, sizes[1] > 0, sizes[2]) == (True, True, 0)
