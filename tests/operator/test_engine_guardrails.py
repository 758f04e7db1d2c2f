"""Guardrails of an engine between the real servers: what they refuse is refused before anything is touched."""

from collections.abc import Iterator
from typing import Any

import pytest

from e2e.rig import ServicesProcess
from tests.operator.conftest import Object, Stage, conditions
from tests.operator.fronts import Fronted, fronted, message_of

FIELDS = (
    "allowedActions",
    "protectedServices",
    "maxTargets",
    "requireApprovalFor",
    "requireReasonFor",
    "requireNotAfter",
    "namespaces",
)
ESCALATION = {"escalation": {"killAfter": "5m"}, "verification": {"timeout": "10m"}}

# Guardrails, the action, what is beside its target, the reason of the refusal, what the message names.
CASES: list[tuple[Object, str, Object, str, str]] = [
    ({"allowedActions": ["Cancel"]}, "Kill", {}, "ActionNotAllowed", "Kill"),
    ({"allowedActions": ["Cancel"]}, "Cancel", ESCALATION, "ActionNotAllowed", "Kill"),
    ({"allowedActions": ["Cancel"]}, "Cancel", {"expedite": True}, "ActionNotAllowed", "Resume"),
    ({"allowedActions": ["Resume"]}, "Resume", {"resume": {"deployment": "Latest"}}, "ActionNotAllowed", "Pause"),
    ({"allowedActions": []}, "Pause", {}, "ActionNotAllowed", "nothing"),
    ({"requireApprovalFor": ["Kill"]}, "Kill", {}, "ApprovalRequired", "Kill"),
    ({"requireApprovalFor": ["Kill"]}, "Cancel", ESCALATION, "ApprovalRequired", "Kill"),
    ({"requireReasonFor": ["Cancel"]}, "Cancel", {}, "ReasonRequired", "spec.reason"),
    ({"requireReasonFor": ["Cancel"]}, "Cancel", {"reason": "  "}, "ReasonRequired", "spec.reason"),
    ({"requireReasonFor": ["Resume"]}, "Cancel", {"expedite": True}, "ReasonRequired", "Resume"),
    ({"requireNotAfter": True}, "Cancel", {}, "NotAfterRequired", "spec.notAfter"),
    ({"protectedServices": ["LabSvc"]}, "Cancel", {}, "ProtectedService", "LabSvc"),
    ({"protectedServices": ["La*"]}, "Kill", {}, "ProtectedService", "LabSvc"),
    ({"maxTargets": 1}, "Cancel", {}, "TooManyTargets", "maxTargets (1)"),
    # The parent, its awaited child, and two one-way children that only a kill takes with it.
    ({"maxTargets": 2}, "Kill", {}, "TooManyTargets", "4 invocations"),
    ({"maxTargets": 2}, "Cancel", ESCALATION, "TooManyTargets", "4 invocations"),
    ({"namespaces": [{"selector": {"matchLabels": {"team": "a"}}}]}, "Cancel", {}, "NamespaceNotAllowed", "namespace"),
    ({"namespaces": [{"selector": {}, "actions": ["Pause"]}]}, "Cancel", {}, "ActionNotAllowed", "Cancel"),
    ({"namespaces": [{"selector": {}, "services": ["LabObj"]}]}, "Cancel", {}, "ServiceNotAllowed", "LabSvc"),
    (
        # Entries do not mix: the service of one with the action of another.
        {
            "namespaces": [
                {"selector": {}, "services": ["LabSvc"], "actions": ["Pause"]},
                {"selector": {}, "services": ["LabObj"], "actions": ["Cancel"]},
            ]
        },
        "Cancel",
        {},
        "ServiceNotAllowed",
        "LabSvc",
    ),
]


def test_guardrails_refuse_before_anything_is_touched(stage: Stage) -> None:
    parent = stage.send("send_children", 3600.0, status="suspended")
    with fronted(stage) as it:
        it.define()
        for number, (rails, action, beside, reason, named) in enumerate(CASES):
            stage.patch("front", {"guardrails": {**dict.fromkeys(FIELDS), **rails}}, "restateengines")
            name = f"act-{number}"
            statuses = {"statuses": ["BackingOff"]} if action == "Resume" else {}
            it.act(name, action, {"ids": [parent], **statuses}, **beside)
            refused = stage.ended(name, timeout=60)
            case = (rails, action, beside, message_of(refused))
            assert conditions(refused) == {"Ready": ("False", reason), "Stalled": ("True", reason)}, case
            assert refused["status"]["phase"] == "Refused", case
            assert named in message_of(refused), case
            assert not stage.records(name), case
        assert not it.front.writes()
        assert stage.status_of(parent) == "suspended"

        stage.patch("front", {"guardrails": dict.fromkeys(FIELDS) | {"maxTargets": 2}}, "restateengines")
        it.cancel(parent, "allowed", reason="INC-1")
        assert stage.ended("allowed", timeout=60)["status"]["phase"] == "Succeeded"


@pytest.fixture
def waiting_checkout(stage: Stage) -> Iterator[str]:
    """A checkout that awaits a payment, under names that no other test uses."""
    with ServicesProcess("shop") as shop:
        shop.world(provider="hangs")
        deployment = stage.engine.register(shop.uri)
        order = {"number": "7", "article": "book"}
        id_ = stage.send("place", order, service="checkout", status="suspended")
        stage.until(lambda: _children(stage, id_) == {"payment"}, 60)
        yield id_
        stage.engine.operate(id_, "kill")
        stage.until(lambda: not _children(stage, id_), 60)
        stage.engine.admin("DELETE", f"/deployments/{deployment}?force=true")


def test_protected_service_is_not_reached_as_a_descendant_either(stage: Stage, waiting_checkout: str) -> None:
    with fronted(stage) as it:
        it.define(guardrails={"protectedServices": ["payment"]})
        for name, action in (("kill", "Kill"), ("cancel", "Cancel")):
            it.act(name, action, {"ids": [waiting_checkout]})
            refused = stage.ended(name, timeout=60)
            assert conditions(refused)["Ready"] == ("False", "ProtectedService")
            assert "payment" in message_of(refused)
        assert not it.front.writes()


def _children(stage: Stage, id_: str) -> set[str]:
    rows = stage.engine.sql(
        "select target_service_name as name from sys_invocation"
        f" where invoked_by_id = '{id_}' and status <> 'completed'"
    )
    return {row["name"] for row in rows}


# Several RestateEngines that lead to one engine.


def respelled(it: Fronted) -> str:
    """The front's address in another spelling."""
    return it.front.url.replace("127.0.0.1", "LOCALHOST") + "/"


@pytest.mark.parametrize("strict_first", [True, False])
def test_guardrails_of_every_engine_that_leads_there_hold(stage: Stage, strict_first: bool) -> None:
    ids = [stage.send("sleep_long", 3600.0, status="suspended") for _ in range(2)]
    strict: dict[str, Any] = {"guardrails": {"maxTargets": 1, "allowedActions": ["Cancel", "Pause"]}}
    with fronted(stage) as it:
        if strict_first:
            it.define("strict", url=respelled(it), **strict)
            it.define("loose")
        else:
            it.define("loose")
            it.engine_says("Reachable", name="loose")
            it.define("strict", url=respelled(it), **strict)
        it.engine_says("Reachable", name="strict")
        it.act("many", "Cancel", {"ids": ids}, "loose")
        it.act("kill", "Kill", {"ids": ids[:1]}, "loose")
        assert conditions(stage.ended("many", timeout=60))["Ready"] == ("False", "TooManyTargets")
        assert conditions(stage.ended("kill", timeout=60))["Ready"] == ("False", "ActionNotAllowed")
        assert not it.front.writes()
        stage.delete("strict", "restateengines")
        # The watch tells of the deletion a moment later; until then the ceiling holds.
        phases = (_phase(it, f"again-{number}", ids) for number in range(30))
        assert "Succeeded" in phases


def _phase(it: Fronted, name: str, ids: list[str]) -> str:
    it.act(name, "Kill", {"ids": ids}, "loose")
    return str(it.stage.ended(name, timeout=60)["status"]["phase"])
