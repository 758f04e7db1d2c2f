"""RetentionPolicy on a real engine: values set and read back, kept in force, and told."""

import secrets
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from e2e.rig import NEWEST, Engine, ServicesProcess
from tests.operator.conftest import Stage, conditions
from tests.operator.policies import PLURAL, Shelf
from tests.operator.policies import any_shelf as any_shelf
from tests.operator.policies import shelf as shelf

HERE = {"retention": {"idempotency": "3h", "workflowCompletion": "5h", "journal": "120m"}}


def test_policy_sets_what_applies_to_each_type_and_says_what_does_not(any_shelf: Shelf) -> None:
    shelf = any_shelf
    timeouts = {"inactivityTimeout": "90s", "abortTimeout": "5m"}
    shelf.apply("kept", "LabSvc", "LabWf", "LabRet", timeouts=timeouts, **HERE)
    policy = shelf.until("kept", lambda s: s.get("summary") == "3/3")
    assert conditions(policy) == {"Ready": ("True", "InForce")}
    plain, workflow, overriding = (shelf.entry(policy, name) for name in ("LabSvc", "LabWf", "LabRet"))
    own = {"idempotency": "3h", "journal": "2h", "inactivityTimeout": "1m30s", "abortTimeout": "5m"}
    assert (plain["state"], plain["requested"], plain["effective"]) == ("InForce", own, own)
    assert plain["previous"] == {
        "idempotency": "1d", "journal": "1d", "inactivityTimeout": "500ms", "abortTimeout": "10m",
    }  # fmt: skip
    assert plain["notApplicable"] == ["workflowCompletion"]
    assert workflow["effective"] == own | {"workflowCompletion": "5h"}
    assert "notApplicable" not in workflow
    # Handlers' own values win in the engine: both are shown.
    assert overriding["handlers"] == [
        {"name": "ret_echo", "effective": {"idempotency": "15m", "journal": "10m"}},
    ]
    shown = shelf.shown("LabSvc")
    assert (shown["idempotency_retention"], shown["journal_retention"]) == ("3h", "2h")
    assert (shown["inactivity_timeout"], shown["abort_timeout"]) == ("1m 30s", "5m")
    assert shelf.shown("LabWf")["workflow_completion_retention"] == "5h"
    made = shelf.stage.send("ret_other", "x", service=shelf.service("LabRet"), status="completed")
    row = shelf.engine.invocation(made)
    assert row is not None
    # Before 1.7 this call has no key, and its completion goes with its journal.
    completion = "PT10800S" if shelf.engine.version == NEWEST else "PT7200S"
    assert (row["completion_retention"], row["journal_retention"]) == (completion, "PT7200S")
    assert "RetentionSet" in shelf.reasons("kept")


def test_policy_whose_values_are_there_already_changes_nothing(shelf: Shelf) -> None:
    shelf.patched("LabSvc", journal_retention="2h")
    shelf.apply("kept", "LabSvc", retention={"journal": "PT120M"})
    entry = shelf.reached("kept", "LabSvc", lambda e: e["state"] == "InForce")
    assert "previous" not in entry
    assert "RetentionSet" not in shelf.reasons("kept")


@pytest.fixture
def newcomer() -> Iterator[ServicesProcess]:
    """The same services at another address: a new deployment."""
    with ServicesProcess("lab", prefix="Kept", retention="handler", variant="v2") as running:
        yield running


def _forced(shelf: Shelf, newcomer: ServicesProcess) -> None:
    shelf.engine.register(shelf.services.uri, force=True)


def _deployed(shelf: Shelf, newcomer: ServicesProcess) -> None:
    shelf.engine.register(newcomer.uri)


def _changed(shelf: Shelf, newcomer: ServicesProcess) -> None:
    shelf.patched("LabSvc", journal_retention="4h")


def _removed(shelf: Shelf, newcomer: ServicesProcess) -> None:
    newest = shelf.shown("LabSvc")["deployment_id"]
    shelf.engine.admin("DELETE", f"/deployments/{newest}?force=true").expect(202)


DRIFTS: list[tuple[str, str, Callable[[Shelf, ServicesProcess], None]]] = [
    ("ChangedElsewhere", "4h", _changed),
    ("ForcedRegistration", "1d", _forced),
    ("NewDeployment", "1d", _deployed),
]


def test_drift_of_every_cause_is_corrected_counted_dated_and_told(shelf: Shelf, newcomer: ServicesProcess) -> None:
    shelf.apply("kept", "LabSvc", retention={"journal": "2h"})
    shelf.reached("kept", "LabSvc", lambda e: e["state"] == "InForce")
    for count, (cause, was, drift) in enumerate(DRIFTS, 1):
        drift(shelf, newcomer)
        entry = shelf.reached("kept", "LabSvc", lambda e, count=count: e["drifts"] == count)
        assert (entry["lastDriftReason"], entry["state"]) == (cause, "InForce")
        assert entry["lastDriftTime"]
        assert shelf.shown("LabSvc")["journal_retention"] == "2h"
        shelf.stage.until(lambda count=count: shelf.reasons("kept").count("DriftCorrected") == count)
        told = [e["message"] for e in shelf.stage.events("kept") if e["reason"] == "DriftCorrected"]
        assert f"journal was {was} and is 2h again" in told[-1]
    # What comes back with an older revision may be what was set there: nothing to correct is no drift.
    _removed(shelf, newcomer)
    revision = shelf.shown("LabSvc")["revision"]
    entry = shelf.reached("kept", "LabSvc", lambda e: e["revision"] == revision)
    assert (entry["state"], shelf.shown("LabSvc")["journal_retention"]) == ("InForce", "2h")


def test_older_revision_that_comes_back_with_other_values_is_drift(shelf: Shelf, newcomer: ServicesProcess) -> None:
    shelf.engine.register(newcomer.uri)
    shelf.apply("kept", "LabSvc", retention={"journal": "2h"})
    shelf.reached("kept", "LabSvc", lambda e: e["state"] == "InForce")
    _removed(shelf, newcomer)
    entry = shelf.reached("kept", "LabSvc", lambda e: e["drifts"] == 1)
    assert (entry["lastDriftReason"], entry["state"]) == ("DeploymentRemoved", "InForce")
    assert shelf.shown("LabSvc")["journal_retention"] == "2h"


def test_drift_says_how_many_invocations_keep_the_other_retention(shelf: Shelf) -> None:
    shelf.apply("kept", "LabSvc", retention={"journal": "2h", "idempotency": "2h"})
    shelf.reached("kept", "LabSvc", lambda e: e["state"] == "InForce")
    shelf.stage.send("echo", "right", service=shelf.service("LabSvc"), status="completed")
    # Or it would be corrected before the third: an engine's news wakes the policy too.
    shelf.stage.patch("kept", {"suspend": True}, PLURAL)
    shelf.until("kept", lambda s: s["conditions"][0]["reason"] == "Suspended")
    shelf.engine.register(shelf.services.uri, force=True)
    for _ in range(3):
        shelf.stage.send("echo", "late", service=shelf.service("LabSvc"), status="completed")
    shelf.stage.patch("kept", {"suspend": False}, PLURAL)
    entry = shelf.reached("kept", "LabSvc", lambda e: e["drifts"] == 1)
    assert entry["missedInvocations"] == 3
    shelf.stage.until(lambda: "DriftCorrected" in shelf.reasons("kept"))
    told = next(e["message"] for e in shelf.stage.events("kept") if e["reason"] == "DriftCorrected")
    assert "3 invocations made meanwhile keep what held then" in told


def test_report_tells_of_drift_and_leaves_it_and_enforce_corrects_it(shelf: Shelf) -> None:
    shelf.apply("kept", "LabSvc", retention={"journal": "2h"}, drift="Report")
    policy = shelf.until("kept", lambda s: s.get("matched") == 1)
    assert conditions(policy) == {"Ready": ("False", "Drifted"), "Stalled": ("True", "Drifted")}
    assert "journal is 1d and not 2h" in shelf.entry(policy, "LabSvc")["message"]
    shelf.patched("LabSvc", journal_retention="4h")
    entry = shelf.reached("kept", "LabSvc", lambda e: e["drifts"] == 1)
    assert (entry["state"], entry["effective"]) == ("Drifted", {"journal": "4h"})
    assert shelf.shown("LabSvc")["journal_retention"] == "4h"
    shelf.stage.patch("kept", {"drift": "Enforce"}, PLURAL)
    entry = shelf.reached("kept", "LabSvc", lambda e: e["state"] == "InForce")
    assert (entry["drifts"], entry["previous"]) == (1, {"journal": "4h"})
    assert shelf.shown("LabSvc")["journal_retention"] == "2h"


def test_service_that_appears_is_taken_in_and_one_that_vanishes_is_shown(stage: Stage) -> None:
    prefix = f"New{secrets.token_hex(3)}"
    with ServicesProcess("lab", prefix=prefix) as services:
        shelf = Shelf(stage, services, prefix)
        shelf.apply("kept", "LabS*", retention={"journal": "2h"})
        policy = shelf.until("kept", lambda s: s.get("matched") == 0)
        assert conditions(policy) == {"Ready": ("True", "NoServices")}
        deployment = stage.engine.register(services.uri)
        policy = shelf.until("kept", lambda s: s.get("summary") == "2/2")
        assert {e["name"] for e in policy["status"]["services"]} == {prefix + "LabSvc", prefix + "LabShort"}
        stage.engine.admin("DELETE", f"/deployments/{deployment}?force=true").expect(202)
        policy = shelf.until("kept", lambda s: s.get("matched") == 0)
        assert {e["state"] for e in policy["status"]["services"]} == {"ServiceGone"}
        stage.until(lambda: "ServiceGone" in shelf.reasons("kept"))


def test_suspended_policy_looks_at_nothing(shelf: Shelf) -> None:
    shelf.apply("kept", "LabSvc", retention={"journal": "2h"}, suspend=True)
    policy = shelf.until("kept", lambda s: "conditions" in s)
    assert conditions(policy) == {"Ready": ("False", "Suspended"), "Reconciling": ("True", "Suspended")}
    assert shelf.shown("LabSvc")["journal_retention"] == "1d"
    shelf.stage.patch("kept", {"suspend": False}, PLURAL)
    shelf.reached("kept", "LabSvc", lambda e: e["state"] == "InForce")
    assert shelf.shown("LabSvc")["journal_retention"] == "2h"


def test_values_that_the_engine_caps_are_warned_about(shelf: Shelf) -> None:
    shelf.apply("kept", "LabSvc", "LabWf", retention={"journal": "5d", "workflowCompletion": "2d"})
    policy = shelf.until("kept", lambda s: s.get("summary") == "2/2")
    told = policy["status"]["warnings"]
    assert any("journal (5d) is longer than idempotency (1d) on KeptLabSvc" in text for text in told)
    assert any("journal (5d) is longer than workflowCompletion (2d) on KeptLabWf" in text for text in told)
    assert any("every ingress call an idempotency key" in text for text in told)
    made = shelf.stage.send("echo", "x", service=shelf.service("LabSvc"), status="completed")
    row = shelf.engine.invocation(made)
    assert row is not None
    assert row["journal_retention"] == "PT86400S", "the engine caps it, as the warning says"


def test_maximum_of_the_engines_own_configuration_is_told_and_not_fought(stage: Stage) -> None:
    prefix = "Capped"
    most = {f"RESTATE_MAX_{what}_RETENTION": "6h" for what in ("JOURNAL", "IDEMPOTENCY")}
    with ServicesProcess("lab", prefix=prefix) as services, Engine(env=most) as engine:
        engine.register(services.uri)
        shelf = Shelf(replace(stage, engine=engine), services, prefix)
        shelf.stage.define_engine()
        shelf.apply("kept", "LabSvc", "LabWf", retention={"journal": "12h", "idempotency": "5h"})
        entry = shelf.reached("kept", "LabSvc", lambda e: e["state"] == "Capped")
        assert "journal is 6h and not 12h" in entry["message"]
        assert entry["effective"] == {"journal": "6h", "idempotency": "5h"}
        policy = shelf.get("kept")
        assert conditions(policy) == {"Ready": ("False", "Capped"), "Stalled": ("True", "Capped")}
        # A look later nothing has drifted, and nothing was asked for again.
        shelf.stage.patch("kept", {"retention": {"journal": "11h", "idempotency": "5h"}}, PLURAL)
        entry = shelf.reached("kept", "LabSvc", lambda e: "not 11h" in e.get("message", ""))
        assert (entry["drifts"], shelf.reasons("kept").count("DriftCorrected")) == (0, 0)
        shelf.stage.patch("kept", {"retention": {"journal": "6h", "idempotency": "5h"}}, PLURAL)
        shelf.reached("kept", "LabSvc", lambda e: e["state"] == "InForce")
        shelf.clear()
        stage.delete("production", "restateengines")
