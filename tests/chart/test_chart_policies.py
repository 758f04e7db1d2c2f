"""Who may do what: the chart's policies, asked by people whom a real API server knows. No operator runs here."""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from e2e.rig import ControlPlane
from e2e.rig.helm import Helm
from invocation_operator.api.v1alpha1.action import ActionSpec
from invocation_operator.api.v1alpha1.engine import Operation
from invocation_operator.plan.operations import caused_operations
from tests.chart.policed import (
    APPROVED_BY,
    ELSEWHERE,
    HASH,
    LACKING,
    OPERATOR,
    REQUESTED_BY,
    ROLES,
    SHOP,
    USERS,
    VERBS,
    Object,
    Policed,
    annotation,
    people,
    refusal,
)

CANCEL: Object = {"action": "Cancel", "target": {"ids": ["inv_1"]}}
APPROVE = {**CANCEL, "mode": "Approve"}


@pytest.fixture(scope="module")
def policed(helm: Helm, helm_binary: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Policed]:
    """The chart as it comes, installed."""
    with ControlPlane(users={user: [] for user in USERS}) as cluster:
        installer = Helm(tmp_path_factory.mktemp("helm"), cluster.kubeconfig)
        installer.install("op", "op-system", None, "--create-namespace")
        cluster.apply(people())
        made = Policed(cluster, installer)
        made.wait_until_in_force()
        yield made


@pytest.fixture
def stamping(policed: Policed) -> Policed:
    """The same, for what only a cluster shows that writes down who asked."""
    if not policed.stamps:
        pytest.skip("this Kubernetes serves no MutatingAdmissionPolicy v1")
    return policed


@pytest.fixture(autouse=True)
def clean(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "policed" in request.fixturenames:
        request.getfixturevalue("policed").delete()


def action(operation: str, **more: Any) -> Object:
    return {"action": operation, "target": {"services": ["checkout"]}, **more}


# Which verbs a specification needs: as the guardrails of the operator count what it can cause.

ACTIONS = [
    *(action(name) for name in ("Cancel", "Kill", "Pause", "Resume", "Purge", "PurgeJournal", "RestartAsNew")),
    action("Cancel", escalation={"killAfter": "1m"}),
    action("Cancel", expedite=True),
    action("Cancel", expedite=False),
    action("Cancel", expedite=True, escalation={"killAfter": "1m"}, mode="Approve"),
    action("Resume", resume={"deployment": "Latest"}),
    action("Resume", resume={"deployment": "Latest"}, target={"services": ["a"], "statuses": ["BackingOff"]}),
    action("Resume", resume={"deployment": "dp_1"}, target={"services": ["a"], "statuses": ["Paused", "BackingOff"]}),
    action("Resume", resume={"deployment": "Keep"}, target={"services": ["a"], "statuses": ["BackingOff"]}),
    action("Resume", resume={}, target={"services": ["a"], "statuses": ["BackingOff"]}),
    action("Resume", target={"services": ["a"], "statuses": ["BackingOff"]}),
    action(
        "Resume",
        resume={"deployment": "Latest"},
        target={"services": ["a"], "anyOf": [{"keys": ["k"]}, {"statuses": ["BackingOff"]}]},
    ),
    action("Resume", resume={"deployment": "Latest"}, target={"services": ["a"], "anyOf": [{"keys": ["k"]}]}),
    action(
        "Resume",
        resume={"deployment": "Latest"},
        target={"services": ["a"], "statuses": ["Paused"], "anyOf": [{"statuses": ["BackingOff"]}]},
    ),
]
VERB_OF = {Operation(name): name.lower() for name in Operation}


@pytest.mark.parametrize("spec", ACTIONS, ids=str)
def test_verbs_of_an_action_are_those_of_what_it_can_cause(policed: Policed, spec: Object) -> None:
    needed = {VERB_OF[operation] for operation in caused_operations(ActionSpec.model_validate(spec))}
    for user, verb in LACKING.items():
        reply = policed.offer(user, policed.manifest(spec))
        if verb not in needed:
            assert reply.status == 201, f"{user}: {reply.json()}"
            continue
        told = refusal(reply)
        assert f"{user} lacks the verb {verb} on invocationactions.ops.restate.dev in namespace {SHOP}" in told
    # Whoever may write the object and has no verb may look, and no more.
    assert policed.offer("writer", policed.manifest(spec)).status == 403
    assert policed.offer("writer", policed.manifest({**spec, "mode": "DryRun"})).status == 201


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        (action("Kill"), "spec.action: Kill"),
        (action("Cancel", escalation={"killAfter": "1m"}), "spec.escalation"),
    ],
)
def test_verbs_refusal_says_what_asks_for_it(policed: Policed, spec: Object, field: str) -> None:
    assert f", which {field} needs" in refusal(policed.offer("lacks-kill", policed.manifest(spec)))


def test_verbs_hold_where_they_were_given(policed: Policed) -> None:
    policed.offer("alice", policed.manifest(CANCEL)).expect(201)
    told = refusal(policed.offer("alice", policed.manifest(CANCEL, namespace=ELSEWHERE)))
    assert f"alice lacks the verb cancel on invocationactions.ops.restate.dev in namespace {ELSEWHERE}" in told


SERVICES = {"services": ["checkout"]}
SWEEP = {"name": "nightly", "schedule": "0 3 * * *", "action": "Purge"}
POLICIES: list[tuple[Object, set[str]]] = [
    ({**SERVICES, "retention": {"journal": "1d"}}, {"setretention"}),
    ({**SERVICES, "timeouts": {"abortTimeout": "1m"}}, {"setretention"}),
    ({**SERVICES, "sweeps": [SWEEP]}, {"purge"}),
    ({**SERVICES, "sweeps": [{**SWEEP, "action": "PurgeJournal"}]}, {"purgejournal"}),
    (
        {**SERVICES, "retention": {"journal": "1d"}, "applyToExisting": True},
        {"setretention", "purge", "purgejournal"},
    ),
    # It tells, and changes nothing.
    ({**SERVICES, "retention": {"journal": "1d"}, "drift": "Report"}, set()),
]


# Sets print in another order in each process, and both must collect the same tests.
@pytest.mark.parametrize(("spec", "needed"), POLICIES, ids=lambda v: str(sorted(v) if isinstance(v, set) else v))
def test_verbs_of_a_retention_policy_are_those_of_what_it_can_cause(
    policed: Policed, spec: Object, needed: set[str]
) -> None:
    for user, verb in LACKING.items():
        reply = policed.offer(user, policed.manifest(spec, "RetentionPolicy"))
        assert (reply.status == 403) is (verb in needed), f"{user}: {reply.json()}"
        assert verb not in needed or f"lacks the verb {verb} on invocationactions" in refusal(reply)


# Changes: what does less passes, what can do more asks.

CHANGES = [
    pytest.param({}, {"spec": {"suspend": True}}, True, id="a suspension is everybody's"),
    pytest.param({"suspend": True}, {"spec": {"suspend": False}}, False, id="its end is not"),
    pytest.param({"suspend": True}, {"spec": {"suspend": None}}, False, id="its removal neither"),
    pytest.param({"suspend": True}, {"metadata": {"labels": {"a": "b"}}}, True, id="labels"),
    pytest.param({}, {"metadata": {"finalizers": ["example.com/f"]}}, True, id="finalizers"),
    pytest.param({}, {"spec": {"ttlSecondsAfterFinished": 60}}, True, id="a TTL"),
    pytest.param({}, {"spec": {"mode": "DryRun"}}, True, id="back to a preview"),
    pytest.param({}, {"spec": {"limits": {"maxInFlight": 10}}}, False, id="faster"),
    pytest.param({"mode": "DryRun"}, {"spec": {"mode": "Execute"}}, False, id="a preview that is carried out"),
    pytest.param({"mode": "DryRun"}, {"spec": {"mode": "Approve"}}, False, id="a preview to be approved"),
    pytest.param({"mode": "Approve"}, {"spec": {"mode": "Execute"}}, False, id="without its approval"),
    pytest.param({}, {"spec": {"runId": "again"}}, False, id="again"),
    pytest.param({}, {"spec": {"runId": "again", "suspend": True}}, False, id="again, and suspended"),
    pytest.param({}, {"spec": {"runId": "again", "mode": "DryRun"}}, True, id="again, to look"),
    pytest.param({"mode": "Approve"}, {"spec": {"approvedPlan": HASH}}, False, id="an approval"),
]


@pytest.mark.parametrize(("before", "patch", "allowed"), CHANGES)
def test_change_asks_for_verbs_when_it_can_do_more(
    policed: Policed, before: Object, patch: Object, allowed: bool
) -> None:
    approval = "approvedPlan" in patch.get("spec", {})
    create = policed.create_signed if approval else policed.create
    create("alice", policed.manifest({**CANCEL, **before}))
    policed.end()
    reply = policed.patch("writer", patch)
    assert reply.status == (200 if allowed else 403), reply.json()
    if not allowed:
        assert "writer lacks the verb " in refusal(reply)
        policed.patch("bob", patch).expect(200)
    policed.patch("alice", {"metadata": {"finalizers": None}}).expect(200)


# Who asked for it.

FORGED = {REQUESTED_BY: "the-boss", APPROVED_BY: "the-boss", "example.com/kept": "yes"}


@pytest.mark.parametrize("kind", ["InvocationAction", "RetentionPolicy"])
def test_requester_is_who_created_it_whatever_the_client_says(stamping: Policed, kind: str) -> None:
    spec = CANCEL if kind == "InvocationAction" else {**SERVICES, "retention": {"journal": "1d"}}
    for annotations in ({}, FORGED, {REQUESTED_BY: ""}):
        created = stamping.offer("alice", stamping.manifest(spec, kind, annotations=annotations)).expect(201).json()
        assert annotation(created) == "alice"
    generated = stamping.manifest(spec, kind, generateName="probe-", annotations=FORGED)
    del generated["metadata"]["name"]
    stored = stamping.offer("alice", generated).expect(201).json()
    assert annotation(stored) == "alice"
    assert annotation(stored, "example.com/kept") == "yes"


def test_requester_is_nobodys_to_change(stamping: Policed) -> None:
    created = stamping.create("alice", stamping.manifest(CANCEL))
    before = stamping.get()["metadata"]["annotations"]
    for user in ("bob", "writer", "the-admin", "alice"):
        told = refusal(stamping.patch(user, {"metadata": {"annotations": {REQUESTED_BY: "the-boss"}}}))
        assert f"{REQUESTED_BY} tells who asked for it, which is alice" in told
        # Taken away, it is put back: a client that replaces the object does not know it.
        for taken in ({REQUESTED_BY: None}, {REQUESTED_BY: ""}, None):
            changed = stamping.patch(user, {"metadata": {"annotations": taken}}).expect(200).json()
            assert annotation(changed) == "alice"
    replaced = {**created, "metadata": {k: v for k, v in created["metadata"].items() if k != "annotations"}}
    replaced["metadata"]["resourceVersion"] = stamping.get()["metadata"]["resourceVersion"]
    assert annotation(stamping.put("bob", replaced).expect(200).json()) == "alice"
    replaced["metadata"]["annotations"] = {REQUESTED_BY: "bob"}
    replaced["metadata"]["resourceVersion"] = stamping.get()["metadata"]["resourceVersion"]
    refusal(stamping.put("bob", replaced))
    # By the status nothing but the status is changed.
    body = stamping.get()
    body["metadata"]["annotations"] = {REQUESTED_BY: "bob"}
    stamping.put("bob", body, sub="status").expect(200)
    assert stamping.get()["metadata"]["annotations"] == before


@pytest.mark.parametrize(
    ("before", "patch", "requester"),
    [
        pytest.param({}, {"runId": "again"}, "bob", id="a new run is its author's"),
        pytest.param({}, {"suspend": True}, "alice", id="who stops it has not asked for it"),
        pytest.param({}, {"limits": {"maxInFlight": 5}}, "alice", id="who hurries it neither"),
        pytest.param({"mode": "DryRun"}, {"mode": "Execute"}, "bob", id="who carries a preview out asks for it"),
        pytest.param({"mode": "Approve"}, {"mode": "Execute"}, "bob", id="who does without an approval too"),
        pytest.param({"mode": "Approve"}, {"mode": "DryRun"}, "alice", id="who only looks does not"),
        pytest.param({"mode": "Approve"}, {"approvedPlan": HASH}, "alice", id="who approves does not"),
    ],
)
def test_requester_of_a_change(stamping: Policed, before: Object, patch: Object, requester: str) -> None:
    stamping.create("alice", stamping.manifest({**CANCEL, **before}))
    stamping.end()
    forged = {"metadata": {"annotations": {REQUESTED_BY: "the-boss"}}} if requester == "bob" else {}
    changed = stamping.patch("bob", {"spec": patch, **forged}).expect(200).json()
    assert annotation(changed) == requester


def test_requester_of_a_retention_policy_is_who_changed_it_last(stamping: Policed) -> None:
    spec = {**SERVICES, "retention": {"journal": "1d"}}
    stamping.create("alice", stamping.manifest(spec, "RetentionPolicy"))
    try:
        kind = "RetentionPolicy"
        change = stamping.patch("bob", {"spec": {"suspend": True}}, kind=kind)
        assert annotation(change.expect(200).json()) == "alice"
        assert "setretention" in refusal(stamping.patch("writer", {"spec": {"suspend": False}}, kind=kind))
        change = stamping.patch("bob", {"spec": {"retention": {"journal": "2d"}}}, kind=kind)
        assert annotation(change.expect(200).json()) == "bob"
    finally:
        stamping.delete(kind="RetentionPolicy")


def test_requester_of_a_sweep_that_is_asked_for_now_has_its_verb(policed: Policed) -> None:
    kind, now = "RetentionPolicy", {"metadata": {"annotations": {"ops.restate.dev/requestedAt": "now"}}}
    policed.create("alice", policed.manifest({**SERVICES, "sweeps": [SWEEP]}, kind))
    try:
        told = refusal(policed.patch("lacks-purge", now, kind=kind))
        assert "lacks-purge lacks the verb purge" in told
        assert "spec.sweeps with action: Purge needs" in told
        for user in ("lacks-purgejournal", "lacks-setretention"):
            now["metadata"]["annotations"]["ops.restate.dev/requestedAt"] = user
            changed = policed.patch(user, now, kind=kind).expect(200).json()
            assert annotation(changed) == (user if policed.stamps else None)
        # The same value again, and none at all, ask for nothing.
        policed.patch("writer", now, kind=kind).expect(200)
        now["metadata"]["annotations"]["ops.restate.dev/requestedAt"] = ""
        changed = policed.patch("writer", now, kind=kind).expect(200).json()
        assert annotation(changed) == ("lacks-setretention" if policed.stamps else None)
    finally:
        policed.delete(kind=kind)


def test_operator_carries_the_author_of_the_parent_and_is_not_asked(policed: Policed) -> None:
    child = policed.manifest(action("Kill"), annotations={REQUESTED_BY: "alice"})
    assert annotation(policed.create(OPERATOR, child)) == "alice"
    policed.patch(OPERATOR, {"metadata": {"finalizers": ["example.com/f"]}}).expect(200)
    policed.patch(OPERATOR, {"status": {"phase": "Running"}}, sub="status").expect(200)
    policed.patch(OPERATOR, {"metadata": {"finalizers": None}}).expect(200)


def test_status_is_the_operators(policed: Policed) -> None:
    policed.create("alice", policed.manifest(APPROVE))
    forged = {"status": {"approval": {"hash": HASH, "time": "2026-01-01T00:00:00Z"}, "requestedBy": "the-boss"}}
    told = refusal(policed.patch("writer", forged, sub="status"))
    assert "the status is the operator's to write" in told
    assert "approval" not in policed.get()["status"]
    policed.patch("writer", {"status": {}}, sub="status").expect(200)


# Approvals.


def test_approval_is_by_another_user_who_has_the_verb(stamping: Policed) -> None:
    stamping.create("alice", stamping.manifest(APPROVE))
    approval = {"spec": {"approvedPlan": HASH}}
    assert "alice asked for this, and a plan is approved by another user" in refusal(stamping.patch("alice", approval))
    told = refusal(stamping.patch("lacks-approve", approval))
    assert "lacks-approve lacks the verb approve" in told
    assert "spec.approvedPlan needs" in told
    # Who may approve need not be able to ask for it.
    forged = approval | {"metadata": {"annotations": {APPROVED_BY: "the-boss"}}}
    changed = stamping.patch("lacks-cancel", forged).expect(200).json()
    assert (annotation(changed), annotation(changed, APPROVED_BY)) == ("alice", "lacks-cancel")
    told = refusal(stamping.patch("bob", {"metadata": {"annotations": {APPROVED_BY: "bob"}}}))
    assert f"{APPROVED_BY} tells who approved the plan, which is lacks-cancel" in told
    kept = stamping.patch("bob", {"metadata": {"annotations": {APPROVED_BY: None}}}).expect(200).json()
    assert annotation(kept, APPROVED_BY) == "lacks-cancel"
    other = stamping.patch("bob", {"spec": {"approvedPlan": HASH.replace("a" * 48, "b" * 48)}}).expect(200).json()
    assert annotation(other, APPROVED_BY) == "bob"
    # Taken back by anybody, together with the name.
    withdrawn = stamping.patch("writer", {"spec": {"approvedPlan": None}}).expect(200).json()
    assert annotation(withdrawn, APPROVED_BY) is None
    assert annotation(stamping.get()) == "alice"


DETOURS = [
    pytest.param("alice", APPROVE, {"runId": "again", "approvedPlan": HASH}, id="with a run of one's own"),
    pytest.param("bob", {**CANCEL, "mode": "DryRun"}, {"mode": "Approve"}, id="of another one's preview"),
    pytest.param("bob", {**CANCEL, "mode": "Execute"}, {"mode": "Approve"}, id="of another one's run"),
]


@pytest.mark.parametrize(("author", "spec", "detour"), DETOURS)
def test_approval_of_ones_own_by_a_detour_is_refused(
    stamping: Policed, author: str, spec: Object, detour: Object
) -> None:
    stamping.create(author, stamping.manifest(spec))
    stamping.end()
    both = stamping.patch("alice", {"spec": {**detour, "approvedPlan": HASH}})
    assert "alice asked for this" in refusal(both)
    stepwise = stamping.patch("alice", {"spec": {k: v for k, v in detour.items() if k != "approvedPlan"}})
    assert annotation(stepwise.expect(200).json()) == "alice"
    assert "alice asked for this" in refusal(stamping.patch("alice", {"spec": {"approvedPlan": HASH}}))


def test_verbs_hold_for_every_client(policed: Policed, tmp_path: Any) -> None:
    """Server-side apply, client-side apply, dry runs."""
    file = tmp_path / "action.json"
    file.write_text(json.dumps(policed.manifest(action("Kill"))))
    for ways in (("apply", "--server-side"), ("apply",), ("create",), ("create", "--dry-run=server")):
        done = policed.cluster.kubectl("--as", "lacks-kill", "-n", SHOP, *ways, "-f", str(file), check=False)
        assert "lacks the verb kill" in done.stderr, ways


def test_detours_by_other_clients_and_ways(stamping: Policed, tmp_path: Any) -> None:
    """Server-side apply, client-side apply, replace, annotate, impersonation, deletion and creation."""
    cluster = stamping.cluster
    manifest = stamping.manifest(APPROVE, annotations={REQUESTED_BY: "the-boss"})
    file = tmp_path / "action.json"

    def kubectl(user: str, *args: str, obj: Object = manifest) -> str:
        file.write_text(json.dumps(obj))
        done = cluster.kubectl("--as", user, "-n", SHOP, *args, check=False)
        return done.stderr.strip()

    assert kubectl("alice", "apply", "--server-side", "-f", str(file)) == ""
    assert annotation(stamping.get()) == "alice"
    # Applied again it claims what it could not write; without the claim it is left as it was.
    assert "which is alice" in kubectl("alice", "apply", "--server-side", "--force-conflicts", "-f", str(file))
    assert kubectl("alice", "apply", "--server-side", "-f", str(file), obj=stamping.manifest(APPROVE)) == ""
    assert kubectl("bob", "replace", "-f", str(file), obj=stamping.manifest(APPROVE)) == ""
    assert annotation(stamping.get()) == "alice"
    assert "which is alice" in kubectl("bob", "annotate", "--overwrite", "iact/probe", f"{REQUESTED_BY}=bob")
    approved = {**APPROVE, "approvedPlan": HASH}
    for ways in (("apply", "--server-side", "--force-conflicts"), ("apply",), ("replace",)):
        told = kubectl("alice", *ways, "-f", str(file), obj=stamping.manifest(approved))
        assert "alice asked for this" in told, ways
    # Deleted and created anew it is the new author's, and an approval at creation is none.
    stamping.delete()
    assert "not accepted at creation" in kubectl("bob", "create", "-f", str(file), obj=stamping.manifest(approved))
    assert kubectl("bob", "create", "-f", str(file)) == ""
    assert annotation(stamping.get()) == "bob"


# Roles.


def test_roles_allow_what_they_say(policed: Policed) -> None:
    able = {
        user: {
            name
            for name in ("Cancel", "Kill", "Pause", "Resume", "Purge", "PurgeJournal", "RestartAsNew")
            if policed.offer(user, policed.manifest(action(name))).status == 201
        }
        for user in ROLES
    }
    assert able["the-viewer"] == set()
    assert able["the-responder"] == {"Cancel", "Pause", "Resume", "RestartAsNew"}
    assert len(able["the-admin"]) == 7
    policed.create_signed("the-responder", policed.manifest(APPROVE))
    for user in ROLES:
        policed.cluster.request("GET", policed.path(), user=user).expect(200)
    policed.cluster.request("GET", policed.path(), user="stranger").expect(403)
    policed.patch("the-admin", {"spec": {"approvedPlan": HASH}}).expect(200)
    policed.patch("the-responder", {"spec": {"suspend": True}}).expect(200)
    policed.patch("the-viewer", {"spec": {"suspend": True}}).expect(403)


def test_role_of_an_editor_includes_no_kind_of_ours_but_to_read(policed: Policed) -> None:
    def rules(name: str) -> set[tuple[str, str]]:
        found = policed.cluster.get("clusterrole", name)["rules"]
        return {
            (verb, resource)
            for rule in found
            if "ops.restate.dev" in rule["apiGroups"]
            for verb in rule["verbs"]
            for resource in rule["resources"]
        }

    deadline = time.monotonic() + 30
    while not rules("view"):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    for name in ("view", "edit", "admin"):
        assert {verb for verb, _ in rules(name)} <= {"get", "list", "watch"}, name


def test_policies_are_well_typed(policed: Policed) -> None:
    deadline = time.monotonic() + 60
    while True:
        found = policed.cluster.get("validatingadmissionpolicies")["items"]
        if all("typeChecking" in policy.get("status", {}) for policy in found):
            break
        assert time.monotonic() < deadline, [policy.get("status") for policy in found]
        time.sleep(0.5)
    assert len(found) == 4
    assert [policy["status"]["typeChecking"] for policy in found] == [{}] * len(found)


def test_policies_of_a_cluster_that_cannot_stamp(policed: Policed) -> None:
    """The last one here: it upgrades the release. Authors may name themselves, and none but themselves."""
    policed.helm.upgrade("op", "op-system", {"admissionPolicies": {"stampAuthors": "Never"}})
    deadline = time.monotonic() + 60
    while annotation(policed.offer("alice", policed.manifest(CANCEL)).expect(201).json()) is not None:
        assert time.monotonic() < deadline, "it is still stamped"
        time.sleep(0.2)
    assert "lacks the verb cancel" in refusal(policed.offer("writer", policed.manifest(CANCEL)))
    told = refusal(policed.offer("alice", policed.manifest(CANCEL, annotations={REQUESTED_BY: "the-boss"})))
    assert f"{REQUESTED_BY} tells who asked for it, which is alice" in told
    approval = {"spec": {"approvedPlan": HASH}}
    policed.create("alice", policed.manifest(APPROVE))
    assert "not known who asked for this" in refusal(policed.patch("bob", approval))
    late = {"metadata": {"annotations": {REQUESTED_BY: "alice"}}}
    assert "which is not known" in refusal(policed.patch("alice", late))
    policed.delete()
    policed.create("alice", policed.manifest(APPROVE, annotations={REQUESTED_BY: "alice"}))
    refusal(policed.patch("alice", {"metadata": {"annotations": {REQUESTED_BY: None}}}))
    assert "alice asked for this" in refusal(policed.patch("alice", approval))
    named = {"metadata": {"annotations": {APPROVED_BY: "alice"}}}
    assert "which is bob" in refusal(policed.patch("bob", approval | named))
    named = {"metadata": {"annotations": {APPROVED_BY: "bob"}}}
    assert annotation(policed.patch("bob", approval | named).expect(200).json(), APPROVED_BY) == "bob"
    for detour in DETOURS:
        refuses_a_detour_unstamped(policed, *detour.values)


def refuses_a_detour_unstamped(policed: Policed, author: Any, spec: Any, detour: Any) -> None:
    """Whatever `alice` writes about herself, she does not come to approve what she asks for."""
    policed.delete()
    policed.create(author, policed.manifest(spec, annotations={REQUESTED_BY: author}))
    policed.end()
    for claimed, told in (
        ("bob", f"{REQUESTED_BY} tells who asked for it, which is alice: write that, or leave it out"),
        ("alice", "alice asked for this"),
        (None, "not known who asked for this"),
    ):
        both = {"metadata": {"annotations": {REQUESTED_BY: claimed}}, "spec": {**detour, "approvedPlan": HASH}}
        assert told in refusal(policed.patch("alice", both))
    mine = {"metadata": {"annotations": {REQUESTED_BY: "alice"}}}
    policed.patch("alice", mine | {"spec": {k: v for k, v in detour.items() if k != "approvedPlan"}}).expect(200)
    assert "alice asked for this" in refusal(policed.patch("alice", {"spec": {"approvedPlan": HASH}}))


def test_verbs_of_the_role_for_everything_are_all_there_are(helm: Helm) -> None:
    (admin,) = (obj for obj in helm.template() if obj["metadata"]["name"] == "invocation-admin")
    assert set(admin["rules"][-1]["verbs"]) == set(VERBS)
    assert set(VERBS) == {*VERB_OF.values(), "approve"}
