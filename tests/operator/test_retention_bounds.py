"""What bounds a RetentionPolicy: other policies, guardrails, the kill switch; and how it goes."""

import pytest

from tests.operator.conftest import conditions
from tests.operator.policies import PLURAL, Shelf, second_later
from tests.operator.policies import shelf as shelf


def test_older_policy_wins_and_the_younger_takes_over_when_it_goes(shelf: Shelf) -> None:
    shelf.apply("b-older", "LabSvc", retention={"journal": "2h"})
    shelf.reached("b-older", "LabSvc", lambda e: e["state"] == "InForce")
    # The creation time has seconds; within one of them the name decides.
    shelf.stage.until(lambda: second_later(shelf, "b-older"))
    # Another RestateEngine that leads to the same engine is no way around it.
    shelf.stage.define_engine("alias")
    shelf.create(shelf.manifest("a-younger", "LabSvc", "LabWf", retention={"journal": "3h"}))
    shelf.stage.patch("a-younger", {"engineRef": {"name": "alias"}}, PLURAL)
    entry = shelf.reached("a-younger", "LabSvc", lambda e: e["state"] == "Conflicted")
    assert f"{shelf.stage.namespace}/b-older" in entry["message"]
    policy = shelf.until("a-younger", lambda s: s.get("summary") == "1/2")
    assert conditions(policy) == {"Ready": ("False", "Conflicted"), "Stalled": ("True", "Conflicted")}
    assert (shelf.shown("LabSvc")["journal_retention"], shelf.shown("LabWf")["journal_retention"]) == ("2h", "3h")
    shelf.stage.delete("b-older", PLURAL)
    shelf.reached("a-younger", "LabSvc", lambda e: e["state"] == "InForce")
    assert shelf.shown("LabSvc")["journal_retention"] == "3h"


@pytest.mark.parametrize(
    ("guardrails", "reason"),
    [
        ({"allowedActions": ["Cancel", "Purge"]}, "ActionNotAllowed"),
        ({"requireApprovalFor": ["SetRetention"]}, "ApprovalRequired"),
        ({"requireReasonFor": ["SetRetention"]}, "ReasonRequired"),
        ({"namespaces": [{"selector": {"matchLabels": {"nobody": "here"}}}]}, "NamespaceNotAllowed"),
        ({"namespaces": [{"selector": {}, "actions": ["Cancel"]}]}, "ActionNotAllowed"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_guardrails_that_do_not_allow_setretention_stop_the_policy(
    shelf: Shelf, guardrails: dict[str, object], reason: str
) -> None:
    shelf.stage.define_engine(guardrails=guardrails)
    shelf.apply("kept", "LabSvc", retention={"journal": "2h"})
    policy = shelf.until("kept", lambda s: "conditions" in s)
    assert conditions(policy) == {"Ready": ("False", reason), "Stalled": ("True", reason)}
    assert shelf.shown("LabSvc")["journal_retention"] == "1d"
    # One that only reports causes nothing.
    shelf.stage.patch("kept", {"drift": "Report"}, PLURAL)
    shelf.reached("kept", "LabSvc", lambda e: e["state"] == "Drifted")


def test_guardrails_on_services_keep_single_services_off(shelf: Shelf) -> None:
    shelf.stage.define_engine(
        guardrails={
            "protectedServices": ["KeptLabWf"],
            "namespaces": [{"selector": {}, "services": ["KeptLabSvc", "KeptLabWf"]}],
        }
    )
    shelf.apply("kept", "LabSvc", "LabWf", "LabObj", retention={"journal": "2h"})
    policy = shelf.until("kept", lambda s: s.get("summary") == "1/3")
    states = {name: shelf.entry(policy, name)["state"] for name in ("LabSvc", "LabWf", "LabObj")}
    assert states == {"LabSvc": "InForce", "LabWf": "ProtectedService", "LabObj": "ServiceNotAllowed"}
    assert [shelf.shown(n)["journal_retention"] for n in ("LabSvc", "LabWf", "LabObj")] == ["2h", "1d", "1d"]
    assert conditions(policy)["Ready"] == ("False", "ProtectedService")


def test_kill_switch_of_the_engine_holds_the_policy_up(shelf: Shelf) -> None:
    shelf.stage.define_engine(suspend=True)
    shelf.apply("kept", "LabSvc", retention={"journal": "2h"})
    policy = shelf.until("kept", lambda s: "conditions" in s)
    assert conditions(policy)["Reconciling"] == ("True", "EngineSuspended")
    assert shelf.shown("LabSvc")["journal_retention"] == "1d"
    shelf.stage.define_engine()
    shelf.reached("kept", "LabSvc", lambda e: e["state"] == "InForce")


def test_deleted_policy_that_restores_writes_back_what_held_before(shelf: Shelf) -> None:
    shelf.patched("LabSvc", journal_retention="7h")
    shelf.apply("kept", "LabSvc", "LabWf", "LabObj", retention={"journal": "2h"}, onDelete="Restore")
    policy = shelf.until("kept", lambda s: s.get("summary") == "3/3")
    assert policy["metadata"]["finalizers"] == ["ops.restate.dev/restore-retention"]
    # Somebody else's value is not ours to restore.
    shelf.stage.patch("kept", {"suspend": True}, PLURAL)
    shelf.until("kept", lambda s: s["conditions"][0]["reason"] == "Suspended")
    shelf.patched("LabObj", journal_retention="9h")
    shelf.stage.delete("kept", PLURAL)
    assert [shelf.shown(n)["journal_retention"] for n in ("LabSvc", "LabWf", "LabObj")] == ["7h", "1d", "9h"]
    assert "Restored" in shelf.reasons("kept")


def test_policy_that_cannot_write_down_what_it_would_restore_changes_nothing(shelf: Shelf) -> None:
    quota = f"/api/v1/namespaces/{shelf.stage.namespace}/resourcequotas"
    body = {"metadata": {"name": "none"}, "spec": {"hard": {"count/configmaps": "0"}}}
    shelf.stage.control_plane.request("POST", quota, body).expect(201)
    shelf.stage.until(lambda: "hard" in shelf.stage.control_plane.request("GET", f"{quota}/none").json()["status"], 60)
    shelf.apply("kept", "LabSvc", retention={"journal": "2h"}, onDelete="Restore")
    policy = shelf.until("kept", lambda s: s["conditions"][0]["reason"] == "RestoreNotKept")
    assert "exceeded quota" in policy["status"]["conditions"][0]["message"]
    assert shelf.shown("LabSvc")["journal_retention"] == "1d"
    shelf.stage.control_plane.request("DELETE", f"{quota}/none").expect(200)
    shelf.reached("kept", "LabSvc", lambda e: e["state"] == "InForce")
    assert shelf.get("kept")["status"]["restoreFrom"]
    shelf.stage.delete("kept", PLURAL)
    assert shelf.shown("LabSvc")["journal_retention"] == "1d"


def test_deleted_policy_restores_no_other_revision(shelf: Shelf) -> None:
    shelf.apply("kept", "LabSvc", retention={"journal": "2h"}, onDelete="Restore", interval="1d")
    shelf.reached("kept", "LabSvc", lambda e: e["state"] == "InForce")
    shelf.engine.register(shelf.services.uri, force=True)
    shelf.patched("LabSvc", journal_retention="2h")
    shelf.stage.delete("kept", PLURAL)
    assert shelf.shown("LabSvc")["journal_retention"] == "2h"


def test_deleted_policy_whose_engine_is_gone_is_let_go_at_once(shelf: Shelf) -> None:
    shelf.apply("kept", "LabSvc", retention={"journal": "2h"}, onDelete="Restore")
    shelf.reached("kept", "LabSvc", lambda e: e["state"] == "InForce")
    shelf.stage.define_engine(url="http://127.0.0.1:9")
    shelf.stage.delete("kept", PLURAL)
    assert shelf.shown("LabSvc")["journal_retention"] == "2h"
    shelf.stage.until(lambda: "RestoreGivenUp" in shelf.reasons("kept"))


def test_policy_that_keeps_leaves_everything_and_carries_no_finalizer(shelf: Shelf) -> None:
    shelf.apply("kept", "LabSvc", retention={"journal": "2h"}, onDelete="Restore")
    shelf.reached("kept", "LabSvc", lambda e: e["state"] == "InForce")
    shelf.stage.patch("kept", {"onDelete": "Keep"}, PLURAL)
    shelf.stage.until(lambda: not shelf.get("kept")["metadata"].get("finalizers"))
    annotations = shelf.get("kept")["metadata"].get("annotations", {})
    assert annotations == {}
    shelf.stage.delete("kept", PLURAL)
    assert shelf.shown("LabSvc")["journal_retention"] == "2h"
